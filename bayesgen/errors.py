"""What can go wrong in training, and what a fit warns of."""

from __future__ import annotations


class DivergedError(RuntimeError):
    """The loss is no longer finite; the message says where, and what was kept."""


class NotAtModeWarning(UserWarning):
    """The weights are not where Laplace's approximation wants them."""


class RankLostError(RuntimeError):
    """Another process of a distributed computation ended, or did not answer in time."""


class NotConvergedError(RuntimeError):
    """Newton's method found no mode; the message gives the last gradient norm."""
