"""Linear models with a fixed kind of basis: polynomials, Fourier series, random features."""

from __future__ import annotations

from typing import Any, Literal, overload

from bayesgen.features import bases
from bayesgen.likelihoods import Likelihood
from bayesgen.models.latent.posterior import LaplaceLinearPosterior
from bayesgen.models.linear.model import LinearModel
from bayesgen.models.linear.posterior import LinearPosterior


@overload
def Polynomial(
    degree: int,
    prior_variance: Any = 1.0,
    noise: Any = None,
    *,
    kind: str = "powers",
    input_range: Any = "default",
    interactions: bool = True,
    likelihood: Literal["gaussian"] = "gaussian",
    **model: Any,
) -> LinearModel[LinearPosterior]: ...


@overload
def Polynomial(
    degree: int,
    prior_variance: Any = 1.0,
    noise: Any = None,
    *,
    kind: str = "powers",
    input_range: Any = "default",
    interactions: bool = True,
    likelihood: str | Likelihood,
    **model: Any,
) -> LinearModel[LaplaceLinearPosterior]: ...


def Polynomial(
    degree: int,
    prior_variance: Any = 1.0,
    noise: Any = None,
    *,
    kind: str = "powers",
    input_range: Any = "default",
    interactions: bool = True,
    likelihood: str | Likelihood = "gaussian",
    **model: Any,
) -> LinearModel[Any]:
    """A `LinearModel` in polynomials up to a degree; the order of a feature is its total degree.

    Args:
        degree: largest order, at least 0.
        prior_variance, noise, likelihood: as in `LinearModel`.
        kind: "powers" (inputs as given), "legendre" or "chebyshev" (inputs scaled to [−1, 1]).
        input_range: (low, high) mapped to [−1, 1], "data", or None; see `bases.Polynomial`.
        interactions: False leaves out products of different inputs.
        model: further keyword arguments of `LinearModel`.

    Source: Wilson (2025), section 3; `numpy.polynomial` for the normalisations.

    Example:
        >>> import torch
        >>> from bayesgen.features import priors
        >>> x = torch.linspace(-1, 1, 50, dtype=torch.float64)
        >>> posterior = Polynomial(150, priors.geometric(2.0)).fit(x, x + torch.cos(3.14 * x))
        >>> posterior.order
        tensor(150)
    """
    basis = bases.Polynomial(degree, kind=kind, input_range=input_range, interactions=interactions)
    return LinearModel(basis, prior_variance, noise, likelihood=likelihood, **model)


@overload
def Fourier(
    order: int,
    prior_variance: Any = 1.0,
    noise: Any = None,
    *,
    period: Any = None,
    likelihood: Literal["gaussian"] = "gaussian",
    **model: Any,
) -> LinearModel[LinearPosterior]: ...


@overload
def Fourier(
    order: int,
    prior_variance: Any = 1.0,
    noise: Any = None,
    *,
    period: Any = None,
    likelihood: str | Likelihood,
    **model: Any,
) -> LinearModel[LaplaceLinearPosterior]: ...


def Fourier(
    order: int,
    prior_variance: Any = 1.0,
    noise: Any = None,
    *,
    period: Any = None,
    likelihood: str | Likelihood = "gaussian",
    **model: Any,
) -> LinearModel[Any]:
    """A `LinearModel` in 1, sin(2πjx/T) and cos(2πjx/T) for j = 1 … order.

    Args:
        order: largest j, at least 0.
        prior_variance, noise, likelihood: as in `LinearModel`.
        period: period T; by default twice the range of the training inputs.
        model: further keyword arguments of `LinearModel`.

    Source: Rasmussen & Ghahramani (2000), section 3.

    Example:
        >>> import torch
        >>> from bayesgen.features import priors
        >>> x = torch.linspace(0, 1, 40, dtype=torch.float64)
        >>> Fourier(8, priors.power(3.0)).fit(x, torch.sin(6.28 * x)).weights.shape
        torch.Size([17])
    """
    return LinearModel(
        bases.Fourier(order, period=period), prior_variance, noise, likelihood=likelihood, **model
    )


@overload
def RandomFeatures(
    d: int,
    prior_variance: Any = 1.0,
    noise: Any = None,
    *,
    lengthscale: float = 1.0,
    activation: str = "cos",
    seed: int = 0,
    likelihood: Literal["gaussian"] = "gaussian",
    **model: Any,
) -> LinearModel[LinearPosterior]: ...


@overload
def RandomFeatures(
    d: int,
    prior_variance: Any = 1.0,
    noise: Any = None,
    *,
    lengthscale: float = 1.0,
    activation: str = "cos",
    seed: int = 0,
    likelihood: str | Likelihood,
    **model: Any,
) -> LinearModel[LaplaceLinearPosterior]: ...


def RandomFeatures(
    d: int,
    prior_variance: Any = 1.0,
    noise: Any = None,
    *,
    lengthscale: float = 1.0,
    activation: str = "cos",
    seed: int = 0,
    likelihood: str | Likelihood = "gaussian",
    **model: Any,
) -> LinearModel[Any]:
    """A `LinearModel` in d random features: random cosines of an RBF kernel, or rectified planes.

    Args:
        d: number of features.
        prior_variance, noise, likelihood: as in `LinearModel`.
        lengthscale, activation, seed: as in `bases.RandomFeatures`.
        model: further keyword arguments of `LinearModel`.

    Source: Rahimi & Recht (2007).

    Example:
        >>> import torch
        >>> x = torch.linspace(0, 1, 40, dtype=torch.float64)
        >>> RandomFeatures(200, noise=0.01).fit(x, torch.sin(6 * x)).predict(x[:2]).mean.shape
        torch.Size([2])
    """
    basis = bases.RandomFeatures(d, lengthscale=lengthscale, activation=activation, seed=seed)
    return LinearModel(basis, prior_variance, noise, likelihood=likelihood, **model)
