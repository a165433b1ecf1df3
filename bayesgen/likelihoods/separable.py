"""Gaussian, Bernoulli, Poisson and Student-t likelihoods: one latent value per observation."""

from __future__ import annotations

import copy
import math
import weakref
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.distributions import (
    Bernoulli as BernoulliDistribution,
    Distribution,
    Normal,
    Poisson as PoissonDistribution,
    StudentT as StudentTDistribution,
)

from bayesgen._internal import checks
from bayesgen.likelihoods.labels import Classes, read
from bayesgen.likelihoods.likelihood import Likelihood, LikelihoodDerivatives, Separable, named
from bayesgen.likelihoods.mixture import log_expectation

# Counts above this are evaluated by Stirling's series, whose error is below 1e-16 there.
_LARGE = 20.0
# Rates above this are drawn from the normal distribution, which differs by less than 1e-7.
_NORMAL = 1e14


def _probit_scaled(mean: Tensor, variance: Tensor) -> Tensor:
    return mean / (1 + math.pi / 8 * variance).sqrt()


class Gaussian(Separable):
    """Real targets y = f + σ ε with standard normal errors.

    It is for networks. `GaussianProcess` and `LinearModel` are exact under Gaussian noise and do
    not need this object.

    Args:
        noise: noise variance σ².

    Raises:
        ValueError: the noise variance is not positive.

    Example:
        >>> f = torch.zeros(1, 1, 1, dtype=torch.float64)
        >>> Gaussian(1.0).log_density(f, f)
        tensor([[-0.9189]], dtype=torch.float64)
    """

    name = "gaussian"
    density = True
    log_concave = True
    gaussian_noise = True

    def __init__(self, noise: Any = 1.0) -> None:
        self.log_noise: Tensor = checks.positive("noise", noise).log()

    def targets(self, y: Any, like: Tensor) -> Tensor:
        """Check real y, (n,), (n, C) or (B, n, C), and convert it to (B, n, C)."""
        return _real_targets(y, like)

    def element(self, y: Tensor, f: Tensor) -> Tensor:
        """Log density of a normal distribution, element by element."""
        log_noise = self.log_noise.to(f)
        return -0.5 * (math.log(2 * math.pi) + log_noise + (y - f) ** 2 * (-log_noise).exp())

    def observe(self, f: Tensor) -> Distribution:
        """Normal distribution of observations given f."""
        return Normal(f, (0.5 * self.log_noise).exp().to(f))

    def noise_slope(self, y: Tensor, f: Tensor) -> Tensor:
        """Derivative of the summed log density in log σ², ()."""
        squares = (y - f).square().sum()
        return 0.5 * (squares * (-self.log_noise.to(f)).exp() - f.numel())

    def predictive(self, mean: Tensor, covariance: Tensor) -> Distribution:
        """Normal distribution of new observations, with the latent and noise variances added."""
        return Normal(mean, (covariance.clamp(min=0) + self.log_noise.exp().to(mean)).sqrt())


@named("bernoulli")
class Bernoulli(Separable):
    """Labels of two classes with p(y = second class | f) = 1/(1 + e^−f).

    Labels 0 and 1 (or False and True) are these classes in this order. A fit of a process or a
    linear model also takes two other labels, such as {1, 2}, {−1, 1} or strings: the first in
    sorted order becomes 0 and the other 1.

    Args:
        classes: the two labels in order, integers or strings; None takes them from the data.

    Raises:
        ValueError: there are not two different classes.

    Source: Rasmussen & Williams (2006), section 3.4 and eq. 3.15.

    Example:
        >>> likelihood = Bernoulli()
        >>> f = torch.zeros(1, 2, 1, dtype=torch.float64)
        >>> likelihood.log_density(likelihood.targets([0, 1], f[0]), f)
        tensor([[-0.6931, -0.6931]], dtype=torch.float64)
    """

    name = "bernoulli"
    labels = True
    one_output = True
    log_concave = True

    def __init__(self, *, classes: Any = None) -> None:
        self._classes = None if classes is None else self._two(Classes(classes))

    @property
    def classes(self) -> tuple[Any, ...] | None:
        """The two labels in order, or None where the data decide."""
        return None if self._classes is None else self._classes.labels

    def for_targets(self, y: Any) -> Likelihood:
        """A Bernoulli likelihood with the classes of these labels, where none were given."""
        if self._classes is not None:
            return self
        own = copy.copy(self)
        own._classes = self._two(Classes.of(read(y, whole=True)))
        return own

    def _of_numbers(self, count: int) -> Likelihood:
        return Bernoulli()

    def for_outputs(self, outputs: int, shape: torch.Size) -> Likelihood:
        """A Bernoulli likelihood of labels 0 and 1, if no others were given."""
        own = copy.copy(super().for_outputs(outputs, shape))
        assert isinstance(own, Bernoulli)
        own._classes = own._classes or Classes((0, 1))
        return own

    @staticmethod
    def _two(classes: Classes) -> Classes:
        if len(classes) != 2:
            raise ValueError(
                "y must hold labels 0 and 1, or two other classes, for a Bernoulli likelihood, got "
                f"{len(classes)} classes: {classes}; for more classes use softmax"
            )
        return classes

    def targets(self, y: Any, like: Tensor) -> Tensor:
        """Check labels of two classes, (n,) or (B, n), and convert them to 0 and 1, (B, n, 1)."""
        own = self.for_targets(y)
        assert isinstance(own, Bernoulli)
        assert own._classes is not None
        codes = own._classes.encode(read(y, whole=True))
        return self.observations("y", codes.to(like), like)

    def element(self, y: Tensor, f: Tensor) -> Tensor:
        """Log probability of each label, element by element."""
        return torch.nn.functional.logsigmoid((2 * y - 1) * f)

    def derivatives(self, y: Tensor, f: Tensor) -> LikelihoodDerivatives:
        """Value and derivatives in closed form, Rasmussen & Williams (2006), eq. 3.15."""
        p, q = torch.sigmoid(f), torch.sigmoid(-f)
        return LikelihoodDerivatives(
            self.element(y, f), y * q - (1 - y) * p, -p * q, -p * q * (q - p)
        )

    def observe(self, f: Tensor) -> Distribution:
        """Bernoulli distribution of labels given f."""
        return BernoulliDistribution(logits=f, validate_args=False)

    def predictive(self, mean: Tensor, covariance: Tensor) -> Distribution:
        """Bernoulli distribution with the averaged probability E[1/(1 + e^−f)], by quadrature."""
        logsigmoid = torch.nn.functional.logsigmoid
        one = log_expectation(logsigmoid, mean, covariance)
        zero = log_expectation(lambda f: logsigmoid(-f), mean, covariance)
        return BernoulliDistribution(logits=one - zero)

    def probit(self, mean: Tensor, variance: Tensor) -> Distribution:
        """Bernoulli distribution by the probit approximation; see `Likelihood.probit`."""
        return BernoulliDistribution(logits=_probit_scaled(mean, variance))

    def averaged(self, draws: Tensor) -> Distribution:
        """Bernoulli distribution with the probability averaged over the draws."""
        return BernoulliDistribution(probs=draws.sigmoid().mean(0))


@named("poisson")
class Poisson(Separable):
    """Counts with y ~ Poisson(e^f).

    The rate of a normal f has the mean e^{m + v/2}. At points that the data constrain, predictions
    of a process or a linear model correct the normal posterior of f for its skewness (see
    `bayesgen.models.latent.skewness`): where counts are zero, f has no lower limit, v is large, and
    a normal posterior would give large rates a weight that the data exclude. Far from all data f
    returns to its prior, and the mean rate to e^{v/2} of the prior, which is large where the prior
    is wide. `predict(x, latent=True).mean.exp()` is the median of the rate under the normal
    posterior.

    Example:
        >>> likelihood = Poisson()
        >>> f = torch.zeros(1, 1, 1, dtype=torch.float64)
        >>> likelihood.log_density(likelihood.targets([0], f[0]), f)
        tensor([[-1.]], dtype=torch.float64)
    """

    name = "poisson"
    one_output = True
    log_concave = True
    skewed = True
    _last: tuple[weakref.ref[Tensor], _Counts] | None = None

    def __getstate__(self) -> dict[str, Any]:
        """The state without what is kept of the last counts."""
        return {name: value for name, value in self.__dict__.items() if name != "_last"}

    def targets(self, y: Any, like: Tensor) -> Tensor:
        """Check counts 0, 1, 2 …, (n,) or (B, n), and convert them to (B, n, 1)."""
        y = self.observations("y", y, like)
        if (y < 0).any() or (y != y.round()).any():
            raise ValueError(
                "y must hold counts 0, 1, 2 … for a Poisson likelihood, got values from "
                f"{float(y.min()):g} to {float(y.max()):g}"
            )
        return y

    def element(self, y: Tensor, f: Tensor) -> Tensor:
        """Log probability of each count, element by element.

        With d = f − log y it is −y (e^d − 1 − d) + log p(y | rate y), where large terms do not
        cancel.
        """
        own = self._of_counts(y)
        d = f - own.log
        seen = own.at_own_rate - own.value * (torch.expm1(d) - d)
        return seen if own.all_positive else torch.where(own.positive, seen, -f.exp())

    def derivatives(self, y: Tensor, f: Tensor) -> LikelihoodDerivatives:
        """Value and derivatives in closed form; the second and third are both −e^f."""
        own, rate = self._of_counts(y), f.exp()
        first = torch.where(own.positive, -own.value * torch.expm1(f - own.log), -rate)
        return LikelihoodDerivatives(self.element(y, f), first, -rate, -rate)

    def _of_counts(self, y: Tensor) -> _Counts:
        """Functions of the counts alone, kept for the last tensor of counts."""
        if torch._C._functorch.is_batchedtensor(y):  # the values are unknown within vmap
            return _Counts.of(y, known=False)
        last = self._last
        if last is None or last[0]() is not y:
            last = self._last = (weakref.ref(y), _Counts.of(y))
        return last[1]

    def observe(self, f: Tensor) -> Distribution:
        """Poisson distribution of counts given f."""
        return PoissonDistribution(f.exp(), validate_args=False)

    def moments(self, mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
        """Mean e^{m + v/2} and variance of counts, those of a log-normal rate."""
        rate = (mean + 0.5 * variance).exp()
        return rate, rate + rate.square() * torch.expm1(variance)

    def log_raw_moments(self, f: Tensor) -> tuple[Tensor, Tensor]:
        """Logarithms of the first two moments e^f and e^f + e^2f."""
        return f, torch.logaddexp(f, 2 * f)

    def cumulative(self, y: Tensor, f: Tensor) -> Tensor:
        """Probability of at most y events, an incomplete gamma function of the rate."""
        below = torch.special.gammaincc(y.floor().clamp(min=0) + 1, f.exp().clamp(max=1e300))
        return torch.where(y < 0, torch.zeros_like(below), below)

    def draw(self, f: Tensor) -> Tensor:
        """One count for each latent value; that of a large rate is a rounded normal draw."""
        rate = f.exp()
        few = torch.poisson(rate.clamp(max=_NORMAL))
        many = (rate + rate.sqrt() * torch.randn_like(rate)).round()
        return torch.where(rate > _NORMAL, many, few)


class _Counts(NamedTuple):
    """Functions of counts y that do not depend on f; zeros are replaced by 1.

    Attributes:
        positive: whether y > 0.
        all_positive: whether all are; False where this is unknown.
        value: y.
        log: log y.
        at_own_rate: log probability of y at the rate y.
    """

    positive: Tensor
    all_positive: bool
    value: Tensor
    log: Tensor
    at_own_rate: Tensor

    @classmethod
    def of(cls, y: Tensor, *, known: bool = True) -> _Counts:
        positive = y > 0
        count = torch.where(positive, y, torch.ones_like(y))
        every = known and bool(positive.all())
        return cls(positive, every, count, count.log(), _at_own_rate(count))


def _at_own_rate(y: Tensor) -> Tensor:
    """Log probability y log y − y − log y! of a count y > 0 at the rate y."""
    few = torch.where(y > _LARGE, torch.ones_like(y), y)
    exact = few * few.log() - few - torch.lgamma(few + 1)
    many = torch.where(y > _LARGE, y, torch.full_like(y, _LARGE))
    square = many.square()
    series = 1 / 12 - (1 / 360 - (1 / 1260 - 1 / 1680 / square) / square) / square
    return torch.where(y > _LARGE, -0.5 * (2 * math.pi * many).log() - series / many, exact)


@named("student-t")
class StudentT(Separable):
    """Real targets with heavy-tailed noise, y = f + σ t, t ~ Student-t with ν degrees of freedom.

    The likelihood is not log-concave: observations far from the function have W < 0, and there may
    be several modes. Of the modes that are found from several starts, the one of largest Laplace
    evidence is used; see `bayesgen.models.latent.newton.best`.

    Args:
        df: ν > 0.
        noise: σ², the squared scale of the noise (its variance is σ² ν/(ν − 2)). Where the noise is
            learnt, the search starts relative to the size of the targets. None stands for 1 where
            it is not learnt.

    Raises:
        ValueError: df or noise is not positive.

    Source: Vanhatalo, Jylänki & Vehtari (2009).
    """

    name = "student-t"
    density = True

    def __init__(self, df: float = 4.0, noise: Any = None) -> None:
        self.df = checks.positive_number("df", df)
        self.log_noise = (
            torch.zeros((), dtype=torch.float64)
            if noise is None
            else checks.positive("noise", noise).log()
        )

    def targets(self, y: Any, like: Tensor) -> Tensor:
        """Check real y, (n,), (n, C) or (B, n, C), and convert it to (B, n, C)."""
        return _real_targets(y, like)

    def element(self, y: Tensor, f: Tensor) -> Tensor:
        """Log density of a scaled Student-t distribution, element by element."""
        nu, log_noise = self.df, self._log_noise(f)
        constant = math.lgamma((nu + 1) / 2) - math.lgamma(nu / 2) - 0.5 * math.log(nu * math.pi)
        square = (y - f) ** 2 * (-log_noise).exp() / nu
        return constant - 0.5 * log_noise - 0.5 * (nu + 1) * square.log1p()

    def derivatives(self, y: Tensor, f: Tensor) -> LikelihoodDerivatives:
        """Value and derivatives in closed form, in u = (y − f)/(√ν σ)."""
        log_unit = 0.5 * (self._log_noise(f) + math.log(self.df))
        inverse = (-log_unit).exp()
        most = torch.finfo(f.dtype).max ** 0.45
        u = ((y - f) * inverse).clamp(-most, most)
        width = 1 / (1 + u.square())
        first, second = u * width, (u.square() - 1) * width
        third = 2 * first * (u.square() - 3) * width * width
        times = self.df + 1
        return LikelihoodDerivatives(
            self.element(y, f),
            times * first * inverse,
            times * second * width * inverse.square(),
            times * third * inverse * inverse.square(),
        )

    def curvature(self, y: Tensor, f: Tensor) -> Tensor:
        """Curvature (ν + 1)/(νσ² + r²) of a Gaussian lower bound of the density, as in EM."""
        return (self.df + 1) / (self.df * self._log_noise(f).exp() + (y - f) ** 2)

    def observe(self, f: Tensor) -> Distribution:
        """Student-t distribution of observations given f."""
        return StudentTDistribution(self.df, f, (0.5 * self._log_noise(f)).exp())

    def moments(self, mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
        """Mean m for ν > 1, and variance v + σ² ν/(ν − 2) for ν > 2, infinite for 1 < ν ≤ 2."""
        nu = self.df
        nothing = torch.full_like(mean, math.nan)
        if nu <= 1:
            return nothing, nothing
        if nu <= 2:
            return mean.clone(), torch.full_like(mean, math.inf)
        return mean.clone(), variance + self._log_noise(mean).exp() * nu / (nu - 2)

    def cumulative(self, y: Tensor, f: Tensor) -> Tensor:
        """Distribution function of Student's t, by SciPy."""
        from scipy.special import stdtr

        t = (y - f) * (-0.5 * self._log_noise(f)).exp()
        return torch.as_tensor(stdtr(self.df, t.detach().cpu().numpy())).to(t)

    def _log_noise(self, f: Tensor) -> Tensor:
        assert self.log_noise is not None
        return self.log_noise.to(f)


def _real_targets(y: Any, like: Tensor) -> Tensor:
    y = checks.targets("y", y, len(like), like=like)
    return y.reshape(-1, len(like), 1 if y.ndim == 1 else y.shape[-1])
