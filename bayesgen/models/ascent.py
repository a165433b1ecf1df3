"""Ascent of a log marginal likelihood on its exact gradient, by L-BFGS-B."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence

import numpy as np

from bayesgen._internal.progress import Progress
from bayesgen.errors import NotConvergedError

Bounds = Sequence[tuple[float | None, float | None]]


def ascend(
    evaluate: Callable[[np.ndarray], tuple[float, np.ndarray]],
    start: np.ndarray,
    learn: np.ndarray,
    bounds: Bounds,
    *,
    progress: Progress | None = None,
) -> np.ndarray:
    """The maximum near `start` of a log marginal likelihood with exact gradient, by L-BFGS-B.

    Args:
        evaluate: all parameters → value and gradient; raises ValueError or NotConvergedError
            where there is none.
        start: all parameters, (p,).
        learn: which of them move, booleans (p,).
        bounds: of all of them.
        progress: called as progress(done, expected, what) after each evaluation.
    """
    import scipy.optimize

    if not learn.any():
        return start
    evaluations, worst = 0, 0.0

    def full(values: np.ndarray) -> np.ndarray:
        result = start.copy()
        result[learn] = values
        return result

    def negative(values: np.ndarray) -> tuple[float, np.ndarray]:
        nonlocal evaluations, worst
        evaluations += 1
        if progress is not None:
            progress(evaluations, max(30, evaluations + 1), f"L-BFGS evaluation {evaluations}")
        try:
            value, gradient = evaluate(full(values))
        except (ValueError, NotConvergedError):  # no place for the line search to go
            return worst + 1e6 * (1 + abs(worst)), np.zeros(learn.sum())
        worst = max(worst, -value)
        return -value, -gradient[learn]

    with warnings.catch_warnings():
        # On the way a jitter may be needed; only the one at the optimum is part of the result.
        warnings.filterwarnings("ignore", message="the covariance is singular")
        found = scipy.optimize.minimize(
            negative,
            start[learn],
            jac=True,
            method="L-BFGS-B",
            bounds=[b for b, move in zip(bounds, learn, strict=True) if move],
            options={"maxiter": 200, "ftol": 1e-10, "gtol": 1e-5},
        )
    if found.status == 1:  # out of iterations; an abnormal line search is the end of the digits
        warnings.warn(
            f"the hyperparameter search stopped after {found.nit} iterations, largest gradient "
            f"{np.abs(found.jac).max():.2g} nats",
            RuntimeWarning,
            stacklevel=3,
        )
    return full(found.x)
