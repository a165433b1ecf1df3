"""The log marginal likelihood of one task around its learnt hyperparameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

# Step of the central differences of the gradient, in each search coordinate.
_STEP = 1e-3


@dataclass(frozen=True)
class LogEvidence:
    """The log marginal likelihood as a function of search coordinates z.

    Attributes:
        point: the coordinates of the fit, (P,).
        gradient: function from coordinates to the derivatives in nats, (P,).
        entries: name of each hyperparameter → its entries in z.
        log: which coordinates are logarithms of the hyperparameters, (P,).
        free: which coordinates were learnt and lie inside of the searched range, (P,).
    """

    point: np.ndarray
    gradient: Callable[[np.ndarray], np.ndarray]
    entries: Mapping[str, list[int]]
    log: np.ndarray
    free: np.ndarray

    def standard_errors(self) -> np.ndarray:
        """Standard errors of the coordinates by Laplace's approximation, (P,).

        They are the roots of the diagonal of H⁻¹, with H the negative Hessian of the log marginal
        likelihood in the free coordinates under a flat prior on them, by central differences of the
        exact gradient. The others are NaN, and so are all where H is not positive definite.

        Source: Rasmussen & Williams (2006), section 5.2; MacKay (1992).

        Example:
            >>> free = np.array([True])
            >>> e = LogEvidence(np.zeros(1), lambda z: -4 * z, {"scale": [0]}, free, free)
            >>> e.standard_errors()
            array([0.5])
        """
        errors = np.full(len(self.point), np.nan)
        where = np.flatnonzero(self.free)
        if not len(where):
            return errors
        rows = []
        for k in where:
            step = np.zeros(len(self.point))
            step[k] = _STEP
            try:
                change = self.gradient(self.point + step) - self.gradient(self.point - step)
            except ValueError:  # the evidence is not defined beside the optimum
                return errors
            rows.append(-change[where] / (2 * _STEP))
        hessian = 0.5 * (np.array(rows) + np.array(rows).T)
        size = np.sqrt(np.abs(hessian.diagonal()))
        if not np.isfinite(hessian).all() or (size == 0).any():
            return errors
        values = np.linalg.eigvalsh(hessian / np.outer(size, size))
        if values[0] <= 1e-8:
            return errors
        errors[where] = np.sqrt(np.linalg.inv(hessian).diagonal())
        return errors
