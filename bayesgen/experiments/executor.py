"""Run many independent jobs, in this process or on an executor, and store each result."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import active_children, get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr

from bayesgen._internal import checks, files, interrupts
from bayesgen._internal.hashing import fingerprint
from bayesgen._internal.progress import ProgressOption
from bayesgen._internal.progress_bar import shows_progress
from bayesgen._internal.user_warning import warn
from bayesgen._internal.words import plural

# Numbers, arrays and strings of one job.
Values = dict[str, Any]
# Number of attempts with an executor whose workers end during the jobs.
_TRIES = 3


@dataclass(frozen=True)
class Job:
    """One computation of a sweep; it is sent to other processes by pickle.

    Attributes:
        name: name for files and progress.
        run: a function at the top level of a module.
        arguments: arguments of that function.
    """

    name: str
    run: Callable[..., Values]
    arguments: tuple[Any, ...]


@shows_progress
def sweep(
    jobs: Sequence[Job],
    marks: Sequence[Sequence[Any]],
    *,
    executor: Executor | None = None,
    store: str | os.PathLike[str] | None = None,
    progress: ProgressOption = None,
) -> list[Values]:
    """Run jobs and return their values, in order.

    Each result is written to its own NetCDF file when it is done. A file is written completely or
    not at all, and its name contains a hash of what the result depends on. An interrupted sweep can
    therefore continue, and two sweeps may share a folder.

    Args:
        jobs: the jobs to run.
        marks: for each job, what its result depends on beside its name: tensors, numbers, strings.
        executor: any `concurrent.futures.Executor`, including that of a Dask client
            (`client.get_executor()`); None runs the jobs in this process, one after another. If its
            workers end unexpectedly, the remaining jobs are tried again, and finally run in this
            process.
        store: folder for the results; None stores none.
        progress: called as progress(done, expected, what); True shows a progress bar.

    Raises:
        Exception: the error of a failed job; earlier results are kept.

    Example:
        >>> def square(x):
        ...     return {"square": float(x * x)}
        >>> sweep([Job("two", square, (2,)), Job("three", square, (3,))], [[2], [3]])
        [{'square': 4.0}, {'square': 9.0}]
    """
    paths: list[Path | None] = [None] * len(jobs)
    if store is not None:
        folder = files.writable(Path(store))
        for i, (job, mark) in enumerate(zip(jobs, marks, strict=True)):
            paths[i] = folder / f"{job.name}-{fingerprint(job.name, *mark)}.nc"
    found: dict[int, Values] = {}
    for i, path in enumerate(paths):
        kept = None if path is None else _load(path)
        if kept is not None:
            found[i] = kept

    def done(i: int, values: Values) -> None:
        path = paths[i]
        if path is not None:
            _save(path, values)
        found[i] = values

    left = [i for i in range(len(jobs)) if i not in found]
    if executor is not None:
        for i, values in _spread([(i, jobs[i]) for i in left], executor):
            done(i, values)
            if progress is not None:
                progress(len(found), len(jobs), jobs[i].name)
    for i in range(len(jobs)):
        if i not in found:
            if progress is not None:
                progress(len(found), len(jobs), jobs[i].name)
            done(i, jobs[i].run(*jobs[i].arguments))
    return [found[i] for i in range(len(jobs))]


def _spread(jobs: list[tuple[int, Job]], executor: Executor) -> Iterator[tuple[int, Values]]:
    """Results as they arrive; jobs lost with their workers are sent again, up to three times."""
    left = dict(jobs)
    for _ in range(_TRIES):
        try:
            waiting: dict[Future[Values], int] = {
                executor.submit(job.run, *job.arguments): i for i, job in left.items()
            }
        except (BrokenProcessPool, RuntimeError):
            break
        broken = False
        for future in as_completed(waiting):
            i = waiting[future]
            try:
                values = future.result()
            except Exception as err:
                if not _lost(err):
                    raise
                broken = True
                continue
            del left[i]
            yield i, values
        if not broken:
            return
    if left:
        warn(
            f"the executor lost its workers, and this process runs {len(left)} of "
            f"{plural(len(jobs), 'job')}"
        )


def _lost(err: BaseException) -> bool:
    """Whether an error means that a worker ended, and not that the job failed."""
    return isinstance(err, BrokenProcessPool) or type(err).__name__ == "KilledWorker"


class Workers(Executor):
    """Local processes, restarted if one of them ends; each uses an equal number of threads.

    Args:
        count: number of processes.
        threads: number of threads of all together; None takes torch's number.

    Raises:
        ValueError: the count is below one.
    """

    def __init__(self, count: int, threads: int | None = None) -> None:
        self.count = checks.whole("workers", count)
        self.share = max(1, (threads or torch.get_num_threads()) // count)
        self._pool = self._start()
        self._ours: set[Any] = set()

    def _start(self) -> ProcessPoolExecutor:
        # Processes are spawned because forked ones would inherit locks of threads.
        return ProcessPoolExecutor(
            self.count, get_context("spawn"), initializer=_begin, initargs=(self.share,)
        )

    def submit(self, function: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Submit a function as in `concurrent.futures.Executor`, after restarting a broken pool."""
        others = set(active_children()) - self._ours
        with interrupts.kept_from_children():
            try:
                found = self._pool.submit(function, *args, **kwargs)
            except BrokenProcessPool:
                self._pool = self._start()
                found = self._pool.submit(function, *args, **kwargs)
        self._ours = set(active_children()) - others
        return found

    def __exit__(self, kind: Any, err: Any, trace: Any) -> None:
        """Wait for the jobs, or end the processes where an interruption leaves the block."""
        if kind is not None and not issubclass(kind, Exception):
            for process in self._ours:
                process.terminate()
        self.shutdown(cancel_futures=kind is not None)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Shut down the pool as in `concurrent.futures.Executor`."""
        self._pool.shutdown(wait, cancel_futures=cancel_futures)


def _begin(threads: int) -> None:
    torch.set_num_threads(threads)


@contextmanager
def executor(workers: int | None, scheduler: str | None) -> Iterator[Executor | None]:
    """An executor with local processes or of a Dask cluster, or None for this process alone.

    Args:
        workers: number of local processes.
        scheduler: address of a Dask scheduler.

    Raises:
        ValueError: both are given.
        ImportError: a scheduler is given and Dask is not installed.
    """
    if workers is not None and scheduler is not None:
        raise ValueError(
            "workers and scheduler must not be given together; choose local workers or Dask"
        )
    if scheduler is not None:
        try:
            from dask.distributed import Client
        except ImportError as err:
            raise ImportError("scheduler needs Dask: pip install 'bayesgen[distributed]'") from err
        with Client(scheduler) as client:
            yield client.get_executor()
    elif workers is not None:
        with Workers(workers) as pool:
            yield pool
    else:
        yield None


def _load(path: Path) -> Values | None:
    """Read a stored result, or None if it is missing or incomplete."""
    try:
        with xr.open_dataset(path, engine="h5netcdf") as kept:
            words = {str(k): str(v) for k, v in kept.attrs.items()}
            numbers = {
                str(k): np.array(v.values) if v.ndim else float(v)
                for k, v in kept.data_vars.items()
            }
            return numbers | words
    except (OSError, ValueError):
        return None


def _save(path: Path, values: Values) -> None:
    words = {k: v for k, v in values.items() if isinstance(v, str)}
    arrays = {k: np.asarray(v) for k, v in values.items() if not isinstance(v, str)}
    numbers = {k: ([f"{k}_{axis}" for axis in range(v.ndim)], v) for k, v in arrays.items()}
    made = xr.Dataset(numbers, attrs=words)
    files.write_bytes(path, files.netcdf(made))
