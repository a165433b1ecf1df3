"""The distribution that is annealed: a normal prior of weights, and a log likelihood of them."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import vmap

from bayesgen import verify
from bayesgen._internal import checks
from bayesgen.curvature.parameters import Weights
from bayesgen.data.columns import is_table
from bayesgen.likelihoods import Gaussian
from bayesgen.likelihoods.likelihood import Likelihood, resolve
from bayesgen.models.linear.model import LinearModel
from bayesgen.models.linear.posterior import LinearPosterior
from bayesgen.models.network.data import inputs as network_inputs, read
from bayesgen.models.standardised import StandardisedPosterior
from bayesgen.networks.admission import first_outputs, undisturbed
from bayesgen.networks.copies import plain

# Numbers of outputs of networks at all observations that one pass computes at most.
_ENTRIES = 2**24
# Number of observations at which batched outputs are compared with those of one network.
_COMPARED = 16


class ChainStates(NamedTuple):
    """Log likelihoods of several weights, and their gradients.

    Attributes:
        z: whitened weights, (B, P).
        value: log p(D | θ), (B,); −∞ where it is not a number.
        slope: its gradient in z, (B, P).
    """

    z: Tensor
    value: Tensor
    slope: Tensor

    def where(self, keep: Tensor, other: ChainStates) -> ChainStates:
        """This point in the chains where `keep` is true, and the other elsewhere."""
        wide = keep[:, None]
        return ChainStates(
            torch.where(wide, self.z, other.z),
            torch.where(keep, self.value, other.value),
            torch.where(wide, self.slope, other.slope),
        )


@dataclass(frozen=True)
class Target:
    """The posterior of weights θ with the prior N(θ₀, diag(α)⁻¹), in whitened weights z.

    The whitened weights are z = √α (θ − θ₀), so that their prior is N(0, I).

    Attributes:
        name: what the model is, for printed results.
        n: number of observations.
        precision: prior precisions α, (P,).
        centre: prior mean θ₀, (P,).
        log_likelihood: function from weights (B, P) to log p(D | θ), (B,), differentiable.
        start: weights of a network as they were given, (P,), or None.
        likelihood: the likelihood of a network, or None.
        outputs: function from weights (B, P) and new inputs to outputs (B, m, C), or None.
    """

    name: str
    n: int
    precision: Tensor
    centre: Tensor
    log_likelihood: Callable[[Tensor], Tensor]
    start: Tensor | None = None
    likelihood: Likelihood | None = None
    outputs: Callable[[Tensor, Any], Tensor] | None = None

    @property
    def dimension(self) -> int:
        """Number of weights, P."""
        return len(self.precision)

    def weights(self, z: Tensor) -> Tensor:
        """Weights θ of whitened ones, (B, P)."""
        return self.centre + z * self.precision.rsqrt()

    def at(self, z: Tensor) -> ChainStates:
        """The log likelihood and its gradient at whitened weights, (B, P)."""
        with torch.enable_grad():
            own = z.detach().requires_grad_()
            value = self.log_likelihood(self.weights(own))
            (slope,) = torch.autograd.grad(value.sum(), own)
        value = value.detach()
        good = value.isfinite() & slope.isfinite().all(1)
        value = torch.where(good, value, torch.full_like(value, -math.inf))
        return ChainStates(
            z.detach(), value, torch.where(good[:, None], slope, torch.zeros_like(slope))
        )


def network(
    net: nn.Module,
    x: Any,
    y: Any,
    likelihood: str | Likelihood,
    prior_precision: Any,
    prior_mean: nn.Module | None,
    noise: Any,
) -> Target:
    """The posterior of the weights of a network, in float64, with the prior of `bayesgen.Laplace`.

    Args:
        net: module from inputs (n, …) to outputs (n, C); it is copied.
        x: inputs, (n, …).
        y: targets, as in `bayesgen.Laplace.fit`.
        likelihood: likelihood of the outputs, or its name.
        prior_precision: α > 0, a number, or of shape (L,) or (P,).
        prior_mean: network with the prior mean of the weights; None for zero.
        noise: noise variance of a Gaussian likelihood, else None.

    Raises:
        TypeError, ValueError: an argument has the wrong type, shape or value.
    """
    own = stated_likelihood(likelihood, noise)
    if y is None:
        raise TypeError("y must hold the targets of the network, got None")
    if is_table(x):
        x = checks.as_tensor("x", x)
    own, y, _ = own.numbered(y)
    weights = Weights(plain(net), torch.float64)
    alpha = _precisions(prior_precision, weights)
    centre = torch.zeros_like(weights.theta)
    if prior_mean is not None:
        centre = weights.packed(checks.twin("prior_mean", plain(prior_mean, "prior_mean"), net))
    with undisturbed(weights.net):
        data = read(weights, own, x, y, 256, gather=True)
    found, outputs = data.likelihood, NetworkOutputs(weights, data.x)
    with torch.no_grad():
        _check_outputs(data.f, outputs(weights.theta[None], data.x)[0])
    return Target(
        f"{type(plain(net)).__name__}, {found.name} likelihood",
        len(data.f),
        alpha,
        centre,
        NetworkLogLikelihood(outputs, data.x, data.y, found, data.f.numel()),
        weights.theta,
        found,
        outputs.at_new,
    )


class NetworkOutputs:
    """Outputs of a network at several weights.

    All weights are evaluated in one pass by `torch.func.vmap`. Where the network does not run under
    it, such as one with a recurrent layer or a branch on values, or gives other outputs under it,
    the weights are evaluated one by one.

    Args:
        weights: the network and its weights.
        x: inputs (n, …) at which both ways are compared, at their first use.
    """

    def __init__(self, weights: Weights, x: Any) -> None:
        self.weights, self._x = weights, x[:_COMPARED]
        self._together: bool | None = None

    def __call__(self, theta: Tensor, rows: Any) -> Tensor:
        """Outputs (B, m, C) at weights (B, P) and inputs (m, …)."""
        if len(theta) == 1:
            return self._one_by_one(theta, rows)
        if self._together is None:
            self._together = self._agrees()
        return (self._batched if self._together else self._one_by_one)(theta, rows)

    def at_new(self, theta: Tensor, x_new: Any) -> Tensor:
        """Outputs (B, m, C) at weights (B, P) and new inputs of the caller, which are checked."""
        with torch.no_grad(), undisturbed(self.weights.net):
            rows = network_inputs("x_new", x_new, self.weights)
            first_outputs(self.weights.net, rows)
            return self(theta, rows)

    def _one(self, theta: Tensor, rows: Any) -> Tensor:
        return self.weights.evaluate(rows, self.weights.unpacked(theta))

    def _one_by_one(self, theta: Tensor, rows: Any) -> Tensor:
        return torch.stack([self._one(each, rows) for each in theta])

    def _batched(self, theta: Tensor, rows: Any) -> Tensor:
        with warnings.catch_warnings():  # a layer without a batched form is evaluated by a loop
            warnings.filterwarnings("ignore", "There is a performance drop")
            return vmap(lambda each: self._one(each, rows), randomness="error")(theta)

    def _agrees(self) -> bool:
        """Whether outputs for several weights together are those for each alone."""
        theta = self.weights.theta
        size = 0.1 * (float(theta.square().mean().sqrt()) or 1.0)
        drawn = size * verify.random_vector(len(theta), theta).reshape(-1)
        both = torch.stack([theta, theta + drawn]).detach()
        with torch.no_grad():
            alone = self._one_by_one(both, self._x)
            try:
                together = self._batched(both, self._x)
            except Exception:
                return False
        slack = 1e-8 * float(alone.abs().max())
        return torch.allclose(alone, together, rtol=1e-6, atol=slack, equal_nan=True)


@dataclass(frozen=True)
class NetworkLogLikelihood:
    """log p(D | θ) of a network, a function from weights (B, P) to (B,).

    Attributes:
        outputs: outputs of the network at several weights.
        x: inputs, (n, …).
        y: targets in the likelihood's inner form.
        likelihood: likelihood of the outputs.
        entries: number of outputs at all observations, n·C.
    """

    outputs: NetworkOutputs
    x: Any
    y: Tensor
    likelihood: Likelihood
    entries: int

    def __call__(self, theta: Tensor) -> Tensor:
        """The log likelihoods, in passes of a limited number of outputs."""
        parts = theta.split(max(1, _ENTRIES // max(1, self.entries)))
        found = [self.likelihood.log_density(self.y, self.outputs(p, self.x)) for p in parts]
        return torch.cat([each.sum(-1) for each in found])


@dataclass(frozen=True)
class LinearLogLikelihood:
    """log p(D | θ) of a linear model under Gaussian noise, from weights (B, P) to (B,).

    Attributes:
        features: Φ, (n, d).
        y: targets, (n, C).
        likelihood: the Gaussian likelihood.
    """

    features: Tensor
    y: Tensor
    likelihood: Likelihood

    def __call__(self, theta: Tensor) -> Tensor:
        """The log likelihoods of weights whose entries are ordered by feature, then by output."""
        means = self.features @ theta.reshape(len(theta), -1, self.y.shape[1])
        return self.likelihood.log_density(self.y, means).sum(-1)


def linear(posterior: LinearPosterior) -> Target:
    """The posterior of the weights of a linear model at its hyperparameters.

    Features whose prior variance is zero are left out.

    Args:
        posterior: a fitted linear model of one task.

    Raises:
        ValueError: it holds a batch of tasks.
    """
    if posterior.observed.batched:
        raise ValueError(
            f"model must be of one task, got a posterior of {len(posterior.observed.y)} tasks; "
            "choose one, e.g. posterior.task(0)"
        )
    y, variance = posterior.observed.y[0].double(), posterior.prior_variance.double()
    kept = variance > 0
    Phi = posterior.features(posterior._gram.x).double()[:, kept]
    C = y.shape[1]
    own = Gaussian(posterior.noise.double())
    alpha = (1 / variance[kept])[:, None].expand(-1, C).reshape(-1)

    return Target(
        "linear model, Gaussian noise",
        len(y),
        alpha,
        torch.zeros_like(alpha),
        LinearLogLikelihood(Phi, y, own),
        likelihood=own,
    )


def stated(
    log_likelihood: Callable[[Tensor], Tensor], dimension: Any, n: Any, prior_precision: Any
) -> Target:
    """The posterior of a log likelihood that is a function of the weights.

    Args:
        log_likelihood: function from weights (B, P), float64, to log p(D | θ), (B,).
        dimension: P.
        n: number of observations.
        prior_precision: α > 0, a number or (P,).

    Raises:
        TypeError, ValueError: an argument is missing or invalid; the function returns something
            else than (B,) finite numbers at draws from the prior, or has no gradient.
    """
    if dimension is None or n is None:
        raise TypeError(
            "dimension and n must be given with a log likelihood that is a function of the "
            f"weights, got dimension={dimension!r} and n={n!r}"
        )
    P, n = checks.whole("dimension", dimension), checks.whole("n", n, 2)
    alpha = checks.positive("prior_precision", prior_precision).double().reshape(-1)
    if len(alpha) not in (1, P):
        raise ValueError(
            f"prior_precision must be a number or of shape ({P},), got {tuple(alpha.shape)}"
        )
    alpha = alpha.expand(P).clone()
    trial = torch.zeros(3, P, dtype=torch.float64, requires_grad=True)
    with torch.enable_grad():
        value = log_likelihood(trial)
    if not isinstance(value, Tensor) or value.dtype != torch.float64:
        got = value.dtype if isinstance(value, Tensor) else type(value).__name__
        raise TypeError(f"model must return a float64 tensor of log likelihoods, got {got}")
    if value.shape != (3,):
        raise ValueError(
            f"model must map weights (B, {P}) to log likelihoods (B,), got {tuple(value.shape)} "
            "for B = 3"
        )
    drawn = verify.random_vector(3 * P, trial.detach()).reshape(3, P) / alpha.sqrt()
    with torch.no_grad():
        together = log_likelihood(drawn)
        alone = torch.cat([log_likelihood(row[None]) for row in drawn])
    if not torch.allclose(together, alone, rtol=1e-6, atol=1e-9, equal_nan=True):
        raise ValueError(
            "model must be a deterministic function of each row of weights, but its values for "
            "several rows together are not those for each row alone"
        )
    if not value.requires_grad:
        raise ValueError("model must be differentiable in the weights, but its value is not")
    return Target("stated log likelihood", n, alpha, torch.zeros_like(alpha), log_likelihood)


def target_of(
    model: Any,
    x: Any,
    y: Any,
    *,
    likelihood: Any,
    prior_precision: Any,
    prior_mean: Any,
    noise: Any,
    dimension: Any,
    n: Any,
) -> Target:
    """The `Target` of any model that `bayesgen.anneal` takes.

    Raises:
        TypeError, ValueError: the model is of another type; an argument does not belong to it.
    """
    net = isinstance(model, nn.Module)
    if not net and (prior_mean, noise) != (None, None):
        raise ValueError("prior_mean and noise must be None where model is not a network")
    if net:
        if (dimension, n) != (None, None):
            raise ValueError("dimension and n must be None where model is a network")
        return network(model, x, y, likelihood, prior_precision, prior_mean, noise)
    if isinstance(model, LinearModel | LinearPosterior):
        check_own_prior(likelihood, prior_precision)
        if (dimension, n) != (None, None):
            raise ValueError("dimension and n must be None where model is a linear model")
    if isinstance(model, LinearModel):
        if x is None or y is None:
            raise TypeError("x and y must be given with a model that is fitted to them")
        model = model.fit(x, y)
        x = y = None
    if isinstance(model, LinearPosterior):
        if x is not None or y is not None:
            raise ValueError("x and y must be None where model is a posterior, which has its own")
        return linear(model)
    if callable(model) and not isinstance(model, type):
        if x is not None or y is not None:
            raise ValueError("x and y must be None where model is a log likelihood of the weights")
        return stated(model, dimension, n, prior_precision)
    raise TypeError(
        "model must be a network, a LinearModel under Gaussian noise or its posterior, or a "
        "function from weights (B, P) to log likelihoods (B,), got "
        f"{type(model).__name__}{hint(model)}"
    )


def hint(model: Any) -> str:
    """What to pass instead of a posterior of standardised data; "" for other models."""
    if not isinstance(model, StandardisedPosterior):
        return ""
    return (
        "; pass its `standardised`, the posterior of the standardised data, whose evidence is in "
        "their units"
    )


def check_own_prior(likelihood: Any, prior_precision: Any) -> None:
    """Check that a model with a likelihood and a prior of its own is given no others.

    Raises:
        ValueError: it is.
    """
    unchanged = isinstance(prior_precision, float) and prior_precision == 1.0
    if likelihood != "categorical" or not unchanged:
        raise ValueError(
            "likelihood and prior_precision are arguments for a network; this model has its own"
        )


def stated_likelihood(likelihood: str | Likelihood, noise: Any) -> Likelihood:
    """The likelihood, whose noise variance must be stated where it is Gaussian.

    Raises:
        ValueError: noise is missing, or is given with another likelihood.
    """
    found = resolve(likelihood)
    if found is None:
        if noise is None:
            raise ValueError("noise must be given (a variance σ² > 0) with a gaussian likelihood")
        return Gaussian(checks.positive_number("noise", noise))
    if noise is not None:
        raise ValueError(f"noise must be None with a {found.name} likelihood object or name")
    return found


def _precisions(given: Any, weights: Weights) -> Tensor:
    """Prior precision of each weight, (P,), from a number, (L,) or (P,)."""
    if isinstance(given, str):
        raise TypeError(
            f"prior_precision must be a number or a tensor, got {given!r}; nothing is learnt here: "
            "pass the prior_precision of a fit of bayesgen.Laplace"
        )
    alpha = checks.positive("prior_precision", given).to(weights.theta).reshape(-1)
    P, L = weights.count, len(weights.leaves)
    if len(alpha) == L:
        alpha = alpha[weights.layers()]
    if len(alpha) not in (1, P):
        raise ValueError(
            f"prior_precision must be a number or of shape ({L},), one a layer, or ({P},), one a "
            f"parameter, got {tuple(alpha.shape)}"
        )
    return alpha.expand(P).clone()


def _check_outputs(f: Tensor, again: Tensor) -> None:
    """Check that outputs at weights that are passed to the network equal the network's own.

    Raises:
        ValueError: they do not.
    """
    if not torch.allclose(f, again, rtol=1e-6, atol=1e-8 * float(f.abs().max())):
        raise ValueError(
            "net must give the same outputs at weights that are passed to it by "
            "torch.func.functional_call, but they differ by "
            f"{float((f - again).abs().max()):.2g}"
        )
