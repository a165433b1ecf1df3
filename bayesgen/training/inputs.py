"""Check the arguments of training loops: inputs, targets, likelihood and prior precisions."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from bayesgen._internal import checks
from bayesgen.likelihoods import Gaussian
from bayesgen.likelihoods.labels import has_texts
from bayesgen.likelihoods.likelihood import Likelihood, resolve
from bayesgen.networks import inputs
from bayesgen.networks.admission import undisturbed
from bayesgen.networks.gradients import Passes


class Observations(NamedTuple):
    """Checked inputs and targets of a network.

    Attributes:
        x: inputs, a tensor (n, …) or `Inputs`.
        y: targets in the likelihood's inner form, (n, …).
        likelihood: the likelihood for the number of outputs of the network.
        run: passes through the network.
    """

    x: Any
    y: Tensor
    likelihood: Likelihood
    run: Passes


def observations(
    net: nn.Module,
    x: Any,
    y: Any,
    likelihood: str | Likelihood,
    noise: Any,
    *,
    fixed: bool,
    original: nn.Module | None = None,
) -> Observations:
    """Check inputs and targets of a network, which is put into evaluation mode.

    Args:
        net: the network, or the copy of it that is used.
        x: inputs, (n, …), or a tuple or mapping of tensors.
        y: targets.
        likelihood: likelihood, or its name.
        noise: noise variance of a Gaussian likelihood, or None.
        original: the network that `net` is a copy of, if it is one.
        fixed: whether the network must be a deterministic function of each observation alone.

    Raises:
        TypeError, ValueError: an argument has the wrong type, shape, dtype or device.
    """
    x = read(net, x, y)
    found, y, _ = _likelihood(likelihood, noise).numbered(y)
    with undisturbed(net.eval()):
        run = Passes(net, x, original=original)
        if fixed:
            run.admit(x)
    like = run.first[:1].expand(len(x), -1)
    own = found.for_outputs(like.shape[1], checks.as_tensor("y", y).shape)
    targets = own.targets(y, like)
    if len(targets) != 1:
        raise ValueError("y must be of one task; see train_ensemble for several")
    return Observations(x, checks.owned(targets[0]), own, run)


def numbered(likelihood: Any, y: Any) -> tuple[Any, Any]:
    """The likelihood and the targets, with texts as the numbers of their classes.

    Raises:
        TypeError, ValueError: the targets are texts and no class labels.
    """
    if not has_texts(y):
        return likelihood, y
    own, codes, _ = (resolve(likelihood) or Gaussian()).numbered(y)
    return own, codes


def read(net: nn.Module, x: Any, y: Any) -> Any:
    """Check the inputs of a network that is trained, and their device.

    Raises:
        TypeError: x is a loader; y is missing; values have another type.
        ValueError: values are not finite; x and the network are on different devices.
    """
    x = inputs.read("x", x, net)
    if y is None:
        raise TypeError("y must hold the targets, got None")
    device = next(p.device for p in net.parameters() if p.requires_grad)
    if x.device != device:
        raise ValueError(f"x is on device {x.device} but the network is on {device}; move one")
    return x


def precisions(given: Any, count: int) -> Tensor:
    """Prior precision α of each layer, (L,), from one number or one value for each layer.

    Raises:
        ValueError: the shape is wrong; a value is negative or not finite.
    """
    if isinstance(given, str):
        raise TypeError(
            f"prior_precision must be a number or one number a layer, got {given!r}; with "
            "evidence_every= training learns one for each layer"
        )
    alpha = checks.reals("prior_precision", given).detach().double()
    if alpha.numel() != 1 and alpha.shape != (count,):
        raise ValueError(
            f"prior_precision must be a number or of shape ({count},), one a layer, got "
            f"{tuple(alpha.shape)}"
        )
    if not (torch.isfinite(alpha) & (alpha >= 0)).all():
        raise ValueError(f"prior_precision must be finite and at least 0, got {given}")
    return alpha.reshape(-1).expand(count).clone()


def _likelihood(likelihood: str | Likelihood, noise: Any) -> Likelihood:
    """The likelihood with its noise variance, which must be one number."""
    found = resolve(likelihood)
    if found is not None and noise is not None:
        raise ValueError(f"noise must be None with a {found.name} likelihood")
    own = Gaussian(1.0 if noise is None else noise) if found is None else found
    if own.log_noise is not None and own.log_noise.numel() != 1:
        raise ValueError(
            f"noise must be one number for all outputs, got shape {tuple(own.log_noise.shape)}"
        )
    return own
