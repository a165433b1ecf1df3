"""The values of command-line options as Python values, with an error for each bad one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bayesgen.commands.choices import KERNELS, nearest

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


def check_device(device: str, dtype: str) -> None:
    """Check that a device has a dtype, without importing torch.

    Raises:
        ValueError: it has not.
    """
    if device == "mps" and dtype == "float64":
        raise ValueError("dtype must be float32 on mps, which has no float64")


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
    check_device(name, dtype)
    return torch.device(name)


_FORMS = {"polynomial": ("decaying", "best"), "fourier": ("decaying", "best"), "gp": ("ard",)}
# Largest degree or order of a list of models.
_MOST = 500


def parse_models(text: str) -> list[tuple[str, int | str, str]]:
    """Kind, setting and form of each model of a list such as "polynomial:3, gp:rbf:ard, null".

    A model is `linear`, `polynomial:DEGREE`, `fourier:ORDER` or `gp:KERNEL`. A third part
    `decaying` gives a prior variance that falls with the order, `best` takes the best order up to
    the given one, and `ard` gives one length-scale for each input. `null` may be listed and is
    always compared.

    Raises:
        ValueError: another form; a model is given twice; there is none.

    Example:
        >>> parse_models("linear, gp:rbf:ard, fourier:8:decaying, null")
        [('linear', '', ''), ('gp', 'rbf', 'ard'), ('fourier', 8, 'decaying')]
    """
    found: list[tuple[str, int | str, str]] = []
    for word in (part.strip().lower() for part in text.split(",")):
        if word == "null":
            continue
        kind, _, rest = word.partition(":")
        setting, _, form = rest.partition(":")
        if kind == "linear" and not rest:
            one: tuple[str, int | str, str] = ("linear", "", "")
        elif kind not in _FORMS:
            known = ("linear", *_FORMS, "null")
            raise ValueError(
                f"models must be a list of linear, polynomial:DEGREE, fourier:ORDER, gp:KERNEL and "
                f"null, got {word!r}{nearest(kind, known)}"
            )
        else:
            if form and form not in _FORMS[kind]:
                raise ValueError(
                    f"models: a third part of {kind} must be {' or '.join(_FORMS[kind])}, got "
                    f"{form!r}{nearest(form, _FORMS[kind])}"
                )
            one = (kind, _setting(kind, setting), form)
        if one in found:
            raise ValueError(f"models must be different, got {word!r} twice")
        found.append(one)
    if not found:
        raise ValueError(f"models must hold a model beside null, got {text!r}")
    return found


def _setting(kind: str, text: str) -> int | str:
    if kind == "gp":
        if text not in KERNELS:
            raise ValueError(
                f"models: the kernel of gp must be one of {', '.join(KERNELS)}, got {text!r}"
                + nearest(text, KERNELS)
            )
        return text
    if not text.isdecimal() or int(text) > _MOST:
        what = "degree" if kind == "polynomial" else "order"
        raise ValueError(f"models: the {what} of {kind} must be in 0..{_MOST}, got {text!r}")
    return int(text)
