"""Exceptions and warnings of training, fitting and distributed computation."""

from __future__ import annotations


class DivergedError(RuntimeError):
    """The training loss is no longer finite; the message says where, and what was saved."""


class NotAtModeWarning(UserWarning):
    """The weights are not at a mode, as the Laplace approximation assumes."""


class NotMixedWarning(UserWarning):
    """Markov chains have not mixed, so that an estimate from them is not reliable."""


class RankLostError(RuntimeError):
    """Another process of a distributed computation ended or did not answer in time."""


class NotConvergedError(RuntimeError):
    """Newton's method did not find a mode; the message gives the last gradient norm."""
