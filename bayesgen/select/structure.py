"""Sums of products of kernels as texts, each model in one form."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

NULL = "white noise"
# A product of two of the first kind with one length-scale each is one of them again, and so is a
# product of two of the second kind with a length-scale for each column.
_SHARED = frozenset({"rbf", "matern12"})
_BY_COLUMN = frozenset({"rbf"})
# Kernels without parameters besides their variance.
_PLAIN = frozenset({"linear", "constant"})


@dataclass(frozen=True, order=True)
class Structure:
    """A sum of products of kernels, in a form that does not depend on the order.

    Attributes:
        terms: the products, sorted; each is a sorted tuple of kernels as texts.

    Example:
        >>> Structure((("rbf",), ("periodic", "rbf"))).text
        'rbf + periodic*rbf'
        >>> [s.text for s in Structure((("linear",),)).expansions(("linear", "rbf"))]
        ['linear*linear', 'linear + rbf', 'linear*rbf', 'rbf']
    """

    terms: tuple[tuple[str, ...], ...]

    @classmethod
    def of(cls, terms: Sequence[Sequence[str]]) -> Structure:
        """The structure of some products in any order."""
        return cls(
            tuple(sorted((tuple(sorted(term)) for term in terms), key=lambda t: (len(t), t)))
        )

    @property
    def text(self) -> str:
        """The structure as a text for `bayesgen.kernels.parsed`; white noise has no kernel."""
        return " + ".join("*".join(term) for term in self.terms) or NULL

    @property
    def size(self) -> int:
        """Number of kernels in all terms."""
        return sum(map(len, self.terms))

    def canonical(self, columns: int = 1) -> Structure:
        """The smallest structure of the same model beside a constant, by identities of kernels.

        Each term has a free variance, and the model has a constant of free variance. Therefore

            k · constant = k,   k + constant = k,   polynomial(1) = linear,
            t + t = t  for a product t of kernels without further parameters, such as linear*linear,
            k · k = k  for k = rbf or matern12, with the inverse square (inverse) length-scales
                       of the factors added; of rbf(ard), too.

        On one column, "(ard)" and "(column=0)" mean nothing. Each identity is one of the sets of
        covariances that the hyperparameters reach. Limits of a kernel, such as an rbf of infinite
        length-scale, are no identities.

        Args:
            columns: number of columns of the inputs.

        Example:
            >>> Structure.of([["constant", "linear"], ["linear"], ["rbf", "rbf"]]).canonical().text
            'linear + rbf'
        """
        found: list[tuple[str, ...]] = []
        for term in self.terms:
            factors = _product([_plain_text(kernel, columns) for kernel in term])
            if factors == ["constant"]:
                continue
            if factors == ["polynomial(1)"]:
                factors = ["linear"]
            new = tuple(sorted(factors))
            shapeless = all(_name(kernel) in _PLAIN for kernel in new)
            if not (shapeless and new in found):
                found.append(new)
        return Structure.of(found)

    def expansions(self, base: Sequence[str], columns: int = 1) -> Iterator[Structure]:
        """Other models with one kernel more, or with one kernel replaced by another, each once.

        Args:
            base: the kernels.
            columns: number of columns of the inputs.
        """
        seen = {self.canonical(columns)}
        for kernel in base:
            found = [[*self.terms, (kernel,)]]
            for i, term in enumerate(self.terms):
                others = [*self.terms[:i], *self.terms[i + 1 :]]
                found.append([*others, (*term, kernel)])
                found += [[*others, (*term[:k], kernel, *term[k + 1 :])] for k in range(len(term))]
            for terms in found:
                new = Structure.of(terms).canonical(columns)
                if new.size >= self.size and new not in seen:
                    seen.add(new)
                    yield new


def _name(kernel: str) -> str:
    return kernel.partition("(")[0]


def _plain_text(kernel: str, columns: int) -> str:
    """A kernel in lower case without spaces, and without settings that mean nothing."""
    text = "".join(kernel.split()).lower().replace("(degree=", "(")
    name, _, inside = text.partition("(")
    settings = [s for s in inside.rstrip(")").split(",") if s]
    if columns == 1:
        settings = [s for s in settings if s not in ("ard", "column=0")]
    if name == "polynomial" and settings == ["2"]:
        settings = []
    return f"{name}({','.join(settings)})" if settings else name


def _product(factors: Sequence[str]) -> list[str]:
    """The factors of a product, without those that others make superfluous."""
    left: list[str] = []
    for factor in factors:
        name = _name(factor)
        once = (name in _SHARED and "ard" not in factor) or name in _BY_COLUMN
        if not (once and factor in left) and name != "constant":
            left.append(factor)
    if "rbf(ard)" in left:
        left = [f for f in left if _name(f) != "rbf" or f == "rbf(ard)"]
    return left or ["constant"]
