"""Fit thousands of small Gaussian processes at once, each with its own inputs and hyperparameters.

A grid of length-scales and noise ratios σ²/s is screened for each problem, by Cholesky
factorisations of at most 48 of its points; all points then decide between the length-scales. Up to
three climbs start at local maxima of the grid, or beside the best of them. They are Fisher scoring
on the exact gradient, in the logarithms of the hyperparameters, with a separate damping for each
climb; each step takes one batched Cholesky factorisation for all climbs.
The inputs and targets of each problem are divided by powers of two of their own size, so that the
search does not depend on their units.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import gpytorch
import torch
from torch import Tensor
from torch.distributions import Normal

from bayesgen import provenance, verify
from bayesgen._internal import checks
from bayesgen._internal.progress import Progress
from bayesgen._internal.words import plural
from bayesgen.covariance.distances import decay_, squared_distances
from bayesgen.covariance.gram import gram
from bayesgen.covariance.radial import Profile, profile_of
from bayesgen.evidence import EvidenceParts
from bayesgen.kernels import lengthscale_bounds, with_lengthscale
from bayesgen.kernels.structure import within
from bayesgen.models.gp.fit import fixed
from bayesgen.models.gp.posterior import GPPosterior
from bayesgen.models.gp.problem import GPSetting, Problem, zero_mean
from bayesgen.models.hyperparameters import Free
from bayesgen.models.reporting import Certified
from bayesgen.posterior.posterior import Observed, Posterior
from bayesgen.verify import Check

# Largest number of entries of K in one chunk, chosen for a processor's cache and a GPU's memory.
_CPU, _GPU = 2**21, 2**28
# Largest number of steps, and largest change of each coordinate in one step.
_STEPS, _STRIDE = 100, 1.5
# Gain in nats, relative to 1 + |log p(D)|, below which a climb ends, below which climbs are
# compared, and below which one that rounding stopped counts as converged.
_GAIN, _ROUGH, _SLACK = 1e-7, 1e-4, 1e-4
# First damping of a climb, and the largest, at which it is stopped.
_DAMPING, _STIFF = 0.1, 1e9
# Number of points and of length-scales that are screened, and the ratios σ²/s.
_FEW, _LENGTHS, _RATIOS = 48, 10, (1e-9, 1e-6, 1e-3, 0.03, 0.3, 3.0)
# Noises that are screened where the outputscale is limited or kept, and outputscales that are
# screened where the noise is kept, in mean squares of the targets.
_FINE, _SIZES = (1e-3, 0.01, 0.03, 0.1, 0.3, 1.0), (0.1, 1.0, 10.0)
# Largest number of climbs, the loss against the best start, in nats, up to which another local
# maximum is climbed, how much less a start may lose that is none, and their distance in log ℓ.
_STARTS, _MARGIN, _SLOPE, _APART = 3, 10.0, 6.0, 0.6
# Range of the length-scale: share of the median distance to a nearest neighbour below which the
# kernel is white noise, and multiples of the diameter (screened) and of the typical distance.
_SHORTEST, _COVERED, _LONGEST = 0.5, 3.0, 1e3
# The first of these where σ² is kept, so that white noise of the kernel is distinguished from it.
_SHORTEST_BESIDE_NOISE = 0.1
# The same for a kernel whose shape is learnt too, as distances in log ℓ.
_SHORT_SHAPED, _LONG_SHAPED = 7.0, 14.0
# Range of log α, and of log s and log σ² about the log mean square of the targets.
_SHAPES, _LARGE, _NOISIEST = 14.0, 42.0, 7.0
# Smallest outputscale, as the share 1/(_PURE n) of the mean square of the targets.
_PURE = 1e6
# Number of columns up to which distances are computed from differences, without cancellation.
_COLUMNS = 16


class BatchPosterior(Certified, Posterior):
    """Posteriors of B data sets, each with its own inputs, targets and hyperparameters.

    It is made by `GaussianProcess.fit_batch`. `task(b)` is the `GPPosterior` of data set b.

    Attributes:
        evidence: the `Evidence`, batch shape (B,).
        lengthscale: length-scale ℓ of each data set, (B,).
        scale: outputscale s of each data set, a variance, (B,).
        noise: noise variance σ² of each data set, (B,).
        converged: whether the search ended at a maximum, which may lie at the bound of a
            constraint, (B,).
        at_bound: whether a learnt hyperparameter ended on the edge of the searched range, (B,). The
            smallest σ² is where s/σ² reaches the rounding level.
    """

    def __init__(
        self,
        x: Tensor,
        observed: Observed,
        kernel: gpytorch.kernels.Kernel,
        family: _Family,
        found: BatchFound,
        learnt: frozenset[str],
    ) -> None:
        self._x, self._kernel, self._family = x, kernel, family
        self._alpha, self.learnt = found.alpha, learnt
        self.converged, self.at_bound = found.converged, found.at_bound
        self._observe(observed, found.parts)
        self._settings = found.settings
        self.lengthscale, self.scale, self.noise = found.settings[:, :3].exp().unbind(-1)
        self._last: tuple[int, GPPosterior] | None = None
        self._record(learnt)

    def _record(self, learnt: frozenset[str]) -> None:
        """Record by value what this fit has learnt; see `bayesgen.provenance`."""
        columns = {"kernel": [0, 3], "scale": [1], "noise": [2]}
        width = self._settings.shape[1]
        values = {
            name: (self._settings[:, [c for c in of if c < width]].exp(), None)
            for name, of in columns.items()
            if name in learnt
        }
        if values:
            targets = self.observed.y
            provenance.learnt(
                values, [provenance.Data(*pair) for pair in zip(self._x, targets, strict=True)]
            )
        self._since = provenance.now()

    @property
    def kernels(self) -> list[gpytorch.kernels.Kernel]:
        """The kernel of each data set, of unit outputscale and with its learnt parameters."""
        return [self._kernel_of(b) for b in range(len(self._x))]

    def _kernel_of(self, b: int) -> gpytorch.kernels.Kernel:
        if self._family.learnt:
            kernel: gpytorch.kernels.Kernel = with_lengthscale(self._kernel, self.lengthscale[b])
        else:
            kernel = copy.deepcopy(self._kernel)
        if self._family.learns_shape:
            kernel.alpha = self._settings[b, 3].exp()
        return kernel

    def task(self, task: int) -> GPPosterior:
        """The posterior of one data set, as by `GaussianProcess.fit`; see `Posterior.task`.

        The last posterior is cached.
        """
        if self._last is None or self._last[0] != task:
            matrices = gram(self._kernel_of(task), self._x[task])
            given = GPSetting(matrices.start(), self.scale[task], self.noise[task].reshape(1, 1, 1))
            observed = self.observed[task]
            free = Free(False, False, False)
            problem = Problem(matrices, observed, observed.y, zero_mean, given, free)
            found = replace(fixed(problem), at_bound=self.at_bound[task : task + 1])
            self._last = (task, self._part(GPPosterior(problem, found, self.learnt)))
        return self._last[1]

    @cached_property
    def checks(self) -> tuple[Check, ...]:
        """Comparison of one random data set's evidence with that of `task`, for one output.

        The difference is in nats for each target; see `bayesgen.verify`.
        """
        b = int(verify.some_rows(len(self._x), 1))
        direct, own = (e.log_marginal_likelihood for e in (self.task(b).evidence, self.evidence[b]))
        difference = float((direct - own).abs()) / self.observed.y[b].numel()
        error = float(self.evidence.error[b]) / self.observed.y[b].numel()
        allowed = torch.finfo(self._x.dtype).eps ** 0.4 + 10 * error
        return (Check("evidence of one random data set", difference, allowed),)

    def fitted(self) -> Tensor:
        """Posterior mean at the training inputs, of the targets' shape."""
        return self._plain(self.observed.y - self.noise[:, None, None] * self._alpha)

    def marginals(self, task: int = 0) -> tuple[Tensor, Tensor]:
        """Marginals at the training inputs; see `Posterior.marginals`."""
        return self.task(task).marginals()

    def latent_samples(self, count: int, *, task: int = 0, seed: int = 0) -> Tensor:
        """Draws of the latent functions; see `Posterior.latent_samples`."""
        return self.task(task).latent_samples(count, seed=seed)

    def observe(self, f: Tensor, *, task: int = 0) -> Normal:
        """Distribution of targets given f; see `Posterior.observe`."""
        return Normal(f, self.noise[task].sqrt())

    def mean(self, x_new: Any) -> Tensor:
        """Posterior mean at new points of each data set, (B, m) or (B, m, C).

        Args:
            x_new: new inputs, (B, m, d).
        """
        cross = self._cross(self._new(x_new))
        return self._plain(self.scale[:, None, None] * (cross @ self._alpha))

    def predict(self, x_new: Any, *, latent: bool = False) -> Normal:
        """Marginal predictive distribution of each new observation.

        Args:
            x_new: new inputs, (B, m, d).
            latent: True gives the distribution of the function value, without the noise variance.

        Returns:
            `torch.distributions.Normal` of batch shape (B, m) or (B, m, C).

        Source: Rasmussen & Williams (2006), eq. 2.25–2.26.
        """
        x_new = self._new(x_new)
        cross = self.scale[:, None, None] * self._cross(x_new)
        x = self._family.active(self._x)
        A = self._family.value(_scaled(x, self.lengthscale), self._settings)
        A.mul_(self.scale[:, None, None])
        A.diagonal(dim1=-2, dim2=-1).add_(self.noise[:, None])
        half = torch.linalg.solve_triangular(torch.linalg.cholesky(A), cross.mT, upper=False)
        variance = (self.scale[:, None] - half.square().sum(1)).clamp(min=0)
        if not latent:
            variance = variance + self.noise[:, None]
        spread = variance.clamp(min=torch.finfo(variance.dtype).tiny).sqrt()
        mean = cross @ self._alpha
        return Normal(self._plain(mean), self._plain(spread[..., None].expand_as(mean)))

    def _new(self, x_new: Any) -> Tensor:
        x_new = finite("x_new", x_new, like=self._x)
        B, _, d = self._x.shape
        if x_new.ndim != 3 or (x_new.shape[0], x_new.shape[2]) != (B, d):
            raise ValueError(f"x_new must have shape ({B}, m, {d}), got {tuple(x_new.shape)}")
        return x_new

    def _cross(self, x_new: Tensor) -> Tensor:
        """Cross-covariances k(x_new, x) of unit outputscale, (B, m, n)."""
        x_new, x = self._family.active(x_new), self._family.active(self._x)
        return self._family.value(_scaled(x_new, self.lengthscale, x), self._settings)

    def __repr__(self) -> str:
        B, n, d = self._x.shape
        return f"BatchPosterior({B:,} problems of {n} points in {plural(d, 'dimension')})"


@dataclass(frozen=True)
class BatchFound:
    """Hyperparameters of B data sets, with the evidence and the solve at them.

    Attributes:
        settings: log ℓ, log s, log σ² and, for a rational quadratic kernel, log α, (B, 3 or 4).
        alpha: (sK + σ²I)⁻¹y, (B, n, C).
        parts: the `EvidenceParts`, batch shape (B,).
        converged: whether the search ended at a maximum, (B,).
        at_bound: whether a learnt hyperparameter lies on the edge of the searched range, (B,).
    """

    settings: Tensor
    alpha: Tensor
    parts: EvidenceParts
    converged: Tensor
    at_bound: Tensor


def fit(
    kernel: gpytorch.kernels.Kernel,
    x: Tensor,
    y: Any,
    scale: Tensor,
    noise: Tensor,
    free: Free,
    progress: Progress | None,
    scale_limits: tuple[float, float] = (0.0, math.inf),
) -> BatchPosterior:
    """Find the hyperparameters of largest evidence for each problem, and its posterior.

    Args:
        kernel: a radial kernel of unit outputscale with one length-scale.
        x: inputs, (B, n, d).
        y: targets, (B, n) or (B, n, C).
        scale: outputscale to keep where it is not learnt, ().
        noise: noise variance to keep where it is not learnt, ().
        free: which hyperparameters are learnt.
        progress: called as progress(done, expected, what) after each chunk of problems.
        scale_limits: open interval in which the outputscale is learnt.

    Raises:
        TypeError: y does not hold real numbers or differs from x in dtype.
        ValueError: the shape of y does not match; the kernel is not radial; a target is not finite;
            targets are all zero and the outputscale is learnt.
    """
    profile = profile_of(kernel)
    if profile is None:
        raise ValueError(
            "fit_batch needs a radial kernel with one length-scale (RBF, Matérn, "
            f"rational quadratic), got {type(kernel).__name__}"
        )
    y = checks.owned(finite("y", y, like=x))
    B, n, _ = x.shape
    if y.ndim not in (2, 3) or y.shape[:2] != (B, n) or not y.numel():
        raise ValueError(f"y must have shape ({B}, {n}) or ({B}, {n}, C), got {tuple(y.shape)}")
    observed = Observed(y.reshape(B, n, -1), y.shape, True)
    y = observed.y
    zero = (y == 0).all(-1).all(-1)
    if free.scale and zero.any():
        raise ValueError(
            f"y must not be zero throughout, as in problem {int(zero.nonzero()[0])}: the evidence "
            "of all-zero targets has no maximum"
        )
    family = _Family(kernel, profile, free)
    budget = _CPU if x.device.type == "cpu" else _GPU
    chunk = max(1, budget // (n * n))
    parts = []
    for start in range(0, B, chunk):
        some = slice(start, start + chunk)
        problem = _Chunk(x[some], y[some], family, free, scale, noise, scale_limits, start)
        parts.append(problem.solve())
        if progress is not None:
            progress(min(start + chunk, B), B, "problems")
    z, alpha, numbers, done, edge = (torch.cat(each) for each in zip(*parts, strict=True))
    expected, complexity, dof, error = numbers.unbind(-1)
    jitter, method = numbers.new_zeros(B), "exact, by batched Cholesky"
    evidence = EvidenceParts(expected, complexity, dof, error, jitter, n, method)
    found = BatchFound(z, alpha, evidence, done, edge)
    posterior = BatchPosterior(x, observed, kernel, family, found, free.names())
    for check in posterior.checks:
        if not check.passed:
            raise ValueError(
                f"fit_batch cannot be used with kernel {type(kernel).__name__}, got a wrong result "
                f"({check}); fit each problem with GaussianProcess.fit"
            )
    return posterior


def finite(name: str, value: Any, like: Tensor | None = None) -> Tensor:
    """Check as `checks.real`, where a message about values that are not finite names the problem.

    Args:
        name: name of the argument.
        value: numbers of B problems, (B, ...).
        like: a tensor of the right dtype and device.
    """
    tensor = checks.as_tensor(name, value).detach()
    if tensor.is_floating_point() and tensor.ndim > 1:
        bad = (~torch.isfinite(tensor)).flatten(1).sum(1)
        if bad.any():
            first = int(bad.nonzero()[0])
            more = int((bad > 0).sum()) - 1
            others = f" (and {plural(more, 'more problem')} with some)" if more else ""
            raise ValueError(
                f"{name} must be finite; problem {first} has "
                f"{plural(int(bad[first]), 'NaN or infinite value')}{others}"
            )
    return checks.real(name, tensor, like=like)


class _Family:
    """A radial kernel as a function of q = ‖x − x'‖²/ℓ² and of the settings z.

    The settings of a rational quadratic kernel, k = (1 + q/(2α))^−α, include log α.

    Args:
        kernel: the kernel.
        profile: its profile.
        free: which hyperparameters are learnt.

    Attributes:
        learnt: whether ℓ is learnt.
        shaped: whether the kernel has a shape parameter α.
        learns_shape: whether α is learnt.
    """

    def __init__(self, kernel: gpytorch.kernels.Kernel, profile: Profile, free: Free) -> None:
        self.kernel, self.profile = kernel, profile
        self.learnt = bool(free.kernel and kernel.raw_lengthscale.requires_grad)
        self.shaped = isinstance(kernel, gpytorch.kernels.RQKernel)
        self.learns_shape = self.shaped and free.kernel and bool(kernel.raw_alpha.requires_grad)

    def active(self, x: Tensor) -> Tensor:
        """The columns of inputs that the kernel uses."""
        if self.kernel.active_dims is None:
            return x
        return x[..., list(within(self.kernel, tuple(range(x.shape[-1]))))]

    def value(self, q: Tensor, z: Tensor) -> Tensor:
        """k(q), (b, m, n), which may overwrite q."""
        if not self.shaped:
            return self.profile.value(q)
        alpha = z[:, 3].exp()[:, None, None]
        return decay_(q.div_(2 * alpha).log1p_().mul_(-alpha))

    def with_slopes(self, q: Tensor, z: Tensor) -> tuple[Tensor, list[Tensor]]:
        """k(q), ∂k/∂ log ℓ and, where α is learnt, ∂k/∂ log α, each (b, n, n)."""
        if not self.shaped:
            slope = self.profile.slope(q.clone())
            return self.profile.value(q), [slope]
        alpha = z[:, 3].exp()[:, None, None]
        u = q / (2 * alpha)
        log = u.log1p()
        k = decay_(log * -alpha)
        slopes = [k * q / (1 + u)]
        if self.learns_shape:
            slopes.append(k * (alpha * (u / (1 + u) - log)))
        return k, slopes


@dataclass
class _At:
    """The log marginal likelihood of several problems at one setting each, with derivatives.

    Attributes:
        z: the settings, with σ² raised to the rounding level of s where it is learnt, (b, P).
        value: log p(D) in nats, in the units of the search, (b,).
        gradient: gradient in z, (b, P).
        fisher: Fisher information in the same coordinates, (b, P, P).
        floor: smallest log σ², (b,).
        tilt: gradient of that floor in z, (b, P).
    """

    z: Tensor
    value: Tensor
    gradient: Tensor
    fisher: Tensor
    floor: Tensor
    tilt: Tensor

    def __getitem__(self, index: Tensor) -> _At:
        return _At(*(getattr(self, name)[index] for name in self.__dataclass_fields__))

    def put(self, index: Tensor, other: _At) -> None:
        """Replace some of the problems by others."""
        for name in self.__dataclass_fields__:
            getattr(self, name)[index] = getattr(other, name)


class _Chunk:
    """Some of the problems, in units in which their inputs and targets are of order 1.

    Args:
        x: inputs, (b, n, d).
        y: targets, (b, n, C).
        family: the kernel.
        free: which hyperparameters are learnt.
        scale, noise: outputscale and noise variance to keep where they are not learnt, ().
        scale_limits: open interval in which the outputscale is learnt.
        first: number of the first problem, for error messages.

    Attributes:
        start: settings (log ℓ, log s, log σ²[, log α]) to keep or to start from, (b, P).
        low, high: ends of the searched range, (b, P).
        free: which entries are learnt, (P,).
    """

    def __init__(
        self,
        x: Tensor,
        y: Tensor,
        family: _Family,
        free: Free,
        scale: Tensor,
        noise: Tensor,
        scale_limits: tuple[float, float] = (0.0, math.inf),
        first: int = 0,
    ) -> None:
        self.family, self.first = family, first
        x = family.active(x)
        x = x - x.mean(1, keepdim=True)
        width, c = _power_of_two(x), _power_of_two(y)
        self.log_c = c.log()
        self.y = y / c[:, None, None]
        self.squares = _scaled(x, width)
        shift = [width.log(), 2 * self.log_c, 2 * self.log_c]
        chosen = [family.learnt, free.scale, free.noise]
        if family.shaped:
            shift.append(torch.zeros_like(c))
            chosen.append(family.learns_shape)
        self.shift = torch.stack(shift, -1)  # from the units of the search to those of the data
        self.free = torch.tensor(chosen, device=x.device)
        tiny = torch.finfo(y.dtype).tiny
        self.size = self.y.square().mean((1, 2)).clamp(min=tiny).log()
        self._limit(scale, noise, scale_limits)

    def _limit(self, scale: Tensor, noise: Tensor, scale_limits: tuple[float, float]) -> None:
        """Set the start and the ends of the search."""
        kernel, size, like = self.family.kernel, self.size, self.shift
        b, n = self.y.shape[:2]
        inside = 8 * torch.finfo(like.dtype).eps  # gpytorch's constraints are open intervals
        own = kernel.lengthscale.detach().reshape(()).to(like).log() - like[:, 0]
        near, typical, far = self._distances(own)
        shaped = self.family.learns_shape
        shortest = math.log(_SHORTEST if bool(self.free[2]) else _SHORTEST_BESIDE_NOISE)
        low = near - _SHORT_SHAPED if shaped else near + shortest
        high = far + _LONG_SHAPED if shaped else typical + math.log(_LONGEST)
        self.screened = near + shortest, far + math.log(_COVERED)
        alone = self.squares.flatten(1).amax(1) == 0  # no distances: ℓ is not determined
        low, high = torch.where(alone, own, low), torch.where(alone, own, high)
        low, high = _within(low, high, lengthscale_bounds(kernel), like[:, 0], inside)
        lows, highs = [low], [high]
        s_low = size - math.log(_PURE * n)
        low, high = _within(s_low, size + _LARGE, scale_limits, like[:, 1], inside)
        lows += [low, size - 2 * _LARGE]
        highs += [high, size + _NOISIEST]
        self.limited = scale_limits != (0.0, math.inf)
        kept = [own, scale.to(like).log() - like[:, 1], noise.to(like).log() - like[:, 2]]
        first = [typical, size, size + math.log(0.1)]
        if self.family.shaped:
            constraint = kernel.raw_alpha_constraint
            limits = float(constraint.lower_bound), float(constraint.upper_bound)
            wide = torch.full_like(size, _SHAPES)
            low, high = _within(-wide, wide, limits, like[:, 3], inside)
            lows.append(low)
            highs.append(high)
            kept.append(kernel.alpha.detach().reshape(()).to(like).log().expand(b))
            first.append(kept[-1])
        self.low, self.high = torch.stack(lows, -1), torch.stack(highs, -1)
        self.own = own
        start = torch.stack(first, -1).clamp(self.low, self.high)
        self.start = torch.where(self.free, start, torch.stack(kept, -1))

    def _distances(self, otherwise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logarithms of three distances of each problem, (b,).

        They are the median distance to a nearest distinct neighbour, the median distance between
        distinct points, and the diameter.
        """
        squares = self.squares
        most = squares.flatten(1).amax(1)
        apart = squares > (1e3 * torch.finfo(squares.dtype).eps) ** 2 * most[:, None, None]
        some = torch.where(apart, squares, torch.inf)
        nearest = some.amin(2)
        nearest = torch.where(nearest < torch.inf, nearest, torch.nan).nanmedian(1).values
        typical = torch.where(apart, squares, torch.nan).flatten(1).nanmedian(1).values
        near, middle, far = (
            torch.where(values > 0, 0.5 * values.log(), otherwise)
            for values in (nearest, typical, most)
        )
        return near, middle, far

    def solve(self) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Solve all problems of the chunk.

        Returns:
            The settings, (b, P); the solves α, (b, n, C); fit, complexity, effective dimension and
            error, (b, 4); whether each problem converged; and whether it ended at a bound, (b,).
        """
        z = self.start
        done, edge = torch.ones_like(z[:, 0], dtype=torch.bool), torch.zeros_like(z[:, 0]).bool()
        if self.free.any():
            z, done, edge = self._search()
        alpha, numbers = self._parts(z)
        n, C = self.y.shape[1:]
        numbers[:, 0] -= n * C * self.log_c
        return z + self.shift, alpha / self.log_c.exp()[:, None, None], numbers, done, edge

    def _search(self) -> tuple[Tensor, Tensor, Tensor]:
        """Climb from the starts of each problem and keep the better end."""
        starts, of = self._starts()
        best = torch.arange(len(self.y), device=of.device)
        at, _ = self._climb(starts, of, _ROUGH)
        top = at.value[best].scatter_reduce(0, of, at.value, "amax")
        equal = (at.value == top[of]).nonzero()[:, 0]
        best[of[equal]] = equal
        ends, done = self._climb(at.z[best], of[best], _GAIN)
        ends = self._to_edges(ends)
        z, free = ends.z, self.free
        wide = self.high > self.low
        edge = ((z <= self.low + 1e-6) | (z >= self.high - 1e-6)) & free & wide
        bound = edge.any(-1) | (free[2] & (z[:, 2] <= ends.floor + 1e-6))
        return z, done, bound

    def _starts(self) -> tuple[Tensor, Tensor]:
        """Settings at which climbs start, (m, P), and their problems, (m,).

        The first b of them are the best of each problem.
        """
        b, n, _ = self.y.shape
        first = torch.arange(b, device=self.y.device)
        lengths = self._lengths()
        rows = None
        if n > _FEW:
            generator = torch.Generator().manual_seed(0)
            rows = torch.randperm(n, generator=generator)[:_FEW].sort().values.to(first.device)
        grid, values = [], []
        for length in lengths.unbind(1):
            found = self._screen(length, None, rows)
            if rows is not None:  # all points decide between the length-scales
                found = self._screen(length, found[0], None)
            grid.append(found[0])
            values.append(found[1])
        settings, tops = torch.stack(grid, 1), torch.stack(values, 1)
        best = tops.argmax(1)
        edge = tops.new_full((b, 1), -math.inf)
        padded = torch.cat([edge, tops, edge], 1)
        peak = (tops >= padded[:, :-2]) & (tops >= padded[:, 2:])
        # A mode may hide on the slope of another, so that a length-scale beside it is tried too.
        others = torch.where(peak, tops, tops - _SLOPE)
        chosen, problems, which = [settings[first, best]], [first], best
        for _ in range(_STARTS - 1):
            apart = (lengths - lengths[first, which][:, None]).abs() > _APART
            others = torch.where(apart, others, -math.inf)
            value, which = others.max(1)
            more = (value > tops[first, best] - _MARGIN).nonzero()[:, 0]
            chosen.append(settings[more, which[more]])
            problems.append(more)
        return torch.cat(chosen), torch.cat(problems)

    def _lengths(self) -> Tensor:
        """Values of log ℓ to screen, in rising order, (b, G)."""
        if not self.free[0]:
            return self.start[:, :1]
        low, high = self.low[:, 0], self.high[:, 0]
        a, b = (end.clamp(low, high)[:, None] for end in self.screened)
        share = torch.linspace(0, 1, _LENGTHS, dtype=a.dtype, device=a.device)
        # The kernel's own length-scale may be foreign to the units of the inputs.
        own = torch.where((self.own >= low) & (self.own <= high), self.own, self.start[:, 0])
        grid = torch.cat([a + (b - a) * share, self.start[:, :1], own[:, None]], 1)
        return grid.sort(1).values

    def _screen(
        self, length: Tensor, given: Tensor | None, rows: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """The best of a few outputscales and noises at one length-scale of each problem.

        Where both are learnt and the outputscale is not limited, s = yᵀ(K + ρI)⁻¹y/(nC) is the best
        for a ratio ρ = σ²/s.

        Args:
            length: log ℓ, (b,).
            given: settings whose ratio or noise is evaluated, (b, P), or None to try several.
            rows: the points that are used, or None for all.

        Returns:
            The settings, (b, P), and log p(D) at them, (b,), −∞ where there is none.
        """
        y, squares = self.y, self.squares
        if rows is not None:
            y, squares = y[:, rows], squares[:, rows][:, :, rows]
        n, C = y.shape[1:]
        z = self.start.clone()
        z[:, 0] = length
        q = squares * (-2 * length).exp()[:, None, None]
        K = self.family.value(q, z)
        joint = bool(self.free[1] and self.free[2]) and not self.limited
        best, top = z, z.new_full((len(z),), -math.inf)
        for tried in [given] if given is not None else self._tried(z):
            ratio = (tried[:, 2] - tried[:, 1]).exp()
            A = K.clone()
            A.diagonal(dim1=-2, dim2=-1).add_(ratio[:, None])
            lower, info = torch.linalg.cholesky_ex(A)
            half = torch.linalg.solve_triangular(lower, y, upper=False)
            quadratic = half.square().sum((1, 2))
            log_s = tried[:, 1]
            if joint:
                log_s = (quadratic / (n * C)).log().clamp(self.low[:, 1], self.high[:, 1])
            logdet = 2 * lower.diagonal(dim1=-2, dim2=-1).log().sum(-1)
            rest = quadratic * (-log_s).exp() + C * (logdet + n * (log_s + math.log(2 * math.pi)))
            value = torch.where((info == 0) & rest.isfinite(), -0.5 * rest, -math.inf)
            here = tried.clone()
            here[:, 0] = length
            here[:, 1], here[:, 2] = log_s, log_s + ratio.log() if joint else tried[:, 2]
            better = value > top
            best = torch.where(better[:, None], here, best)
            top = torch.where(better, value, top)
        return best, top

    def _tried(self, z: Tensor) -> list[Tensor]:
        """Settings with a few outputscales and noises, each (b, P)."""
        changes: list[tuple[int, float]] = [(2, 0.0)]
        if self.free[2]:
            ratios = _FINE if self.limited or not self.free[1] else _RATIOS
            changes = [(2, math.log(10 * ratio)) for ratio in ratios]  # the start has 0.1
        elif self.free[1]:
            changes = [(1, math.log(size)) for size in _SIZES]
        tried = []
        for column, change in changes:
            here = z.clone()
            here[:, column] += change
            tried.append(torch.where(self.free, here.clamp(self.low, self.high), z))
        return tried

    def _climb(self, z: Tensor, of: Tensor, gain: float) -> tuple[_At, Tensor]:
        """Damped Fisher scoring (Levenberg–Marquardt) on the climbs that have not converged.

        A coordinate whose gradient points out of the searched range is kept in the step. Where that
        is σ² at the rounding level of s, it follows s and ℓ.

        Args:
            z: the starts, (m, P).
            of: their problems, (m,).
            gain: gain, relative to 1 + |log p(D)|, below which a climb ends.

        Returns:
            The ends, and whether each converged, (m,).
        """
        best = self.look(z, of)
        damping = z.new_full((len(z),), _DAMPING)
        live = torch.ones(len(z), dtype=torch.bool, device=z.device)
        done = torch.zeros_like(live)
        tolerance = max(gain, 2 * torch.finfo(z.dtype).eps)
        for _ in range(_STEPS):
            index = live.nonzero()[:, 0]
            if not len(index):
                break
            now, own = best[index], of[index]
            new, promised = self._step(now, damping[index], own)
            there = self.look(new, own)
            better = there.value >= now.value
            best.put(index[better], there[better])
            # A damped step promises less than is left to gain.
            left = promised.abs() * (1 + damping[index]) / (1 + now.value.abs())
            # Half of what the gradient promises is gained where the curvature is right.
            share = 2 * (there.value - now.value) / promised.clamp(min=torch.finfo(z.dtype).tiny)
            factor = torch.where(share > 0.75, 0.2, torch.where(share > 0.4, 1.0, 4.0))
            factor = torch.where(better, factor, 8.0).to(damping)
            damping[index] = (damping[index] * factor).clamp(1e-9, _STIFF)
            ended = left < tolerance
            live[index] = ~(ended | (damping[index] >= _STIFF))
            done[index] = ended | (left < _SLACK)
        return best, done

    def _step(self, now: _At, damping: Tensor, of: Tensor) -> tuple[Tensor, Tensor]:
        """The next settings of some climbs, (b, P), and the gain that the gradient promises."""
        low, high = self.low[of], self.high[of]
        P = now.z.shape[1]
        sunk = self.free[2] & (now.z[:, 2] <= now.floor + 1e-9) & (now.gradient[:, 2] < 0)
        turn = torch.eye(P, dtype=now.z.dtype, device=now.z.device).repeat(len(of), 1, 1)
        turn[:, :, 2] += torch.where(sunk[:, None], now.tilt, 0)
        gradient = (turn @ now.gradient[:, :, None])[..., 0]
        fisher = turn @ now.fisher @ turn.mT
        out = ((now.z <= low) & (gradient < 0)) | ((now.z >= high) & (gradient > 0))
        out[:, 2] |= sunk
        moves = self.free & ~out
        gradient = gradient * moves
        own = fisher.diagonal(dim1=-2, dim2=-1).clamp(min=1e-8)
        system = fisher * (moves[:, :, None] & moves[:, None, :])
        system = system + torch.diag_embed(damping[:, None] * own + (~moves).to(own))
        step = torch.linalg.solve(system, gradient).clamp(-_STRIDE, _STRIDE)
        new = torch.where(self.free, (now.z + step).clamp(low, high), now.z)
        promised = (gradient * (new - now.z)).sum(-1)
        new[:, 2] = torch.where(sunk, low[:, 2], new[:, 2])  # `look` raises it to the floor
        return new, promised

    def _to_edges(self, ends: _At) -> _At:
        """Move σ² or s to its lower end where the evidence does not depend on it any more."""
        free, z = self.free, ends.z
        tolerance = 10 * max(_GAIN, 2 * torch.finfo(z.dtype).eps)
        ratio = z[:, 2] - z[:, 1]
        lost = free[1] & (ratio > math.log(1e3)) & (z[:, 1] > self.low[:, 1])
        clean = free[2] & (z[:, 2] > ends.floor + 1e-6) & (z[:, 2] < ends.floor + 10)
        for column, some in ((1, lost), (2, clean)):
            index = (some & (ends.gradient[:, column] < 0)).nonzero()[:, 0]
            if len(index):
                new = z[index]
                new[:, column] = self.low[index, column]
                there = self.look(new, index)
                slack = tolerance * (1 + ends.value[index].abs())
                good = there.value >= ends.value[index] - slack
                ends.put(index[good], there[good])
        return ends

    def look(self, z: Tensor, of: Any) -> _At:
        """Value, gradient and Fisher information of selected problems.

        Args:
            z: settings, (b, P).
            of: index of the problems.
        """
        y, family = self.y[of], self.family
        n, C = y.shape[1:]
        q = self.squares[of] * (-2 * z[:, 0]).exp()[:, None, None]
        A, slopes = family.with_slopes(q, z)
        total = A.sum((1, 2))
        # The mean row sum is at most the largest eigenvalue, and close to it where that is large.
        rounding = 10 * n * torch.finfo(A.dtype).eps
        floor = (total / n).log() + math.log(rounding) + z[:, 1]
        tilt = torch.zeros_like(z)
        tilt[:, 1] = 1
        tilt[:, 0] = slopes[0].sum((1, 2)) / total
        if family.learns_shape:
            tilt[:, 3] = slopes[1].sum((1, 2)) / total
        if self.free[2]:
            z = torch.cat([z[:, :2], torch.maximum(z[:, 2], floor)[:, None], z[:, 3:]], 1)
        s, noise = z[:, 1].exp(), z[:, 2].exp()
        for matrix in (A, *slopes):
            matrix.mul_(s[:, None, None])
        A.diagonal(dim1=-2, dim2=-1).add_(noise[:, None])
        lower, info = torch.linalg.cholesky_ex(A)
        bad = info > 0
        if bad.any():
            lower[bad] = torch.eye(n, dtype=A.dtype, device=A.device)
        inverse = torch.cholesky_inverse(lower)
        alpha = inverse @ y
        logdet = 2 * lower.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        quadratic = (alpha * y).sum((1, 2))
        value = -0.5 * (quadratic + C * (logdet + n * math.log(2 * math.pi)))
        value = value.masked_fill(bad, -math.inf)
        # A⁻¹ ∂A/∂z_j for the kernel; K = A − σ²I gives those of the scale and the noise.
        shrunk = noise[:, None, None] * inverse
        along = [inverse @ slope for slope in slopes]
        pull = noise * alpha.square().sum((1, 2))
        pulls = [(alpha * (slope @ alpha)).sum((1, 2)) for slope in slopes]
        traces = [each.diagonal(dim1=-2, dim2=-1).sum(-1) for each in along]
        trace = shrunk.diagonal(dim1=-2, dim2=-1).sum(-1)
        places = (0, 3)[: len(along)]
        gradient, fisher = torch.zeros_like(z), torch.zeros_like(z[:, :, None] * z[:, None, :])
        gradient[:, 1], gradient[:, 2] = quadratic - pull - C * (n - trace), pull - C * trace
        nn = shrunk.square().sum((1, 2))
        fisher[:, 1, 1], fisher[:, 2, 2] = n - 2 * trace + nn, nn
        fisher[:, 1, 2] = fisher[:, 2, 1] = trace - nn
        for k, i in enumerate(places):
            gradient[:, i] = pulls[k] - C * traces[k]
            with_noise = (along[k] * shrunk).sum((1, 2))
            fisher[:, i, 2] = fisher[:, 2, i] = with_noise
            fisher[:, i, 1] = fisher[:, 1, i] = traces[k] - with_noise
            for m, j in enumerate(places[: k + 1]):
                fisher[:, i, j] = fisher[:, j, i] = (along[k] * along[m].mT).sum((1, 2))
        return _At(z, value, 0.5 * gradient, 0.5 * C * fisher, floor, tilt)

    def _parts(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """The solves α, (b, n, C), and fit, complexity, N_eff and rounding error, (b, 4)."""
        s, noise = z[:, 1].exp(), z[:, 2].exp()
        q = self.squares * (-2 * z[:, 0]).exp()[:, None, None]
        A = self.family.value(q, z) * s[:, None, None]
        norm = A.abs().sum(-1).amax(-1) + noise  # at least the largest eigenvalue
        A.diagonal(dim1=-2, dim2=-1).add_(noise[:, None])
        lower, info = torch.linalg.cholesky_ex(A)
        if (info > 0).any():
            number = self.first + int((info > 0).nonzero()[0])
            raise ValueError(
                f"the covariance of problem {number} is singular to rounding at these settings: "
                "use a larger noise"
            )
        inverse = torch.cholesky_inverse(lower)
        alpha = inverse @ self.y
        n, C = self.y.shape[1:]
        diagonal = inverse.diagonal(dim1=-2, dim2=-1).sum(-1)
        dof = (n - noise * diagonal).clamp(min=0)
        logdet = 2 * lower.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        square = alpha.square().sum((1, 2))
        log_noise = n * z[:, 2]
        fitted = -0.5 * (C * (log_noise + n * math.log(2 * math.pi) + dof) + noise * square)
        pull = (alpha * self.y).sum((1, 2)) - noise * square
        complexity = 0.5 * (C * (logdet - log_noise - dof) + pull)
        rounding = n**0.5 * torch.finfo(A.dtype).eps * norm
        error = 0.5 * rounding * (C * diagonal + square)
        return alpha, torch.stack([fitted, complexity.clamp(min=0), C * dof, error], -1)


def _within(
    low: Tensor, high: Tensor, limits: tuple[float, float], shift: Tensor, inside: float
) -> tuple[Tensor, Tensor]:
    """Ends of a coordinate's range, (b,) each, replaced by the finite limits of a constraint.

    Args:
        low, high: ends without a constraint, in the units of the search, (b,).
        limits: lower and upper limit in the units of the data.
        shift: logarithm of the unit of the search, (b,).
        inside: distance from the limits, which are open.
    """
    floor, ceiling = limits
    least = math.log(floor) + inside * (1 + abs(math.log(floor))) if floor > 0 else -math.inf
    most = math.log(ceiling) - inside * (1 + abs(math.log(ceiling))) if ceiling < math.inf else None
    if floor > 0:
        low = least - shift
        high = torch.maximum(high, low)
    if most is not None:
        high = most - shift
        low = torch.minimum(low, high)
    return low, high


def _power_of_two(values: Tensor) -> Tensor:
    """A power of two next to the largest magnitude of each problem, (b,); 1 where all are zero."""
    most = values.abs().flatten(1).amax(1)
    exponent = torch.frexp(most).exponent.clamp(-1000, 1000).to(values)
    return torch.where(most > 0, exponent.exp2(), 1.0).to(values)


def _scaled(x: Tensor, lengthscale: Tensor, other: Tensor | None = None) -> Tensor:
    """Scaled squared distances ‖x − x'‖²/ℓ² of each problem, (b, m, n).

    In many dimensions they are computed for one problem after the other by matrix products.
    """
    if x.shape[2] > _COLUMNS:
        others = [None] * len(x) if other is None else list(other)
        each = [squared_distances(a, b) for a, b in zip(x, others, strict=True)]
        return torch.stack(each) / lengthscale[:, None, None].square()
    centre = x.mean(1, keepdim=True)
    a = (x - centre) / lengthscale[:, None, None]
    b = a if other is None else (other - centre) / lengthscale[:, None, None]
    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist").square_()
