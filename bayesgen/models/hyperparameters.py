"""The choice of the hyperparameters that a fit learns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import gpytorch

from bayesgen.kernels import free_parameters, has_limited_scale


def to_learn(
    hyperparameters: str | Iterable[str], names: tuple[str, ...], default: frozenset[str]
) -> frozenset[str]:
    """The names of the hyperparameters to learn.

    Args:
        hyperparameters: "evidence" for the default, "fixed" for none, or a name or names.
        names: the names of all hyperparameters of the model.
        default: the names that "evidence" means.

    Raises:
        TypeError: neither a name nor names were given.
        ValueError: a name is not among the names of the model.

    Example:
        >>> sorted(to_learn("evidence", ("scale", "noise"), frozenset({"scale", "noise"})))
        ['noise', 'scale']
    """
    if hyperparameters == "evidence":
        return default
    if hyperparameters == "fixed":
        return frozenset()
    if not isinstance(hyperparameters, Iterable):
        raise TypeError(f"hyperparameters must be a name or names, got {hyperparameters!r}")
    given = {hyperparameters} if isinstance(hyperparameters, str) else set(hyperparameters)
    unknown = sorted(str(name) for name in given if name not in names)
    if unknown:
        raise ValueError(
            'hyperparameters must be "evidence", "fixed" or some of the names '
            f"{', '.join(names)}, got {', '.join(unknown)}"
        )
    return frozenset(given)


def check_learnable(names: frozenset[str], missing: Mapping[str, str]) -> None:
    """Check that something is left to learn of the names that a user gave.

    Args:
        names: the names given.
        missing: names of hyperparameters that the model does not have, each with the reason.

    Raises:
        ValueError: names were given, and the model has none of them.

    Example:
        >>> check_learnable(frozenset({"scale", "noise"}), {"noise": "counts have no noise"})
    """
    if names and names <= set(missing):
        which = sorted(names)
        raise ValueError(
            f"hyperparameters names only {', '.join(map(repr, which))}, which cannot be learnt: "
            + "; ".join(missing[name] for name in which)
        )


@dataclass(frozen=True)
class Free:
    """Which hyperparameters of a covariance and its likelihood are learnt.

    Attributes:
        kernel: whether the kernel's parameters are learnt.
        scale: whether the outputscale is learnt.
        noise: whether the noise variance is learnt.
        mean: whether the parameters of the prior mean are learnt.
    """

    kernel: bool
    scale: bool
    noise: bool
    mean: bool = False

    def names(self) -> frozenset[str]:
        """The names of the hyperparameters that are learnt."""
        return frozenset(
            name for name in ("kernel", "scale", "noise", "mean") if getattr(self, name)
        )

    def within(self, kernel: gpytorch.kernels.Kernel, scale: bool, noise_given: bool) -> Free:
        """The same choice, without what is fixed by the kernel or the noise.

        Args:
            kernel: the resolved kernel, whose parameters may all be fixed. If it is a ScaleKernel
                with a limited outputscale, what is not learnt is fixed in it.
            scale: whether the outputscale may be learnt.
            noise_given: whether the noise variance is given for each point.
        """
        if has_limited_scale(kernel):
            # The outputscale is one of the kernel's parameters, and learnt where "scale" is.
            for p in kernel.parameters():
                own = p is kernel.raw_outputscale
                p.requires_grad_(p.requires_grad and (self.scale if own else self.kernel))
            scale, has_parameters = False, bool(free_parameters(kernel))
        else:
            scale, has_parameters = (
                self.scale and scale,
                self.kernel and bool(free_parameters(kernel)),
            )
        noise = self.noise and not noise_given
        return replace(self, kernel=has_parameters, scale=scale, noise=noise)
