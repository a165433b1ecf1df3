"""Kernels written as text, such as "rbf + periodic*rbf", without evaluating any code."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

import gpytorch

from bayesgen._internal import checks
from bayesgen.kernels.wide_networks import NNGP, NTK, ArcCosine

# Largest number of kernels in one text, and of open brackets.
_MOST = 20

# Limits of the settings that are whole numbers.
_LIMITS = {"degree": (1, 100), "mixtures": (1, 100), "depth": (1, 100), "order": (0, 2)}

_TOKEN = re.compile(r"\s*(?:([a-z_][a-z_0-9]*)|([0-9]+(?:\.[0-9]+)?)|([-+*(),=]))", re.IGNORECASE)


@dataclass(frozen=True)
class _Form:
    """A kernel that a text may name.

    Attributes:
        make: function from its settings to the kernel.
        settings: its settings, in order, with their types.
        ard: whether it takes one length-scale for each column by the setting `ard`.
        column: whether it may be limited to one column by the setting `column`.
        wide: whether it is made for a number of columns without the setting `ard`.
    """

    make: Callable[..., gpytorch.kernels.Kernel]
    settings: dict[str, type] = field(default_factory=dict)
    ard: bool = False
    column: bool = True
    wide: bool = False


def _matern(nu: float) -> Callable[..., gpytorch.kernels.Kernel]:
    return lambda **more: gpytorch.kernels.MaternKernel(nu=nu, **more)


_FORMS: dict[str, _Form] = {
    "rbf": _Form(gpytorch.kernels.RBFKernel, ard=True),
    "matern12": _Form(_matern(0.5), ard=True),
    "matern32": _Form(_matern(1.5), ard=True),
    "matern52": _Form(_matern(2.5), ard=True),
    "rq": _Form(gpytorch.kernels.RQKernel, ard=True),
    "periodic": _Form(gpytorch.kernels.PeriodicKernel),
    "cosine": _Form(gpytorch.kernels.CosineKernel),
    "linear": _Form(gpytorch.kernels.LinearKernel),
    "constant": _Form(gpytorch.kernels.ConstantKernel),
    "polynomial": _Form(
        lambda degree=2, **more: gpytorch.kernels.PolynomialKernel(power=degree, **more),
        {"degree": int},
    ),
    "spectral": _Form(
        lambda mixtures=2, **more: gpytorch.kernels.SpectralMixtureKernel(mixtures, **more),
        {"mixtures": int},
        column=False,
        wide=True,
    ),
    "nngp": _Form(NNGP, {"depth": int, "activation": str}, column=False),
    "ntk": _Form(NTK, {"depth": int, "activation": str}, column=False),
    "arccos": _Form(ArcCosine, {"order": int, "depth": int}, column=False),
}
# The names that `parsed` accepts.
FORMS = tuple(_FORMS)


def parsed(text: str, columns: int = 1) -> gpytorch.kernels.Kernel:
    """The kernel that a text describes.

    A text is a sum of products of kernels, with brackets: "rbf", "rbf + periodic*rbf",
    "(linear + rbf) * periodic". A kernel may have settings in brackets: "nngp(depth=3)",
    "rbf(ard)" for one length-scale for each column, "rbf(column=1)" for the second column alone,
    "polynomial(3)". Each term of a sum has a
    variance of its own. Nothing in the text is evaluated.

    Args:
        text: the description.
        columns: number of columns of the inputs, for "ard" and "column".

    Returns:
        A new gpytorch kernel.

    Raises:
        TypeError: the description is no text.
        ValueError: it does not have this form (the message shows where), or `columns` is not an
            integer of at least 1.

    Example:
        >>> type(parsed("rbf + periodic*rbf")).__name__
        'AdditiveKernel'
    """
    if not isinstance(text, str):
        raise TypeError(f"kernel must be a text, got {type(text).__name__}")
    columns = checks.whole("columns", columns)
    return _Reader(text, columns).whole()


class _Reader:
    """Reads one text by recursive descent."""

    def __init__(self, text: str, columns: int) -> None:
        self.text, self.columns = text, columns
        self.tokens: list[tuple[str, int]] = []
        at = 0
        while text[at:].strip():
            found = _TOKEN.match(text, at)
            if found is None:
                at += len(text[at:]) - len(text[at:].lstrip())
                raise self._error(f"cannot have {text[at]!r}", at)
            self.tokens.append(
                (found.group(found.lastindex or 0), found.start(found.lastindex or 0))
            )
            at = found.end()
        self.next, self.count, self.depth = 0, 0, 0

    def whole(self) -> gpytorch.kernels.Kernel:
        """The kernel of the whole text."""
        kernel = self._sum()
        if self._peek() is not None:
            raise self._error(f"has {self._peek()!r} too much", self._at())
        return kernel

    def _sum(self) -> gpytorch.kernels.Kernel:
        terms = [self._product()]
        while self._accept("+"):
            terms.append(self._product())
        if len(terms) == 1:
            return terms[0]
        own = [_with_variance(term) for term in terms]
        return gpytorch.kernels.AdditiveKernel(*own)

    def _product(self) -> gpytorch.kernels.Kernel:
        factors = [self._factor()]
        while self._accept("*"):
            factors.append(self._factor())
        return factors[0] if len(factors) == 1 else gpytorch.kernels.ProductKernel(*factors)

    def _factor(self) -> gpytorch.kernels.Kernel:
        if self._accept("("):
            self.depth += 1
            if self.depth > _MOST:
                raise self._error(f"has more than {_MOST} brackets in each other", self._at())
            inside = self._sum()
            self._expect(")")
            self.depth -= 1
            return inside
        name, at = self._peek(), self._at()
        if name is None or not name[0].isalpha():
            raise self._error("must have the name of a kernel", at)
        form = _FORMS.get(name.lower())
        if form is None:
            near = get_close_matches(name.lower(), FORMS, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise self._error(f"must be made of {', '.join(FORMS)}, got {name!r}{hint}", at)
        self.next += 1
        self.count += 1
        if self.count > _MOST:
            raise self._error(f"has more than {_MOST} kernels", at)
        settings = self._settings(name.lower(), form) if self._accept("(") else {}
        if form.wide:
            settings["ard_num_dims"] = self.columns
        return form.make(**settings)

    def _settings(self, name: str, form: _Form) -> dict[str, Any]:
        """The settings in the brackets after a name."""
        found: dict[str, Any] = {}
        order = list(form.settings)
        while not self._accept(")"):
            if found:
                self._expect(",")
            word, at = self._peek(), self._at()
            if word is None:
                self._expect(")")
            self.next += 1
            if word == "ard" and form.ard:
                found["ard_num_dims"] = self.columns
                continue
            key = word
            if word is not None and self._accept("="):
                word, at = self._peek(), self._at()
                self.next += 1
            elif len(found) < len(order):
                key = order[len(found)]
            if key == "column" and form.column and "active_dims" not in found:
                found["active_dims"] = (self._column(word, at),)
                continue
            if key in found or (key == "column" and "active_dims" in found):
                raise self._error(f"has the setting {key!r} of {name} twice", at)
            if key not in form.settings:
                known = [*(["ard"] if form.ard else []), *order]
                known += ["column"] if form.column else []
                said = f"takes {', '.join(known)}" if known else "takes no settings"
                raise self._error(f"has a setting {key!r}, but {name} {said}", at)
            found[key] = self._value(str(key), form.settings[str(key)], word, at)
        if "active_dims" in found:
            found.pop("ard_num_dims", None)  # one column has one length-scale
        return found

    def _column(self, word: str | None, at: int) -> int:
        number = self._value("column", int, word, at)
        if number >= self.columns:
            raise self._error(
                f"must have a column below {self.columns}, counted from 0, got {number}", at
            )
        return int(number)

    def _value(self, key: str, kind: type, word: str | None, at: int) -> Any:
        if kind is int and word is not None and word.isdigit():
            number = int(word)
            least, most = _LIMITS.get(key, (0, number))
            if not least <= number <= most:
                raise self._error(f"must have {key} in {least}..{most}, got {number}", at)
            return number
        if kind is str and word is not None and word[0].isalpha():
            return word.lower()
        wanted = "a whole number" if kind is int else "a name"
        raise self._error(f"must have {wanted} for {key}, got {word!r}", at)

    def _peek(self) -> str | None:
        return self.tokens[self.next][0] if self.next < len(self.tokens) else None

    def _at(self) -> int:
        return self.tokens[self.next][1] if self.next < len(self.tokens) else len(self.text)

    def _accept(self, symbol: str) -> bool:
        if self._peek() != symbol:
            return False
        self.next += 1
        return True

    def _expect(self, symbol: str) -> None:
        if not self._accept(symbol):
            got = "its end" if self._peek() is None else repr(self._peek())
            raise self._error(f"must have {symbol!r} here, got {got}", self._at())

    def _error(self, words: str, at: int) -> ValueError:
        return ValueError(f"kernel {self.text!r} {words} (character {at + 1})")


def _with_variance(kernel: gpytorch.kernels.Kernel) -> gpytorch.kernels.Kernel:
    """A term of a sum with a variance of its own, where it has none."""
    own = (gpytorch.kernels.ConstantKernel, gpytorch.kernels.LinearKernel)
    spectral = isinstance(kernel, gpytorch.kernels.SpectralMixtureKernel)
    if isinstance(kernel, own) or spectral:
        return kernel
    return gpytorch.kernels.ScaleKernel(kernel)
