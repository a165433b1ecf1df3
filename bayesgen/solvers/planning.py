"""Choose the engine for a problem of a given size on this machine."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from bayesgen._internal import checks
from bayesgen._internal.deprecation import renamed_arguments

ENGINES = ("spectrum", "cholesky", "krylov")
# Fractions of free memory and of free disk space that a plan may use.
_SHARE, _DISK = 0.7, 0.8
# Memory of a dense spectrum in matrices of order n: kernel, distances, vectors, LAPACK's workspace.
_DENSE_COPIES = 4.5
# Floating-point operations of an eigendecomposition with vectors, divided by n³, and its speed as a
# fraction of the speed of a matrix product, on a CPU and on a GPU.
_EIGH, _EIGH_SHARES = 9.0, (0.4, 0.15)
# Operations of a Cholesky factorisation and of the inverse for the effective dimension, divided by
# n³; their speed as a fraction of that of a matrix product; matrices of order n held at once.
_CHOLESKY, _CHOLESKY_SHARE, _CHOLESKY_COPIES = 1.0, 0.5, 1.2
# Number of spectra that a search over length-scales computes.
_DENSE_SPECTRA, _KRYLOV_SPECTRA = 10, 3
# Number of products with the Gram matrix in a Krylov space, and of probes among its columns.
_PRODUCTS, _PROBES = 10, 48
# Bytes written and read to measure the speed of a disk.
_TRIAL = 2**26
# Seconds that a dense search may take before a faster engine is preferred.
_PATIENCE = 900.0


@dataclass(frozen=True)
class Machine:
    """Memory, disk and speed of a machine, on which a plan is based.

    Attributes:
        memory: free bytes of the device.
        disk: free bytes on the disk of the working folder.
        flops: floating-point operations per second of a matrix product, by dtype name.
        disk_rate: bytes per second read from a file in that folder; 0 without a folder or where it
            cannot be written.
        name: name of the device.
        card: whether the device is a GPU.
    """

    memory: float
    disk: float
    flops: dict[str, float]
    disk_rate: float
    name: str
    card: bool = False

    @classmethod
    def here(cls, device: str | torch.device = "cpu", folder: Path | None = None) -> Machine:
        """Measure this machine: its matrix products and, with a folder, its disk (in a second)."""
        place = torch.device(device)
        wanted = Path() if folder is None else folder
        there = next(p for p in (wanted, *wanted.absolute().parents) if p.exists())
        name = torch.cuda.get_device_name(place) if place.type == "cuda" else place.type
        return cls(
            free_memory(place),
            float(shutil.disk_usage(there).free),
            {kind: _rate(getattr(torch, kind), place) for kind in _kinds(place)},
            0.0 if folder is None else _disk_rate(there),
            name,
            place.type == "cuda",
        )


@dataclass(frozen=True)
class Plan:
    """The engine chosen for one problem, with its cost.

    Attributes:
        engine: "spectrum" (dense eigendecomposition), "krylov" (block Lanczos) or "cholesky" (block
            Lanczos for the hyperparameters, then one exact factorisation for each task).
        storage: where K is kept for block Lanczos: "memory", "disk" or "none".
        dtype: dtype of K in block Lanczos, as a name.
        bytes: peak memory.
        seconds: expected time of a search over the length-scale.
        reason: explanation of the choice.
    """

    engine: str
    storage: str
    dtype: str
    bytes: float
    seconds: float
    reason: str


@renamed_arguments(labellings="tasks")
def plan(
    n: int,
    d: int,
    outputs: int,
    *,
    machine: Machine | None = None,
    dtype: torch.dtype = torch.float64,
    engine: str | None = None,
    keep: bool = False,
    tasks: int | None = None,
) -> Plan:
    """Choose the engine for n points with d inputs and a number of outputs (over all tasks).

    The dense spectrum is exact and serves every (s, σ²). It is chosen where it fits in memory and
    takes at most 15 minutes. Otherwise block Lanczos is chosen, with a Gram matrix kept in memory
    or in a file (in float32 where float64 does not fit) or recomputed for every product. Where they
    fit and take at most 15 minutes, one Cholesky factorisation for each task follows at the
    hyperparameters found, which makes the evidence exact.

    Args:
        n, d, outputs: number of points, of input dimensions, and of outputs over all tasks.
        machine: result of `Machine.here`; None measures this machine.
        dtype: dtype of the inputs.
        engine: engine to use at any size; None chooses one.
        keep: whether there is a folder for K. An interrupted run can then continue, and a K that
            does not fit in memory is read from a file where that is faster than recomputing it. On
            a GPU it is ignored, because recomputing K there is as fast as reading it.
        tasks: number of tasks, each with its own hyperparameters; None counts each output as one.

    Raises:
        ValueError: a size is not positive; the engine is unknown; no engine fits.

    Example:
        >>> laptop = Machine(20e9, 100e9, {"float32": 2e11, "float64": 1e11}, 1e9, "cpu")
        >>> plan(4000, 3072, 110, machine=laptop).engine
        'spectrum'
        >>> print(plan(50_000, 3072, 110, machine=laptop).storage)
        memory
    """
    for name, value in (("n", n), ("d", d), ("outputs", outputs)):
        checks.whole(name, value)
    count = outputs if tasks is None else checks.whole("tasks", tasks)
    if engine is not None:
        checks.one_of("engine", engine, ENGINES)
    here = machine or Machine.here()
    kind = str(dtype).removeprefix("torch.")
    room = _SHARE * here.memory
    dense_bytes = _DENSE_COPIES * n**2 * dtype.itemsize + n * d * dtype.itemsize
    dense_seconds = _DENSE_SPECTRA * (
        _EIGH * n**3 / (_EIGH_SHARES[here.card] * here.flops[kind]) + n**2 * d / here.flops[kind]
    )
    fits = dense_bytes <= room
    other = _krylov(n, d, outputs, here, kind, room, keep)
    sooner = other is None or dense_seconds <= max(other.seconds, _PATIENCE)
    if engine == "spectrum" or (engine is None and fits and sooner):
        why = (
            f"{_DENSE_COPIES:g} n² numbers, {_gb(dense_bytes)}, "
            f"{'fit' if fits else 'do not fit'} into {_gb(room)}; exact for every (s, σ²), "
            f"about {_time(dense_seconds)} for {_DENSE_SPECTRA} spectra"
        )
        return Plan("spectrum", "memory", kind, dense_bytes, dense_seconds, why)
    if other is None:
        raise ValueError(
            f"no engine fits: n = {n:,} needs {_gb(4.0 * n * (outputs + _PROBES) * _PRODUCTS)} of "
            f"memory for a Krylov space of {outputs} outputs, but only {_gb(room)} are available"
        )
    against = f"{_DENSE_SPECTRA} dense spectra would take {_time(dense_seconds)}"
    if not fits:
        against = f"a dense spectrum would need {_gb(dense_bytes)}"
    other = replace(other, reason=f"{against}; {other.reason}")
    exact = _cholesky(n, d, count, here, dtype, other)
    within = exact.bytes <= room and exact.seconds <= max(_PATIENCE, other.seconds)
    return exact if engine == "cholesky" or (engine is None and within) else other


def _cholesky(n: int, d: int, count: int, here: Machine, dtype: torch.dtype, search: Plan) -> Plan:
    """Plan for `count` exact factorisations after a search by block Lanczos."""
    size, rate = dtype.itemsize, here.flops[str(dtype).removeprefix("torch.")]
    held = _CHOLESKY_COPIES * n**2 * size + n * d * size
    each = (_CHOLESKY * n**3 / _CHOLESKY_SHARE + n**2 * d) / rate
    return Plan(
        "cholesky",
        search.storage,
        search.dtype,
        max(held, search.bytes),
        search.seconds + count * each,
        f"{search.reason}; then {count} exact Cholesky factorisation{'s' if count > 1 else ''}, "
        f"{_gb(held)}, {_time(each)} each",
    )


def _krylov(
    n: int, d: int, outputs: int, here: Machine, kind: str, room: float, keep: bool
) -> Plan | None:
    """Plan for block Lanczos, or None where it does not fit.

    K is kept in memory in the largest dtype that fits; otherwise it is read from a file or
    recomputed for each product.
    """
    columns = outputs + _PROBES

    def option(name: str, storage: str) -> Plan | None:
        size, rate = getattr(torch, name).itemsize, here.flops[name]
        # The space, its Ritz vectors, a few blocks of workspace, and the inputs.
        basis = (2 * _PRODUCTS + 4) * columns * n * size + n * d * size
        matrix, make = n**2 * size, n**2 * d / rate
        product = 2 * n**2 * columns / rate
        within = basis + matrix <= room
        if (storage == "memory" and not within) or (storage == "disk" and not here.disk_rate):
            return None
        told = f"K in {name}, {_gb(matrix)}, "
        if storage == "none":
            each, how = make + product, f"{told}recomputed for each product"
            make, held = 0.0, basis
        elif within:
            each, held = product, basis + matrix
            how = told + ("in a file cached in memory" if storage == "disk" else "held in memory")
        else:
            each, held = max(product, matrix / here.disk_rate), basis
            how = f"{told}read from a file for each product"
        if basis > room or (storage == "disk" and matrix > _DISK * here.disk):
            return None
        seconds = _KRYLOV_SPECTRA * (make + _PRODUCTS * each)
        why = f"{how}; {_time(each)} a product with {columns} columns"
        return Plan("krylov", storage, name, held, seconds, why)

    keep = keep and not here.card
    stored = "disk" if keep else "memory"
    kinds = dict.fromkeys((kind, "float32"))
    found = [option(name, stored) for name in kinds]
    within = [p for p in found if p is not None and "read from" not in p.reason]
    if within:
        return within[0]
    ways = ("disk", "none") if keep else ("none",)
    streamed = [option(name, storage) for name in kinds for storage in ways]
    return min((p for p in streamed if p is not None), key=lambda p: p.seconds, default=None)


def free_memory(device: torch.device) -> float:
    """Free bytes of the GPU, or of the machine within the limit of its control group."""
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    free = float(os.sysconf("SC_PAGE_SIZE")) * os.sysconf("SC_PHYS_PAGES")
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        lines = (line.split() for line in meminfo.read_text().splitlines())
        free = {name: 1024.0 * float(value) for name, value, *_ in lines}["MemAvailable:"]
    limit, used = (Path("/sys/fs/cgroup") / f"memory.{name}" for name in ("max", "current"))
    if limit.exists() and used.exists() and limit.read_text().strip() != "max":
        free = min(free, float(limit.read_text()) - float(used.read_text()))
    return max(free, 0.0)


def out_of_memory(err: Exception) -> bool:
    """Whether an error means that memory ran out; on a CPU, torch raises a plain RuntimeError.

    Example:
        >>> out_of_memory(MemoryError()), out_of_memory(RuntimeError("shapes differ"))
        (True, False)
    """
    known = isinstance(err, MemoryError | torch.OutOfMemoryError)
    return known or "can't allocate memory" in str(err) or "not enough memory" in str(err)


def check_room(n: int, like: Tensor) -> None:
    """Check that a Cholesky factor of order n, in the dtype and on the device of `like`, fits.

    Raises:
        MemoryError: the factor does not fit in free memory.
    """
    wanted, there = n**2 * like.dtype.itemsize, free_memory(like.device)
    if wanted > there:
        raise MemoryError(
            f"variances at n = {n:,} need a Cholesky factor of {_gb(wanted)}, but only "
            f"{_gb(there)} are free; mean() and fitted() need no factor"
        )


def _kinds(device: torch.device) -> tuple[str, ...]:
    return ("float32",) if device.type == "mps" else ("float32", "float64")


def _rate(dtype: torch.dtype, device: torch.device) -> float:
    """Floating-point operations per second of a product of two square matrices."""
    size = 8192 if device.type == "cuda" else 1536
    # Some GPUs multiply zeros and ones faster than other numbers.
    a = torch.linspace(-1, 1, size * size, dtype=dtype, device=device).reshape(size, size)
    best = float("inf")
    for _ in range(3):
        start = time.perf_counter()
        float((a @ a)[0, 0])  # reading the value waits for the product
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best


def _disk_rate(folder: Path) -> float:
    """Bytes per second read from a new file in the folder, without the page cache."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(os.urandom(_TRIAL))
            file.flush()
            os.fsync(file.fileno())
            if hasattr(os, "posix_fadvise"):
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            file.seek(0)
            start = time.perf_counter()
            while file.read(2**20):
                pass
            return _TRIAL / (time.perf_counter() - start)
    except OSError:
        return 0.0


def _gb(size: float) -> str:
    return f"{size / 1e9:,.1f} GB"


def _time(seconds: float) -> str:
    if seconds < 1:
        return f"{seconds:.2g} s"
    return f"{seconds:,.0f} s" if seconds < 180 else f"{seconds / 60:,.0f} min"
