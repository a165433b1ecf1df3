"""Check the arguments of training loops: inputs, targets, likelihood and prior precisions."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from bayesgen._internal import checks
from bayesgen._internal.precision import tf32
from bayesgen.likelihoods import Gaussian
from bayesgen.likelihoods.likelihood import Likelihood, resolve
from bayesgen.models.network.data import inputs
from bayesgen.training.settings import check_net


def observations(
    net: nn.Module, x: Any, y: Any, likelihood: str | Likelihood, noise: Any
) -> tuple[Tensor, Tensor, Likelihood]:
    """Check inputs (n, …) and convert targets to the likelihood's inner form (n, …).

    Returns:
        The inputs, the targets, and the likelihood for the number of outputs of the network.

    Raises:
        TypeError, ValueError: an argument has the wrong type, shape or device.
    """
    device, x = check_net(net), inputs(x)
    if x.device != device:
        raise ValueError(f"x is on device {x.device} but the network is on {device}; move one")
    found = resolve(likelihood) or Gaussian(1.0 if noise is None else noise)
    with torch.no_grad(), tf32(False):
        f = net.eval()(x[:1]).expand(len(x), -1)
    own = found.for_outputs(f.shape[1], checks.as_tensor("y", y).shape)
    targets = own.targets(y, f)
    if len(targets) != 1:
        raise ValueError("y must be of one task; see train_ensemble for several")
    return x, targets[0], own


def layers(net: nn.Module) -> list[nn.Module]:
    """The modules that own trainable parameters, each of which has one prior precision."""
    return [m for m in net.modules() if any(p.requires_grad for p in m.parameters(False))]


def precisions(given: Any, count: int) -> Tensor:
    """Prior precision α of each layer, (L,), from one number or one value for each layer.

    Raises:
        ValueError: the shape is wrong; a value is negative or not finite.
    """
    alpha = checks.as_tensor("prior_precision", given).double()
    if alpha.numel() != 1 and alpha.shape != (count,):
        raise ValueError(
            f"prior_precision must be a number or of shape ({count},), one a layer, got "
            f"{tuple(alpha.shape)}"
        )
    if not (torch.isfinite(alpha) & (alpha >= 0)).all():
        raise ValueError(f"prior_precision must be finite and at least 0, got {given}")
    return alpha.reshape(-1).expand(count).clone()
