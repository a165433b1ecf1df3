"""What is known of a network's weights after seeing data, by Laplace's approximation."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution, Normal

from bayesgen._internal import checks
from bayesgen._internal.precision import tf32
from bayesgen.curvature.curvature import Curvature
from bayesgen.curvature.parameters import Weights
from bayesgen.evidence import Evidence
from bayesgen.likelihoods.likelihood import Likelihood
from bayesgen.models.network.data import inputs
from bayesgen.models.network.prior_precision import PrecisionSetting
from bayesgen.models.reporting import Reporting
from bayesgen.posterior.posterior import Observed

METHODS = ("mc", "probit", "weights")
# Draws of all weights at a time.
_DRAWS = 8


@dataclass(frozen=True)
class Linear:
    """A network's linearisation f₀ + Jθ at its weights, as a model of its own.

    Attributes:
        mode: θ, (P,).
        offset: whether f₀ = f* − Jθ*, the network's own, or zero.
    """

    mode: Tensor
    offset: bool

    def outputs(self, weights: Weights, x: Tensor, theta: Tensor) -> Tensor:
        """(m, C) at weights θ of its own."""
        if not self.offset:
            return weights.jvp(x, theta)
        return weights.outputs(x, 256) + weights.jvp(x, theta - weights.theta)


@dataclass(frozen=True)
class NetworkFit:
    """What `Laplace.fit` found.

    Attributes:
        likelihood: with its learnt noise.
        x: training inputs, (n, …); None where they were not kept.
        f: outputs there at the mode, (n, C).
        curvature: at unit noise.
        setting: prior precisions and noise.
        structure: "scalar", "layer" or "parameter".
        linear: the linearisation whose posterior it is; None for the network's own.
    """

    likelihood: Likelihood
    x: Tensor | None
    f: Tensor
    curvature: Curvature
    setting: PrecisionSetting
    structure: str
    linear: Linear | None = None


class NetworkPosterior(Reporting):
    """N(θ*, (H + diag α)⁻¹) of a network's weights. Made by `Laplace.fit`.

    Attributes:
        evidence: the `Evidence`.
        likelihood: with its noise.
        negative_eigenvalues: those of a Hessian that were set to zero.
        learnt: names of the hyperparameters that were learnt.
    """

    data_dependent = "the weights that the network is linearised at"

    def __init__(
        self,
        observed: Observed,
        evidence: Evidence,
        fitted: NetworkFit,
        gradient: Tensor,
        learnt: frozenset[str],
    ) -> None:
        self._fitted, self._gradient, self.learnt = fitted, gradient, learnt
        self.likelihood, self.curvature = fitted.likelihood, fitted.curvature
        self.negative_eigenvalues = fitted.curvature.negative
        self._observe(observed, evidence[None])

    @property
    def gradient_norm(self) -> float:
        """‖∇ log p(D, θ)‖ at θ*; of a linearisation, in function space."""
        return float(self._gradient.norm())

    @cached_property
    def gain(self) -> float:
        """Nats that a Newton step to the mode would gain; 0 of a linearisation, which is there.

        A bound on them where the curvature is known by its products alone.
        """
        setting = self._fitted.setting
        if self._fitted.linear is not None:
            return 0.0
        scaled = setting.precision * setting.noise
        return float(setting.noise) * self.curvature.gain(self._gradient, scaled)

    @property
    def theta(self) -> Tensor:
        """The weights at the mode, (P,), in the order of `curvature.weights.names`.

        θ*, the network's own; its linearisation's where that is the model (`Laplace(mode=…)`).
        """
        linear = self._fitted.linear
        return self.curvature.weights.theta.double() if linear is None else linear.mode

    @property
    def prior_precision(self) -> Tensor:
        """α, (): or of each layer (L,), or of each parameter (P,), as it was asked for."""
        prior, setting = self.curvature.prior, self._fitted.setting
        if self._fitted.structure == "scalar":
            return setting.precision[0] * prior.base[0]
        each = prior.precision(setting.precision)
        if self._fitted.structure == "parameter":
            return each
        layers = self.curvature.weights.layers()
        first = [int((layers == number).nonzero()[0]) for number in range(int(layers.max()) + 1)]
        return each[first]

    @property
    def layers(self) -> list[str]:
        """Names of the modules that `prior_precision` of each layer speaks of."""
        return [leaf.name for leaf in self.curvature.weights.leaves]

    @property
    def at_bound(self) -> Tensor:
        """Groups of weights whose precision ended on the edge of what was searched, (G,)."""
        return self._fitted.setting.at_bound

    @property
    def noise(self) -> Tensor:
        """σ² of a Gaussian likelihood.

        Raises:
            AttributeError: the likelihood has none.
        """
        if self.likelihood.log_noise is None:
            raise AttributeError(f"a {self.likelihood.name} likelihood has no noise")
        return self._fitted.setting.noise

    # ------------------------------------------------------------------ predictions

    def mean(self, x_new: Any) -> Tensor:
        """Outputs at the mode, (m,) or (m, C) as the targets were; labels have (m, C).

        The network's at θ*; its linearisation's where that is the model (`Laplace(mode=…)`).
        """
        return self._shaped(self._outputs(self._new(x_new)))

    def predict(
        self,
        x_new: Any,
        *,
        latent: bool = False,
        method: str = "mc",
        samples: int = 100,
        seed: int = 0,
    ) -> Distribution:
        """Predictive distribution of each new observation.

        "mc" and "probit" are of the linearised network, f ~ N(f(x*), J*ΣJ*ᵀ): the likelihood
        averaged over f by draws (by quadrature for one latent value, in closed form for a
        Gaussian), or the probit approximation σ(f/√(1 + πv/8)). "weights" averages the network
        itself over draws of its weights, which underfits: Laplace's Gaussian is of the linearised
        network (Immer et al. 2021, "Improving predictions").

        Args:
            x_new: (m, …), on the network's device; computed in the curvature's dtype.
            latent: the marginals of the linearised outputs instead, as Normal.
            method: "mc", "probit" (labels only) or "weights".
            samples: draws for "mc" of classes and for "weights".
            seed: of the draws.

        Raises:
            ValueError: another method; a curvature without a basis; "weights" where the model is
                a linearisation, whose weights are not the network's.

        Source: Immer, Korzepa & Bauer (2021), section 3; MacKay (1992) and Gibbs (1997) for the
            probit approximation.
        """
        x_new = self._new(x_new)
        checks.one_of("method", method, METHODS)
        checks.whole("samples", samples)
        if method == "weights" and not latent:
            return self._by_weights(x_new, samples, seed)
        f, covariance = self._outputs(x_new).double(), self._covariance(x_new)
        variance = covariance.diagonal(dim1=-2, dim2=-1).clamp(min=0)
        if latent:
            return Normal(self._shaped(f), self._shaped(variance.clamp(min=1e-300).sqrt()))
        if method == "probit":
            return self.likelihood.probit(self._shaped(f), self._shaped(variance))
        own = self.likelihood.drawing(f.shape[-1], samples, seed)
        if own.coupled:
            return own.predictive(f, covariance)
        return own.predictive(self._shaped(f), self._shaped(variance))

    def _by_weights(self, x_new: Tensor, samples: int, seed: int) -> Distribution:
        draws = self.network_samples(x_new, samples, seed=seed)
        return self.likelihood.averaged(torch.stack([self._shaped(draw) for draw in draws]))

    # ------------------------------------------------------------------ draws

    @tf32(False)
    def sample_weights(self, count: int, *, seed: int = 0) -> Tensor:
        """Draws of θ, (count, P), in the order of `curvature.weights.names`.

        Of the linear model's weights, where the model is a linearisation.

        Args:
            count: at least 1.
            seed: of the draws, on the CPU.

        Raises:
            ValueError: a curvature without a basis.
        """
        generator = torch.Generator().manual_seed(seed)
        setting, theta = self._fitted.setting, self.curvature.weights.theta
        around = self.curvature.draw(
            checks.whole("count", count), setting.precision * setting.noise, generator
        )
        linear = self._fitted.linear
        centre = theta if linear is None else linear.mode.to(theta)
        return centre + setting.noise.sqrt().to(around) * around

    def network_samples(self, x: Tensor, count: int, *, seed: int = 0) -> Any:
        """Outputs of networks with weights drawn from the posterior, (m, C) each, float64.

        Args:
            x: (m, …).
            count: how many.
            seed: of the draws.
        """
        weights = self.curvature.weights
        if self._fitted.linear is not None:
            raise ValueError(
                "these weights are of the network's linearisation, a linear model: they are not "
                'weights for the network; take predict(method="mc") or latent_samples'
            )
        for start in range(0, count, _DRAWS):
            some = self.sample_weights(min(_DRAWS, count - start), seed=seed + start)
            for theta in some:
                yield weights.outputs_at(theta, x).double()

    def latent_samples(self, count: int, *, task: int = 0, seed: int = 0) -> Tensor:
        """See `Posterior.latent_samples`; of the linearised network."""
        x, weights = self._kept(), self.curvature.weights
        found = []
        for start in range(0, count, _DRAWS):
            some = self.sample_weights(min(_DRAWS, count - start), seed=seed + start)
            found += [self._linear.outputs(weights, x, each).double() for each in some]
        return torch.stack(found)

    def task(self, task: int) -> NetworkPosterior:
        """See `Posterior.task`; a network has one task."""
        self._index(task)
        return self

    def observe(self, f: Tensor, *, task: int = 0) -> Distribution:
        """See `Posterior.observe`."""
        return self.likelihood.observe(f)

    def log_likelihood(self, f: Tensor, *, task: int = 0) -> Tensor:
        """See `Posterior.log_likelihood`."""
        return self.likelihood.log_density(self.observed.y[0].to(f), f)

    def marginals(self, task: int = 0) -> tuple[Tensor, Tensor]:
        """See `Posterior.marginals`; of the linearised network."""
        x = self._kept()
        covariance = self._covariance(x)
        if not self.likelihood.coupled:
            covariance = covariance.diagonal(dim1=-2, dim2=-1)
        return self._fitted.f.double(), covariance

    # ------------------------------------------------------------------ inside

    def _kept(self) -> Tensor:
        if self._fitted.x is None:
            raise ValueError("the training inputs were not kept: the loader was read in passes")
        return self._fitted.x

    def _new(self, x_new: Any) -> Tensor:
        theta = self.curvature.weights.theta
        x_new = inputs(x_new)
        if x_new.device != theta.device:
            raise ValueError(
                f"x_new is on device {x_new.device} but the network is on {theta.device}; move "
                "one of them explicitly"
            )
        return x_new.to(theta.dtype)

    def _outputs(self, x: Tensor) -> Tensor:
        weights, linear = self.curvature.weights, self._fitted.linear
        if linear is None:
            return weights.outputs(x, 256)
        return linear.outputs(weights, x, linear.mode.to(x))

    @property
    def _linear(self) -> Linear:
        """The linearisation that the posterior of the outputs is of."""
        return self._fitted.linear or Linear(self.curvature.weights.theta, True)

    @tf32(False)
    def _covariance(self, x: Tensor) -> Tensor:
        """σ²J*(H + σ²α)⁻¹J*ᵀ, (m, C, C)."""
        setting = self._fitted.setting
        return setting.noise * self.curvature.covariance(x, setting.precision * setting.noise)

    def _shaped(self, values: Tensor) -> Tensor:
        """(m, C) in the layout of the targets."""
        flat = len(self.observed.shape) == 1 and values.shape[-1] == 1
        return values[..., 0] if flat else values

    def __repr__(self) -> str:
        text = f"NetworkPosterior({self.likelihood.name}, {self.evidence!r}"
        if not self.likelihood.labels:
            return text + ")"
        guess = -math.log(self.likelihood.num_guesses(self._fitted.f.shape[1]))
        if float(self.evidence.per_observation) < guess:
            text += (
                f"; below guessing uniformly: {float(self.evidence.per_observation):.2f} against "
                f"{guess:.2f} nats an observation"
            )
        return text + ")"
