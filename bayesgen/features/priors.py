"""Prior variances of independent Gaussian weights, as functions of each weight's order."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from bayesgen._internal import checks
from bayesgen._internal.words import plural

# Ratios of two prior variances at which the evidence is first evaluated.
_RATIOS = tuple(10.0**k for k in range(-6, 7))


@dataclass(frozen=True)
class Prior:
    """Independent Gaussian prior on the weights, wⱼ ~ N(0, scale · profile(order j)).

    Attributes:
        name: name for tables.
        scale: outputscale s, which the evidence may learn.
        profile: (orders (d,), decay or None) → log variance at unit scale, (d,); −∞ switches a
            weight off.
        decay: parameter that sets how the variance depends on the order (rate γ, exponent p, or
            ratio r of two groups); None where there is nothing to learn.
        search: grid of decay values at which the evidence is first evaluated, increasing.
        logarithmic: whether the search is in log decay.

    Example:
        >>> geometric(2.0).variance(torch.arange(3))
        tensor([1.0000, 0.5000, 0.2500], dtype=torch.float64)
    """

    name: str
    scale: float
    profile: Callable[[Tensor, Tensor | None], Tensor]
    decay: float | None = None
    search: tuple[float, ...] = ()
    logarithmic: bool = False

    def coordinate(self, decay: float) -> float:
        """The search coordinate of a decay, which is its logarithm in a logarithmic search."""
        return math.log(decay) if self.logarithmic else decay

    def natural(self, coordinate: Tensor) -> Tensor:
        """The decay at a search coordinate, the inverse of `coordinate`."""
        return coordinate.exp() if self.logarithmic else coordinate

    def log_variance(self, orders: Tensor, decay: Tensor | None = None) -> Tensor:
        """Log variance at unit scale of weights of these orders, (d,), float64.

        Raises:
            ValueError: a variance is negative, NaN or infinite; their number differs from that of
                the orders.
        """
        if decay is None and self.decay is not None:
            decay = torch.tensor(self.decay, dtype=torch.float64, device=orders.device)
        values = self.profile(orders.double(), decay)
        if (values.isnan() | (values == math.inf)).any():
            raise ValueError(f"prior_variance must be finite, {self.name} gives {values.exp()}")
        return values

    def variance(self, orders: Any) -> Tensor:
        """Prior variances at these orders, (d,), including the scale.

        Args:
            orders: order of each weight, integers, (d,).
        """
        orders = torch.as_tensor(orders)
        return self.scale * self.log_variance(orders).exp()

    def __call__(self, orders: Any) -> Tensor:
        """The same as `variance`, so that a prior can be called as a function of the order."""
        return self.variance(orders)


def isotropic(scale: float = 1.0) -> Prior:
    """Prior with the same variance at every order, which corresponds to weight decay.

    Args:
        scale: the variance, > 0.

    Raises:
        ValueError: the scale is not positive and finite.

    Source: MacKay (1992); Bishop (2006), section 3.3.

    Example:
        >>> isotropic(0.5).variance([0, 1, 2])
        tensor([0.5000, 0.5000, 0.5000], dtype=torch.float64)
    """
    return Prior("isotropic", _scale(scale), _same)


def geometric(rate: float, scale: float = 1.0) -> Prior:
    """Prior with variance scale · rate⁻ʲ at order j.

    With noise variance σ² it corresponds to the penalised least squares problem
    ‖y − Φw‖² + σ² Σ rateʲ wⱼ²/scale. An energy Σ γʲ wⱼ² (as in Wilson 2025) corresponds to the
    variance γ⁻ʲ/2, and an energy Σ γʲ wⱼ²/2 to the variance γ⁻ʲ.

    Args:
        rate: γ > 0; above 1, weights of high order are small.
        scale: variance at order 0, > 0.

    Raises:
        ValueError: the rate or the scale is not positive and finite.

    Source: Wilson (2025), section 3.

    Example:
        >>> geometric(4.0, scale=2.0).variance([0, 1, 2])
        tensor([2.0000, 0.5000, 0.1250], dtype=torch.float64)
    """
    rate = checks.positive_number("rate", rate)
    search = (0.5, 0.8, 1.0, 1.05, 1.2, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 100.0, 1e3, 1e4)
    return Prior("geometric", _scale(scale), _geometric, rate, search, logarithmic=True)


def power(exponent: float, scale: float = 1.0) -> Prior:
    """Prior with variance scale · (1 + j)⁻ᵖ at order j.

    Args:
        exponent: p, any finite number; above 0, weights of high order are small.
        scale: variance at order 0, > 0.

    Raises:
        TypeError: the exponent is not a number.
        ValueError: the exponent is not finite; the scale is not positive.

    Source: Rasmussen & Ghahramani (2000), section 3, with 1 + j in place of j so that order 0 has a
    finite variance.

    Example:
        >>> power(2.0).variance([0, 1, 3])
        tensor([1.0000, 0.2500, 0.0625], dtype=torch.float64)
    """
    if isinstance(exponent, bool) or not isinstance(exponent, int | float):
        raise TypeError(f"exponent must be a number, got {exponent!r}")
    if not math.isfinite(exponent):
        raise ValueError(f"exponent must be finite, got {exponent}")
    search = (-2.0, -1.0, 0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 9.0, 14.0, 20.0)
    return Prior("power", _scale(scale), _power, float(exponent), search)


def tied_and_free(tied: int, ratio: float = 1.0, scale: float = 1.0) -> Prior:
    """Prior with one variance for the first weights and another for the others: a soft constraint.

    The first features satisfy a constraint, such as a symmetry, and the others break it. A ratio of
    0 would enforce the constraint; at a small ratio the model prefers it. `LinearModel` learns the
    ratio from the evidence as its "decay", together with the scale and the noise variance.

    Args:
        tied: number of features of the constrained part, which come first.
        ratio: r > 0, variance of a free weight divided by that of a tied weight.
        scale: variance of a tied weight, > 0.

    Raises:
        ValueError: the number of features is below 1; the ratio or the scale is not positive.

    Source: Finzi et al. (2021), section 3, for a linear layer; MacKay (1992) for one precision for
        each group of weights.

    Example:
        >>> tied_and_free(2, ratio=0.1).variance([0, 1, 2, 3])
        tensor([1.0000, 1.0000, 0.1000, 0.1000], dtype=torch.float64)
    """
    count = checks.whole("tied", tied)
    ratio = checks.positive_number("ratio", ratio)
    profile = partial(_tied_and_free, count)
    return Prior("tied and free", _scale(scale), profile, ratio, _RATIOS, logarithmic=True)


def resolve(value: Any) -> Prior:
    """Turn an argument into a `Prior`.

    Args:
        value: a Prior; a number > 0; a (d,) vector of variances ≥ 0 (0 switches a weight off);
            a function orders (d,) → variances (d,).

    Raises:
        TypeError: the argument is none of these.
        ValueError: the variances are negative, NaN, infinite or all zero.

    Example:
        >>> resolve(lambda j: 1 / (1 + j**2)).variance([0, 1, 2])
        tensor([1.0000, 0.5000, 0.2000], dtype=torch.float64)
    """
    if isinstance(value, Prior):
        return value
    if callable(value):
        function: Callable[[Tensor], Any] = value
        name = getattr(value, "__name__", "a function of the order")
        name = "a function of the order" if name == "<lambda>" else name
        return Prior(name, 1.0, partial(_of_order, function))
    if isinstance(value, int | float) and not isinstance(value, bool):
        return isotropic(checks.positive_number("prior_variance", value))
    tensor = checks.owned(checks.reals("prior_variance", value))
    if tensor.ndim == 0:
        return isotropic(checks.positive_number("prior_variance", tensor))
    if tensor.ndim != 1:
        raise ValueError(
            "prior_variance must be a number, a vector (d,), a function of the order or a "
            f"bayesgen.features.priors.Prior, got a tensor of shape {tuple(tensor.shape)}"
        )
    _log(tensor, len(tensor))  # report errors before any data are used
    return Prior("given", 1.0, partial(_given, tensor))


# The profiles are at module level, so that posteriors that hold them can be pickled.


def _same(orders: Tensor, _: Tensor | None) -> Tensor:
    return torch.zeros_like(orders)


def _geometric(orders: Tensor, decay: Tensor | None) -> Tensor:
    assert decay is not None
    return -orders * decay.log()


def _power(orders: Tensor, decay: Tensor | None) -> Tensor:
    assert decay is not None
    return -decay * orders.log1p()


def _tied_and_free(tied: int, orders: Tensor, ratio: Tensor | None) -> Tensor:
    assert ratio is not None
    if len(orders) <= tied:
        raise ValueError(
            f"tied must be below the number of features, of which the others are free, got {tied} "
            f"and {plural(len(orders), 'feature')}"
        )
    return torch.where(orders < tied, torch.zeros_like(orders), ratio.log())


def _of_order(function: Callable[[Any], Any], orders: Tensor, _: Tensor | None) -> Tensor:
    try:
        values = function(orders)
    except (TypeError, ValueError, RuntimeError):  # the function takes one order at a time
        values = [float(function(j)) for j in orders.tolist()]
    return _log(values, len(orders))


def _given(variances: Tensor, orders: Tensor, _: Tensor | None) -> Tensor:
    return _log(variances, len(orders))


def _log(variances: Any, d: int) -> Tensor:
    """Logarithms of d variances, after checking them."""
    variances = checks.reals("prior_variance", variances).detach().double()
    if variances.ndim == 0:
        variances = variances.expand(d)
    if tuple(variances.shape) != (d,):
        raise ValueError(
            f"prior_variance must have one variance for each of the d = {d} features, "
            f"got shape {tuple(variances.shape)}"
        )
    bad = ~(torch.isfinite(variances) & (variances >= 0))
    if bad.any():
        j = int(bad.nonzero()[0])
        raise ValueError(
            f"prior_variance must be finite and at least 0, got {variances[j].item()} at index {j}"
        )
    if not (variances > 0).any():
        raise ValueError("prior_variance must be positive for some feature, got all zeros")
    return variances.log()


def _scale(scale: Any) -> float:
    return checks.positive_number("scale", scale)
