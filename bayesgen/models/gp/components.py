"""The additive parts of a Gaussian process: what each term of its kernel explains."""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import gpytorch
import torch
from gpytorch.kernels import AdditiveKernel, Kernel, ProductKernel, ScaleKernel
from torch import Tensor
from torch.distributions import Normal

from bayesgen.covariance.gram import gram
from bayesgen.kernels.structure import label, labels_of

# Ratio of a length-scale to the range of the inputs above which a part does not change over them.
_UNCHANGED = 10.0


@dataclass(frozen=True)
class Term:
    """A product of kernels, one term of a kernel whose products were multiplied out.

    Attributes:
        factors: the kernels.
        variance: product of the outputscales around them.
    """

    factors: tuple[Kernel, ...]
    variance: float = 1.0

    def covariance(self, x1: Tensor, x2: Tensor) -> Tensor:
        """Covariances of the term at unit outputscale of the model, (n1, n2)."""
        each = [matrices.cross(x1)(matrices.start()) for matrices in map(_on(x2), self.factors)]
        return self.variance * torch.stack(each).prod(0)

    def diagonal(self, x: Tensor) -> Tensor:
        """Variances of the term at unit outputscale of the model, (n,)."""
        each = [matrices.diagonal(matrices.start(), x) for matrices in map(_on(x), self.factors)]
        return self.variance * torch.stack(each).prod(0)


def _on(x: Tensor) -> Callable[[Kernel], Any]:
    return lambda kernel: gram(kernel, x)


class Components(dict[str, Normal]):
    """Posterior of each additive part of a Gaussian process, by name; printing it says what it is.

    Args:
        parts: the parts by name.
        sentences: one sentence about each part.
        x: the inputs of the parts, (m, d).
        prior_mean: the prior mean at x, (m,) or (m, C), which is in no part; with it, the means of
            the parts sum to the posterior mean. None is 0.
        columns: columns of the inputs on which each part depends; a part without an entry may
            depend on all.

    Example:
        >>> import bayesgen as bg
        >>> t = torch.linspace(0, 6, 60, dtype=torch.float64)
        >>> y = t + torch.sin(6 * t) + 0.1 * torch.cos(91 * t)
        >>> found = bg.GaussianProcess(bg.kernels.parsed("linear + periodic")).fit(t, y)
        >>> sorted(found.components(t))
        ['Linear', 'Periodic']
    """

    def __init__(
        self,
        parts: dict[str, Normal],
        sentences: dict[str, str],
        x: Tensor,
        prior_mean: Tensor | None = None,
        columns: Mapping[str, tuple[int, ...]] | None = None,
    ) -> None:
        super().__init__(parts)
        self.columns = dict(columns or {})
        self.sentences, self.x = sentences, x
        first = next(iter(parts.values())).mean
        self.prior_mean = torch.zeros_like(first) if prior_mean is None else prior_mean

    def __repr__(self) -> str:
        return "\n".join(f"{name}: {self.sentences[name]}." for name in self)


@dataclass
class _Words:
    """What the factors of a term say, collected for one sentence."""

    periods: list[float] = field(default_factory=list)
    lengths: list[float] = field(default_factory=list)
    lines: int = 0
    others: list[str] = field(default_factory=list)


def components(posterior: Any, x_new: Tensor, units: Sequence[float] = ()) -> Components:
    """The posterior of each additive part of one task; see `GPPosterior.components`.

    Args:
        posterior: the posterior, of one task.
        x_new: new inputs, (m, d).
        units: size of each column of the inputs, for the lengths in the sentences.
    """
    kernel = posterior._kernels()[0]
    scale, alpha = posterior._scale[0], posterior._alpha[0]
    names = labels_of(kernel)
    parts: dict[str, Normal] = {}
    sentences: dict[str, str] = {}
    columns: dict[str, tuple[int, ...]] = {}
    several = len(posterior.observed.shape) > 1
    span = _span(posterior._gram.x, units)
    for term in expanded(kernel):
        cross = scale * term.covariance(x_new, posterior._gram.x)
        mean = cross @ alpha
        variance = torch.empty_like(mean)
        prior = scale * term.diagonal(x_new)
        for outputs, lower in posterior._lowers(0):
            half = torch.linalg.solve_triangular(lower, cross.mT, upper=False)
            variance[:, outputs] = (prior - half.square().sum(0)).clamp(min=0)[:, None]
        sd = variance.clamp(min=torch.finfo(mean.dtype).tiny).sqrt()
        name = _unused(" × ".join(label(factor, names) for factor in term.factors), parts)
        parts[name] = Normal(mean, sd) if several else Normal(mean[:, 0], sd[:, 0])
        sentences[name] = sentence(term, units, span)
        used = _columns(term)
        if used is not None:
            columns[name] = used
    prior_mean = posterior._mean(x_new)
    prior_mean = prior_mean.expand(len(x_new), posterior.observed.y.shape[-1])
    prior_mean = prior_mean if several else prior_mean[:, 0]
    return Components(parts, sentences, x_new, prior_mean, columns)


def _unused(name: str, used: Container[str]) -> str:
    """A name that no other part has: terms of one kernel module have the same labels."""
    count, found = 1, name
    while found in used:
        count += 1
        found = f"{name} ({count})"
    return found


def expanded(kernel: Kernel) -> Iterator[Term]:
    """The terms of a kernel after multiplying out products of sums.

    Example:
        >>> from bayesgen.kernels import parsed
        >>> [len(term.factors) for term in expanded(parsed("(linear + rbf) * periodic"))]
        [2, 2]
    """
    if isinstance(kernel, ScaleKernel) and _outermost(kernel):
        factor = float(kernel.outputscale.detach())
        for term in expanded(kernel.base_kernel):
            yield Term(term.factors, factor * term.variance)
    elif isinstance(kernel, AdditiveKernel) and _outermost(kernel):
        for part in kernel.kernels:
            yield from expanded(part)
    elif isinstance(kernel, ProductKernel) and _outermost(kernel):
        found = [Term(())]
        for part in kernel.kernels:
            each = list(expanded(part))
            found = [
                Term((*old.factors, *new.factors), old.variance * new.variance)
                for old in found
                for new in each
            ]
        yield from found
    else:
        yield Term((kernel,))


def _outermost(kernel: Kernel) -> bool:
    """Whether the parts of a composed kernel can stand alone.

    They can where it uses all columns, and where it is a scale that has taken over the columns of
    the kernel within, as gpytorch's do.
    """
    own = kernel.active_dims
    if own is None or not isinstance(kernel, ScaleKernel):
        return own is None
    inner = kernel.base_kernel.active_dims
    return inner is not None and torch.equal(own, inner)


def _span(x: Tensor, units: Sequence[float]) -> float:
    """The largest range of a column of inputs, in its unit."""
    ranges = x.amax(0) - x.amin(0)
    return float((ranges * ranges.new_tensor(units) if units else ranges).max())


def sentence(term: Term, units: Sequence[float] = (), span: float = math.inf) -> str:
    """What a term says about the function, in words, with its learnt periods and length-scales.

    Args:
        term: the term.
        units: size of each column of the inputs, by which their lengths are multiplied.
        span: the range of the inputs; a length-scale above ten times of it is not stated.
    """
    words = _Words()
    for factor in term.factors:
        own = list(units)
        if units and factor.active_dims is not None:
            own = [units[int(i)] for i in factor.active_dims]
        _read(factor, words, own[0] if len(own) == 1 else 1.0)
    said = [f"a period of {_number(p)}" for p in words.periods]
    lengths = " and ".join(map(_number, words.lengths))
    constant = bool(words.lengths) and min(words.lengths) > _UNCHANGED * span
    if words.periods and words.lengths:
        change = "does not change" if constant else f"changes over {lengths}"
        said[-1] += f" whose shape {change}"
    elif constant:
        said.append("a function that hardly changes over the range of the inputs")
    elif words.lengths:
        said.append(f"a smooth function that changes over {lengths}")
    if words.lines:
        degree = "a straight line" if words.lines == 1 else f"a polynomial of degree {words.lines}"
        said.append(degree if not said else f"an amplitude that grows as {degree}")
    said += [f"the kernel {name}" for name in words.others]
    columns = _columns(term)
    where = ""
    if columns:
        where = f", in column{'s' if len(columns) > 1 else ''} {' and '.join(map(str, columns))}"
    return (" with ".join(said) if said else "a constant") + where


def _columns(term: Term) -> tuple[int, ...] | None:
    """The columns to which a term is limited, or None; a constant has none."""
    shaped = [f for f in term.factors if not isinstance(f, gpytorch.kernels.ConstantKernel)]
    limited = [f.active_dims for f in shaped if f.active_dims is not None]
    if len(limited) < len(shaped):
        return None
    return tuple(sorted({int(i) for active in limited for i in active}))


def _read(kernel: Kernel, words: _Words, unit: float) -> None:
    if isinstance(kernel, gpytorch.kernels.ConstantKernel):
        return
    if isinstance(kernel, gpytorch.kernels.PeriodicKernel | gpytorch.kernels.CosineKernel):
        words.periods += (unit * kernel.period_length.detach().reshape(-1)).tolist()
    elif isinstance(kernel, gpytorch.kernels.LinearKernel):
        words.lines += 1
    elif kernel.has_lengthscale and kernel.lengthscale is not None:
        found = (unit * kernel.lengthscale.detach().reshape(-1)).tolist()
        words.lengths += found[:1] if len(found) == 1 else [math.prod(found) ** (1 / len(found))]
    else:
        words.others.append(label(kernel))


def _number(value: float) -> str:
    return f"{value:.3g}"
