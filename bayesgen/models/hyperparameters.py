"""The choice of the hyperparameters that a fit learns."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import gpytorch

from bayesgen.kernels import free_parameters


def to_learn(
    hyperparameters: str | Iterable[str], names: tuple[str, ...], default: frozenset[str]
) -> frozenset[str]:
    """The names of the hyperparameters to learn.

    Args:
        hyperparameters: "evidence" for the default, "fixed" for none, or a name or names.
        names: the names of all hyperparameters of the model.
        default: the names that "evidence" means.

    Raises:
        ValueError: a name is not among the names of the model.

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
    """Which hyperparameters of a covariance and its likelihood are learnt.

    Attributes:
        kernel: whether the kernel's parameters are learnt.
        scale: whether the outputscale is learnt.
        noise: whether the noise variance is learnt.
    """

    kernel: bool
    scale: bool
    noise: bool

    def names(self) -> frozenset[str]:
        """The names of the hyperparameters that are learnt."""
        return frozenset(name for name in ("kernel", "scale", "noise") if getattr(self, name))

    def within(self, kernel: gpytorch.kernels.Kernel, scale: bool, noise_given: bool) -> Free:
        """The same choice, without what is fixed by the kernel or the noise.

        Args:
            kernel: kernel of unit outputscale, whose parameters may all be fixed.
            scale: whether the outputscale may be learnt.
            noise_given: whether the noise variance is given for each point.
        """
        has_parameters = self.kernel and bool(free_parameters(kernel))
        return Free(has_parameters, self.scale and scale, self.noise and not noise_given)
