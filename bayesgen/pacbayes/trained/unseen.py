"""A network and the observations that it has not seen, on which a certificate of it rests."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from bayesgen._internal import checks, random_state
from bayesgen._internal.words import plural
from bayesgen.likelihoods.labels import has_texts
from bayesgen.networks import inputs
from bayesgen.networks.admission import first_outputs, scores
from bayesgen.networks.copies import detached_copies, frozen_copy, unwrapped
from bayesgen.networks.gradients import Passes, trainable_copy, without_gradients
from bayesgen.provenance import Data, Untrained, now, shared_rows, sources
from bayesgen.provenance.contents import changed, state_of
from bayesgen.provenance.data import EQUAL
from bayesgen.provenance.making import made_without_data
from bayesgen.provenance.record import shares


@dataclass(frozen=True)
class Unseen:
    """A network with the observations that certify it.

    Attributes:
        net: a copy in evaluation mode, which nothing changes.
        x, y: the certifying inputs (n, …) and labels (n,).
        first: inputs of the observations that the network was trained on here, or None.
        classes: C, the number of outputs.
        batch: observations in a pass.
        note: what was chosen on which part of the data.
    """

    net: nn.Module
    x: Any
    y: Tensor
    first: Any
    classes: int
    batch: int
    note: str

    def outputs(self, x: Any) -> Tensor:
        """Outputs of the network, (n, C), float64."""
        return evaluated(self.net, x, self.batch)

    def at(self, x_new: Any) -> tuple[Any, Tensor]:
        """New inputs of the caller, checked, and the outputs of the network there."""
        x_new = inputs.read("x_new", x_new, self.net)
        with without_gradients():
            first_outputs(self.net, x_new)
        return x_new, self.outputs(x_new)

    @property
    def wrong(self) -> Tensor:
        """Whether the network errs on each certifying observation, (n,); ties count as errors."""
        return mistaken(self.outputs(self.x), self.y)


def evaluated(net: nn.Module, x: Any, batch: int) -> Tensor:
    """Outputs (n, C) of a network in float64, without a graph."""
    with without_gradients(), random_state.kept([torch.device("cpu")]):
        pieces = [scores(inputs.call(net, rows), len(rows)) for rows in x.split(batch)]
    return torch.cat(pieces).double()


def mistaken(outputs: Tensor, y: Tensor) -> Tensor:
    """Whether the largest output is not that of the label alone; NaN and ties count as errors."""
    own = outputs.gather(1, y[:, None])
    others = outputs.scatter(1, y[:, None], -torch.inf)
    return ~(own > others).all(1)


def unseen(
    net: Any,
    x: Any,
    y: Any,
    *,
    split: float | None,
    train: Callable[[nn.Module, Any, Tensor], Any] | None,
    stated: bool,
    batch: int,
    seed: int,
) -> Unseen:
    """Train the network on a random share of the data, or check that it has seen none of them.

    Args:
        net: a network, or a function that makes one.
        x, y: inputs (n, …) and labels (n,).
        split: share of the observations to train on, or None for no training.
        train: function (net, x, y) that trains a network in place; given if and only if split is.
        stated: whether the caller states that the weights were not chosen with these observations.
        batch: observations in a pass.
        seed: seed of the split.

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range; the network has
            seen observations that certify it, or may have.
    """
    if (split is None) != (train is None):
        raise ValueError(
            "split and train must be given together: the share of the observations to train on, "
            "and a function (net, x, y) that trains, as lambda net, x, y: bg.train(net, x, y)"
        )
    if train is not None and not callable(train):
        raise TypeError(f"train must be a function (net, x, y), got {type(train).__name__}")
    own, taken = _own(net)
    x = inputs.read("x", x, own)
    if has_texts(y):
        raise TypeError(
            "y must hold the numbers 0 … C − 1 of the network's outputs, got texts; code them in "
            "the order of the outputs, which is sorted for a network that was trained on texts"
        )
    labels = checks.as_tensor("y", y)
    if tuple(labels.shape) != (len(x),):
        raise ValueError(
            f"y must hold one class label for each of the {len(x)} observations, (n,), got "
            f"{tuple(labels.shape)}"
        )
    if taken and not stated:
        _refuse(own, Data(x, labels), None)
        raise ValueError(
            f"it is not known how the weights of net were chosen: {taken}. A bound needs weights "
            "that were chosen without the observations that certify it; pass unseen=True to state "
            "that, or a function that makes a network of random numbers alone"
        )
    note = "The network was made without these observations, as the caller states."
    if not taken:
        note = (
            "The network was made by a function that was not seen to take tensors from outside; "
            "that it used these observations in no other way is for the caller to know."
        )
    first = None
    if train is not None:
        chosen, rest = _parts(len(x), split, seed)
        first, seen = x[chosen], labels[chosen]
        x, labels = x[rest], labels[rest]
        certifying, known = Data(x, labels), Data(first, seen)
        _refuse(own, certifying, None)
        _trained(train, own, first, seen)
        _refuse(own, certifying, known)
        left = "1 that is" if len(rest) == 1 else f"{len(rest):,} that are"
        note = (
            f"{note} train was given {plural(len(chosen), 'other observation')}, a random share of "
            f"the data; the bound rests on the {left} left, which train must not have used."
        )
        equal = int(shared_rows(x, known).sum())
        if equal:
            note += f" {EQUAL.format(count=equal)}"
    else:
        _refuse(own, Data(x, labels), None)
    frozen = frozen_copy(own)
    _admit(own, x)
    classes = evaluated(frozen, x[:1], 1).shape[1]
    if classes < 2:
        raise ValueError(f"net must have an output for each of two or more classes, got {classes}")
    labels = checks.class_labels("y", labels, classes)
    return Unseen(frozen, x, labels, first, classes, batch, note)


def _admit(net: nn.Module, x: Any) -> None:
    """Check that a network maps each observation by itself."""
    Passes(trainable_copy(net), x).admit(x)


def _trained(
    train: Callable[[nn.Module, Any, Tensor], Any], net: nn.Module, x: Any, y: Tensor
) -> None:
    """Let a function of the caller train a network in place, and check that it has done so."""
    before = state_of(net)
    result = train(net, x, y)
    if isinstance(result, nn.Module) and result is not net:
        raise TypeError(
            "train must change the network that it is given, in place, but it returned another one"
        )
    if not changed(net, before):
        raise ValueError("train must change the network that it is given, but no weight differs")


def _own(net: Any) -> tuple[nn.Module, str]:
    """A network of our own, and what its making took from outside, or "" for nothing seen."""
    if isinstance(net, nn.Module):
        found = unwrapped(net)
        return _unfrozen(copy.deepcopy(found, detached_copies(found))), "a network was passed"
    if not callable(net):
        raise TypeError(
            f"net must be a torch.nn.Module, or a function that makes one, got {type(net).__name__}"
        )
    (one, taken), two = made_without_data(net), net()
    for made in (one, two):
        if not isinstance(made, nn.Module):
            raise TypeError(f"net() must make a torch.nn.Module, got {type(made).__name__}")
    theirs = {id(p) for p in two.parameters()}
    if any(id(p) in theirs for p in one.parameters()):
        raise ValueError(
            "net() must make a new network at each call, got the same one twice; move its "
            "construction into the function"
        )
    return _unfrozen(unwrapped(one)), f"in net(), {taken} from outside" if taken else ""


def _unfrozen(net: nn.Module) -> nn.Module:
    """A network of our own; one that is frozen as a whole has all its weights certified."""
    if not any(p.requires_grad for p in net.parameters()):
        for parameter in net.parameters():
            parameter.requires_grad_(parameter.is_floating_point())
    return net


def _refuse(net: nn.Module, data: Data, known: Data | None) -> None:
    """Refuse a network that was trained on some of the observations that certify it.

    Training on nothing but known observations is accepted, though their values may coincide.
    """
    every = (*Untrained.of(net).sources, *sources({"features": [net]}, data, now()))
    for source in every:
        if source.data is None or not shares(data, source):
            continue
        if known is not None and source.data.within(known):
            continue
        shared = data.shared(source.data)
        raise ValueError(
            "net must not have seen the observations that certify it, but it was trained on "
            f"{source.data} by {source.how or 'a fit'}, of which {shared:,} are among these; "
            "pass the observations that were held out, or an untrained network with split="
        )


def _parts(n: int, split: Any, seed: int) -> tuple[Tensor, Tensor]:
    share = checks.share("split", split)
    m = round(share * n)
    if not 1 <= m < n:
        raise ValueError(f"split must leave observations on both sides, got {m} of {n} to train on")
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    return order[:m].sort().values, order[m:].sort().values
