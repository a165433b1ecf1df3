"""The interface of a likelihood p(y | f) of latent functions for Laplace's approximation."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.distributions import Distribution

from bayesgen._internal import checks, deprecation
from bayesgen._internal.words import plural
from bayesgen.likelihoods.labels import Classes, has_texts, read
from bayesgen.likelihoods.mixture import LatentMixture, log_expectation

_NAMED: dict[str, Callable[[], Likelihood]] = {}


def named(*names: str) -> Callable[[type], type]:
    """Register a likelihood without required arguments under these names."""

    def register(maker: type) -> type:
        _NAMED.update(dict.fromkeys(names, maker))
        return maker

    return register


def resolve(likelihood: Any) -> Likelihood | None:
    """Turn an argument into a `Likelihood`; None stands for "gaussian", for which fits are exact.

    Raises:
        ValueError: the name is unknown.
        TypeError: the argument is neither a name nor a likelihood.

    Example:
        >>> resolve("bernoulli").name
        'bernoulli'
    """
    if isinstance(likelihood, Likelihood):
        return likelihood
    if not isinstance(likelihood, str):
        raise TypeError(
            "likelihood must be a name or a bayesgen.likelihoods.Likelihood, "
            f"got {type(likelihood).__name__}"
        )
    checks.one_of("likelihood", likelihood, ("gaussian", *_NAMED))
    return None if likelihood == "gaussian" else _NAMED[likelihood]()


class Likelihood(ABC):
    """A likelihood p(y | f): observations of a row given the latent functions there.

    A new likelihood is a subclass in one file. Everything that depends on the likelihood is an
    attribute or a method of this class; the defaults suit a likelihood of counts.

    Attributes:
        name: name of the likelihood, one word.
        log_noise: log σ² of a likelihood with a noise variance to learn, (); else None.
        density: whether y is continuous, so that its evidence is a density and not a probability.
        labels: whether y are class labels, for which the 0–1 loss and guessing are defined.
        coupled: whether the latent functions of one row are coupled, as those of a softmax are.
        one_output: whether targets have at most one column, so that (B, n) is a batch of tasks.
        log_concave: whether log p(y | f) is concave in f. If it is not, there may be several modes,
            and Newton's method starts from several points.
        skewed: whether predictions correct the normal posterior of the latent values for its
            skewness; see `bayesgen.models.latent.skewness`. It is for separable likelihoods of one
            output.
        gaussian_noise: whether log p(y | f) = −½(y − f)²/σ² up to a constant, so that its
            curvature in f is 1/σ².
    """

    name: str
    log_noise: Tensor | None = None
    density = False
    labels = False
    coupled = False
    one_output = False
    log_concave = False
    skewed = False
    gaussian_noise = False

    @property
    def kind(self) -> str:
        """Kind of the targets: "real", or the likelihood's name for counts and labels.

        Evidences of the same numbers as targets of different kinds must not be compared.
        """
        return "real" if self.density else self.name

    @abstractmethod
    def targets(self, y: Any, like: Tensor) -> Tensor:
        """Check the targets of n = len(like) rows and convert them to (B, n, C) or (B, n).

        Raises:
            TypeError, ValueError: y is not a valid observation of this likelihood.
        """

    @abstractmethod
    def log_density(self, y: Tensor, f: Tensor) -> Tensor:
        """Log density log p(y | f) of each row, (..., n), for f of shape (..., n, C)."""

    @abstractmethod
    def observe(self, f: Tensor) -> Distribution:
        """Distribution of observations given f, whose last axis is the C latent functions."""

    @abstractmethod
    def roots(self, y: Tensor, f: Tensor) -> tuple[Tensor, Tensor]:
        """Curvature −∇∇ log p(y | f) of each row as V diag(w) Vᵀ with w > 0.

        Args:
            y: targets in their inner form, (n, ...).
            f: latent values, (n, C).

        Returns:
            Values w, (n, K), and vectors V, (n, C, K).

        Raises:
            ValueError: the curvature is not positive semi-definite at some row.
        """

    @abstractmethod
    def predictive(self, mean: Tensor, covariance: Tensor) -> Distribution:
        """Distribution of new observations with f ~ N(mean, covariance) integrated out."""

    def latent_guess(self, y: Tensor) -> Tensor:
        """Rough latent values of targets in their inner form, (n, C).

        Their Gaussian evidence ranks prior covariances before Laplace's evidence is computed.
        """
        if self.density:
            return y
        return 2 * (y - y.mean(0)) if self.labels else (y + 0.5).log()

    # ------------------------------------------------------------------ class labels

    @property
    def classes(self) -> tuple[Any, ...] | None:
        """The classes of labels in the order of their numbers, or None where there are none yet."""
        return None

    def for_targets(self, y: Any) -> Likelihood:
        """The likelihood for all targets of a fit, which may decide the classes of labels.

        Raises:
            TypeError, ValueError: the targets are not labels of this likelihood.
        """
        return self

    def numbered(self, y: Any) -> tuple[Likelihood, Any, tuple[Any, ...] | None]:
        """Texts as the numbers of a network's classes, 0 … C − 1 in sorted order.

        Args:
            y: targets of any kind.

        Returns:
            A likelihood of these numbers, the numbers, and the texts in their order. Where the
            targets are no texts, they and the likelihood are returned as they are, with None.

        Raises:
            TypeError: the targets are texts, and the likelihood is not one of labels.
            ValueError: there is one class; a text is not one of the stated classes.
        """
        if not has_texts(y):
            return self, y, None
        if not self.labels:
            raise TypeError(
                f"y must hold numbers for a {self.name} likelihood, got texts; texts are class "
                'labels, for likelihood="categorical" or "bernoulli"'
            )
        texts = self.for_targets(y).classes
        assert texts is not None
        return self._of_numbers(len(texts)), Classes(texts).encode(read(y, whole=False)), texts

    def _of_numbers(self, count: int) -> Likelihood:
        """The same likelihood of labels 0 … C − 1."""
        raise TypeError(f"y must hold numbers for a {self.name} likelihood, got texts")

    def num_guesses(self, outputs: int) -> int:
        """Number of classes that a network or process with this number of outputs chooses from.

        Raises:
            ValueError: the targets of this likelihood are not class labels.
        """
        if not self.labels:
            raise ValueError(f"a {self.name} likelihood has no classes")
        return outputs if self.coupled else 2

    def errors(self, y: Tensor, f: Tensor) -> Tensor:
        """Whether each row is misclassified by latent values f (..., n, C), booleans (..., n).

        Raises:
            ValueError: the targets of this likelihood are not class labels.
        """
        if not self.labels:
            raise ValueError(f"a {self.name} likelihood has no 0–1 loss: its targets are no labels")
        if self.coupled:
            return f.argmax(-1) != y.argmax(-1)
        return ((f > 0) != (y > 0.5))[..., 0]

    def probit(self, mean: Tensor, variance: Tensor) -> Distribution:
        """The probit approximation to `predictive`, for class labels.

        Args:
            mean: latent mean, (..., C).
            variance: marginal variances, (..., C).

        Raises:
            ValueError: the targets of this likelihood are not class labels.

        Source: MacKay (1992); Gibbs (1997).
        """
        raise ValueError(
            f'method="probit" is for labels, not for a {self.name} likelihood: take "mc"'
        )

    # ------------------------------------------------------------------ networks

    def for_outputs(self, outputs: int, shape: torch.Size) -> Likelihood:
        """The likelihood for a network with this number of outputs and targets of this shape.

        Raises:
            ValueError: the number of outputs does not fit the targets.
        """
        if self.coupled and outputs < 2:
            raise ValueError(
                f"net must have at least 2 outputs for a {self.name} likelihood, got {outputs}"
            )
        wanted = 1 if self.one_output or len(shape) < 2 else shape[-1]
        if wanted != outputs and not self.coupled:
            raise ValueError(
                f"net must have {plural(wanted, 'output')} for a {self.name} likelihood of targets "
                f"of shape {tuple(shape)}, got {outputs}"
            )
        return self

    def identified(self, outputs: int) -> Tensor:
        """Orthonormal directions of f on which log p(y | f) depends, (C, K), in float64."""
        return torch.eye(outputs, dtype=torch.float64)

    def noise_slope(self, y: Tensor, f: Tensor) -> Tensor:
        """Derivative ∂ Σ log p(y | f)/∂ log σ², (); 0 where the curvature in f is not 1/σ²."""
        return torch.zeros((), dtype=f.dtype, device=f.device)

    def drawing(self, outputs: int, samples: int, seed: int) -> Likelihood:
        """The likelihood whose predictions average over this number of draws, if it uses draws."""
        return self

    def averaged(self, draws: Tensor) -> Distribution:
        """Distribution of new observations, averaged over draws of f, (S, ...)."""
        variance = draws.var(0) if len(draws) > 1 else torch.zeros_like(draws[0])
        return self.predictive(draws.mean(0), variance)


def with_noise(likelihood: Likelihood, log_noise: Tensor | None) -> Likelihood:
    """A copy of the likelihood with this log σ²; None returns the likelihood itself."""
    if log_noise is None:
        return likelihood
    likelihood = copy.copy(likelihood)
    likelihood.log_noise = log_noise
    return likelihood


class LikelihoodDerivatives(NamedTuple):
    """Value and derivatives of log p(y | f) in f, element by element.

    Attributes:
        value, first, second, third: the value and the derivatives, of f's shape.
    """

    value: Tensor
    first: Tensor
    second: Tensor
    third: Tensor


class Separable(Likelihood):
    """A likelihood in which each output of a row depends on its own latent value.

    A subclass needs `targets`, `observe` and `element`. Derivatives follow by automatic
    differentiation, and predictions by quadrature.
    """

    @abstractmethod
    def element(self, y: Tensor, f: Tensor) -> Tensor:
        """Log density log p(yᵢ | fᵢ), element by element; differentiable three times in f."""

    def log_density(self, y: Tensor, f: Tensor) -> Tensor:
        """Log density of each row: the sum of `element` over outputs, (..., n)."""
        return self.element(y, f).sum(-1)

    def derivatives(self, y: Tensor, f: Tensor) -> LikelihoodDerivatives:
        """Value and first three derivatives of `element` in f, by automatic differentiation."""
        with torch.enable_grad():
            f = f.detach().requires_grad_()
            value = self.element(y, f)
            parts = [value]
            for _ in range(3):
                if not parts[-1].requires_grad:  # constant in f, piece by piece
                    parts.append(torch.zeros_like(f))
                    continue
                (part,) = torch.autograd.grad(
                    parts[-1].sum(), f, create_graph=True, materialize_grads=True
                )
                parts.append(part)
        return LikelihoodDerivatives(*(part.detach() for part in parts))

    def predictive(self, mean: Tensor, covariance: Tensor) -> Distribution:
        """Distribution of new observations with f ~ N(mean, covariance) integrated out."""
        return LatentMixture(self, mean, covariance)

    def focus(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Place and width of log p(y | f) as a function of f, element by element.

        They guide the quadrature of predictions. By default the place is the target, or the
        logarithm of a count, and the width is that of the curvature there.
        """
        place = torch.zeros_like(y) if self.labels else self.latent_guess(y)
        curvature = self.curvature(y, place)
        return place, torch.where(curvature > 0, curvature, torch.ones_like(y)).rsqrt()

    def moments(self, mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance of new observations with f ~ N(mean, variance), by quadrature.

        The mean of observations given f must grow less than exponentially, or be given in closed
        form by an own method.
        """

        def average(values: Callable[[Tensor], Tensor]) -> Tensor:
            def above(f: Tensor) -> Tensor:
                return values(f).clamp(min=0).log()

            def below(f: Tensor) -> Tensor:
                return (-values(f)).clamp(min=0).log()

            up, down = (log_expectation(part, mean, variance) for part in (above, below))
            return up.exp() - down.exp()

        centre = average(lambda f: self.observe(f).mean)
        shifted = average(lambda f: self.observe(f).variance + self.observe(f).mean.square())
        return centre, shifted - centre.square()

    def log_raw_moments(self, f: Tensor) -> tuple[Tensor, Tensor]:
        """Logarithms of the first two moments of observations given f, for a positive mean."""
        at = self.observe(f)
        return at.mean.log(), (at.variance + at.mean.square()).log()

    def cumulative(self, y: Tensor, f: Tensor) -> Tensor:
        """Probability of an observation of at most y given f, element by element."""
        return self.observe(f).cdf(y)

    def draw(self, f: Tensor) -> Tensor:
        """One observation for each latent value."""
        return self.observe(f).sample()

    def roots(self, y: Tensor, f: Tensor) -> tuple[Tensor, Tensor]:
        """Curvature of each row, which is diagonal; see `Likelihood.roots`."""
        values, C = -self.derivatives(y, f).second, f.shape[-1]
        if (values < 0).any():
            raise ValueError(
                f"a {self.name} likelihood is not log-concave at {int((values < 0).sum())} of "
                f"{values.numel()} outputs: it has no Gauss–Newton matrix there; "
                'curvature="hessian" needs none'
            )
        return values, torch.eye(C, dtype=f.dtype, device=f.device).expand(len(f), C, C)

    def curvature(self, y: Tensor, f: Tensor) -> Tensor:
        """A positive bound of −∂²/∂f² with which a Newton step increases the log posterior.

        It equals −∂²/∂f² where the log likelihood is concave.
        """
        return -self.derivatives(y, f).second

    def observations(self, name: str, y: Any, like: Tensor) -> Tensor:
        """Convert integers or reals of shape (n,) or (B, n) to (B, n, 1)."""
        tensor = checks.as_tensor(name, y)
        if tensor.is_complex():
            raise TypeError(f"{name} must hold real numbers, got dtype {tensor.dtype}")
        tensor = checks.real(name, tensor.to(device=like.device, dtype=like.dtype), like=like)
        if tensor.ndim not in (1, 2) or tensor.shape[-1] != len(like):
            raise ValueError(
                f"{name} must have shape (n,) or (B, n) with n = {len(like)}, "
                f"got {tuple(tensor.shape)}"
            )
        return tensor.reshape(-1, len(like), 1)


def __getattr__(name: str) -> Any:
    if name == "Derivatives":
        deprecation.warn_renamed("likelihoods.Derivatives", "LikelihoodDerivatives")
        return LikelihoodDerivatives
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
