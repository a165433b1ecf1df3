"""The start of a larger kernel at the values of a smaller one that was fitted.

A sum or product that contains a fitted structure has at least its evidence, up to the limits of the
new kernel. A search from random starts may miss that value, because the modes of sums of kernels
are many and narrow. A climb from here does not.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import gpytorch
import torch
from gpytorch.constraints import Interval
from gpytorch.kernels import Kernel, ScaleKernel
from torch import Tensor

from bayesgen.kernels.grammar import parsed
from bayesgen.kernels.parameters import LENGTH, VARIANCE, Coordinates
from bayesgen.models.gp.model import GaussianProcess
from bayesgen.models.gp.posterior import GPPosterior
from bayesgen.select.structure import Structure

# Length-scale of a new factor of a product, in diameters of the inputs, and the shape parameter of
# a new periodic factor: with both the factor is nearly constant.
_LONG, _FLAT = 2.0, 10.0


def kernel_of(structure: Structure, x: Tensor) -> Kernel:
    """A new kernel of a structure, with a constant of free variance beside it.

    A period is at most half of the range of the inputs. The data contain less than two of a longer
    period: such a kernel fits a trend, and its extrapolation returns to earlier values. A period is
    at least twice the smallest distance of the inputs: at equally spaced inputs, a shorter one has
    the same values as a longer one (an alias), and differs from it between them only.

    Args:
        structure: the structure.
        x: inputs, (n, d).
    """
    text = f"{structure.text} + constant" if structure.terms else "constant"
    kernel: Kernel = parsed(text, x.shape[1]).double()
    limit_periods(kernel, x)
    return kernel


def limit_periods(kernel: Kernel, x: Tensor) -> None:
    """Limit each period within a kernel to what its inputs tell apart, in place.

    The limits are twice the smallest distance of the inputs and half of their range.
    """
    for part in kernel.modules():
        # gpytorch's cosine kernel is cos(π d/p), which repeats after 2p.
        repeats = {gpytorch.kernels.PeriodicKernel: 1, gpytorch.kernels.CosineKernel: 2}
        count = repeats.get(type(part))
        if count is None:
            continue
        used = x if part.active_dims is None else x[:, part.active_dims]
        longest = float((used.amax(0) - used.amin(0)).max()) / (2 * count)
        shortest = 2 * _smallest_gap(used) / count
        if not shortest < longest:
            shortest = 0.0
        if longest > 0:
            limits = Interval(shortest, longest, initial_value=0.5 * (shortest + longest))
            part.register_constraint("raw_period_length", limits)


def _smallest_gap(x: Tensor) -> float:
    """The smallest distance of two different values of a column of x (n, d), or 0."""
    found: list[float] = []
    for column in x.double().unbind(1):
        values = column.unique()
        near = 10 * torch.finfo(x.dtype).eps * float(values.abs().max())
        gaps = values.diff()
        found += gaps[gaps > near].amin().reshape(-1).tolist() if bool((gaps > near).any()) else []
    return min(found, default=0.0)


@dataclass(frozen=True)
class Parent:
    """A fitted structure from which others start.

    Attributes:
        structure: the structure.
        posterior: its posterior.
    """

    structure: Structure
    posterior: GPPosterior

    def start(
        self, structure: Structure, x: Tensor, y: Tensor, starts: int, seed: int
    ) -> tuple[Kernel, float] | None:
        """The kernel of another structure with the values of this one, and a noise variance.

        Parameters of the kernels in both are those of this posterior. A new term has the parameters
        of a fit to the residuals of this posterior. A new factor is nearly constant, where its
        parameters allow that.

        Args:
            structure: a structure with one kernel more, or with one kernel replaced.
            x, y: the data.
            starts, seed: settings of the fit to the residuals.

        Returns:
            None where the structures differ in more than one kernel.
        """
        pair = _changed(self.structure, structure)
        if pair is None:
            return None
        old_term, new_term = pair
        kernel = kernel_of(structure, x)
        scale = float(self.posterior.scale)
        own = _slots(self.structure, self.posterior._kernels()[0])
        left = _slots(structure, kernel)
        kept = list(self.structure.terms)
        if old_term is not None:
            kept.remove(old_term)
        for term in [*kept, ()]:
            _copy(own[term].pop(), left[term].pop(), scale)
        new = left[new_term].pop()
        noise = float(self.posterior.noise)
        if old_term is None:
            self._fit_residuals(new_term, new, x, y, starts, seed)
        else:
            _extend(own[old_term].pop(), old_term, new, new_term, scale, x)
        return kernel, noise

    def _fit_residuals(
        self, term: tuple[str, ...], new: Kernel, x: Tensor, y: Tensor, starts: int, seed: int
    ) -> None:
        """Set a new term to what fits the residuals best; where nothing does, it stays as it is."""
        residual = y - self.posterior.mean(x)
        alone = parsed("*".join(term), x.shape[1]).double()
        limit_periods(alone, x)
        model: GaussianProcess[GPPosterior] = GaussianProcess(alone, starts=starts, seed=seed)
        try:
            found = model.fit(x, residual)
        except (ValueError, RuntimeError):
            return
        _copy(found._kernels()[0], new, float(found.scale))


def _changed(
    old: Structure, new: Structure
) -> tuple[tuple[str, ...] | None, tuple[str, ...]] | None:
    """The term that differs, None and the new one for a term more; or None for other changes."""
    lost, gained = Counter(old.terms), Counter(new.terms)
    lost, gained = lost - gained, gained - lost
    if sum(gained.values()) != 1 or sum(lost.values()) > 1:
        return None
    (after,) = gained
    if not lost:
        return (None, after) if len(after) == 1 else None
    (before,) = lost
    return before, after


def _slots(structure: Structure, kernel: Kernel) -> dict[tuple[str, ...], list[Kernel]]:
    """The parts of a kernel of `kernel_of` by their terms; the constant has the term ()."""
    terms = [*structure.terms, ()]
    parts = list(kernel.kernels) if structure.terms else [kernel]
    found: dict[tuple[str, ...], list[Kernel]] = {}
    for term, part in zip(terms, parts, strict=True):
        found.setdefault(term, []).append(part)
    return found


def _copy(old: Kernel, new: Kernel, scale: float) -> None:
    """Give a term the values of another term of the same form, whose variance has a factor."""
    factor = 1.0
    while isinstance(old, ScaleKernel):
        factor, old = factor * float(old.outputscale.detach()), old.base_kernel
    base = new
    while isinstance(base, ScaleKernel):
        base = base.base_kernel
    base.load_state_dict(old.state_dict())
    _set_variance(new, factor * scale)


def _set_variance(kernel: Kernel, factor: float) -> None:
    """Multiply the variance of a term whose outputscale has its default by a factor."""
    with torch.no_grad():
        if isinstance(kernel, ScaleKernel):
            kernel.outputscale = factor
        elif isinstance(kernel, gpytorch.kernels.ConstantKernel):
            kernel.constant = kernel.constant * factor
        elif isinstance(kernel, gpytorch.kernels.LinearKernel):
            kernel.variance = kernel.variance * factor
        elif isinstance(kernel, gpytorch.kernels.SpectralMixtureKernel):
            kernel.mixture_weights = kernel.mixture_weights * factor


def _extend(
    old: Kernel,
    before: tuple[str, ...],
    new: Kernel,
    after: tuple[str, ...],
    scale: float,
    x: Tensor,
) -> None:
    """Give the factors of a term the values of those of a smaller or another term."""
    factor = scale
    while isinstance(old, ScaleKernel):
        factor, old = factor * float(old.outputscale.detach()), old.base_kernel
    base = new
    while isinstance(base, ScaleKernel):
        base = base.base_kernel
    known: dict[str, list[Kernel]] = {}
    for text, part in zip(before, _factors(old, before), strict=True):
        known.setdefault(text, []).append(part)
    for text, part in zip(after, _factors(base, after), strict=True):
        if known.get(text):
            part.load_state_dict(known[text].pop().state_dict())
        else:
            _flatten(part, x)
    _set_variance(new, factor)


def _factors(kernel: Kernel, term: tuple[str, ...]) -> list[Kernel]:
    return [kernel] if len(term) == 1 else list(kernel.kernels)


def _flatten(kernel: Kernel, x: Tensor) -> None:
    """Make a kernel nearly constant over the inputs, where its parameters allow that."""
    if isinstance(kernel, gpytorch.kernels.PeriodicKernel):
        kernel.lengthscale = _FLAT
        return
    coordinates = Coordinates(kernel, x.shape[1])
    theta = coordinates.read(kernel)
    for p in coordinates.parameters:
        used = x[:, list(p.part.columns)].double()
        if p.role == LENGTH:
            spans = (used - used.mean(0)).square().sum(1).max().sqrt()
            theta[p.where] = (2 * _LONG * spans.clamp(min=1e-300)).log()
        elif p.role == VARIANCE:
            square = used.square().sum(1).mean().clamp(min=1e-300)
            linear = isinstance(kernel, gpytorch.kernels.LinearKernel)
            theta[p.where] = -square.log() if linear else 0.0
    coordinates.write(kernel, theta)
