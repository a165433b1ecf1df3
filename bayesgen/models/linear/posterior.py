"""The posterior of a linear model with Gaussian noise."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Normal

from bayesgen._internal import checks
from bayesgen._internal.user_warning import warn
from bayesgen.covariance.gram import Gram
from bayesgen.covariance.linear import FeatureGram
from bayesgen.evidence import EvidenceParts
from bayesgen.kernels.parameters import UNITS, VARIANCE
from bayesgen.models.log_evidence import LogEvidence
from bayesgen.models.reporting import Certified
from bayesgen.models.search.landscape import Hyperparameters
from bayesgen.posterior.conditional import JointNormal
from bayesgen.posterior.posterior import ExactPosterior, Observed
from bayesgen.provenance import ORDER, Data, Learnt, Source
from bayesgen.spectrum.decomposition import Decomposition, decompose
from bayesgen.spectrum.spectrum import Spectrum

# Step of the differences of the evidence in the logarithm of each hyperparameter.
_STEP = 3e-3


@dataclass(frozen=True)
class WeightPosterior:
    """Hyperparameters of each task, with the evidence at them.

    Attributes:
        theta: decay in the prior's search coordinate, (B, 1), or (B, 0) for a prior without decay.
        scale: outputscale s, (B,).
        noise: noise variance σ², (B,).
        order: the largest order in use, (B,); features above it are dropped.
        parts: the `EvidenceParts`, batch shape (B,).
        at_bound: whether the optimum lies on the edge of the searched range, (B,).
    """

    theta: Tensor
    scale: Tensor
    noise: Tensor
    order: Tensor
    parts: EvidenceParts
    at_bound: Tensor


class EvidenceGradient(NamedTuple):
    """Derivatives of the log marginal likelihood, in nats per unit of each logarithm.

    Attributes:
        log_scale: derivative in log s, of the batch shape.
        log_noise: derivative in log σ², of the batch shape.
        log_prior_variance: derivative in the log prior variance of each feature, (..., d).
    """

    log_scale: Tensor
    log_noise: Tensor
    log_prior_variance: Tensor


class _Root(NamedTuple):
    """The singular value decomposition of Φ diag(v)^½ for one task.

    Attributes:
        gram: features up to the task's order.
        root_v: standard deviations v^½ of the weights, (d,); 0 for a dropped feature.
        right: right singular vectors, (d, r); 0 for a dropped feature.
        parts: the decomposition of the features in use.
    """

    gram: FeatureGram
    root_v: Tensor
    right: Tensor
    parts: Decomposition

    @property
    def singular(self) -> Tensor:
        return self.parts.singular

    @property
    def left(self) -> Tensor:
        return self.parts.left


class LinearPosterior(Certified, ExactPosterior):
    """Posterior of a linear model, for one task or a batch of B; made by `LinearModel.fit`.

    Attributes:
        evidence: the `Evidence`, batch shape () or (B,).
        features: the basis, with the constants it took from the training inputs (`features.map`).
        at_bound: whether the optimum of each task lies on the edge of the searched range.
        spectra: number of decompositions that the fit computed.
    """

    _gram: FeatureGram

    def __init__(
        self, gram: FeatureGram, observed: Observed, found: WeightPosterior, spectra: int
    ) -> None:
        self._gram, self._found, self.spectra = gram, found, spectra
        self.features, self.data_dependent = gram.features, gram.features.data_dependent
        self._observe(observed, found.parts)
        worst = float(found.parts.error.max())
        if worst > max(1e-2, 1e-5 * observed.n):
            warn(
                f"rounding leaves the evidence uncertain by {worst:.2g} nats, and weights and "
                "predictions with it: the features differ too much in size; scale the inputs, or "
                'take a basis that does (kind="legendre")'
            )
        self.at_bound = self._each(found.at_bound)
        self._roots: dict[tuple[float, ...], _Root] = {}
        self._weights = torch.stack([self._mean_weights(b) for b in range(len(observed.y))])

    # ------------------------------------------------------------------ provenance

    def _inputs(self) -> Tensor:
        return self._gram.x

    def _given(self) -> dict[str, list[Any]]:
        found, prior = self._values(), self._gram.given()
        return {**{name: [value] for name, value in found.items()}, **prior}

    def _values(self) -> dict[str, Tensor]:
        values = {"scale": self._found.scale, "noise": self._found.noise}
        if self._gram.prior.decay is not None:
            values["decay"] = self._gram.prior.natural(self._found.theta)
        return values

    def _beside(self) -> tuple[Source, ...]:
        taken = self._range(self._gram.has_range_of_inputs())
        return (*super()._beside(), *taken, *self._orders(self._found.order.tolist()))

    def _kind(self) -> str:
        return self._gram.kind

    def learn(self, on: Data | None = None) -> None:
        """Record by value what this fit has learnt; see `bayesgen.provenance`.

        Args:
            on: other data that it was learnt on; None for those of the fit.
        """
        start = torch.tensor([self._gram.prior.scale], dtype=torch.float64)
        stated = {"scale": start}
        if self._gram.prior.decay is not None:
            stated["decay"] = torch.tensor([self._gram.prior.decay], dtype=torch.float64)
        values: dict[str, Learnt] = {
            name: (value.reshape(-1, 1), stated.get(name))
            for name, value in self._values().items()
            if name in self.learnt
        }
        if "order" in self.learnt:
            values[f"{ORDER}{self._kind()}"] = self._found.order.reshape(-1, 1), None
        self._learn(values, on)

    # ------------------------------------------------------------------ hyperparameters

    @property
    def scale(self) -> Tensor:
        """Outputscale s of the prior variances, of the batch shape."""
        return self._each(self._found.scale)

    @property
    def noise(self) -> Tensor:
        """Noise variance σ², of the batch shape."""
        return self._each(self._found.noise)

    @property
    def order(self) -> Tensor:
        """The largest order in use, of the batch shape."""
        return self._each(self._found.order)

    @property
    def decay(self) -> Tensor:
        """Rate γ, exponent p or ratio r of the prior (`bayesgen.features.priors`), batch shape.

        Raises:
            AttributeError: the prior has no decay.
        """
        if self._gram.prior.decay is None:
            raise AttributeError(f"the prior ({self._gram.prior.name}) has no decay")
        return self._each(self._gram.prior.natural(self._found.theta[:, 0]))

    @property
    def prior_variance(self) -> Tensor:
        """Prior variances s·vⱼ of the weights, (..., d); 0 for a dropped feature."""
        each = [self._found.scale[b] * self._root(b).root_v ** 2 for b in range(len(self._weights))]
        return self._each(torch.stack(each))

    def _named(self) -> Hyperparameters:
        found = {name: float(of.reshape(-1)[0]) for name, of in self._values().items()}
        order = {"order": float(self._found.order[0])} if "order" in self.learnt else {}
        units = {"scale": UNITS[VARIANCE], "noise": UNITS[VARIANCE]}
        return Hyperparameters({**found, **order}, units, self._edges())

    def _edges(self) -> dict[str, bool]:
        """Which hyperparameters of the first task lie on the edge of the searched range."""
        edge, found = bool(self._found.at_bound[0]), dict.fromkeys(self._values(), False)
        if not edge:
            return found
        if "decay" in found and "decay" in self.learnt:
            prior, at = self._gram.prior, float(self._found.theta[0, 0])
            ends = [prior.coordinate(prior.search[k]) for k in (0, -1)]
            if min(abs(at - end) for end in ends) <= 1e-6 * abs(ends[1] - ends[0]):
                return {**found, "decay": True}
        return {**found, **{name: name in self.learnt for name in ("scale", "noise")}}

    def _log_evidence(self) -> LogEvidence:
        names, prior, y = list(self._values()), self._gram.prior, self.observed.y[0]
        point = np.array([float(of.reshape(-1)[0].log()) for of in self._values().values()])
        gram = self._gram.up_to(int(self._found.order[0]))

        @functools.lru_cache(maxsize=2)
        def spectrum(log_decay: float | None) -> Spectrum:
            theta = self._found.theta[0]
            if log_decay is not None and log_decay != point[-1]:
                theta = theta.new_tensor([prior.coordinate(math.exp(log_decay))])
            return Spectrum.of_decomposition(gram.decompose(theta), y)

        def value(z: np.ndarray) -> float:
            scale, noise = (y.new_tensor([math.exp(v)]) for v in z[:2])
            found = spectrum(float(z[2]) if len(z) > 2 else None).evidence(scale, noise)
            return float(found.parts.log_marginal_likelihood)

        def gradient(z: np.ndarray) -> np.ndarray:
            steps = _STEP * np.eye(len(z))
            return np.array([(value(z + h) - value(z - h)) / (2 * _STEP) for h in steps])

        edges = self._edges()
        free = np.array([name in self.learnt and not edges[name] for name in names])
        entries = {name: [k] for k, name in enumerate(names)}
        return LogEvidence(point, gradient, entries, np.ones(len(names), dtype=bool), free)

    def evidence_gradient(self) -> EvidenceGradient:
        """Exact derivatives of the evidence in log s, log σ² and every log prior variance.

        At a maximum of the evidence, the derivatives in learnt hyperparameters are zero. The others
        show which changes would increase the evidence.

            ∂/∂ log vⱼ = ½ [Σ_c mⱼc²/(s vⱼ) − C hⱼ],  ∂/∂ log s = Σⱼ ∂/∂ log vⱼ

        Source: MacKay (1992); Bishop (2006), eq. 3.92.

        Example:
            >>> from bayesgen.models.linear.presets import Polynomial
            >>> x = torch.linspace(-1, 1, 30, dtype=torch.float64)
            >>> posterior = Polynomial(3).fit(x, torch.sin(3 * x))
            >>> bool(posterior.evidence_gradient().log_noise.abs() < 1e-6)
            True
        """
        C, parts = self._weights.shape[-1], []
        for b, y in enumerate(self.observed.y):
            root, s, noise = self._root(b), self._found.scale[b], self._found.noise[b]
            nodes = root.singular.square()
            inverse = 1 / (s * nodes + noise)
            shrunk = s * nodes * inverse
            coefficients = (s.sqrt() * root.singular * inverse)[:, None] * (root.left.mT @ y)
            weight = (root.right @ coefficients).square().sum(-1)
            gradient = 0.5 * (weight - C * (root.right.square() @ shrunk))
            residual = y - self._gram.Phi @ self._weights[b]
            dof = shrunk.sum()
            along_noise = 0.5 * (residual.square().sum() / noise - C * (len(y) - dof))
            parts.append((gradient.sum(), along_noise, gradient))
        return EvidenceGradient(*(self._each(torch.stack(p)) for p in zip(*parts, strict=True)))

    # ------------------------------------------------------------------ weights

    @property
    def weights(self) -> Tensor:
        """Posterior mean of the weights, (d,), (d, C) or (B, d, C)."""
        return self._plain(self._weights)

    def weight_covariance(self) -> Tensor:
        """Posterior covariance of the weights, (d, d) or (B, d, d); all outputs share it.

        s S^½ [I − V diag(sλ/(sλ + σ²)) Vᵀ] S^½,  S = diag(v)
        """
        each = []
        for b in range(len(self._weights)):
            root, s, noise = self._root(b), self._found.scale[b], self._found.noise[b]
            shrink = s * root.singular**2 / (s * root.singular**2 + noise)
            inner = -(root.right * shrink) @ root.right.mT
            inner.diagonal().add_(1)
            each.append(s * root.root_v[:, None] * inner * root.root_v)
        return self._each(torch.stack(each))

    def sample_weights(self, count: int, *, seed: int = 0) -> Tensor:
        """Independent draws of the weights, (count, d), (count, d, C) or (count, B, d, C).

        Args:
            count: number of draws, at least 1.
            seed: seed of the draws.
        """
        seed = checks.seed(seed)
        each = [self._draw(b, count, seed + b) for b in range(len(self._weights))]
        draws = torch.stack(each, 1)
        if not self.observed.batched:
            draws = draws[:, 0]
        return draws if len(self.observed.shape) - self.observed.batched == 2 else draws[..., 0]

    # ------------------------------------------------------------------ predictions

    def fitted(self) -> Tensor:
        """Posterior mean at the training inputs, of the targets' shape."""
        return self._plain(self._gram.Phi @ self._weights)

    def mean(self, x_new: Any) -> Tensor:
        """Posterior mean Φ(x*)m at new points, (m,), (m, C) or (B, m, C)."""
        return self._plain(self._new_features(x_new) @ self._weights)

    def predict(self, x_new: Any, *, latent: bool = False) -> Normal:
        """Marginal predictive distribution of each new observation.

            v(x*) = φ*ᵀ Cov(w) φ*  [+ σ²]

        Args:
            x_new: new inputs, (m, D), of the training inputs' dtype and on their device.
            latent: True gives the distribution of the function value, without the noise variance.

        Returns:
            `torch.distributions.Normal` of batch shape (m,), (m, C) or (B, m, C).

        Raises:
            ValueError: x_new and x differ in their number of columns; the features overflow.

        Source: Bishop (2006), eq. 3.58–3.59.
        """
        Phi = self._new_features(x_new)
        each = []
        for b in range(len(self._weights)):
            root, s, noise = self._root(b), self._found.scale[b], self._found.noise[b]
            rooted = Phi * root.root_v
            along = rooted @ root.right
            variance = s * (along.square() @ (noise / (s * root.singular**2 + noise)))
            if root.right.shape[1] < int((root.root_v > 0).sum()):  # what no data have touched
                variance = variance + s * (rooted - along @ root.right.mT).square().sum(-1)
            each.append(variance if latent else variance + noise)
        std = torch.stack(each).clamp(min=torch.finfo(Phi.dtype).tiny).sqrt()
        std = std[..., None].expand(-1, -1, self._weights.shape[-1])
        return Normal(self._plain(Phi @ self._weights), self._plain(std))

    # ------------------------------------------------------------------ draws for export

    def latent_samples(self, count: int, *, task: int = 0, seed: int = 0) -> Tensor:
        """Draws of the latent functions; see `Posterior.latent_samples`."""
        return self._gram.Phi @ self._draw(task, count, seed)

    def gaussians(self, task: int) -> Iterator[JointNormal]:
        """Joint distribution of the targets; see `ExactPosterior.gaussians`."""
        root, y = self._root(task), self.observed.y[task]
        rooted = self._gram.Phi * root.root_v
        matrix = self._found.scale[task] * (rooted @ rooted.mT)
        noise = self._found.noise[task].expand(len(y))
        matrix.diagonal().add_(noise)
        yield JointNormal(matrix, noise, y)

    def spectrum(self, task: int = 0) -> Spectrum:
        """Spectrum of ΦSΦᵀ with one task's targets; see `ExactPosterior.spectrum`."""
        return self._known(Spectrum.of_decomposition(self._root(task).parts, self.observed.y[task]))

    def marginals(self, task: int = 0) -> tuple[Tensor, Tensor]:
        """Marginal means and variances; see `Posterior.marginals`. All outputs share a variance."""
        root, s, noise = (
            self._root(task),
            self._found.scale[task],
            self._found.noise[task],
        )
        signal = s * root.singular.square()
        variance = root.left.square() @ (signal * noise / (signal + noise))
        return self._gram.Phi @ self._weights[task], variance[:, None]

    def prior_mean(self) -> Tensor:
        """The prior mean, which is zero; see `ExactPosterior.prior_mean`."""
        return torch.zeros_like(self.observed.y[0])

    def task(self, task: int) -> LinearPosterior:
        """The posterior of one task; see `Posterior.task`."""
        if not self.observed.batched:
            return self
        found, one = self._found, slice(task, task + 1)
        part = WeightPosterior(
            found.theta[one],
            found.scale[one],
            found.noise[one],
            found.order[one],
            found.parts.map(lambda values: values[one]),
            found.at_bound[one],
        )
        posterior = LinearPosterior(self._gram, self.observed[task], part, self.spectra)
        result: LinearPosterior = self._part(posterior)
        return result

    def at(
        self,
        *,
        task: int = 0,
        decay: Any = None,
        order: int | None = None,
        scale: Any = None,
        noise: Any = None,
    ) -> LinearPosterior:
        """The posterior of one task at other hyperparameters; those not given are kept.

        Args:
            task: number of the task in a batch.
            decay: rate γ, exponent p or ratio r of the prior.
            order: the largest order in use; features above it are dropped.
            scale: outputscale s.
            noise: noise variance σ².
        """
        found, y, like = self._found, self.observed.y[task], self._gram.x
        theta = found.theta[task]
        if decay is not None:
            if self._gram.prior.decay is None:
                raise ValueError(f"the prior ({self._gram.prior.name}) has no decay to set")
            theta = like.new_tensor([self._gram.prior.coordinate(float(decay))])
        top = int(found.order[task]) if order is None else order
        spectrum = Spectrum.of_decomposition(self._gram.up_to(top).decompose(theta), y)
        scales = checks.positive("scale", found.scale[task] if scale is None else scale)
        noises = checks.positive("noise", found.noise[task] if noise is None else noise)
        scales, noises = scales.to(like).reshape(1), noises.to(like).reshape(1)
        moved = WeightPosterior(
            theta[None],
            scales,
            noises,
            torch.tensor([top]),
            spectrum.evidence(scales, noises).parts,
            torch.zeros_like(scales, dtype=torch.bool),
        )
        posterior = LinearPosterior(self._gram, self.observed[task], moved, self.spectra)
        given = None if order == int(found.order[task]) else order
        result: LinearPosterior = self._moved(
            posterior, decay=decay, order=given, scale=scale, noise=noise
        )
        return result

    def as_prior(self, x_new: Tensor, y_new: Tensor) -> tuple[Spectrum, Tensor]:
        """This posterior as a prior for new data; see `ExactPosterior.as_prior`."""
        Phi = self._new_features(x_new)
        mean = Phi @ self._weights[0]
        parts = decompose(self._reached(Phi), self._root(0).gram.decomposition)
        return Spectrum.of_decomposition(parts, y_new - mean), mean

    def covariance(self, x1: Tensor, x2: Tensor) -> Tensor:
        """Posterior covariance of f(x1) and f(x2); see `ExactPosterior.covariance`."""
        left, right = (self._reached(self._new_features(x)) for x in (x1, x2))
        return left @ right.mT

    def _prior(self) -> tuple[Gram, Tensor]:
        return self._root(0).gram, self._found.theta[0]

    def _reached(self, Phi: Tensor) -> Tensor:
        """Features Φ times a square root of the first task's posterior weight covariance."""
        return self._shrunk(0, Phi * self._root(0).root_v)

    def observe(self, f: Tensor, *, task: int = 0) -> Normal:
        """Distribution of targets given f; see `Posterior.observe`."""
        return Normal(f, self._found.noise[task].sqrt())

    def parameters(self, count: int, *, task: int = 0, seed: int = 0) -> dict[str, Tensor]:
        """Draws of the weights "w" and of the function "f"; see `Posterior.parameters`."""
        draws = self._draw(task, count, seed)
        return {"w": draws, "f": self._gram.Phi @ draws}

    # ------------------------------------------------------------------ inside

    def _new_features(self, x_new: Any) -> Tensor:
        x_new = checks.real("x_new", checks.inputs("x_new", x_new), like=self._gram.x)
        return self.features(x_new)

    def _root(self, b: int) -> _Root:
        """Decomposition for the prior of task b; tasks with the same prior share it."""
        key = (float(self._found.order[b]), *self._found.theta[b].tolist())
        if key not in self._roots:
            gram = self._gram.up_to(int(key[0]))
            log_v = gram.log_variance(self._found.theta[b])
            root_v, on = (0.5 * log_v).exp(), log_v > -torch.inf
            parts = gram.decompose(self._found.theta[b])
            embedded = parts.right
            if not on.all():
                embedded = parts.right.new_zeros(len(on), len(parts.singular))
                embedded[on] = parts.right
            self._roots[key] = _Root(gram, root_v, embedded, parts)
        return self._roots[key]

    def _mean_weights(self, b: int) -> Tensor:
        """Posterior mean weights of task b, (d, C), computed without cancellation.

        m = s S^½ V diag(ςᵢ/(sςᵢ² + σ²)) Uᵀy, with singular values ςᵢ
        """
        root, s, noise = self._root(b), self._found.scale[b], self._found.noise[b]
        inside = root.singular / (s * root.singular**2 + noise)
        coefficients = inside[:, None] * (root.left.mT @ self.observed.y[b])
        return s * root.root_v[:, None] * (root.right @ coefficients)

    def _draw(self, b: int, count: int, seed: int) -> Tensor:
        """Draws of the weights, (count, d, C), by the symmetric square root of their covariance."""
        count, b = checks.whole("count", count), checks.index("task", b, len(self._weights))
        root = self._root(b)
        generator = torch.Generator().manual_seed(checks.seed(seed))
        d, C = self._weights.shape[1:]
        z = torch.randn(count, d, C, generator=generator, dtype=torch.float64).to(self._weights)
        return self._weights[b] + root.root_v[:, None] * self._shrunk(b, z.mT).mT

    def _shrunk(self, b: int, rows: Tensor) -> Tensor:
        """Rows (..., d) times a square root of S^−½ Cov(w) S^−½.

        The root is √s [I + V diag(√(σ²/(sλ + σ²)) − 1) Vᵀ].
        """
        root, s, noise = self._root(b), self._found.scale[b], self._found.noise[b]
        shrink = (noise / (s * root.singular**2 + noise)).sqrt() - 1
        return s.sqrt() * (rows + ((rows @ root.right) * shrink) @ root.right.mT)

    def __repr__(self) -> str:
        return f"LinearPosterior({self._weights.shape[1]} features, {self.evidence!r})"
