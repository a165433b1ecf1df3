"""The posterior of a Gaussian process with Gaussian noise."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import gpytorch
import numpy as np
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal, Normal

from bayesgen import provenance, solvers
from bayesgen._internal import checks
from bayesgen.covariance.gram import Gram, KernelGram, LengthscaleGram
from bayesgen.kernels import check_indices, evaluate
from bayesgen.models.gp.components import Components, components
from bayesgen.models.gp.mean import Constant, LinearInParameters
from bayesgen.models.gp.objective import (
    LogMarginalLikelihood,
    NoiseGroup,
    covariance,
    is_per_point,
    noise_groups,
)
from bayesgen.models.gp.problem import Found, Problem
from bayesgen.models.log_evidence import LogEvidence
from bayesgen.models.reporting import Certified
from bayesgen.models.search.identified import unidentified
from bayesgen.models.search.landscape import (
    Hyperparameters,
    Landscape,
    check_single,
    landscape_of,
    local_evidence,
    named,
    table,
)
from bayesgen.posterior.conditional import JointNormal
from bayesgen.posterior.posterior import CHUNK, ExactPosterior
from bayesgen.provenance import Data, Learnt, Source
from bayesgen.spectrum.spectrum import Spectrum
from bayesgen.verify import Check

if TYPE_CHECKING:
    import pandas as pd


class GPPosterior(Certified, ExactPosterior):
    """Posterior of a Gaussian process, for one task or a batch of B.

    It is made by `GaussianProcess.fit`. Shapes follow the targets: for y of shape (n,), (n, C) or
    (B, n, C), predictions at m points are (m,), (m, C) or (B, m, C), and hyperparameters have the
    batch shape, () or (B,).

    Attributes:
        evidence: the `Evidence`, batch shape () or (B,).
        scale: outputscale s, a variance.
        noise: noise variance σ², broadcastable with (B, n, C) where it was given per point.
        at_bound: whether the optimum of each task lies on the edge of the searched range of σ²/s or
            of a kernel parameter. The evidence then still increases beyond that range.
            `hyperparameters.at_bound` tells it for each hyperparameter of one task by name.
        spectra: number of eigendecompositions that the fit computed; 0 for a fit by Cholesky.
        dense: whether dense matrices were factorised; False for a fit by block Lanczos.
    """

    _gram: KernelGram

    def __init__(self, problem: Problem, found: Found, learnt: frozenset[str]) -> None:
        self._gram, self._y, self._mean = problem.gram, problem.y, problem.mean
        self._problem, self._found = problem, found
        self._theta, self._alpha = found.theta, found.alpha
        self._scale, self._noise = found.scale, found.noise
        self.learnt, self.spectra, self.dense = learnt, found.spectra, found.dense
        parts = found.parts
        if not all(check.passed for check in self._gram.checks):
            parts = parts._replace(method=f"{parts.method}; the kernel evaluates itself")
        self._observe(problem.observed, parts)
        batched = problem.observed.batched
        self.at_bound = found.at_bound if batched else found.at_bound[0]
        self._factor: tuple[tuple[int, int | None], Tensor] | None = None
        # The last spectrum, with the targets of all tasks, and the kernel parameters it belongs to.
        self._spectrum = None if found.spectrum is None else (found.theta[0], found.spectrum)

    def _inputs(self) -> Tensor:
        return self._gram.x

    def _given(self) -> dict[str, list[Any]]:
        return {
            "kernel": list(self._kernels()),
            "scale": [self._scale],
            "noise": [self._noise],
            "mean": [self._mean],
        }

    def learn(self, on: Data | None = None, *, start: bool = True) -> None:
        """Record by value what this fit has learnt; see `bayesgen.provenance`.

        Args:
            on: other data that it was learnt on; None for those of the fit.
            start: whether the values that the model started from were stated.
        """
        given, theta = self._problem.given, self._theta
        natural = self._gram.natural
        values: dict[str, Learnt] = {}
        if "kernel" in self.learnt:
            values["kernel"] = natural(theta), natural(given.theta)
        if "scale" in self.learnt:
            values["scale"] = self._scale[:, None], given.scale
        if "noise" in self.learnt and not is_per_point(self._noise):
            values["noise"] = self._noise.reshape(-1, 1), given.noise
        if isinstance(self._mean, LinearInParameters) and "mean" in self.learnt:
            named = self._mean.named().values()
            values["mean"] = torch.cat([value.reshape(-1) for value in named]), None
        many = "kernel" in values and theta.shape[1] > provenance.ENTRIES
        of = [provenance.digests_of(kernel) for kernel in self._kernels()] if many else []
        if not start:
            values = {name: (value, None) for name, (value, _) in values.items()}
        earlier: tuple[Source, ...] = ()
        if values and not isinstance(self._mean, Constant):  # they depend on what made the mean
            earlier = provenance.sources({"mean": [self._mean]}, None, provenance.now())
        self._learn(values, on, digests=frozenset[bytes]().union(*of), earlier=earlier)

    @property
    def _shape(self) -> torch.Size:
        return self.observed.shape

    @property
    def _batched(self) -> bool:
        return self.observed.batched

    @property
    def checks(self) -> tuple[Check, ...]:
        """Comparisons of fast paths with direct ones that the fit made; see `bayesgen.verify`.

        Where one of the kernel's entries did not pass, the kernel evaluated itself.
        """
        return (*self._gram.checks, *self._found.checks)

    @property
    def scale(self) -> Tensor:
        """Outputscale s, a variance, of the batch shape."""
        return self._scale if self._batched else self._scale[0]

    @property
    def noise(self) -> Tensor:
        """Noise variance σ², of the batch shape, or (1 or B, n, 1 or C) where given per point."""
        if is_per_point(self._noise):
            return self._noise
        return self._noise[:, 0, 0] if self._batched else self._noise[0, 0, 0]

    @property
    def kernels(self) -> list[gpytorch.kernels.Kernel]:
        """The kernel of each task, of unit outputscale and with its learnt parameters.

        A kernel whose values were learnt carries a mark that says so; see `bayesgen.provenance`.
        """
        found = [s for s in self.provenance.sources if s.shapes_kernel]
        return [provenance.mark(kernel, found) for kernel in self._kernels()]

    def _kernels(self) -> list[gpytorch.kernels.Kernel]:
        return [self._gram.kernel(theta) for theta in self._theta]

    @property
    def lengthscale(self) -> Tensor:
        """Length-scale of each task, of the batch shape, or (..., 1, d) for d length-scales.

        Raises:
            AttributeError: the kernel has no length-scale.
        """
        if not self._gram.base.has_lengthscale:
            raise AttributeError(
                f"the kernel {type(self._gram.base).__name__} has no length-scale of its own; "
                "its parameters are in posterior.kernels"
            )
        values = torch.stack([k.lengthscale.detach() for k in self._kernels()])
        if values[0].numel() == 1:
            values = values.reshape(-1)
        return values if self._batched else values[0]

    @property
    def hyperparameters(self) -> Hyperparameters:
        """Hyperparameters of one task by name, with units, bounds and what is not identified.

        Its `unidentified` holds sentences about what the data do not identify, such as a term that
        is white noise at these inputs; printing it shows them.

        Raises:
            ValueError: the posterior is of a batch of tasks.
        """
        check_single("hyperparameters", len(self._alpha))
        per_point = is_per_point(self._noise)
        noise = None if per_point else float(self._noise.reshape(-1)[0])
        flags = unidentified(
            self._kernels()[0], self._gram.x, float(self._scale[0]), noise, self._names
        )
        found = named(self._gram.coordinates, self._point(), self._landscape(), flags)
        if isinstance(self._mean, LinearInParameters):
            return found.extended(self._mean.named())
        return found

    @property
    def modes(self) -> pd.DataFrame:
        """The local maxima of one task's evidence that the fit found, the best first.

        Columns: `log_marginal_likelihood` (nats), `starts` (how many starts led there), `gradient`
        (its largest entry, nats) and the hyperparameters by name.

        Raises:
            ValueError: the posterior is of a batch of tasks.
        """
        check_single("modes", len(self._alpha))
        found = self._landscape()
        if found is None:
            value = float(self.evidence.log_marginal_likelihood.reshape(-1)[0])
            found = landscape_of(self._point(), value)
        return table(self._gram.coordinates, found)

    def _landscape(self) -> Landscape | None:
        return None if self._found.landscapes is None else self._found.landscapes[0]

    def _point(self) -> np.ndarray:
        """The point (θ, log s[, log σ²]) of the first task."""
        noise = [] if is_per_point(self._noise) else self._noise.reshape(-1)[:1].log().tolist()
        each = [*self._theta[0].tolist(), float(self._scale[0].log()), *noise]
        return np.array(each)

    def _log_evidence(self) -> LogEvidence | None:
        if not self.dense:
            return None
        objective, p = LogMarginalLikelihood(self._gram, self._y[0]), self._theta.shape[1]
        point, per_point = self._point(), is_per_point(self._noise)

        def gradient(z: np.ndarray) -> np.ndarray:
            theta = self._theta.new_tensor(z[:p])
            noise = self._noise[0] if per_point else self._noise.new_tensor(math.exp(z[p + 1]))
            found = objective(theta, math.exp(z[p]), noise)
            own = [] if per_point else [found.log_noise.reshape(1)]
            return torch.cat([found.kernel, found.log_scale.reshape(1), *own]).double().numpy()

        return local_evidence(
            self._gram.coordinates, point, gradient, self.learnt, self._landscape()
        )

    def fitted(self) -> Tensor:
        """Posterior mean y − σ²α at the training inputs, of the targets' shape; needs no solve."""
        return self._shaped(self._y - self._noise * self._alpha, self._gram.x)

    def mean(self, x_new: Any) -> Tensor:
        """Posterior mean at new points, (m,), (m, C) or (B, m, C); cheaper than `predict`.

            m(x*) = s k(x*, X) (sK + σ²I)⁻¹ y

        Tasks with the same kernel parameters share the cross-covariance.

        Args:
            x_new: new inputs, (m, d), of the training inputs' dtype and on their device;
                derivatives with respect to them are not followed.

        Source: Rasmussen & Williams (2006), eq. 2.25.
        """
        x_new = self._new(x_new)
        distinct, which = self._distinct_kernels()
        weights = self._scale[:, None, None] * self._alpha
        B, _, C = weights.shape
        result = weights.new_empty(B, len(x_new), C)
        for start in range(0, len(x_new), CHUNK):
            rows = slice(start, start + CHUNK)
            cross = self._gram.cross(x_new[rows])
            for k, theta in enumerate(distinct):
                of = (which == k).nonzero()[:, 0]
                columns = weights[of].movedim(0, 1).reshape(-1, len(of) * C)
                product = cross(theta) @ columns
                result[of, rows] = product.reshape(-1, len(of), C).movedim(1, 0)
        return self._shaped(result, x_new)

    def predict(self, x_new: Any, *, latent: bool = False) -> Normal:
        """Marginal predictive distribution of each new observation.

            v(x*) = s k(x*, x*) − s² k(x*, X) (sK + σ²I)⁻¹ k(X, x*)  [+ σ²]

        Args:
            x_new: new inputs, (m, d), of the training inputs' dtype and on their device.
            latent: True gives the distribution of f(x*), without the noise variance.

        Returns:
            `torch.distributions.Normal` of batch shape (m,), (m, C) or (B, m, C), with the standard
            deviation in `stddev` and its square in `variance`.

        Raises:
            ValueError: x_new and x differ in their number of columns; the noise was given per point
                and `latent` is False, because new points then have no noise variance.

        Source: Rasmussen & Williams (2006), eq. 2.25–2.26.

        Example:
            >>> import gpytorch
            >>> from bayesgen.models import GaussianProcess
            >>> x = torch.linspace(0, 1, 20, dtype=torch.float64)[:, None]
            >>> posterior = GaussianProcess(gpytorch.kernels.RBFKernel(), noise=0.01).fit(
            ...     x, torch.sin(6 * x[:, 0]))
            >>> posterior.predict(x[:3]).mean.shape
            torch.Size([3])
        """
        x_new = self._new(x_new)
        extra = self._observation_noise(latent)
        variance = torch.empty(len(self._alpha), len(x_new), self._alpha.shape[-1]).to(self._y)
        for start in range(0, len(x_new), CHUNK):
            rows = slice(start, start + CHUNK)
            for b, of, half in self._half_solves(x_new[rows]):
                prior = self._scale[b] * self._gram.diagonal(self._theta[b], x_new[rows])
                reduced = (prior - half.square().sum(0)).clamp(min=0)
                variance[b, rows, of] = reduced[:, None] + extra[b]
        # At a point of noiseless data the variance is 0 up to rounding, but Normal needs it > 0.
        floor = torch.finfo(variance.dtype).tiny
        std = variance.clamp(min=floor).sqrt()
        return Normal(self.mean(x_new), self._plain(std))

    def joint(self, x_new: Any, *, latent: bool = False) -> MultivariateNormal:
        """Joint predictive distribution of all new points, for each output and task.

        Args:
            x_new: new inputs, (m, d).
            latent: as in `predict`.

        Returns:
            `MultivariateNormal` over m points, batch shape (), (C,) or (B, C).

        Raises:
            ValueError: as in `predict`; the covariance is singular to rounding, as for coinciding
                points with `latent=True`.
        """
        x_new = self._new(x_new)
        extra = self._observation_noise(latent)
        B, m, C = len(self._alpha), len(x_new), self._alpha.shape[-1]
        full = self._y.new_empty(B, C, m, m)
        for b, of, half in self._half_solves(x_new):
            prior = self._gram.full(self._theta[b], x_new)
            matrix = self._scale[b] * prior - half.mT @ half
            matrix.diagonal().add_(extra[b])
            full[b, of] = matrix
        mean = self.mean(x_new)
        if len(self._shape) == 1:
            return MultivariateNormal(mean, full[0, 0])
        mean = mean.mT
        return MultivariateNormal(mean, full if self._batched else full[0])

    def components(self, x_new: Any) -> Components:
        """Posterior of each additive part of the function at new points, for one task.

        The kernel is multiplied out into a sum of products, k = Σ_j k_j. The function is then a sum
        of independent f_j ~ GP(0, s k_j), and their posteriors are

            m_j(x*) = s k_j(x*, X) A⁻¹ y,   v_j(x*) = s k_j(x*, x*) − s² k_j(x*, X) A⁻¹ k_j(X, x*)

        with A = sK + σ²I. The means sum to that of `predict` less the prior mean, which is the
        attribute `prior_mean` of the result. The parts are not independent of each other given the
        data, so that their variances do not add up.

        Args:
            x_new: new inputs, (m, d).

        Returns:
            Name of each part → `Normal` of shape (m,) or (m, C); printing it says in one sentence
            what each part is. `bayesgen.plots.components` draws it.

        Raises:
            ValueError: the posterior is of a batch; x_new is refused as by `predict`.

        Source: Rasmussen & Williams (2006), section 2.7; Duvenaud et al. (2013), section 2.

        Example:
            >>> import bayesgen as bg
            >>> t = torch.linspace(0, 6, 60, dtype=torch.float64)
            >>> y = t + torch.sin(6 * t) + 0.1 * torch.cos(91 * t)
            >>> found = bg.GaussianProcess(bg.kernels.parsed("linear + periodic")).fit(t, y)
            >>> total = sum(part.mean for part in found.components(t).values())
            >>> torch.allclose(total, found.mean(t))
            True
        """
        check_single("components", len(self._alpha))
        return components(self, self._new(x_new))

    def _lowers(self, b: int) -> Iterator[tuple[slice, Tensor]]:
        """The Cholesky factor of A for each group of outputs of one task."""
        for group in noise_groups(self._noise_of(b)):
            yield group.outputs, self._lower(b, group)

    def _distinct_kernels(self) -> tuple[Tensor, Tensor]:
        """The distinct kernel parameters of the tasks, and the index of each task's parameters."""
        if self._theta.shape[1] == 0:  # a kernel without parameters
            return self._theta[:1], torch.zeros_like(self._scale, dtype=torch.int64)
        distinct, which = torch.unique(self._theta, dim=0, return_inverse=True)
        return distinct, which

    def _new(self, x_new: Any) -> Tensor:
        x_new = checks.real("x_new", checks.inputs("x_new", x_new), like=self._gram.x)
        if x_new.shape[1] != self._gram.x.shape[1]:
            raise ValueError(
                f"x_new must have {self._gram.x.shape[1]} columns, as x had, got {x_new.shape[1]}"
            )
        check_indices("x_new", self._gram.base, x_new)
        return x_new

    def _observation_noise(self, latent: bool) -> Tensor:
        if latent:
            return torch.zeros_like(self._scale)
        if is_per_point(self._noise):
            raise ValueError(
                "latent must be True where the noise was given per training point, because new "
                "points then have no noise; of interval, noise must be False"
            )
        return self._noise[:, 0, 0]

    def _half_solves(self, x_new: Tensor) -> Iterator[tuple[int, slice, Tensor]]:
        """Solves L⁻¹ s k(X, x_new), (n, m), with the task and the outputs they belong to."""
        cross = self._gram.cross(x_new)
        for b, theta in enumerate(self._theta):
            right = self._scale[b] * cross(theta).mT
            for group in noise_groups(self._noise_of(b)):
                lower = self._lower(b, group)
                yield b, group.outputs, torch.linalg.solve_triangular(lower, right, upper=False)

    def _noise_of(self, b: int) -> Tensor:
        """Noise variance of one task, broadcastable with (1, n, C)."""
        return self._noise if len(self._noise) == 1 else self._noise[b : b + 1]

    def _factorised(self, b: int, group: NoiseGroup) -> solvers.Factor:
        theta, scale = self._theta[b], self._scale[b]
        solvers.check_room(self._y.shape[1], self._y)
        return solvers.cholesky(lambda: covariance(self._gram, theta, scale, group.noise))

    def _lower(self, b: int, group: NoiseGroup) -> Tensor:
        """Cholesky factor of one task's covariance; the last one is cached for the next chunk."""
        key = (b, group.outputs.start)
        if self._factor is None or self._factor[0] != key:
            factor = self._factorised(b, group)
            self._factor = (key, factor.lower)
        return self._factor[1]

    def _shaped(self, values: Tensor, x: Tensor) -> Tensor:
        """Values (B, m, C) plus the prior mean, in the layout of the targets."""
        return self._plain(values + self._mean(x))

    def latent_samples(self, count: int, *, task: int = 0, seed: int = 0) -> Tensor:
        """Draws of the latent functions; see `Posterior.latent_samples`.

        The posterior covariance is Λ − ΛA⁻¹Λ with Λ = diag(σ²). Its symmetric square root is
        computed once for each noise variance.
        """
        count = checks.whole("count", count)
        generator = torch.Generator().manual_seed(checks.seed(seed))
        n, C = self._y.shape[1:]
        noise = self._noise_of(task)
        mean = self._y[task] - noise[0] * self._alpha[task] + self._mean(self._gram.x)
        z = torch.randn(count, n, C, generator=generator, dtype=torch.float64).to(mean)
        for group in noise_groups(noise):
            factor = self._factorised(task, group)
            variance, inverse = group.noise.expand(n), factor.into_inverse()
            cov = -(variance[:, None] * inverse * variance)
            cov.diagonal().add_(variance)
            values, vectors = solvers.eigh(cov)
            root = vectors * values.clamp(min=0).sqrt()
            z[..., group.outputs] = root @ z[..., group.outputs]
        return mean + z

    def gaussians(self, task: int) -> Iterator[JointNormal]:
        """Joint distribution of the targets; see `ExactPosterior.gaussians`."""
        noise = self._noise_of(task)
        theta, scale = self._theta[task], self._scale[task]
        for group in noise_groups(noise):
            matrix = covariance(self._gram, theta, scale, group.noise)
            y = self._y[task][:, group.outputs]
            yield JointNormal(matrix, group.noise.expand(len(y)), y)

    def spectrum(self, task: int = 0) -> Spectrum:
        """Spectrum of K with one task's targets; see `ExactPosterior.spectrum`.

        The last spectrum is cached.
        """
        if is_per_point(self._noise):
            raise ValueError("spectrum needs one noise for all points, got a noise per point")
        return self._known(self._spectrum_at(self._theta[task]).task(task))

    def marginals(self, task: int = 0) -> tuple[Tensor, Tensor]:
        """Marginals at the training inputs, with variances σ² − σ⁴ (A⁻¹)ᵢᵢ.

        They come from the spectrum where it is known. See `Posterior.marginals`.
        """
        noise = self._noise_of(task)
        known = self._spectrum
        if known is not None and torch.equal(known[0], self._theta[task]):
            one = known[1].task(task)
            mean, spread = one.marginals(self._scale[task], noise.reshape(()))
            return mean[0] + self.prior_mean(), spread[0]
        y, alpha = self._y[task], self._alpha[task]
        mean = y - noise[0] * alpha + self.prior_mean()
        columns = []
        for group in noise_groups(noise):
            inverse = self._factorised(task, group).into_inverse().diagonal()
            variance = group.noise.expand(len(y))
            columns.append((variance - variance.square() * inverse).clamp(min=0))
        return mean, torch.stack(columns, -1)

    def prior_mean(self) -> Tensor:
        """Prior mean at the training inputs; see `ExactPosterior.prior_mean`."""
        return self._mean(self._gram.x).expand(self._y.shape[1:])

    def _problem_of(self, task: int) -> Problem:
        y, observed = self._y[task][None], self.observed[task]
        return replace(self._problem, y=y, observed=observed)

    def task(self, task: int) -> GPPosterior:
        """The posterior of one task; see `Posterior.task`."""
        one = slice(task, task + 1)
        if not self._batched:
            return self
        found, spectrum = self._found, self._spectrum
        shared = spectrum is not None and torch.equal(spectrum[0], self._theta[task])
        part = Found(
            found.theta[one],
            found.scale[one],
            found.noise if len(found.noise) == 1 else found.noise[one],
            found.alpha[one],
            found.parts.map(lambda values: values[one]),
            found.at_bound[one],
            found.spectra,
            spectrum[1].task(task) if spectrum is not None and shared else None,
            found.dense,
            None if found.landscapes is None else [found.landscapes[task]],
        )
        result: GPPosterior = self._part(GPPosterior(self._problem_of(task), part, self.learnt))
        return result

    def at(
        self,
        *,
        task: int = 0,
        lengthscale: Any = None,
        scale: Any = None,
        noise: Any = None,
    ) -> GPPosterior:
        """The posterior of one task at other hyperparameters; those not given are kept.

        Args:
            task: number of the task in a batch.
            lengthscale: length-scale of a kernel that has no other free parameter.
            scale: outputscale s.
            noise: noise variance σ².

        Raises:
            ValueError: a setting is not positive; a length-scale is given and the kernel has other
                parameters; the noise variance was given per point.
        """
        theta = self._theta[task]
        if lengthscale is not None:
            if not isinstance(self._gram, LengthscaleGram):
                raise ValueError(
                    "lengthscale needs a kernel with one length-scale as its only free parameter, "
                    f"got {type(self._gram.base).__name__}"
                )
            theta = checks.positive("lengthscale", lengthscale, like=theta)
            theta = theta.detach().reshape(1).log()
        if is_per_point(self._noise):
            raise ValueError("at() needs one noise for all points, got a noise per point")
        spectrum = self._spectrum_at(theta).task(task)
        now = {"scale": self._scale[task], "noise": self._noise[task, 0, 0]}
        scales, noises = (
            checks.positive(name, now[name] if v is None else v, like=self._y).detach().reshape(1)
            for name, v in (("scale", scale), ("noise", noise))
        )
        found = Found(
            theta[None],
            scales,
            noises[:, None, None],
            spectrum.unchecked_solve(scales, noises),
            spectrum.evidence(scales, noises).parts,
            torch.zeros_like(scales, dtype=torch.bool),
            self.spectra,
            spectrum,
        )
        moved = GPPosterior(self._problem_of(task), found, self.learnt)
        result: GPPosterior = self._moved(moved, kernel=lengthscale, scale=scale, noise=noise)
        return result

    def as_prior(self, x_new: Tensor, y_new: Tensor) -> tuple[Spectrum, Tensor]:
        """This posterior as a prior for new data; see `ExactPosterior.as_prior`."""
        x_new = self._new(x_new)
        mean = self.mean(x_new).reshape(y_new.shape)
        covariance = self.covariance(x_new, x_new)
        return Spectrum.dense(0.5 * (covariance + covariance.mT), y_new - mean), mean

    def covariance(self, x1: Tensor, x2: Tensor) -> Tensor:
        """Posterior covariance of f(x1) and f(x2); see `ExactPosterior.covariance`."""
        same, x1, x2 = x2 is x1, self._new(x1), self._new(x2)
        (_, _, left) = next(self._half_solves(x1))
        right = left if same else next(self._half_solves(x2))[2]
        with torch.no_grad():
            prior = evaluate(self._gram.kernel(self._theta[0]), x1, x2)
        return self._scale[0] * prior - left.mT @ right

    def _prior(self) -> tuple[Gram, Tensor]:
        return self._gram, self._theta[0]

    def _spectrum_at(self, theta: Tensor) -> Spectrum:
        if self._spectrum is None or not torch.equal(self._spectrum[0], theta):
            self._spectrum = (theta, Spectrum.dense(self._gram.matrix(theta), self._y))
        return self._spectrum[1]

    def observe(self, f: Tensor, *, task: int = 0) -> Normal:
        """Distribution of targets given f; see `Posterior.observe`."""
        noise = self._noise_of(task)
        return Normal(f, noise[0].sqrt())

    def __repr__(self) -> str:
        return (
            f"GPPosterior({type(self._gram.base).__name__}, targets {tuple(self._shape)}, "
            f"{self.evidence!r})"
        )
