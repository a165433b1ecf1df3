"""The exact upper bound of the risk of one classifier from its errors on independent data."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy import special

from bayesgen._internal import checks
from bayesgen.pacbayes import validation

# Relative error of the binomial tail that is allowed for.
_ROUNDING = 1e-10


def binomial(errors: Any, n: int, delta: float = 0.05) -> float:
    """Upper bound of the risk of one classifier that makes `errors` errors on n new observations.

    It is the largest risk at which so few errors still have a probability of at least δ:

        max {p : Σ_{i ≤ k} C(n, i) pⁱ (1 − p)ⁿ⁻ⁱ ≥ δ},

    rounded upwards. The classifier must have been chosen without these observations. No bound that
    uses the number of errors alone is smaller.

    Args:
        errors: number k of errors, from 0 to n.
        n: number of observations.
        delta: δ in (0, 1).

    Raises:
        ValueError: an argument is out of range.

    Source: Clopper & Pearson (1934); Langford (2005), theorem 3.3.

    Example:
        >>> round(binomial(0, 100), 4)  # 1 − 0.05^(1/100)
        0.0295
    """
    n, k = checks.whole("n", n), checks.whole("errors", errors, 0)
    if k > n:
        raise ValueError(f"errors must be at most n = {n}, got {k}")
    level = math.exp(validation.log_delta(delta)) * (1 - _ROUNDING)
    if k == n:
        return 1.0
    # The complements keep their digits where δ is small.
    p = float(special.betainccinv(k + 1, n - k, level))
    while special.betaincc(k + 1, n - k, p) > level:  # rounded downwards
        p = float(min(1.0, np.nextafter(p, 1) + _ROUNDING * (1 - p)))
    return p
