"""The posterior of a network's weights by Laplace's approximation."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor
from torch.distributions import Distribution, Normal

from bayesgen._internal import checks
from bayesgen.curvature.curvature import Curvature
from bayesgen.curvature.parameters import Weights
from bayesgen.evidence import Evidence
from bayesgen.kernels.parameters import UNITS, VARIANCE
from bayesgen.likelihoods.likelihood import Likelihood
from bayesgen.models.network.data import inputs
from bayesgen.models.network.prior_precision import PrecisionSetting
from bayesgen.models.reporting import Reporting
from bayesgen.models.search.landscape import Hyperparameters
from bayesgen.networks.admission import undisturbed
from bayesgen.posterior.posterior import Observed
from bayesgen.verify import Check

A = ParamSpec("A")
R = TypeVar("R")

METHODS = ("mc", "probit", "weights")
# Number of draws of the weights that are held at a time.
_DRAWS = 8


@dataclass(frozen=True)
class Linear:
    """The linear model f₀ + Jθ that linearises a network at its weights θ*.

    Attributes:
        mode: mode of its weights θ, (P,).
        offset: True for f₀ = f* − Jθ*, False for f₀ = 0.
    """

    mode: Tensor
    offset: bool

    def outputs(self, weights: Weights, x: Any, theta: Tensor) -> Tensor:
        """Outputs f₀ + Jθ at inputs x, (m, C).

        Args:
            weights: weights θ* of the network.
            x: inputs, (m, …).
            theta: weights θ of the linear model, (P,).
        """
        if not self.offset:
            return weights.jvp(x, theta)
        return weights.outputs(x, 256) + weights.jvp(x, theta - weights.theta)


@dataclass(frozen=True)
class NetworkFit:
    """The result of `Laplace.fit`.

    Attributes:
        likelihood: the likelihood with its learnt noise variance.
        x: training inputs, (n, …), or None where they were not kept.
        f: outputs at the training inputs at the mode, (n, C).
        curvature: the curvature at unit noise variance.
        setting: prior precisions and noise variance.
        structure: layout of the prior precisions: "scalar", "layer" or "parameter".
        linear: the linear model whose posterior it is, or None for the network itself.
        checks: comparisons of fast computations with direct ones.
    """

    likelihood: Likelihood
    x: Any
    f: Tensor
    curvature: Curvature
    setting: PrecisionSetting
    structure: str
    linear: Linear | None = None
    checks: tuple[Check, ...] = ()


def _undisturbed(method: Callable[A, R]) -> Callable[A, R]:
    """A method of a posterior whose passes through the network change no state of torch."""

    @functools.wraps(method)
    def call(*args: A.args, **kwargs: A.kwargs) -> R:
        own: Any = args[0]
        with torch.inference_mode(False), undisturbed(own.curvature.weights.net):
            return method(*args, **kwargs)

    return call


class NetworkPosterior(Reporting):
    """The posterior N(θ*, (H + diag α)⁻¹) of a network's weights; made by `Laplace.fit`.

    Attributes:
        evidence: the `Evidence`, batch shape ().
        likelihood: the likelihood with its noise variance.
        curvature: the curvature H at unit noise variance.
        checks: comparisons of fast computations with direct ones; see `docs/trust.md`.
        negative_eigenvalues: number of negative eigenvalues of a Hessian, which were set to zero.
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
        self.checks = fitted.checks + fitted.curvature.checks
        self.negative_eigenvalues = fitted.curvature.negative
        self._observe(observed, evidence[None])

    @property
    def gradient_norm(self) -> float:
        """Gradient norm ‖∇ log p(D, θ)‖ at θ*; for a linear model, the norm in function space."""
        return float(self._gradient.norm())

    @cached_property
    @_undisturbed
    def gain(self) -> float:
        """Gain of a Newton step in log p(D, θ), in nats.

        It is an upper bound where the curvature is used only through its products, and 0 for a
        linear model, which is at its mode.
        """
        setting = self._fitted.setting
        if self._fitted.linear is not None:
            return 0.0
        scaled = setting.precision * setting.noise
        return float(setting.noise) * self.curvature.gain(self._gradient, scaled)

    @property
    def theta(self) -> Tensor:
        """The weights at the mode, (P,), in the order of `curvature.weights.names`.

        They are the network's weights θ*, or the mode of the linear model with
        `Laplace(mode="linearised")` and `Laplace(mode="tangent")`.
        """
        linear = self._fitted.linear
        return self.curvature.weights.theta.double() if linear is None else linear.mode

    @property
    def prior_precision(self) -> Tensor:
        """Prior precision α: (), or (L,) for each layer, or (P,) for each parameter."""
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
        """Names of the modules in the order of a `prior_precision` for each layer."""
        return [leaf.name for leaf in self.curvature.weights.leaves]

    @property
    def at_bound(self) -> Tensor:
        """Whether each group's precision lies on the edge of the searched range, (G,).

        Where the noise variance was learnt, it is the last of (G + 1,) entries.
        """
        return self._fitted.setting.at_bound

    @property
    def noise(self) -> Tensor:
        """Noise variance σ² of a Gaussian likelihood, ().

        Raises:
            AttributeError: the likelihood has no noise variance.
        """
        if self.likelihood.log_noise is None:
            raise AttributeError(f"a {self.likelihood.name} likelihood has no noise")
        return self._fitted.setting.noise

    def _axis_inputs(self) -> Any:
        return self._fitted.x

    def _named(self) -> Hyperparameters:
        values: dict[str, float | Tensor] = {}
        each = self.prior_precision.detach().reshape(-1)
        edge = self.at_bound.reshape(-1)
        bound = {"prior_precision": bool(edge.any())}
        if len(each) == 1:
            values["prior_precision"] = float(each)
        elif self._fitted.structure == "layer":
            names = [f"prior_precision of {name or 'net'}" for name in self.layers]
            values = dict(zip(names, each.tolist(), strict=True))
            bound = dict.fromkeys(names, bool(edge.any()))
            if len(edge) >= len(names):
                bound = dict(zip(names, edge[: len(names)].tolist(), strict=True))
        else:
            values["prior_precision"] = each
        units = dict.fromkeys(values, "inverse variance")
        if self.likelihood.log_noise is not None:
            values["noise"], units["noise"] = float(self.noise), UNITS[VARIANCE]
        return Hyperparameters(values, units, bound)

    # ------------------------------------------------------------------ predictions

    @_undisturbed
    def mean(self, x_new: Any) -> Tensor:
        """Outputs at the mode, (m,) or (m, C) according to the targets; (m, C) for labels.

        They are the outputs of the network at θ*, or of the linear model with
        `Laplace(mode="linearised")` and `Laplace(mode="tangent")`.
        """
        return self._shaped(self._outputs(self._new(x_new)))

    @_undisturbed
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

        Methods "mc" and "probit" use the linearised network, f ~ N(f(x*), J*ΣJ*ᵀ). "mc" averages
        the likelihood over f by draws (by quadrature for one latent value, in closed form for a
        Gaussian). "probit" is the approximation σ(f/√(1 + πv/8)). "weights" averages the network
        itself over draws of its weights. It underfits, because the Gaussian is the posterior of the
        linearised network (Immer et al. 2021, "Improving predictions").

        Args:
            x_new: new inputs, (m, …), on the network's device; converted to the curvature's dtype.
            latent: True gives the marginals of the linearised outputs as a Normal.
            method: "mc", "probit" (labels only) or "weights".
            samples: number of draws for "mc" with classes and for "weights".
            seed: seed of the draws.

        Raises:
            ValueError: the method is unknown; the curvature has no eigenvectors to draw from; the
                method is "weights" and the model is a linear one, whose weights are not weights for
                the network.

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
        own = self.likelihood.drawing(f.shape[-1], samples, checks.seed(seed))
        if own.coupled:
            return own.predictive(f, covariance)
        return own.predictive(self._shaped(f), self._shaped(variance))

    def _by_weights(self, x_new: Tensor, samples: int, seed: int) -> Distribution:
        draws = self.network_samples(x_new, samples, seed=seed)
        return self.likelihood.averaged(torch.stack([self._shaped(draw) for draw in draws]))

    # ------------------------------------------------------------------ draws

    @_undisturbed
    def sample_weights(self, count: int, *, seed: int = 0) -> Tensor:
        """Draws of the weights θ, (count, P), in the order of `curvature.weights.names`.

        They are the linear model's weights where the model is a linear one.

        Args:
            count: number of draws, at least 1.
            seed: seed of the draws, which are made on the CPU.

        Raises:
            ValueError: the curvature has no eigenvectors to draw from.
        """
        generator = torch.Generator().manual_seed(checks.seed(seed))
        setting, theta = self._fitted.setting, self.curvature.weights.theta
        around = self.curvature.draw(
            checks.whole("count", count), setting.precision * setting.noise, generator
        )
        linear = self._fitted.linear
        centre = theta if linear is None else linear.mode.to(theta)
        return centre + setting.noise.sqrt().to(around) * around

    def network_samples(self, x: Any, count: int, *, seed: int = 0) -> Any:
        """Outputs of networks whose weights are drawn from the posterior, (m, C) each, float64.

        Args:
            x: inputs, (m, …).
            count: number of networks.
            seed: seed of the draws.

        Raises:
            ValueError: the model is a linear one, whose weights are not weights for the network.
        """
        weights = self.curvature.weights
        if self._fitted.linear is not None:
            raise ValueError(
                "the posterior is of the network's linearisation, whose weights are not weights "
                'for the network; use predict(method="mc") or latent_samples'
            )
        x, count, seed = self._new(x), checks.whole("count", count), checks.seed(seed)
        for start in range(0, count, _DRAWS):
            some = self.sample_weights(min(_DRAWS, count - start), seed=seed + start)
            for theta in some:
                with undisturbed(weights.net):
                    f = weights.outputs_at(theta, x).double()
                yield f

    @_undisturbed
    def latent_samples(self, count: int, *, task: int = 0, seed: int = 0) -> Tensor:
        """Draws of the linearised network's outputs; see `Posterior.latent_samples`."""
        x, weights = self._kept(), self.curvature.weights
        count, seed, found = checks.whole("count", count), checks.seed(seed), []
        for start in range(0, count, _DRAWS):
            some = self.sample_weights(min(_DRAWS, count - start), seed=seed + start)
            found += [self._linear.outputs(weights, x, each).double() for each in some]
        return torch.stack(found)

    def observe(self, f: Tensor, *, task: int = 0) -> Distribution:
        """Distribution of targets given f; see `Posterior.observe`."""
        return self.likelihood.observe(f)

    def log_likelihood(self, f: Tensor, *, task: int = 0) -> Tensor:
        """Log likelihood of each row given f; see `Posterior.log_likelihood`."""
        return self.likelihood.log_density(self.observed.y[0].to(f), f)

    @_undisturbed
    def marginals(self, task: int = 0) -> tuple[Tensor, Tensor]:
        """Marginals of the linearised network's outputs; see `Posterior.marginals`."""
        x = self._kept()
        covariance = self._covariance(x)
        if not self.likelihood.coupled:
            covariance = covariance.diagonal(dim1=-2, dim2=-1)
        return self._fitted.f.double(), covariance

    # ------------------------------------------------------------------ inside

    def _kept(self) -> Any:
        if self._fitted.x is None:
            raise ValueError(
                "the training inputs are not available, because the loader was read in passes"
            )
        return self._fitted.x

    def _new(self, x_new: Any) -> Any:
        x_new = inputs("x_new", x_new, self.curvature.weights)
        self.curvature.weights.first_outputs(x_new)  # explains a failure
        return x_new

    def _outputs(self, x: Any) -> Tensor:
        weights, linear = self.curvature.weights, self._fitted.linear
        if linear is None:
            return weights.outputs(x, 256)
        return linear.outputs(weights, x, linear.mode.to(weights.theta))

    @property
    def _linear(self) -> Linear:
        """The linear model whose outputs have the Gaussian posterior."""
        return self._fitted.linear or Linear(self.curvature.weights.theta, True)

    def _covariance(self, x: Any) -> Tensor:
        """Posterior covariance σ²J*(H + σ²α)⁻¹J*ᵀ of the outputs, (m, C, C)."""
        setting = self._fitted.setting
        found = setting.noise * self.curvature.covariance(x, setting.precision * setting.noise)
        if not bool(torch.isfinite(found).all()):
            raise ValueError(
                "net must have finite derivatives, but some are not finite at these inputs; a norm "
                "or a square root has none at zero"
            )
        return found

    def _shaped(self, values: Tensor) -> Tensor:
        """Values (m, C) in the layout of the targets."""
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
                f"{guess:.2f} nats per observation"
            )
        return text + ")"
