"""The additive parts of a Gaussian process: what each term of its kernel explains."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import gpytorch
import torch
from gpytorch.kernels import AdditiveKernel, Kernel, ProductKernel, ScaleKernel
from torch import Tensor
from torch.distributions import Normal

from bayesgen.covariance.gram import gram
from bayesgen.kernels.structure import label, labels_of


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

    Example:
        >>> import bayesgen as bg
        >>> t = torch.linspace(0, 6, 60, dtype=torch.float64)
        >>> y = t + torch.sin(6 * t) + 0.1 * torch.cos(91 * t)
        >>> found = bg.GaussianProcess(bg.kernels.parsed("linear + periodic")).fit(t, y)
        >>> sorted(found.components(t))
        ['Linear', 'Periodic']
    """

    def __init__(self, parts: dict[str, Normal], sentences: dict[str, str], x: Tensor) -> None:
        super().__init__(parts)
        self.sentences, self.x = sentences, x

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
    several = len(posterior.observed.shape) > 1
    for term in expanded(kernel):
        cross = scale * term.covariance(x_new, posterior._gram.x)
        mean = cross @ alpha
        variance = torch.empty_like(mean)
        prior = scale * term.diagonal(x_new)
        for outputs, lower in posterior._lowers(0):
            half = torch.linalg.solve_triangular(lower, cross.mT, upper=False)
            variance[:, outputs] = (prior - half.square().sum(0)).clamp(min=0)[:, None]
        sd = variance.clamp(min=torch.finfo(mean.dtype).tiny).sqrt()
        name = " × ".join(label(factor, names) for factor in term.factors)
        parts[name] = Normal(mean, sd) if several else Normal(mean[:, 0], sd[:, 0])
        sentences[name] = sentence(term, units)
    return Components(parts, sentences, x_new)


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
    """Whether a composed kernel uses all columns, so that its parts can stand alone."""
    return kernel.active_dims is None


def sentence(term: Term, units: Sequence[float] = ()) -> str:
    """What a term says about the function, in words, with its learnt periods and length-scales.

    Args:
        term: the term.
        units: size of each column of the inputs, by which their lengths are multiplied.
    """
    words = _Words()
    for factor in term.factors:
        own = list(units)
        if units and factor.active_dims is not None:
            own = [units[int(i)] for i in factor.active_dims]
        _read(factor, words, own[0] if len(own) == 1 else 1.0)
    said = [f"a period of {_number(p)}" for p in words.periods]
    lengths = " and ".join(map(_number, words.lengths))
    if words.periods and words.lengths:
        said[-1] += f" whose shape changes over {lengths}"
    elif words.lengths:
        said.append(f"a smooth function that changes over {lengths}")
    if words.lines:
        degree = "a straight line" if words.lines == 1 else f"a polynomial of degree {words.lines}"
        said.append(degree if not said else f"an amplitude that grows as {degree}")
    said += [f"the kernel {name}" for name in words.others]
    return " with ".join(said) if said else "a constant"


def _read(kernel: Kernel, words: _Words, unit: float) -> None:
    if isinstance(kernel, gpytorch.kernels.ConstantKernel):
        return
    if isinstance(kernel, gpytorch.kernels.PeriodicKernel | gpytorch.kernels.CosineKernel):
        words.periods += (unit * kernel.period_length.detach().reshape(-1)).tolist()
    elif isinstance(kernel, gpytorch.kernels.LinearKernel):
        words.lines += 1
    elif kernel.has_lengthscale and kernel.lengthscale is not None:
        found = (unit * kernel.lengthscale.detach().reshape(-1)).tolist()
        words.lengths += found[:1] if len(found) == 1 else [prod(found) ** (1 / len(found))]
    else:
        words.others.append(label(kernel))


def _number(value: float) -> str:
    return f"{value:.3g}"
