"""Maximise a log marginal likelihood on its exact gradient, by L-BFGS-B."""

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
    """Find the local maximum near a start, by L-BFGS-B (SciPy).

    Args:
        evaluate: function from all parameters, (p,), to the value and its gradient, (p,). It raises
            ValueError or NotConvergedError where the value does not exist.
        start: parameters to start from, (p,).
        learn: which parameters are learnt, booleans (p,); the others are kept.
        bounds: lower and upper bounds of all parameters.
        progress: called as progress(done, expected, what) after each evaluation.

    Returns:
        All parameters at the maximum, (p,).

    Warns:
        RuntimeWarning: the search ran out of iterations.
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
        except (ValueError, NotConvergedError):  # the penalty makes the line search turn back
            return worst + 1e6 * (1 + abs(worst)), np.zeros(learn.sum())
        worst = max(worst, -value)
        return -value, -gradient[learn]

    with warnings.catch_warnings():
        # Intermediate steps may need a jitter; only that at the optimum is reported.
        warnings.filterwarnings("ignore", message="the covariance is singular")
        found = scipy.optimize.minimize(
            negative,
            start[learn],
            jac=True,
            method="L-BFGS-B",
            bounds=[b for b, move in zip(bounds, learn, strict=True) if move],
            options={"maxiter": 200, "ftol": 1e-10, "gtol": 1e-5},
        )
    # Status 1 means out of iterations. Status 2, a failed line search, is a limit of rounding.
    if found.status == 1:
        warnings.warn(
            f"the hyperparameter search stopped after {found.nit} iterations, largest gradient "
            f"{np.abs(found.jac).max():.2g} nats",
            RuntimeWarning,
            stacklevel=3,
        )
    return full(found.x)
