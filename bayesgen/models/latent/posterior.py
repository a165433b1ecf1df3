"""Laplace posteriors of latent-function models under a non-Gaussian likelihood."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Distribution, Normal

from bayesgen import provenance
from bayesgen._internal import checks
from bayesgen.covariance.gram import KernelGram
from bayesgen.covariance.linear import FeatureGram
from bayesgen.evidence import combine
from bayesgen.kernels import check_indices
from bayesgen.kernels.parameters import UNITS, VARIANCE
from bayesgen.likelihoods.likelihood import Likelihood, Separable, with_noise
from bayesgen.likelihoods.mixture import LatentMixture
from bayesgen.models.latent import SoftmaxCurvature
from bayesgen.models.latent.objective import LaplaceEvidence
from bayesgen.models.latent.setting import LatentFit, LatentSetting
from bayesgen.models.latent.skewness import SkewnessCorrection
from bayesgen.models.log_evidence import LogEvidence
from bayesgen.models.reporting import Certified
from bayesgen.models.search.identified import unidentified
from bayesgen.models.search.landscape import (
    Hyperparameters,
    check_single,
    landscape_of,
    local_evidence,
    named,
    table,
)
from bayesgen.posterior.posterior import Observed, Posterior
from bayesgen.provenance import Source

if TYPE_CHECKING:
    import pandas as pd


class LaplacePosterior(Certified, Posterior):
    """Laplace's approximation N(f̂, (K⁻¹ + W)⁻¹), for one task or a batch of B.

    Attributes:
        evidence: Laplace's approximation of the `Evidence`, batch shape () or (B,).
        likelihood: the likelihood, with the classes of labels set.
        steps: number of Newton steps at the last setting, for each task.
        gradient_norm: ‖∇ log p(y | f) − K⁻¹f‖ at the mode, for each task.
        different_modes: number of different modes of the latent functions that were found for each
            task, at its setting. It is 1 for a log-concave likelihood. Of several modes, the one of
            largest Laplace evidence is used; the evidence of the others is not added.
        at_bound: whether a learnt hyperparameter of each task lies on the edge of its range.
    """

    def __init__(
        self,
        observed: Observed,
        likelihood: Likelihood,
        fits: list[LatentFit],
        learnt: frozenset[str],
    ) -> None:
        self.likelihood, self._fits, self.learnt = likelihood, fits, learnt
        self._settings = [found.setting for found in fits]
        modes = self._modes = [found.modes for found in fits]
        self._landscapes = [found.landscape for found in fits]
        each = [
            combine(lambda *parts: torch.stack(parts).sum(0), *(m.evidence for m in found))
            for found in modes
        ]
        self._observe(observed, combine(lambda *parts: torch.stack(parts), *each))
        self.steps = [max(m.steps for m in found) for found in modes]
        self.gradient_norm = [max(m.gradient_norm for m in found) for found in modes]
        self.different_modes = [found.different for found in fits]

    # ------------------------------------------------------------------ hyperparameters

    @property
    def scale(self) -> Tensor:
        """Outputscale s, a variance, of the batch shape."""
        return self._each(torch.stack([s.scale for s in self._settings]))

    @property
    def noise(self) -> Tensor:
        """Noise variance σ², of the batch shape.

        Raises:
            AttributeError: the likelihood has no noise variance.
        """
        values = [s.log_noise for s in self._settings if s.log_noise is not None]
        if not values:
            raise AttributeError(f"a {self.likelihood.name} likelihood has no noise")
        return self._each(torch.stack(values).exp())

    @property
    def at_bound(self) -> Tensor:
        """Whether a learnt hyperparameter lies on the edge of its range, of the batch shape."""
        each = [found is not None and bool(found.at_bound.any()) for found in self._landscapes]
        return self._each(torch.tensor(each))

    def _point(self) -> np.ndarray:
        """The point (θ, log s[, log σ²]) of the first task."""
        first = self._settings[0]
        noise = [] if first.log_noise is None else [float(first.log_noise)]
        return np.array([*first.theta.tolist(), float(first.scale.log()), *noise])

    # ------------------------------------------------------------------ predictions

    def task(self, task: int) -> Self:
        """The posterior of one task; see `Posterior.task`."""
        if not self.observed.batched:
            return self
        part = type(self)(self.observed[task], self.likelihood, [self._fits[task]], self.learnt)
        result: Self = self._part(part)
        return result

    def _inputs(self) -> Tensor:
        return self._settings[0].gram.x

    def _given(self) -> dict[str, list[Any]]:
        noise = [s.log_noise.exp() for s in self._settings if s.log_noise is not None]
        return {"scale": [s.scale for s in self._settings], "noise": noise}

    def learn(
        self, on: provenance.Data | None = None, *, stated: Mapping[str, Tensor] | None = None
    ) -> None:
        """Record by value what this fit has learnt; see `bayesgen.provenance`.

        Args:
            on: other data that it was learnt on; None for those of the fit.
            stated: name → the values that were stated for some of the hyperparameters.
        """
        stated = stated or {}
        given = self._given()
        values = {
            name: (torch.stack([v.reshape(-1) for v in of]), stated.get(name))
            for name, of in {**given, **self._shaping()}.items()
            if name in self.learnt and of
        }
        self._learn(values, on)

    @abstractmethod
    def _shaping(self) -> dict[str, list[Tensor]]:
        """The learnt values that shape the prior beside its scale, of each task, by name."""

    def mode(self) -> Tensor:
        """The latent mode f̂ at the training inputs, (n,), (n, C) or (B, n, C)."""
        each = [torch.cat([m.f for m in found], 1) for found in self._modes]
        return self._outputs(torch.stack(each))

    def mean(self, x_new: Any) -> Tensor:
        """Latent mean s k(x*, X) a at new points, (m,), (m, C) or (B, m, C)."""
        x_new = self._new(x_new)
        each = [
            s.scale * s.gram.cross(x_new)(s.theta) @ self._a(b)
            for b, s in enumerate(self._settings)
        ]
        return self._outputs(torch.stack(each))

    def predict(self, x_new: Any, *, latent: bool = False) -> Distribution:
        """Predictive distribution of each new observation, with the latent function integrated out.

        Args:
            x_new: new inputs, (m, d), of the training inputs' dtype and on their device.
            latent: True gives the marginals of the latent functions as a Normal, without the
                correlations between the classes of a softmax and without the correction for
                skewness that predictions of counts have.

        Returns:
            A Bernoulli, a Categorical or a `bayesgen.likelihoods.LatentMixture`, of batch shape
            (m,), (m, C) or (B, m, C) according to the targets.

        Raises:
            ValueError: x_new and x differ in their number of columns; the tasks of a batch have
                different noise variances.

        Source: Rasmussen & Williams (2006), eq. 3.24–3.25 and Algorithms 3.2 and 3.4.
        """
        x_new = self._new(x_new)
        means, covariances = zip(
            *(self._latent(b, x_new) for b in range(len(self._modes))), strict=True
        )
        mean, covariance = torch.stack(means), torch.stack(covariances)
        coupled = covariance.ndim == 4
        if latent:
            variance = covariance.diagonal(dim1=-2, dim2=-1) if coupled else covariance
            std = variance.clamp(min=torch.finfo(mean.dtype).tiny).sqrt()
            return Normal(self._outputs(mean), self._outputs(std))
        if coupled:
            return self.likelihood.predictive(self._each(mean), self._each(covariance))
        own = self._with_noise(0) if len(self._modes) == 1 else self.likelihood
        if own.log_noise is not None and len(self._modes) > 1:
            raise ValueError(
                "predict needs latent=True, and interval noise=False, where the tasks of a batch "
                "have different noises; or use posterior.task(b)"
            )
        if own.skewed and isinstance(own, Separable):
            slopes = torch.stack([self._slopes(b, x_new, v) for b, v in enumerate(covariance)])
            f = torch.stack([found[0].f for found in self._modes])
            correction = SkewnessCorrection(own, self.observed.y, f, slopes)
            return LatentMixture(own, self._outputs(mean), self._outputs(covariance), correction)
        return own.predictive(self._outputs(mean), self._outputs(covariance))

    def _slopes(self, b: int, x_new: Tensor, variance: Tensor) -> Tensor:
        """Slopes Cov(f, f*)/√v of the training values of one task in new ones, (m, n)."""
        s, found = self._settings[b], self._modes[b][0]
        cross = s.scale * s.gram.cross(x_new)(s.theta).mT
        K = s.scale * s.gram.matrix(s.theta)
        shared = (cross - K @ found.curvature.times(cross)).mT
        return shared / variance.clamp(min=torch.finfo(variance.dtype).tiny).sqrt()

    # ------------------------------------------------------------------ draws for export

    def latent_samples(self, count: int, *, task: int = 0, seed: int = 0) -> Tensor:
        """Draws of the latent functions; see `Posterior.latent_samples`."""
        count, task = checks.whole("count", count), checks.index("task", task, len(self._settings))
        setting, generator = self._settings[task], torch.Generator().manual_seed(checks.seed(seed))
        K = setting.scale * setting.gram.matrix(setting.theta)
        parts = []
        for m in self._modes[task]:
            shape = (count, *m.f.shape)
            z = torch.randn(shape, generator=generator, dtype=torch.float64).to(K)
            if isinstance(m.curvature, SoftmaxCurvature):  # Matheron's rule, as in _draw_weights
                noise = torch.randn(shape, generator=generator, dtype=torch.float64).to(K)
                f = _root(K) @ z
                parts.append(m.f + f - K @ m.curvature.pulls(f, noise))
            else:
                parts.append(m.f + _root(K - K @ m.curvature.times(K)) @ z)
        return torch.cat(parts, -1)

    def marginals(self, task: int = 0) -> tuple[Tensor, Tensor]:
        """Marginals of the latent functions at the training inputs; see `Posterior.marginals`."""
        return self._latent(task, self._settings[task].gram.x)

    def observe(self, f: Tensor, *, task: int = 0) -> Distribution:
        """Distribution of targets given f; see `Posterior.observe`."""
        return self._with_noise(task).observe(f)

    def log_likelihood(self, f: Tensor, *, task: int = 0) -> Tensor:
        """Log likelihood of each row given f; see `Posterior.log_likelihood`."""
        return self._with_noise(task).log_density(self.observed.y[task], f)

    # ------------------------------------------------------------------ inside

    def _latent(self, b: int, x_new: Tensor) -> tuple[Tensor, Tensor]:
        """Posterior mean (m, C) and variances (m, C), or covariances (m, C, C) for a softmax."""
        s = self._settings[b]
        cross = s.scale * s.gram.cross(x_new)(s.theta).mT
        prior = s.scale * s.gram.diagonal(s.theta, x_new)
        parts = [m.curvature.covariances(cross, prior) for m in self._modes[b]]
        mean = cross.mT @ self._a(b)
        return mean, parts[0] if parts[0].ndim == 3 else torch.stack(parts, -1)

    def _a(self, b: int) -> Tensor:
        return torch.cat([m.a for m in self._modes[b]], 1)

    def _with_noise(self, b: int) -> Likelihood:
        return with_noise(self.likelihood, self._settings[b].log_noise)

    def _new(self, x_new: Any) -> Tensor:
        gram = self._settings[0].gram
        x_new = checks.real("x_new", checks.inputs("x_new", x_new), like=gram.x)
        x = gram.x
        if x_new.shape[1] != x.shape[1]:
            raise ValueError(
                f"x_new must have {x.shape[1]} columns, as x had, got {x_new.shape[1]}"
            )
        if isinstance(gram, KernelGram):
            check_indices("x_new", gram.base, x_new)
        return x_new

    def _outputs(self, values: Tensor) -> Tensor:
        """Values (B, m, C) without the batch axis or output axis that the targets do not have."""
        if values.shape[-1] == 1 and len(self.observed.shape) - self.observed.batched == 1:
            values = values[..., 0]
        return self._each(values)

    def __repr__(self) -> str:
        text = f"{type(self).__name__}({self.likelihood.name}, {self.evidence!r}"
        labels = self.likelihood.classes
        if labels is not None and labels != tuple(range(len(labels))):
            text += f", classes {labels}"
        if max(self.different_modes) > 1:
            text += f"; the best of up to {max(self.different_modes)} modes of the latent functions"
        return text + ")"


class LaplaceGPPosterior(LaplacePosterior):
    """Laplace's approximation of a Gaussian process; see `LaplacePosterior`."""

    @property
    def kernels(self) -> list[Any]:
        """The kernel of each task; see `GPPosterior.kernels`."""
        found = [s for s in self.provenance.sources if s.shapes_kernel]
        return [provenance.mark(kernel, found) for kernel in self._kernels()]

    def _given(self) -> dict[str, list[Any]]:
        return {**super()._given(), "kernel": list(self._kernels())}

    def _shaping(self) -> dict[str, list[Tensor]]:
        pairs = [(s.gram, s.theta) for s in self._settings]
        return {"kernel": [g.natural(t) for g, t in pairs if isinstance(g, KernelGram)]}

    def _kernels(self) -> list[Any]:
        return [s.gram.kernel(s.theta) for s in self._settings if isinstance(s.gram, KernelGram)]

    @property
    def lengthscale(self) -> Tensor:
        """Length-scale of each task, of the batch shape, or (..., 1, d) for d length-scales.

        Raises:
            AttributeError: the kernel has no length-scale.
        """
        values = torch.stack([k.lengthscale.detach() for k in self._kernels()])
        return self._each(values.reshape(-1) if values[0].numel() == 1 else values)

    @property
    def hyperparameters(self) -> Hyperparameters:
        """Hyperparameters of one task by name; see `GPPosterior.hyperparameters`.

        Raises:
            ValueError: the posterior is of a batch of tasks.
        """
        gram = self._single_gram("hyperparameters")
        flags = unidentified(
            self._kernels()[0], gram.x, float(self._settings[0].scale), None, self._names
        )
        unit = UNITS[VARIANCE] if self.likelihood.density else ""
        return named(gram.coordinates, self._point(), self._landscapes[0], flags, unit)

    @property
    def modes(self) -> pd.DataFrame:
        """The local maxima of one task's evidence that the fit found; see `GPPosterior.modes`.

        Raises:
            ValueError: the posterior is of a batch of tasks.
        """
        gram = self._single_gram("modes")
        found = self._landscapes[0]
        if found is None:
            value = float(self.evidence.log_marginal_likelihood.reshape(-1)[0])
            found = landscape_of(self._point(), value)
        return table(gram.coordinates, found)

    def _log_evidence(self) -> LogEvidence | None:
        setting = self._settings[0]
        gram = self._single_gram("summary")
        objective = LaplaceEvidence(gram, self.likelihood, self.observed.y[0])
        p, noisy = len(setting.theta), setting.log_noise is not None

        def gradient(z: np.ndarray) -> np.ndarray:
            at = setting.theta.new_tensor(z)
            return objective(at[:p], at[p].exp(), at[p + 1] if noisy else None)[1]

        return local_evidence(
            gram.coordinates, self._point(), gradient, self.learnt, self._landscapes[0]
        )

    def _single_gram(self, what: str) -> KernelGram:
        check_single(what, len(self._settings))
        gram = self._settings[0].gram
        assert isinstance(gram, KernelGram)
        return gram


class LaplaceLinearPosterior(LaplacePosterior):
    """Laplace's approximation of a linear model; see `LaplacePosterior`."""

    def _named(self) -> Hyperparameters:
        own = {"scale": self._settings[0].scale}
        if self._settings[0].log_noise is not None:
            own["noise"] = self._settings[0].log_noise.exp()
        own |= {name: of[0].reshape(-1)[0] for name, of in self._shaping().items()}
        values = {name: float(value) for name, value in own.items()}
        edge = bool(self.at_bound.reshape(-1)[0])
        return Hyperparameters(values, {}, dict.fromkeys(values, edge))

    def _given(self) -> dict[str, list[Any]]:
        return {**super()._given(), **self._linear()[0][0].given(), **self._shaping()}

    def _shaping(self) -> dict[str, list[Tensor]]:
        if self._linear()[0][0].prior.decay is None:
            return {}
        return {"decay": [g.prior.natural(s.theta) for g, s in self._linear()]}

    def _kind(self) -> str:
        return self._linear()[0][0].kind

    def _beside(self) -> tuple[Source, ...]:
        grams = [gram for gram, _ in self._linear()]
        taken = self._range(grams[0].has_range_of_inputs())
        return (*super()._beside(), *taken, *self._orders([int(g.order) for g in grams]))

    @property
    def data_dependent(self) -> str:  # type: ignore[override]
        """Description of what the basis took from the training inputs."""
        return self._linear()[0][0].features.data_dependent

    @property
    def order(self) -> Tensor:
        """The largest order in use, of the batch shape."""
        return self._each(torch.tensor([int(g.order) for g, _ in self._linear()]))

    @property
    def decay(self) -> Tensor:
        """Rate γ of a geometric prior or exponent p of a power prior, of the batch shape.

        Raises:
            AttributeError: the prior has no decay.
        """
        pairs = self._linear()
        if pairs[0][0].prior.decay is None:
            raise AttributeError(f"the prior ({pairs[0][0].prior.name}) has no decay")
        return self._each(torch.stack([g.prior.natural(s.theta[0]) for g, s in pairs]))

    @property
    def weights(self) -> Tensor:
        """Mode sSΦᵀa of the weights, with S = diag(v): (d,), (d, C), (B, d) or (B, d, C)."""
        each = [
            s.scale * g.log_variance(s.theta).exp()[:, None] * (g.Phi.mT @ self._a(b))
            for b, (g, s) in enumerate(self._linear())
        ]
        return self._outputs(torch.stack(each))

    def weight_covariance(self) -> Tensor:
        """Laplace covariance sS − s²SΦᵀRΦS of the weights, with S = diag(v); (..., C, d, d).

        It holds the diagonal block of each latent function. With one latent function there is no
        axis C. A batch of tasks adds a leading axis B.
        """
        each = []
        for b, (g, s) in enumerate(self._linear()):
            v = s.scale * g.log_variance(s.theta).exp()
            R = torch.cat([m.curvature.blocks() for m in self._modes[b]])
            inner = -(v[:, None] * (g.Phi.mT @ R @ g.Phi) * v)
            inner.diagonal(dim1=-2, dim2=-1).add_(v)
            each.append(inner)
        result = torch.stack(each)
        return self._each(result[:, 0] if result.shape[1] == 1 else result)

    def sample_weights(self, count: int, *, seed: int = 0) -> Tensor:
        """Independent draws of the weights, in the layout of `weights` with a leading axis count.

        Args:
            count: number of draws, at least 1.
            seed: seed of the draws.
        """
        seed = checks.seed(seed)
        each = [self._draw_weights(b, count, seed + b) for b in range(len(self._modes))]
        draws = torch.stack(each, 1)
        return torch.stack([self._outputs(draw) for draw in draws])

    def parameters(self, count: int, *, task: int = 0, seed: int = 0) -> dict[str, Tensor]:
        """Draws of the weights "w" and of the latent functions "f"; see `Posterior.parameters`."""
        gram, _ = self._linear()[task]
        draws = self._draw_weights(task, count, seed)
        return {"w": draws, "f": gram.Phi @ draws}

    def _draw_weights(self, b: int, count: int, seed: int) -> Tensor:
        """Draws of the weights of task b, (count, d, C).

        A softmax couples the classes, so that a square root of the whole covariance would be
        (dC, dC). Matheron's rule avoids it: a draw is w̄ + w₀ − sSΦᵀg, with w₀ from the prior and
        g = RΦw₀ + (I − RK)W^½ε, whose covariance is R. Other likelihoods have independent latent
        functions and W may be negative; they use a square root of each (d, d) covariance.
        """
        count, b = checks.whole("count", count), checks.index("task", b, len(self._modes))
        gram, s = self._linear()[b]
        generator = torch.Generator().manual_seed(checks.seed(seed))
        v = s.scale * gram.log_variance(s.theta).exp()
        mean, d, C = v[:, None] * (gram.Phi.mT @ self._a(b)), len(v), self._a(b).shape[1]
        z = torch.randn(count, d, C, generator=generator, dtype=torch.float64).to(v)
        first = self._modes[b][0].curvature
        if not isinstance(first, SoftmaxCurvature):
            covariance = self.weight_covariance()
            covariance = covariance[b] if self.observed.batched else covariance
            root = _root(covariance.expand(C, d, d))
            return mean + torch.einsum("cij,sjc->sic", root, z)
        prior = v.sqrt()[:, None] * z
        n = len(gram.x)
        noise = torch.randn(count, n, C, generator=generator, dtype=torch.float64).to(v)
        pulled = first.pulls(gram.Phi @ prior, noise)
        return mean + prior - v[:, None] * (gram.Phi.mT @ pulled)

    def _linear(self) -> list[tuple[FeatureGram, LatentSetting]]:
        return [(s.gram, s) for s in self._settings if isinstance(s.gram, FeatureGram)]


def _root(covariance: Tensor) -> Tensor:
    """A square root of covariances (..., n, n), which may be singular."""
    values, vectors = torch.linalg.eigh(covariance)
    return vectors * values.clamp(min=0).sqrt()[..., None, :]
