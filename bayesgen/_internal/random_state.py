"""Keep the states of the global random generators over a computation of a user's code."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

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
    # A GPU has a generator once CUDA is in use.
    gpus = [d for d in set(devices) if d.type == "cuda" and torch.cuda.is_initialized()]
    with torch.random.fork_rng(devices=gpus):
        try:
            yield
        finally:
            random.setstate(before[0])
            np.random.set_state(before[1])  # noqa: NPY002
