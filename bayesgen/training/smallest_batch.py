"""The smallest batch that a network can be trained on: layers such as BatchNorm need two rows."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from bayesgen.networks.admission import undisturbed
from bayesgen.networks.gradients import Passes
from bayesgen.networks.state import Kept
from bayesgen.training.settings import Settings


def smallest_batch(net: nn.Module, run: Passes, x: Any, settings: Settings) -> int:
    """The smallest number of observations of a step: 1, or 2 where the network fails on one.

    The network is tried on one observation in training mode only where a step would have one. It is
    left as it was.

    Raises:
        ValueError: it fails on one observation and every step has one.
    """
    n = len(x)
    if settings.last(n) != 1:
        return 1
    failure = _failure_alone(net, run, x)
    if failure is None:
        return 1
    if settings.batch == 1 or n == 1:
        raise ValueError(
            f"net cannot be trained on batches of one observation ({failure}); "
            + ("pass a batch of at least 2" if n > 1 else "x must hold at least 2 observations")
        )
    return 2


def _failure_alone(net: nn.Module, run: Passes, x: Any) -> str | None:
    """What happens on one observation in training mode, or None where the outputs are finite."""
    state = Kept(net)
    try:
        with undisturbed(net.train()):
            f = run.values(x[:1])
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as err:
        return (str(err).strip().splitlines() or [type(err).__name__])[0]
    finally:
        state.recall()
    return None if bool(torch.isfinite(f).all()) else "its outputs are not finite"
