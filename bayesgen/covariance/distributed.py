"""A Gram matrix split into blocks of rows over the processes of a `torch.distributed` group."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from bayesgen._internal.progress import Progress
from bayesgen.covariance.gram import KernelGram
from bayesgen.covariance.tiled import rows
from bayesgen.errors import RankLostError
from bayesgen.solvers.matmul import product
from bayesgen.spectrum.control_variates import of_rows

# Rows of a tile that is computed at a time.
_ROWS = 2048
# Seconds that a process waits for the others in one exchange.
PATIENCE = 45


class ShardedGram:
    """K(θ) as an operator whose rows are distributed over the processes of a group.

    Every process calls it with the same arguments and gets the same products. Each process
    multiplies its own rows, and an all-reduce of the block of vectors combines them. Results for
    different numbers of processes agree up to rounding.

    Args:
        gram: kernel on all the inputs, the same in every process.
        theta: the kernel's parameters.
        progress: called as progress(done, expected, what) after each tile.
        group: the group of processes; None for all processes.

    Raises:
        RankLostError: another process ended or did not answer in time.
    """

    def __init__(
        self,
        gram: KernelGram,
        theta: Tensor,
        *,
        progress: Progress | None = None,
        group: Any = None,
    ) -> None:
        n = len(gram.x)
        self.shape, self.dtype, self.device = torch.Size((n, n)), gram.x.dtype, gram.x.device
        self.group = group
        self.rows = block(n, dist.get_rank(group), dist.get_world_size(group))
        count = self.rows.stop - self.rows.start
        self.part = torch.empty(count, n, dtype=self.dtype, device=self.device)
        for start in range(0, count, _ROWS):
            stop = min(start + _ROWS, count)
            which = slice(self.rows.start + start, self.rows.start + stop)
            self.part[start:stop] = rows(gram, theta, which)
            if progress is not None:
                progress(stop, count, "rows of the Gram matrix")

    def __matmul__(self, v: Tensor) -> Tensor:
        """Product K v, (n, q), the same in every process."""
        total = torch.zeros_like(v)
        total[self.rows] = product(self.part, v)
        with answering():
            dist.all_reduce(total, group=self.group)
        return total

    def moments(self) -> tuple[float, float]:
        """Moments tr K and ‖K‖²_F, the same in every process."""
        own = of_rows(self.part, self.rows.start)
        total = torch.tensor(own, dtype=torch.float64, device=self.device)
        with answering():
            dist.all_reduce(total, group=self.group)
        return float(total[0]), float(total[1])


def block(n: int, rank: int, count: int) -> slice:
    """Rows of one of `count` processes; the numbers of rows differ by at most one.

    Example:
        >>> [block(10, rank, 3) for rank in range(3)]
        [slice(0, 3, None), slice(3, 6, None), slice(6, 10, None)]
    """
    return slice(n * rank // count, n * (rank + 1) // count)


def agreed(value: Any) -> Any:
    """The value of process 0, in every process."""
    if not active():
        return value
    box = [value]
    with answering():
        dist.broadcast_object_list(box, src=0)
    return box[0]


def active() -> bool:
    """Whether this process is one of several in a group."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def first() -> bool:
    """Whether this process is the one that writes files and prints."""
    return not active() or dist.get_rank() == 0


@contextmanager
def answering() -> Iterator[None]:
    """Turn the error of an exchange with a lost process into a `RankLostError`."""
    try:
        yield
    except RuntimeError as err:
        raise RankLostError(
            f"process {dist.get_rank()} of {dist.get_world_size()} lost another one: it ended, or "
            f"did not answer within {PATIENCE} s; start all of them again "
            f"({str(err).splitlines()[0][:120]})"
        ) from err


def backend(processes: int, cards: int) -> str:
    """Name of the backend that exchanges tensors between processes.

    NCCL needs one GPU for each process of a machine; with fewer GPUs, gloo is used.

    Example:
        >>> backend(processes=4, cards=0)
        'gloo'
    """
    return "cpu:gloo,cuda:nccl" if 0 < processes <= cards else "gloo"


@contextmanager
def joined() -> Iterator[None]:
    """Join the process group that `torchrun` has set up, if there is one."""
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        yield
        return
    here, cards = int(os.environ.get("LOCAL_WORLD_SIZE", "1")), torch.cuda.device_count()
    if cards:  # "cuda" then means this process's own GPU
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")) % cards)
    dist.init_process_group(backend(here, cards), timeout=timedelta(seconds=PATIENCE))
    try:
        yield
    finally:
        dist.destroy_process_group()
