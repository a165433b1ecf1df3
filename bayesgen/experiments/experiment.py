"""The class of experiments: a function that returns a Dataset, with its plot and quick settings."""

from __future__ import annotations

import functools
import inspect
import platform
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from importlib import metadata
from typing import Any, Generic, ParamSpec, overload

import xarray as xr
from matplotlib.figure import Figure

from bayesgen._internal import checks
from bayesgen.data.tables import from_arrays

P = ParamSpec("P")

_PACKAGES = ("bayesgen", "torch", "gpytorch", "numpy", "scipy", "scikit-learn", "xarray")


class Experiment(Generic[P]):
    """A callable experiment with the function that plots its result.

    Attributes:
        plot: result → figure.
        quick: settings that `bayesgen reproduce --quick` uses in place of the defaults.

    Example:
        >>> from bayesgen.experiments import corruption
        >>> result = corruption("digits", train=60, test=50, levels=[0.0, 1.0], seeds=1)
        >>> result.sizes["level"], type(corruption.plot(result)).__name__
        (2, 'Figure')
    """

    def __init__(
        self,
        function: Callable[P, xr.Dataset],
        plot: Callable[[xr.Dataset], Figure],
        quick: Mapping[str, Any] | None = None,
    ) -> None:
        self._function = self.__wrapped__ = function
        self.plot = plot
        self.quick = dict(quick or {})
        functools.update_wrapper(self, function)

    @overload
    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> xr.Dataset: ...

    @overload
    def __call__(self, *args: Any, **kwargs: Any) -> xr.Dataset: ...

    def __call__(self, *args: Any, **kwargs: Any) -> xr.Dataset:
        """Run the experiment and return its Dataset, with its name in the attribute `experiment`.

        An experiment whose one positional argument is `data` also takes inputs and labels in its
        place, experiment(x, y, ...): they become a Dataset by `bayesgen.data.from_arrays`.
        """
        if len(args) == 2 and self._takes_data():
            args = (from_arrays(*args),)
        result = self._function(*args, **kwargs)
        result.attrs["experiment"] = self._function.__name__
        return result

    def _takes_data(self) -> bool:
        """Whether the one positional argument is `data`."""
        parameters = inspect.signature(self._function).parameters.values()
        positional = [p.name for p in parameters if p.kind is not inspect.Parameter.KEYWORD_ONLY]
        return positional == ["data"]


def experiment(
    plot: Callable[[xr.Dataset], Figure], quick: Mapping[str, Any] | None = None
) -> Callable[[Callable[P, xr.Dataset]], Experiment[P]]:
    """Turn a function into an `Experiment` with this plot and these quick settings."""
    return lambda function: Experiment(function, plot, quick)


def claim(paper: str, found: str, holds: str) -> dict[str, str]:
    """Attributes that compare a result with the claim that it reproduces.

    Args:
        paper: what the source claims.
        found: what this result shows, with its numbers.
        holds: "yes", "partly" or "no".

    Raises:
        ValueError: `holds` is another word.

    Example:
        >>> claim("The peak disappears.", "It falls 255-fold.", "yes")["holds"]
        'yes'
    """
    checks.one_of("holds", holds, ("yes", "partly", "no"))
    return {"paper": paper, "found": found, "holds": holds}


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
