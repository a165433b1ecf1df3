"""Which hyperparameters a fit is to learn."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import gpytorch

from bayesgen.kernels import free_parameters


def to_learn(
    hyperparameters: str | Iterable[str], names: tuple[str, ...], default: frozenset[str]
) -> frozenset[str]:
    """The names that are free: those of "evidence", none for "fixed", or those given.

    Args:
        hyperparameters: what the user passed.
        names: all that the model knows.
        default: those that "evidence" stands for.

    Raises:
        ValueError: a name that the model does not know.

    Example:
        >>> sorted(to_learn("evidence", ("scale", "noise"), frozenset({"scale", "noise"})))
        ['noise', 'scale']
    """
    if hyperparameters == "evidence":
        return default
    if hyperparameters == "fixed":
        return frozenset()
    given = {hyperparameters} if isinstance(hyperparameters, str) else set(hyperparameters)
    unknown = sorted(str(name) for name in given if name not in names)
    if unknown:
        raise ValueError(
            'hyperparameters must be "evidence", "fixed" or some of the names '
            f"{', '.join(names)}, got {', '.join(unknown)}"
        )
    return frozenset(given)


@dataclass(frozen=True)
class Free:
    """Which hyperparameters of a covariance and its likelihood are learnt."""

    kernel: bool
    scale: bool
    noise: bool

    def names(self) -> frozenset[str]:
        """The names of the hyperparameters that are learnt."""
        return frozenset(name for name in ("kernel", "scale", "noise") if getattr(self, name))

    def within(self, kernel: gpytorch.kernels.Kernel, scale: bool, noise_given: bool) -> Free:
        """What is learnt of a kernel whose parameters or outputscale may be fixed.

        Args:
            kernel: of unit outputscale.
            scale: whether the outputscale may be learnt.
            noise_given: whether the noise is known at each point.
        """
        has_parameters = self.kernel and bool(free_parameters(kernel))
        return Free(has_parameters, self.scale and scale, self.noise and not noise_given)
