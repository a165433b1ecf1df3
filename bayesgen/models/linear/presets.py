"""Linear models with a basis of their own: polynomials, Fourier series, random features."""

from __future__ import annotations

from typing import Any

from bayesgen.features import bases
from bayesgen.models.linear.model import LinearModel


def Polynomial(
    degree: int,
    prior_variance: Any = 1.0,
    noise: Any = None,
    *,
    kind: str = "powers",
    input_range: Any = "default",
    interactions: bool = True,
    **model: Any,
) -> LinearModel:
    """A `LinearModel` in polynomials up to a degree, the order of a feature its total degree.

    Args:
        degree: largest order, at least 0.
        prior_variance, noise: as for `LinearModel`, and its keyword arguments likewise.
        kind: "powers" (inputs as given), "legendre" or "chebyshev" (inputs scaled to [−1, 1]).
        input_range: (low, high) mapped to [−1, 1], "data", or None; see `bases.Polynomial`.
        interactions: False leaves out products of different inputs.

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
    return LinearModel(basis, prior_variance, noise, **model)


def Fourier(
    order: int,
    prior_variance: Any = 1.0,
    noise: Any = None,
    *,
    period: Any = None,
    **model: Any,
) -> LinearModel:
    """A `LinearModel` in 1, sin(2πjx/T), cos(2πjx/T), j = 1 … order.

    Args:
        order: largest j, at least 0.
        prior_variance, noise: as for `LinearModel`, and its keyword arguments likewise.
        period: T; by default twice the range of the training inputs.

    Source: Rasmussen & Ghahramani (2000), section 3.

    Example:
        >>> import torch
        >>> from bayesgen.features import priors
        >>> x = torch.linspace(0, 1, 40, dtype=torch.float64)
        >>> Fourier(8, priors.power(3.0)).fit(x, torch.sin(6.28 * x)).weights.shape
        torch.Size([17])
    """
    return LinearModel(bases.Fourier(order, period=period), prior_variance, noise, **model)


def RandomFeatures(
    d: int,
    prior_variance: Any = 1.0,
    noise: Any = None,
    *,
    lengthscale: float = 1.0,
    activation: str = "cos",
    seed: int = 0,
    **model: Any,
) -> LinearModel:
    """A `LinearModel` in d random features, cosines of an RBF kernel or rectified planes.

    Args:
        d: number of features.
        prior_variance, noise: as for `LinearModel`, and its keyword arguments likewise.
        lengthscale, activation, seed: as for `bases.RandomFeatures`.

    Source: Rahimi & Recht (2007).

    Example:
        >>> import torch
        >>> x = torch.linspace(0, 1, 40, dtype=torch.float64)
        >>> RandomFeatures(200, noise=0.01).fit(x, torch.sin(6 * x)).predict(x[:2]).mean.shape
        torch.Size([2])
    """
    basis = bases.RandomFeatures(d, lengthscale=lengthscale, activation=activation, seed=seed)
    return LinearModel(basis, prior_variance, noise, **model)
