"""The class of experiments: a function that returns a Dataset, with its plot."""

from __future__ import annotations

import functools
import platform
from collections.abc import Callable
from datetime import UTC, datetime
from importlib import metadata
from typing import Generic, ParamSpec

import xarray as xr
from matplotlib.figure import Figure

P = ParamSpec("P")

_PACKAGES = ("bayesgen", "torch", "gpytorch", "numpy", "scipy", "scikit-learn", "xarray")


class Experiment(Generic[P]):
    """A callable experiment with the function that plots its result.

    Example:
        >>> from bayesgen.experiments import corruption
        >>> result = corruption("digits", train=60, test=50, levels=[0.0, 1.0], seeds=1)
        >>> result.sizes["level"], type(corruption.plot(result)).__name__
        (2, 'Figure')
    """

    def __init__(
        self, function: Callable[P, xr.Dataset], plot: Callable[[xr.Dataset], Figure]
    ) -> None:
        self._function = function
        self.plot = plot
        functools.update_wrapper(self, function)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> xr.Dataset:
        """Run the experiment and return its Dataset."""
        return self._function(*args, **kwargs)


def experiment(
    plot: Callable[[xr.Dataset], Figure],
) -> Callable[[Callable[P, xr.Dataset]], Experiment[P]]:
    """Turn a function into an `Experiment` with this plot."""
    return lambda function: Experiment(function, plot)


def provenance(command: str) -> dict[str, str]:
    """Attributes that record how a result was made: command, versions, platform and time."""
    versions = {name: metadata.version(name) for name in _PACKAGES}
    return {
        "command": command,
        "versions": ", ".join(f"{name} {version}" for name, version in versions.items()),
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
