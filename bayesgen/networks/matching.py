"""Permute the hidden units of a network so that they match those of another network."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn
from torch.nn.utils import parametrize

from bayesgen import verify
from bayesgen._internal import checks
from bayesgen.networks.admission import undisturbed
from bayesgen.networks.inputs import read
from bayesgen.networks.state import first_not_finite

_WEIGHTED = (nn.Linear, nn.Conv2d)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
# Layers that treat every unit alike and leave the order of units as it is.
_NEUTRAL = (
    *(nn.ReLU, nn.Tanh, nn.GELU, nn.Sigmoid, nn.Identity, nn.Flatten, nn.Dropout),
    *(nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d),
)


@dataclass
class _Layer:
    """A linear layer or convolution with the BatchNorm layers that follow it."""

    module: nn.Linear | nn.Conv2d
    norms: list[nn.BatchNorm1d | nn.BatchNorm2d] = field(default_factory=list)

    @property
    def units(self) -> int:
        return self.module.weight.shape[0]

    def vectors(self) -> list[Tensor]:
        """Biases and parameters of norms, one value for each unit, (units,)."""
        found = [self.module.bias]
        found += [value for norm in self.norms for value in (norm.weight, norm.bias)]
        return [value for value in found if value is not None]

    def statistics(self) -> list[Tensor]:
        """Running statistics of the norms, (units,)."""
        found = [value for norm in self.norms for value in (norm.running_mean, norm.running_var)]
        return [value for value in found if value is not None]


def matched(
    net: nn.Sequential, reference: nn.Sequential, x: Any, *, seed: int = 0, rounds: int = 100
) -> nn.Sequential:
    """A copy of a network whose hidden units are permuted to be near those of a reference.

    A permutation of the units of a layer, with the same permutation of the inputs of the next one,
    does not change the function. The permutations maximise Σ_l ⟨W_l, W'_l⟩ by coordinate ascent:
    for one layer at a time, in random order, the best permutation is a linear assignment problem.
    The result is a local maximum.

    Args:
        net: a chain of linear layers or convolutions, each followed by BatchNorm or not, with
            elementwise activations and pooling; a convolution in front of a linear layer must be
            followed by global pooling.
        reference: a network of the same architecture.
        x: some inputs (n, …) with n ≥ 1, on which the copy is compared with `net`.
        seed: seed of the order of the layers.
        rounds: largest number of passes over the layers.

    Returns:
        The permuted copy, in evaluation mode; both networks are left as they are.

    Raises:
        TypeError: a network is no chain of such layers, or has a grouped convolution, a
            parametrized layer or one module in two places; x does not hold numbers.
        ValueError: the networks differ in their layers, or a convolution's channels are not the
            inputs of the next layer; weights or inputs are not finite; net fails on x; a number is
            out of range.
        RuntimeError: the outputs of the copy differ from those of `net`.

    Source: Ainsworth, Hayase & Srinivasa (2023), algorithm 1.

    Example:
        >>> from bayesgen import networks
        >>> net = networks.MLP(4, (8,), 3)
        >>> shuffled = networks.MLP(4, (8,), 3)
        >>> order = torch.randperm(8)
        >>> with torch.no_grad():
        ...     for own, given in zip(shuffled.parameters(), net.parameters(), strict=True):
        ...         turned = given[:, order] if given.shape == (3, 8) else given
        ...         _ = own.copy_(given[order] if len(given) == 8 else turned)
        >>> again = matched(shuffled, net, torch.randn(5, 4))
        >>> torch.equal(again[1].weight, net[1].weight)
        True
    """
    seed, rounds = checks.seed(seed), checks.whole("rounds", rounds)
    layers, wanted = _layers("net", net), _layers("reference", reference)
    _alike(net, reference)
    x = read("x", x, net)
    if not isinstance(x, Tensor):
        raise TypeError(f"x must be one tensor of inputs (n, …), got a {type(x).__name__}")
    orders = _orders(layers, wanted, seed, rounds)
    result = copy.deepcopy(net).eval()
    _permute(_layers("net", result), orders)
    plain = copy.deepcopy(net).eval()
    with torch.no_grad(), undisturbed(plain):
        direct = _outputs(plain.double(), x.double())
        found = result.double()(x.double())
    verify.compare("outputs after permutations of hidden units", found, direct).require()
    return result.to(next(net.parameters()).dtype)


def _layers(name: str, net: nn.Sequential) -> list[_Layer]:
    if not isinstance(net, nn.Sequential):
        raise TypeError(f"{name} must be an nn.Sequential, got {type(net).__name__}")
    _plain(name, net)
    found: list[_Layer] = []
    for module in net:
        if isinstance(module, _WEIGHTED):
            if found and module.weight.shape[1] != found[-1].units:
                raise ValueError(
                    f"{name} must pass the {found[-1].units} units of each layer to the next one, "
                    f"got a layer with {module.weight.shape[1]} inputs per group"
                )
            found.append(_Layer(module))
        elif isinstance(module, _NORMS) and found:
            found[-1].norms.append(module)
        elif not isinstance(module, _NEUTRAL):
            raise TypeError(
                f"{name} must be a chain of linear layers, convolutions, BatchNorm, activations "
                f"and pooling, got a {type(module).__name__}"
            )
    if not found:
        raise TypeError(f"{name} must have a linear layer or a convolution, got none")
    return found


def _plain(name: str, net: nn.Sequential) -> None:
    """Check that weights are finite parameters of one layer each, which every unit has alone."""
    seen = set[int]()
    for place, module in net.named_children():
        hooked = isinstance(module, _WEIGHTED) and "weight" not in dict(module.named_parameters())
        if hooked or parametrize.is_parametrized(module):
            raise TypeError(
                f"{name} must have no parametrized layers, got one at {place!r}; see "
                "torch.nn.utils.parametrize.remove_parametrizations"
            )
        if isinstance(module, nn.Conv2d) and module.groups != 1:
            raise TypeError(
                f"{name} must have convolutions of one group, got one of {module.groups} groups at "
                f"{place!r}"
            )
    for place, module in net._modules.items():  # named_children leaves out repetitions
        own = {id(value) for value in (module.parameters() if module is not None else ())}
        if own & seen:
            raise TypeError(
                f"{name} must have parameters of its own in each layer, got those at {place!r} in "
                "two places"
            )
        seen |= own
    bad = first_not_finite(net)
    if bad is not None:
        raise ValueError(f"{name} must have finite parameters, but {bad!r} is not finite")


def _alike(net: nn.Sequential, reference: nn.Sequential) -> None:
    """Check that two chains have layers of the same kinds, shapes and settings."""
    if len(net) != len(reference):
        raise ValueError(
            f"reference must have the {len(net)} layers of net, got {len(reference)} layers"
        )
    for place, (own, other) in enumerate(zip(net, reference, strict=True)):
        if type(own) is not type(other):
            raise ValueError(
                f"reference must have the layers of net, but at {place} net has a "
                f"{type(own).__name__} and reference a {type(other).__name__}"
            )
        shapes = [
            {k: tuple(v.shape) for k, v in each.state_dict().items()} for each in (own, other)
        ]
        if shapes[0] != shapes[1]:
            raise ValueError(
                f"reference must have the layers of net, but at {place} their shapes differ: net "
                f"has {shapes[0]} and reference {shapes[1]}"
            )
        if own.extra_repr() != other.extra_repr():
            raise ValueError(
                f"reference must have the layers of net, but at {place} net has {own} and "
                f"reference {other}"
            )


def _outputs(net: nn.Sequential, x: Tensor) -> Tensor:
    """Outputs of a network; a failure is named as one of the inputs."""
    try:
        return cast(Tensor, net(x))
    except (RuntimeError, ValueError, IndexError) as err:
        said = (str(err).strip().splitlines() or [type(err).__name__])[0]
        raise ValueError(
            f"x must hold inputs that net takes, got shape {tuple(x.shape)}: {said}"
        ) from err


def _orders(layers: list[_Layer], wanted: list[_Layer], seed: int, rounds: int) -> list[Tensor]:
    """For each hidden layer, the unit of `net` that becomes unit i, (units,)."""
    orders = [torch.arange(layer.units) for layer in layers]
    rng = np.random.default_rng(seed)
    for _ in range(rounds):
        changed = False
        for number in rng.permutation(len(layers) - 1):
            likeness = _likeness(layers, wanted, orders, number)
            rows, best = linear_sum_assignment(likeness, maximize=True)
            gain = likeness[rows, best].sum() - likeness[rows, orders[number].numpy()].sum()
            if gain > 1e-9 * np.abs(likeness).max():
                orders[number], changed = torch.from_numpy(best), True
        if not changed:
            break
    return orders


def _likeness(
    layers: list[_Layer], wanted: list[_Layer], orders: list[Tensor], number: int
) -> np.ndarray:
    """Inner products of the weights of each unit of the reference with each of `net`."""
    own, theirs = layers[number], wanted[number]
    incoming = own.module.weight.detach().cpu().double()
    if number:
        incoming = incoming[:, orders[number - 1]]
    total = theirs.module.weight.detach().cpu().double().flatten(1) @ incoming.flatten(1).mT
    for mine, given in zip(own.vectors(), theirs.vectors(), strict=True):
        total = total + torch.outer(given.detach().cpu().double(), mine.detach().cpu().double())
    outgoing = layers[number + 1].module.weight.detach().cpu().double()[orders[number + 1]]
    other = wanted[number + 1].module.weight.detach().cpu().double()
    total = total + other.transpose(0, 1).flatten(1) @ outgoing.transpose(0, 1).flatten(1).mT
    return total.numpy()


@torch.no_grad()
def _permute(layers: list[_Layer], orders: list[Tensor]) -> None:
    for number, (layer, order) in enumerate(zip(layers, orders, strict=True)):
        for value in (layer.module.weight, *layer.vectors(), *layer.statistics()):
            value.copy_(value[order.to(value.device)])
        if number + 1 < len(layers):
            weight = layers[number + 1].module.weight
            weight.copy_(weight[:, order.to(weight.device)])
