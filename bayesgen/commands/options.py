"""The values of command-line options as Python values, with an error for each bad one."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def parse_sizes(parts: list[str]) -> dict[str, int]:
    """Sizes n, d and outputs from n=50000 d=3072 outputs=110, and tasks where they are given.

    Raises:
        ValueError: another form, or a size that is missing.

    Example:
        >>> parse_sizes(["n=500", "d=3", "outputs=1"])
        {'n': 500, 'd': 3, 'outputs': 1}
    """
    wanted = {"n", "d", "outputs"}
    try:
        pairs = [part.split("=") for part in " ".join(parts).replace(",", " ").split()]
        found = {name: int(value.replace("_", "")) for name, value in pairs}
    except ValueError:
        found = {}
    if "labellings" in found:  # the old name, for one release
        found["tasks"] = found.pop("labellings")
    if not wanted <= set(found) <= wanted | {"tasks"}:
        raise ValueError(
            "plan must be n=… d=… outputs=… and optionally tasks=…, e.g. n=50000 d=3072 "
            f"outputs=110 tasks=11, got {' '.join(parts)!r}"
        )
    return found


def parse_levels(text: str) -> list[float]:
    """Levels from START:STOP:STEP (both ends included) or from a,b,c.

    Raises:
        ValueError: neither form, or a step that is not positive.

    Example:
        >>> parse_levels("0:1:0.25"), parse_levels("0,0.5")
        ([0.0, 0.25, 0.5, 0.75, 1.0], [0.0, 0.5])
    """
    wanted = f"levels must be START:STOP:STEP, e.g. 0:1:0.1, or a list a,b,c, got {text!r}"
    try:
        if ":" not in text:
            return [float(part) for part in text.split(",")]
        start, stop, step = (float(part) for part in text.split(":"))
    except ValueError:
        raise ValueError(wanted) from None
    if not step > 0 or not 0 <= start <= stop <= 1:
        raise ValueError(f"{wanted}; 0 ≤ START ≤ STOP ≤ 1 and STEP > 0")
    count = int((stop - start) / step + 1e-9) + 1
    return [round(start + i * step, 12) for i in range(count)]


def parse_groups(text: str) -> list[list[int]]:
    """Groups of classes from 0/1 or 0,1,2/3,4.

    Raises:
        ValueError: another form.

    Example:
        >>> parse_groups("0,1/2")
        [[0, 1], [2]]
    """
    try:
        return [[int(label) for label in part.split(",")] for part in text.split("/")]
    except ValueError:
        raise ValueError(
            f"groups must be classes such as 0/1 or 0,1,2,3,4/5,6,7,8,9, got {text!r}"
        ) from None


def dtype_named(name: str) -> torch.dtype:
    """The floating-point type "float64" or "float32".

    Raises:
        ValueError: another name.
    """
    import torch

    from bayesgen._internal import checks

    checks.one_of("dtype", name, ("float64", "float32"))
    return torch.float64 if name == "float64" else torch.float32


def on_device(name: str, dtype: str) -> torch.device:
    """The device of this name, checked to exist on this machine and to have the dtype.

    Raises:
        ValueError: the machine has no such device, or the device has no such dtype.
    """
    import torch

    from bayesgen._internal import checks

    checks.one_of("device", name, ("cpu", "cuda", "mps"))
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("device must be one this machine has: cuda is not available, cpu is")
    if name == "mps" and not torch.backends.mps.is_available():
        raise ValueError("device must be one this machine has: mps is not available, cpu is")
    if name == "mps" and dtype == "float64":
        raise ValueError("dtype must be float32 on mps, which has no float64")
    return torch.device(name)
