"""Keep the states of the global random generators over a computation of a user's code."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


@contextmanager
def kept(devices: Iterable[torch.device]) -> Iterator[None]:
    """Context that restores the generators of Python, numpy and torch at its end.

    Args:
        devices: devices in use; the generators of those that are GPUs are restored too.

    Example:
        >>> torch.random.default_generator.manual_seed(0).initial_seed()
        0
        >>> with kept([]):
        ...     first = torch.rand(2)
        >>> bool((torch.rand(2) == first).all())
        True
    """
    before = random.getstate(), np.random.get_state()  # noqa: NPY002
    with torch.random.fork_rng(devices=[d for d in set(devices) if _has_generator(d)]):
        try:
            yield
        finally:
            random.setstate(before[0])
            np.random.set_state(before[1])  # noqa: NPY002


def snapshot(device: torch.device) -> tuple[Any, ...]:
    """The states of the generators of Python, numpy and torch, for a comparison."""
    of_numpy: Any = np.random.get_state()  # noqa: NPY002
    own = torch.get_rng_state()
    there = torch.cuda.get_rng_state(device) if _has_generator(device) else own[:0]
    return random.getstate(), str(of_numpy[2]), own.numpy().tobytes(), there.numpy().tobytes()


def _has_generator(device: torch.device) -> bool:
    """Whether a device has a random generator in use besides the CPU's."""
    return device.type == "cuda" and torch.cuda.is_initialized()
