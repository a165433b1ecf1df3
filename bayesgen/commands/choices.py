"""Options that take one of several values: their help, their completion and their check."""

from __future__ import annotations

import re
import sys
from difflib import get_close_matches
from typing import Any

import typer

DATA = ("digits", "cifar10", "cifar100", "fashion-mnist")
DEVICES = ("cpu", "cuda", "mps")
DTYPES = ("float64", "float32")
READERS = "bayesgen.data.loading:_READERS"
KERNELS = ("rbf", "matern12", "matern32", "matern52")
# The names of `bayesgen.kernels.parsed`, which are checked before gpytorch is imported.
FORMS = (*KERNELS, "rq", "periodic", "cosine", "linear", "constant", "polynomial", "spectral",
         "nngp", "ntk", "arccos")  # fmt: skip
# Words of settings within a text of kernels.
_SETTINGS = ("ard", "column", "depth", "activation", "order", "degree", "mixtures", "relu", "erf",
             "step", "squared_relu")  # fmt: skip


def choice(
    *values: str,
    help: str,
    more: str = "",
    registry: str = "",
    several: bool = False,
    panel: str | None = None,
    argument: bool = False,
) -> Any:
    """An option with one of these values, or with several of them with commas between.

    Args:
        values: the accepted values, all of which the help lists.
        help: what the option is, a sentence without its full stop.
        more: a sentence after the values.
        registry: "MODULE:NAME" of the mapping where further values may be registered. It is looked
            at where the module was imported before, as who registers one has done.
        several: whether several values may be given.
        panel: heading of the help under which the option is shown.
        argument: whether it is an argument and not an option.

    Example:
        >>> choice("cpu", "cuda", help="Device").help
        'Device: cpu or cuda.'
    """
    words = f"{', '.join(values[:-1])} or {values[-1]}" if len(values) > 1 else values[0]

    def check(param: typer.CallbackParam, value: str | None) -> str | None:
        if value is None:
            return None
        parts = [part.strip() for part in value.split(",")] if several else [value]
        for part in parts:
            if part not in values and part not in _registered(registry):
                raise ValueError(
                    f"{shown(param)} must be one of {words}, got {part!r}" + nearest(part, values)
                )
        if len(set(parts)) < len(parts):
            raise ValueError(f"{shown(param)} must hold different names, got {value!r}")
        return ",".join(parts)

    def complete(incomplete: str) -> list[str]:
        done, comma, last = incomplete.rpartition(",") if several else ("", "", incomplete)
        used = done.split(",")
        return [f"{done}{comma}{v}" for v in values if v.startswith(last) and v not in used]

    kind: Any = typer.Argument if argument else typer.Option
    text = f"{help}, several with commas: {words}." if several else f"{help}: {words}."
    text = f"{text} {more}".rstrip()
    return kind(help=text, callback=check, autocompletion=complete, rich_help_panel=panel)


def kernel_text(panel: str) -> Any:
    """An option with a text of kernels; its names are checked before gpytorch is imported."""

    def check(param: typer.CallbackParam, value: str) -> str:
        known = (*FORMS, *_SETTINGS)
        for word in re.findall(r"[a-z_]\w*", value.lower()):
            if word not in known:
                raise ValueError(
                    f"{shown(param)} must be made of {', '.join(FORMS)}, got {word!r}"
                    + nearest(word, known)
                )
        return value

    return typer.Option(
        help=f"Kernel of gp: {', '.join(FORMS)}, or sums and products of them, such as "
        "'rbf + periodic*rbf' or 'nngp(depth=3)'.",
        callback=check,
        autocompletion=lambda incomplete: [form for form in FORMS if form.startswith(incomplete)],
        rich_help_panel=panel,
    )


def _registered(registry: str) -> Any:
    module, _, name = registry.partition(":")
    return getattr(sys.modules.get(module), name, ()) if registry else ()


def nearest(value: str, values: Any) -> str:
    """A suggestion "; did you mean …?" for a value that is none of several, or "".

    Example:
        >>> nearest("cifar-10", ("digits", "cifar10")), nearest("x", ("digits",))
        ("; did you mean 'cifar10'?", '')
    """
    known = {str(v).lower(): str(v) for v in values}
    found = get_close_matches(str(value).lower(), known, 1, 0.6)
    return f"; did you mean {known[found[0]]!r}?" if found else ""


def shown(param: Any) -> str:
    """An option as it is written on the command line, or the name of an argument."""
    options = [word for word in param.opts if word.startswith("--")]
    return options[0] if options else str(param.name).upper()
