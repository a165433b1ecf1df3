"""Permute the hidden units of a network so that they match those of another network."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from bayesgen import verify

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
    net: nn.Sequential, reference: nn.Sequential, x: Tensor, *, seed: int = 0, rounds: int = 100
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
        x: some inputs (n, …), on which the copy is compared with `net`.
        seed: seed of the order of the layers.
        rounds: largest number of passes over the layers.

    Returns:
        The permuted copy, in evaluation mode; both networks are left as they are.

    Raises:
        TypeError: a network is no chain of such layers.
        ValueError: the networks differ in their layers, or a convolution's channels are not the
            inputs of the next layer.
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
    layers, wanted = _layers("net", net), _layers("reference", reference)
    shapes = [[layer.module.weight.shape for layer in each] for each in (layers, wanted)]
    if shapes[0] != shapes[1]:
        raise ValueError("reference must have the layers of net, but their shapes differ")
    orders = _orders(layers, wanted, seed, rounds)
    result = copy.deepcopy(net).eval()
    _permute(_layers("net", result), orders)
    plain = copy.deepcopy(net).eval()
    with torch.no_grad():
        found, direct = result.double()(x.double()), plain.double()(x.double())
    verify.compare("outputs after permutations of hidden units", found, direct).require()
    return result.to(next(net.parameters()).dtype)


def _layers(name: str, net: nn.Sequential) -> list[_Layer]:
    if not isinstance(net, nn.Sequential):
        raise TypeError(f"{name} must be an nn.Sequential, got {type(net).__name__}")
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
