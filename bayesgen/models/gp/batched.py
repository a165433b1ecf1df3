"""Fit thousands of small Gaussian processes at once, each with its own inputs and hyperparameters.

Each step takes one batched Cholesky factorisation for all problems. The search is Fisher scoring on
the exact gradient, with a separate damping for each problem.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import gpytorch
import torch
from torch import Tensor
from torch.distributions import Normal

from bayesgen._internal import checks
from bayesgen._internal.progress import Progress
from bayesgen.covariance.gram import gram
from bayesgen.covariance.radial import Profile, profile_of
from bayesgen.evidence import EvidenceParts
from bayesgen.kernels import with_lengthscale
from bayesgen.models.gp.fit import fixed
from bayesgen.models.gp.posterior import GPPosterior
from bayesgen.models.gp.problem import GPSetting, Problem, zero_mean
from bayesgen.models.hyperparameters import Free
from bayesgen.models.reporting import Certified
from bayesgen.posterior.posterior import Observed, Posterior

# Largest number of entries of K in one chunk, chosen for a processor's cache and a GPU's memory.
_CPU, _GPU = 2**21, 2**28
# Largest number of steps.
_STEPS = 100
# Largest change of log ℓ, log s and log σ² in one step, and their largest distance from the start.
_STRIDE, _REACH = 1.5, 14.0


class BatchPosterior(Certified, Posterior):
    """Posteriors of B data sets, each with its own inputs, targets and hyperparameters.

    It is made by `GaussianProcess.fit_batch`. `task(b)` is the `GPPosterior` of data set b.

    Attributes:
        evidence: the `Evidence`, batch shape (B,).
        lengthscale: length-scale ℓ of each data set, (B,).
        scale: outputscale s of each data set, a variance, (B,).
        noise: noise variance σ² of each data set, (B,).
        converged: whether the search ended at a maximum, (B,).
    """

    def __init__(
        self,
        x: Tensor,
        observed: Observed,
        kernel: gpytorch.kernels.Kernel,
        profile: Profile,
        found: BatchFound,
        learnt: frozenset[str],
    ) -> None:
        self._x, self._kernel, self._profile = x, kernel, profile
        self._alpha, self.converged, self.learnt = found.alpha, found.converged, learnt
        self._observe(observed, found.parts)
        self.lengthscale, self.scale, self.noise = found.settings.exp().unbind(-1)
        self._last: tuple[int, GPPosterior] | None = None

    def task(self, task: int) -> GPPosterior:
        """The posterior of one data set, as by `GaussianProcess.fit`; see `Posterior.task`.

        The last posterior is cached.
        """
        if self._last is None or self._last[0] != task:
            kernel = with_lengthscale(self._kernel, self.lengthscale[task])
            matrices = gram(kernel, self._x[task])
            given = GPSetting(matrices.start(), self.scale[task], self.noise[task].reshape(1, 1, 1))
            observed = self.observed[task]
            free = Free(False, False, False)
            problem = Problem(matrices, observed, observed.y, zero_mean, given, free)
            self._last = (task, GPPosterior(problem, fixed(problem), self.learnt))
        return self._last[1]

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
        A = self.scale[:, None, None] * self._profile.value(_scaled(self._x, self.lengthscale))
        A.diagonal(dim1=-2, dim2=-1).add_(self.noise[:, None])
        half = torch.linalg.solve_triangular(torch.linalg.cholesky(A), cross.mT, upper=False)
        variance = (self.scale[:, None] - half.square().sum(1)).clamp(min=0)
        if not latent:
            variance = variance + self.noise[:, None]
        spread = variance.clamp(min=torch.finfo(variance.dtype).tiny).sqrt()
        mean = cross @ self._alpha
        return Normal(self._plain(mean), self._plain(spread[..., None].expand_as(mean)))

    def _new(self, x_new: Any) -> Tensor:
        x_new = checks.real("x_new", x_new, like=self._x)
        B, _, d = self._x.shape
        if x_new.ndim != 3 or (x_new.shape[0], x_new.shape[2]) != (B, d):
            raise ValueError(f"x_new must have shape ({B}, m, {d}), got {tuple(x_new.shape)}")
        return x_new

    def _cross(self, x_new: Tensor) -> Tensor:
        """Cross-covariances k(x_new, x) of unit outputscale, (B, m, n)."""
        return self._profile.value(_scaled(x_new, self.lengthscale, self._x))

    def __repr__(self) -> str:
        B, n, d = self._x.shape
        return f"BatchPosterior({B:,} problems of {n} points in {d} dimension(s))"


@dataclass(frozen=True)
class BatchFound:
    """Hyperparameters of B data sets, with the evidence and the solve at them.

    Attributes:
        settings: log ℓ, log s and log σ², (B, 3).
        alpha: (sK + σ²I)⁻¹y, (B, n, C).
        parts: the `EvidenceParts`, batch shape (B,).
        converged: whether the search ended at a maximum, (B,).
    """

    settings: Tensor
    alpha: Tensor
    parts: EvidenceParts
    converged: Tensor


def fit(
    kernel: gpytorch.kernels.Kernel,
    x: Tensor,
    y: Any,
    scale: Tensor,
    noise: Tensor,
    free: Free,
    progress: Progress | None,
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

    Raises:
        TypeError: y does not hold real numbers or differs from x in dtype.
        ValueError: the shape of y does not match; the kernel is not radial; targets are all zero
            and the outputscale is learnt.
    """
    profile = profile_of(kernel)
    if profile is None:
        raise ValueError(
            "fit_batch needs a radial kernel with one length-scale (RBF, Matérn, "
            f"rational quadratic), got {type(kernel).__name__}"
        )
    y = checks.real("y", y, like=x)
    B, n, _ = x.shape
    if y.ndim not in (2, 3) or y.shape[:2] != (B, n):
        raise ValueError(f"y must have shape ({B}, {n}) or ({B}, {n}, C), got {tuple(y.shape)}")
    observed = Observed(y.reshape(B, n, -1), y.shape, True)
    y = observed.y
    if free.scale and (y == 0).all(-1).all(-1).any():
        raise ValueError(
            "y must not be zero throughout: the evidence of all-zero targets has no maximum"
        )
    budget = _CPU if x.device.type == "cpu" else _GPU
    chunk = max(1, budget // (n * n))
    parts = []
    for start in range(0, B, chunk):
        some = slice(start, start + chunk)
        problem = _Chunk(x[some], y[some], profile, kernel, free, scale, noise)
        parts.append(problem.solve())
        if progress is not None:
            progress(min(start + chunk, B), B, "problems")
    z, alpha, numbers, done = (torch.cat(each) for each in zip(*parts, strict=True))
    expected, complexity, dof, error = numbers.unbind(-1)
    jitter, method = numbers.new_zeros(B), "exact, by batched Cholesky"
    evidence = EvidenceParts(expected, complexity, dof, error, jitter, n, method)
    found = BatchFound(z, alpha, evidence, done)
    return BatchPosterior(x, observed, kernel, profile, found, free.names())


@dataclass
class _At:
    """The log marginal likelihood of a chunk of problems at one setting, with derivatives.

    Attributes:
        value: log p(D) in nats, (b,).
        gradient: gradient in (log ℓ, log s, log σ²), (b, 3).
        fisher: Fisher information in the same coordinates, (b, 3, 3).
    """

    value: Tensor
    gradient: Tensor
    fisher: Tensor


class _Chunk:
    def __init__(
        self,
        x: Tensor,
        y: Tensor,
        profile: Profile,
        kernel: gpytorch.kernels.Kernel,
        free: Free,
        scale: Tensor,
        noise: Tensor,
    ) -> None:
        self.y, self.profile = y, profile
        self.squares = _scaled(x, x.new_ones(len(x)))
        size = y.square().mean((1, 2)).clamp(min=torch.finfo(y.dtype).tiny)
        off = self.squares.flatten(1)
        typical = off.median(1).values.clamp(min=1e-12 * off.amax(1).clamp(min=1e-300)).sqrt()
        given = kernel.lengthscale.detach().reshape(()).to(x)
        lengthscale = typical if free.kernel else given.expand(len(x))
        s = size if free.scale else scale.to(x).reshape(()).expand(len(x))
        sigma = 0.1 * size if free.noise else noise.to(x).reshape(()).expand(len(x))
        self.start = torch.stack([lengthscale.log(), s.log(), sigma.log()], -1)
        self.free = torch.tensor([free.kernel, free.scale, free.noise], device=x.device)

    def solve(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Solve all problems of the chunk.

        Returns:
            The settings, (b, 3); the solves α, (b, n, C); fit, complexity, effective dimension and
            error, (b, 4); and whether each problem converged, (b,).
        """
        z = self.start.clone()
        done = torch.zeros(len(z), dtype=torch.bool, device=z.device)
        if self.free.any():
            z, done = self._search(z)
        else:
            done = ~done
        return z, *self._parts(z), done

    def _search(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Damped Fisher scoring (Levenberg–Marquardt) on the problems that have not converged."""
        best = self.look(z, slice(None))
        damping = z.new_full((len(z),), 1e-2)
        live = torch.ones(len(z), dtype=torch.bool, device=z.device)
        outside = (~self.free).to(z)
        for _ in range(_STEPS):
            index = live.nonzero()[:, 0]
            if not len(index):
                break
            fisher, gradient = best.fisher[index], best.gradient[index] * self.free
            own = fisher.diagonal(dim1=-2, dim2=-1).clamp(min=1e-8)
            mask = self.free[:, None] & self.free
            system = fisher * mask + torch.diag_embed(damping[index, None] * own + outside)
            step = torch.linalg.solve(system, gradient).clamp(-_STRIDE, _STRIDE)
            low, high = self.start[index] - _REACH, self.start[index] + _REACH
            new = (z[index] + step).clamp(low, high)
            there = self.look(new, index)
            gain = there.value - best.value[index]
            better = gain >= 0
            promised = (gradient * step).sum(-1)
            took = index[better]
            z[took] = new[better]
            for name in ("value", "gradient", "fisher"):
                getattr(best, name)[took] = getattr(there, name)[better]
            damping[index] = torch.where(better, damping[index] * 0.2, damping[index] * 8).clamp(
                1e-9, 1e9
            )
            small = 1e-7 * (1 + best.value[index].abs())
            live[index] = ~((promised.abs() < small) | (damping[index] >= 1e9))
        return z, ~live

    def look(self, z: Tensor, of: Any) -> _At:
        """Value, gradient and Fisher information of selected problems.

        Args:
            z: settings, (b, 3).
            of: index of the problems.
        """
        y, squares = self.y[of], self.squares[of]
        inverse_square = (-2 * z[:, 0]).exp()[:, None, None]
        s, noise = z[:, 1].exp(), z[:, 2].exp()
        q = squares * inverse_square
        slope = self.profile.slope(q.clone()) * s[:, None, None]
        K = self.profile.value(q) * s[:, None, None]
        A = K.clone()
        A.diagonal(dim1=-2, dim2=-1).add_(noise[:, None])
        lower, info = torch.linalg.cholesky_ex(A)
        bad = info > 0
        if bad.any():
            lower[bad] = torch.eye(A.shape[-1], dtype=A.dtype, device=A.device)
        inverse = torch.cholesky_inverse(lower)
        alpha = inverse @ y
        n, C = y.shape[1:]
        logdet = 2 * lower.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        quadratic = (alpha * y).sum((1, 2))
        value = -0.5 * (quadratic + C * (logdet + n * math.log(2 * math.pi)))
        value = value.masked_fill(bad, -math.inf)
        # A⁻¹ ∂A/∂z_j for the length-scale; K = A − σ²I gives those of the scale and the noise.
        shrunk = noise[:, None, None] * inverse
        longer = inverse @ slope
        pulls = torch.stack(
            [
                (alpha * (slope @ alpha)).sum((1, 2)),
                quadratic - noise * alpha.square().sum((1, 2)),
                noise * alpha.square().sum((1, 2)),
            ],
            -1,
        )
        trace = shrunk.diagonal(dim1=-2, dim2=-1).sum(-1)
        traces = torch.stack([longer.diagonal(dim1=-2, dim2=-1).sum(-1), n - trace, trace], -1)
        gradient = 0.5 * (pulls - C * traces)
        ll = (longer * longer.mT).sum((1, 2))
        ln = (longer * shrunk.mT).sum((1, 2))
        nn = shrunk.square().sum((1, 2))
        ls, sn, ss = traces[:, 0] - ln, trace - nn, n - 2 * trace + nn
        rows = [torch.stack(row, -1) for row in ((ll, ls, ln), (ls, ss, sn), (ln, sn, nn))]
        return _At(value, gradient, 0.5 * C * torch.stack(rows, -2))

    def _parts(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """The solves α, (b, n, C), and fit, complexity, N_eff and rounding error, (b, 4)."""
        s, noise = z[:, 1].exp(), z[:, 2].exp()
        q = self.squares * (-2 * z[:, 0]).exp()[:, None, None]
        A = self.profile.value(q) * s[:, None, None]
        norm = A.abs().sum(-1).amax(-1) + noise  # at least the largest eigenvalue
        A.diagonal(dim1=-2, dim2=-1).add_(noise[:, None])
        try:
            lower = torch.linalg.cholesky(A)
        except torch.linalg.LinAlgError as err:
            raise ValueError(
                "the covariance of a data set is singular to rounding at these settings: use a "
                f"larger noise ({err})"
            ) from err
        inverse = torch.cholesky_inverse(lower)
        alpha = inverse @ self.y
        n, C = self.y.shape[1:]
        diagonal = inverse.diagonal(dim1=-2, dim2=-1).sum(-1)
        dof = n - noise * diagonal
        logdet = 2 * lower.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        square = alpha.square().sum((1, 2))
        log_noise = n * noise.log()
        fitted = -0.5 * (C * (log_noise + n * math.log(2 * math.pi) + dof) + noise * square)
        pull = (alpha * self.y).sum((1, 2)) - noise * square
        complexity = 0.5 * (C * (logdet - log_noise - dof) + pull)
        rounding = n**0.5 * torch.finfo(A.dtype).eps * norm
        error = 0.5 * rounding * (C * diagonal + square)
        return alpha, torch.stack([fitted, complexity.clamp(min=0), C * dof, error], -1)


def _scaled(x: Tensor, lengthscale: Tensor, other: Tensor | None = None) -> Tensor:
    """Scaled squared distances ‖x − x'‖²/ℓ² of each problem, (b, m, n).

    They are computed by matrix products of inputs that are centred for each problem.
    """
    centre = x.mean(1, keepdim=True)
    a = (x - centre) / lengthscale[:, None, None]
    b = a if other is None else (other - centre) / lengthscale[:, None, None]
    q = a.square().sum(-1)[:, :, None] + b.square().sum(-1)[:, None, :] - 2 * a @ b.mT
    q = q.clamp(min=0)
    if other is None:
        q.diagonal(dim1=-2, dim2=-1).zero_()
    return q
