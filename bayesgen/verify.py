"""Checks of fast computations against direct ones, on a small random part of a problem.

A fast path that may be wrong for a kernel, an operator or a network that it was not written for is
compared with a direct computation each time that it is used. The comparison covers a small random
part of the problem, so that it costs little. Where the two differ by more than rounding explains,
the caller takes the direct path or refuses the problem. The outcome is a `Check`, which results
keep and which `docs/trust.md` lists.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

# Number of points whose covariances are compared.
_POINTS = 12


@dataclass(frozen=True)
class Check:
    """One comparison of a fast computation with a direct one.

    Attributes:
        what: what was compared, as a noun phrase.
        difference: the largest difference, in units of the scale of the values.
        allowed: the largest difference that rounding explains, in the same units.

    Example:
        >>> print(Check("entries of K", 1e-16, 1e-12))
        entries of K: largest relative difference 1e-16, allowed 1e-12
        >>> Check("entries of K", 0.5, 1e-12).passed
        False
    """

    what: str
    difference: float
    allowed: float

    @property
    def passed(self) -> bool:
        """Whether the two computations agree; False where the difference is not a number."""
        return self.difference <= self.allowed

    def require(self) -> None:
        """Raise an error unless the two computations agree.

        Raises:
            RuntimeError: they differ.
        """
        if not self.passed:
            raise RuntimeError(f"a fast computation is wrong: {self}")

    def __str__(self) -> str:
        end = "" if self.passed else ", not passed"
        return (
            f"{self.what}: largest relative difference {self.difference:.2g}, "
            f"allowed {self.allowed:.2g}{end}"
        )


def compare(what: str, fast: Tensor, direct: Tensor, *, power: float = 0.4) -> Check:
    """Compare the values of a fast path with those of a direct one.

    The allowed difference is epsᵖ times the largest direct value, with eps of the values' dtype.

    Args:
        what: what is compared, as a noun phrase.
        fast: values of the fast path.
        direct: values of the direct path, of the same shape.
        power: p.

    Example:
        >>> compare("a sum", torch.tensor([1.0, 2.0]), torch.tensor([1.0, 2.5])).passed
        False
    """
    allowed = torch.finfo(fast.dtype).eps ** power
    if fast.shape != direct.shape:
        return Check(what, float("inf"), allowed)
    if not fast.numel():
        return Check(what, 0.0, allowed)
    size = float(direct.abs().max())
    difference = float((fast - direct.to(fast)).abs().max())
    return Check(what, difference / size if size else difference, allowed)


def entries(
    what: str,
    fast: Callable[[Tensor, Tensor], Tensor],
    direct: Callable[[Tensor, Tensor], Tensor],
    x: Tensor,
) -> Check:
    """Compare the entries of two covariance functions for a few random rows of the inputs.

    A kernel that computes distances by inner products loses digits where the inputs are large in
    units of the length-scale. Where the two functions differ on the inputs, random points of order
    1 therefore decide.

    Args:
        what: what is compared, as a noun phrase.
        fast, direct: functions of inputs (m, d) and (k, d) that return covariances (m, k).
        x: inputs, (n, d).
    """
    some = some_inputs(x)
    # gpytorch treats two equal sets of inputs in another way.
    others = torch.cat([some.flip(0), some[:1]])
    with torch.no_grad():
        check = compare(what, fast(some, others), direct(some, others))
        if check.passed:
            return check
        generator = torch.Generator().manual_seed(0)
        plain = torch.randn(2, _POINTS, x.shape[1], generator=generator, dtype=torch.float64).to(x)
        return compare(what, fast(*plain), direct(*plain))


@lru_cache(maxsize=8)
def some_rows(n: int, count: int, seed: int = 0) -> Tensor:
    """Indices of at most `count` random rows of n, ascending; drawn without the global generator.

    The tensor is cached and must not be changed.

    Example:
        >>> some_rows(3, 5)
        tensor([0, 1, 2])
    """
    generator = torch.Generator().manual_seed(seed)
    return torch.randperm(n, generator=generator)[:count].sort().values


def some_inputs(x: Tensor) -> Tensor:
    """A few random rows of the inputs x (n, d), (m, d)."""
    return x[some_rows(len(x), _POINTS).to(x.device)]


def random_vector(n: int, like: Tensor, seed: int = 1) -> Tensor:
    """A vector (n, 1) of standard normal numbers, drawn on the CPU without the global generator."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, 1, generator=generator, dtype=torch.float64).to(like)
