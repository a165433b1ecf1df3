"""log p(D) by annealing weights between prior and posterior, in both directions."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import pandas as pd
import torch
from torch import Tensor, nn

from bayesgen._internal import checks
from bayesgen._internal.progress import Progress
from bayesgen._internal.progress_bar import reporting
from bayesgen._internal.user_warning import warn
from bayesgen._internal.words import plural
from bayesgen.errors import NotMixedWarning
from bayesgen.likelihoods.likelihood import Likelihood
from bayesgen.sampling import estimates
from bayesgen.sampling.estimates import EvidenceInterval
from bayesgen.sampling.hmc import Kernel, pilot, prior_draws, transition
from bayesgen.sampling.ladder import index_of, ladder
from bayesgen.sampling.target import ChainStates, Target, target_of

# Values beyond which the run warns: R-hat of the chains, and the mean acceptance of some rungs.
_RHAT, _ACCEPTANCE = 1.1, 0.4
# Number of neighbouring rungs whose mean acceptance is judged.
_WINDOW = 10
# Share of the transitions at one inverse temperature that is discarded before averages.
_BURN_IN = 0.3
# Relative excess over a stated maximum that is taken as rounding.
_ROUNDING = 1e-9


@dataclass(frozen=True, eq=False, repr=False)
class Annealed:
    """Result of `bayesgen.anneal`: log p(D) in nats with an interval, and how it was sampled.

    Attributes:
        log_evidence: estimate of log p(D) from both directions (Bennett's acceptance ratio).
        error: its standard error, a jackknife over chains.
        interval: interval of log p(D) at the stated confidence, the intersection of `importance`
            and `thermodynamic`. Its upper end presumes that the chains at β = 1 are distributed as
            the posterior. Where the two contradict each other, it is the gap between them, with a
            `NotMixedWarning`.
        importance: interval from the mean weights and Markov's inequality.
        thermodynamic: interval from the mean log weights, with Student's quantiles.
        confidence: nominal probability that both ends of `interval` hold.
        wbic: E_β[−log p(D | θ)] at β = 1/log n, an estimate of −log p(D).
        wbic_error: its standard error.
        learning_coefficient: λ̂ = β (WBIC − smallest −log p(D | θ)) at β = 1/log n.
        learning_coefficient_error: its standard error, for a fixed smallest loss.
        path: one row for each inverse temperature β: mean log likelihood of the forward and of the
            backward chains, and the mean acceptance.
        acceptance: mean acceptance probability over the path.
        rhat: the largest R-hat of log likelihood and log prior over the chains at β = 1 and at
            β = 1/log n.
        ess: the smallest effective sample size of these quantities.
        weight_ess: effective number of chains of the forward and of the backward weights.
        fit: E[log p(D | θ)] over the chains at β = 1; `log_evidence` − fit is −KL(posterior‖prior).
        draws: weights of the chains at β = 1, (chains, P), float64.
        n: number of observations.
        name: description of the model.
    """

    log_evidence: float
    error: float
    interval: EvidenceInterval
    importance: EvidenceInterval
    thermodynamic: EvidenceInterval
    confidence: float
    wbic: float
    wbic_error: float
    learning_coefficient: float
    learning_coefficient_error: float
    path: pd.DataFrame
    acceptance: float
    rhat: float
    ess: float
    weight_ess: tuple[float, float]
    fit: float
    draws: Tensor
    n: int
    name: str
    _target: Target

    @property
    def complexity(self) -> float:
        """KL divergence of the posterior from the prior in nats, fit − log p(D)."""
        return self.fit - self.log_evidence

    @property
    def mixed(self) -> bool:
        """Whether R-hat is at most 1.1 and the acceptance at least 0.4 all along the path."""
        return self.rhat <= _RHAT and float(_smoothed(self.path).min()) >= _ACCEPTANCE

    def outputs(self, x_new: Any) -> Tensor:
        """Outputs of a network at the draws from its posterior, (chains, m, C).

        Args:
            x_new: new inputs, (m, …).

        Raises:
            ValueError: the model is not a network.
        """
        if self._target.outputs is None:
            raise ValueError(f"outputs are those of a network, but the model is a {self.name}")
        return self._target.outputs(self.draws, x_new)

    def predict(self, x_new: Any) -> Tensor:
        """Probabilities of the classes for new inputs, averaged over the draws, (m, C).

        Args:
            x_new: new inputs, (m, …).

        Raises:
            ValueError: the model is not a network with a categorical likelihood.
        """
        own: Likelihood | None = self._target.likelihood
        if self._target.outputs is None or own is None or not own.coupled:
            raise ValueError(
                f"predict needs a network with a categorical likelihood, got a {self.name}"
            )
        return self.outputs(x_new).softmax(-1).mean(0)

    def __repr__(self) -> str:
        low, high = self.interval
        text = (
            f"Annealed(log p(D) = {self.log_evidence:.6g} ± {self.error:.2g} nats, between "
            f"{low:.6g} and {high:.6g} at confidence {self.confidence:g}, n = {self.n}; WBIC "
            f"{self.wbic:.6g} ± {self.wbic_error:.2g}, learning coefficient "
            f"{self.learning_coefficient:.4g} ± {self.learning_coefficient_error:.2g}; "
            f"{self.name}, "
            f"{len(self.draws)} chains, {plural(len(self.path) - 1, 'step')} in β, acceptance "
            f"{self.acceptance:.2f}, R-hat {self.rhat:.3f}, effective sample size {self.ess:.0f}"
        )
        return text + (")" if self.mixed else "; the chains have not mixed)")


def anneal(
    model: Any,
    x: Any = None,
    y: Any = None,
    likelihood: str | Likelihood = "categorical",
    prior_precision: Any = 1.0,
    *,
    prior_mean: nn.Module | None = None,
    noise: Any = None,
    dimension: int | None = None,
    n: int | None = None,
    maximum: float | None = None,
    chains: int = 32,
    rungs: int = 500,
    settle: int = 100,
    leaps: int = 8,
    confidence: float = 0.95,
    seed: int = 0,
    progress: Progress | bool | None = None,
) -> Annealed:
    """Estimate log p(D) by annealing weights from prior to posterior and back.

    Chains of Hamiltonian Monte Carlo follow the distributions p(θ) p(D | θ)^β from β = 0 to β = 1.
    Each chain has the log weight Σ (β_{t+1} − β_t) log p(D | θ_t). For chains that begin with draws
    from the prior, E[w] = p(D) exactly, because each transition leaves its distribution invariant;
    the chains need not mix. This gives the lower end of the interval. The same path from β = 1 to β
    = 0 gives the upper end: E[1/w] = 1/p(D) where the chains begin with exact draws from the
    posterior. These exist for data that were simulated from the model. For other data the forward
    chains are continued at β = 1 and taken as such draws, so that **the upper end presumes that the
    chains at β = 1 are distributed as the posterior**. A posterior with modes that no chain has
    found makes it too low. `rhat` and a gap between the two directions show some of such failures,
    and not all of them.

    The mean log weights are also the Riemann sums of thermodynamic integration from the left and
    from the right. `interval` is the intersection of both constructions, and each of the four
    one-sided bounds has a quarter of the probability of failure, 1 − confidence.

    Step sizes, scales and the inverse temperatures are chosen in a pilot run with chains of its
    own, and do not change afterwards, as the exactness of the weights demands. All computations are
    in float64. The network and all random generators are left as they are.

    Args:
        model: a network; a `bayesgen.LinearModel`, which is fitted to x and y, or its posterior of
            one task, at its hyperparameters; or a function from weights (B, P), float64, to
            log p(D | θ), (B,). The prior of a network's weights is N(θ₀, diag(α)⁻¹), as in
            `bayesgen.Laplace`.
        x: inputs of a network (n, …) or of a linear model; else None.
        y: targets, as in `bayesgen.Laplace.fit`.
        likelihood: likelihood of a network's outputs: "categorical", "bernoulli", "poisson",
            "gaussian", or a `bayesgen.likelihoods.Likelihood`.
        prior_precision: prior precision α > 0 of a network or a function: a number, or of shape
            (P,) or, for a network, (L,), one for each module that has parameters of its own.
        prior_mean: network with the prior mean θ₀; None for zero. With a trained network as its own
            prior mean, `learning_coefficient` is the local one, with the prior precision as the
            strength of the localisation.
        noise: noise variance σ² of a network with a Gaussian likelihood.
        dimension, n: number of weights P and of observations, for a function.
        maximum: the largest value of log p(D | θ) where it is known; None takes the largest value
            that the chains or the given weights of the network attain, which makes the estimate of
            the learning coefficient too small where they stay away from the maximum.
        chains: number of chains, at least 4.
        rungs: number of steps in β of each direction. The gap of the interval is about proportional
            to 1/rungs.
        settle: number of transitions at β = 1/log n and at β = 1, for averages and diagnostics.
        leaps: largest number of leapfrog steps of a transition.
        confidence: nominal probability that both ends of the interval hold.
        seed: seed of all random numbers.
        progress: called as progress(done, expected, what); True shows a progress bar.

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range; the log likelihood
            is not finite at draws from the prior; it exceeds `maximum` somewhere.
        NotConvergedError: the pilot run does not reach β = 1.

    Warns:
        NotMixedWarning: R-hat exceeds 1.1; the mean acceptance is below 0.4 somewhere on the path;
            the two directions contradict each other.

    Source: Neal (2001); Grosse, Ancha & Roy (2016) for the two directions; Watanabe (2013) for
        WBIC; Lau et al. (2023) for the local learning coefficient.

    Example:
        >>> import bayesgen as bg
        >>> x = torch.linspace(-1, 1, 20, dtype=torch.float64)
        >>> fitted = bg.Polynomial(2, noise=0.1, hyperparameters="fixed").fit(x, x**2)
        >>> found = anneal(fitted, rungs=50)
        >>> found.interval.contains(float(fitted.evidence.log_marginal_likelihood))
        True
    """
    sizes = _Sizes(
        checks.whole("chains", chains, 4),
        checks.whole("rungs", rungs, 2),
        checks.whole("settle", settle, 10),
        checks.whole("leaps", leaps),
    )
    seed, confidence = checks.seed(seed), checks.share("confidence", confidence)
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, got {confidence}")
    if maximum is not None:
        maximum = checks.number("maximum", maximum)
    with torch.inference_mode(False):
        target = target_of(
            model,
            x,
            y,
            likelihood=likelihood,
            prior_precision=prior_precision,
            prior_mean=prior_mean,
            noise=noise,
            dimension=dimension,
            n=n,
        )
        if target.n < 3:
            raise ValueError(
                f"the data must have at least 3 observations for β = 1/log n < 1, got {target.n}"
            )
        with reporting(progress) as report:
            return _Run(target, sizes, seed, report, maximum).result(confidence)


def _rhat(rhat: Callable[[Any], Any], chains: Any) -> float:
    """R-hat of chains (B, draws): 1 where all are the same constant, infinite where they differ."""
    if (chains == chains[:, :1]).all():
        return 1.0 if (chains == chains[0, 0]).all() else math.inf
    return float(rhat(chains))


def _smoothed(path: pd.DataFrame) -> pd.Series:
    """Mean acceptance of neighbouring rungs, since that of one is noisy."""
    return path.acceptance.rolling(min(_WINDOW, len(path)), center=True).mean().dropna()


class _Sizes(NamedTuple):
    """Numbers of chains, steps in β, transitions at one β, and leapfrog steps."""

    chains: int
    rungs: int
    settle: int
    leaps: int


class _Trace(NamedTuple):
    """Log likelihood and log prior of the chains at one inverse temperature, (draws, B) each."""

    value: Tensor
    log_prior: Tensor

    def diagnostics(self) -> tuple[float, float]:
        """The largest R-hat, and the smallest effective sample size."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # arviz 0.23 announces its successor at import
            import arviz

        every = [series.T.numpy() for series in self]
        rhat = max(_rhat(arviz.rhat, each) for each in every)
        return rhat, min(float(arviz.ess(each)) for each in every)

    def mean(self) -> tuple[float, float]:
        """Mean log likelihood, and its standard error over chains."""
        each = self.value.mean(0)
        return float(each.mean()), float(each.std()) / math.sqrt(len(each))


class _Run:
    """A pilot run, the forward and the backward path, and what was found on them."""

    def __init__(
        self,
        target: Target,
        sizes: _Sizes,
        seed: int,
        progress: Progress | None,
        maximum: float | None,
    ) -> None:
        self.target, self.sizes, self.progress = target, sizes, progress
        self.maximum = maximum
        self.generator = torch.Generator().manual_seed(seed)
        self.done, self.expected = 0, 2 * sizes.rungs + 2 * sizes.settle
        stages = pilot(target, sizes.chains, 6, sizes.leaps, self.generator, self._piloted)
        self.marked = 1 / math.log(target.n)
        self.kernels = ladder(stages, sizes.rungs, self.marked)
        self.best = -math.inf
        if target.start is not None:
            own = (target.start - target.centre)[None] * target.precision.sqrt()
            self._attained(float(target.at(own).value))
        self._forward()
        self._backward()

    def _piloted(self, beta: float) -> None:
        if self.progress is not None:
            self.progress(0, self.expected, f"pilot run, β = {beta:.2g}")

    def _attained(self, value: float) -> None:
        """Note a log likelihood that was attained, which must not exceed the stated maximum."""
        self.best = max(self.best, value)
        stated = self.maximum
        if stated is not None and value > stated + _ROUNDING * (1 + abs(value)):
            raise ValueError(
                "maximum must be the largest log likelihood, but the chains or the given weights "
                f"attain {value:.6g}, got {stated:.6g}"
            )

    def _moved(self, point: ChainStates, kernel: Kernel, what: str) -> tuple[ChainStates, float]:
        move = transition(self.target, point, kernel, self.sizes.leaps, self.generator)
        self._attained(float(move.point.value.max()))
        self.done += 1
        if self.progress is not None:
            self.progress(self.done, self.expected, f"{what}, β = {kernel.beta:.2g}")
        return move.point, float(move.acceptance.mean())

    def _settled(self, point: ChainStates, kernel: Kernel) -> tuple[ChainStates, _Trace]:
        values, priors = [], []
        for _ in range(self.sizes.settle):
            point, _rate = self._moved(point, kernel, "sampling")
            values.append(point.value)
            priors.append(-0.5 * point.z.square().sum(1))
        first = int(_BURN_IN * len(values))
        return point, _Trace(torch.stack(values[first:]), torch.stack(priors[first:]))

    def _forward(self) -> None:
        point = prior_draws(self.target, self.sizes.chains, self.generator)
        self.weights = torch.zeros_like(point.value)
        self.means, self.rates = [float(point.value.mean())], [1.0]
        marked = index_of(self.kernels, self.marked)
        for t in range(1, len(self.kernels)):
            kernel = self.kernels[t]
            self.weights += (kernel.beta - self.kernels[t - 1].beta) * point.value
            point, rate = self._moved(point, kernel, "forward")
            self.means.append(float(point.value.mean()))
            self.rates.append(rate)
            if t == marked:
                self.tempered = self._settled(point, kernel)[1]
        self.point, self.posterior = self._settled(point, self.kernels[-1])

    def _backward(self) -> None:
        point = self.point
        self.back = torch.zeros_like(point.value)
        self.back_means = [float(point.value.mean())]
        for t in range(len(self.kernels) - 2, -1, -1):
            kernel = self.kernels[t]
            self.back += (self.kernels[t + 1].beta - kernel.beta) * point.value
            if t > 0:
                point, rate = self._moved(point, kernel, "backward")
                self.rates[t] = 0.5 * (self.rates[t] + rate)
                self.back_means.append(float(point.value.mean()))
        self.back_means.append(math.nan)  # no chain returns to β = 0
        self.back_means.reverse()

    def result(self, confidence: float) -> Annealed:
        """The result, with warnings where the chains have not mixed."""
        failure = (1 - confidence) / 4
        importance = estimates.importance(self.weights, self.back, failure)
        thermodynamic = estimates.thermodynamic(self.weights, self.back, failure)
        low = max(importance.lower, thermodynamic.lower)
        high = min(importance.upper, thermodynamic.upper)
        value, error = estimates.bridge(self.weights, self.back)
        diagnostics = [trace.diagnostics() for trace in (self.tempered, self.posterior)]
        tempered, tempered_error = self.tempered.mean()
        top = self.best if self.maximum is None else self.maximum
        found = Annealed(
            value,
            error,
            EvidenceInterval(min(low, high), max(low, high)),
            importance,
            thermodynamic,
            confidence,
            -tempered,
            tempered_error,
            self.marked * (top - tempered),
            self.marked * tempered_error,
            pd.DataFrame(
                {
                    "forward": self.means,
                    "backward": self.back_means,
                    "acceptance": self.rates,
                },
                index=pd.Index([kernel.beta for kernel in self.kernels], name="beta"),
            ),
            float(sum(self.rates[1:]) / (len(self.rates) - 1)),
            max(rhat for rhat, _ in diagnostics),
            min(ess for _, ess in diagnostics),
            (
                estimates.effective_sample_size(self.weights),
                estimates.effective_sample_size(-self.back),
            ),
            self.posterior.mean()[0],
            self.target.weights(self.point.z),
            self.target.n,
            self.target.name,
            self.target,
        )
        self._warn(found, crossed=low > high)
        return found

    def _warn(self, found: Annealed, *, crossed: bool) -> None:
        reasons = []
        if found.rhat > _RHAT:
            reasons.append(f"R-hat is {found.rhat:.2f}, above {_RHAT}")
        rates = _smoothed(found.path)
        if rates.min() < _ACCEPTANCE:
            reasons.append(
                f"the acceptance is {rates.min():.2f} near β = {rates.idxmin():.2g}, below "
                f"{_ACCEPTANCE}"
            )
        if crossed:
            reasons.append("the bounds of the two directions contradict each other")
        if reasons:
            warn(
                f"the chains have not mixed: {'; '.join(reasons)}; the upper end of the interval "
                "is not reliable; take more settle= or leaps=",
                NotMixedWarning,
            )
