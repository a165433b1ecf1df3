"""Periods that the targets show along a column of the inputs."""

from __future__ import annotations

import numpy as np

# Largest number of points and of frequencies of a periodogram, and number of peaks that are kept.
_POINTS, _FREQUENCIES, _PEAKS = 600, 4000, 8


def periods(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Periods at the peaks of a Lomb–Scargle periodogram, and their shares of the power.

    A cubic trend is subtracted from the targets first.

    Args:
        x: one column of the inputs, (n,).
        y: targets, (n, k), one periodogram for each column; their powers are added.

    Returns:
        At most eight periods, in units of x, and weights that sum to 1. Both are empty where the
        inputs have fewer than eight distinct values.

    Source: Lomb (1976); Scargle (1982).

    Example:
        >>> t = np.linspace(0, 20, 200)
        >>> found, weights = periods(t, np.sin(2 * np.pi * t / 2.5)[:, None])
        >>> round(float(found[weights.argmax()]), 1)
        2.5
    """
    from scipy.signal import lombscargle

    order = np.argsort(x, kind="stable")
    order = order if len(order) <= _POINTS else order[_window(len(order))]
    x, y = x[order], y[order]
    gaps = np.diff(np.unique(x))
    if len(gaps) < 7:
        return np.zeros(0), np.zeros(0)
    span = float(x[-1] - x[0])
    t = (x - x[0]) / span
    top = min(0.5 * span / float(np.median(gaps)), _FREQUENCIES / 6)
    top = round(max(top, 2.0), 6)  # rounding errors of the inputs must not change the grid
    frequencies = np.linspace(0.5, top, int(6 * top))
    trend = np.vander(2 * t - 1, 4)
    rest = y - trend @ np.linalg.lstsq(trend, y, rcond=None)[0]
    power = np.zeros_like(frequencies)
    for column in rest.T:
        size = float(column.std())
        if size > 0:
            power += lombscargle(t, column / size, 2 * np.pi * frequencies)
    inner = (power[1:-1] >= power[:-2]) & (power[1:-1] >= power[2:])
    peaks = np.flatnonzero(inner) + 1
    peaks = peaks[np.argsort(-power[peaks])][:_PEAKS]
    total = power[peaks].sum()
    if not len(peaks) or total <= 0:
        return np.zeros(0), np.zeros(0)
    return span / frequencies[peaks], power[peaks] / total


def _window(n: int) -> slice:
    """The middle rows of many, so that neighbouring points stay neighbours."""
    start = (n - _POINTS) // 2
    return slice(start, start + _POINTS)
