"""Former module paths and names, which work for one release with a `DeprecationWarning`."""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import sys
import warnings
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

# Former path → new path, both relative to `bayesgen`.
MOVED = {
    "bases": "features.bases",
    "bracket": "spectrum.quadrature_bracket",
    "calibration": "experiments.calibration",
    "comparison": "select.compare",
    "convolutional": "features.convolutional",
    "curvature.base": "curvature.curvature",
    "curvature.blocks": "curvature.block_diagonal",
    "curvature.build": "curvature.factory",
    "curvature.dense": "curvature.weight_space",
    "curvature.dual": "curvature.function_space",
    "curvature.grams": "curvature.jacobian_gram",
    "curvature.rounding": "curvature.float32_error",
    "curvature.rows": "curvature.jacobian_rows",
    "curvature.sample": "curvature.jacobian",
    "curvature.weights": "curvature.parameters",
    "dataset": "data.dataset",
    "decomposition": "spectrum.decomposition",
    "deep": "models.deep",
    "deep.features": "models.deep.features",
    "deep.objective": "models.deep.objective",
    "deep.prior": "models.deep.weight_prior",
    "derivatives": "spectrum.derivatives",
    "experiments.architectures": "experiments.networks",
    "experiments.sweep": "experiments.executor",
    "gram": "covariance.gram",
    "labels": "data.corruption",
    "lanczos": "solvers.lanczos",
    "losses": "pacbayes.expected_losses",
    "maximise": "spectrum.maximise",
    "measure": "solvers.quadrature",
    "mode": "models.latent",
    "mode.coupled": "models.latent.coupled",
    "mode.newton": "models.latent.newton",
    "mode.separable": "models.latent.separable",
    "mode.softmax": "models.latent.softmax",
    "models.base": "posterior.posterior",
    "models.batched": "models.gp.batched",
    "models.conditional": "posterior.conditional",
    "models.deep_kernel": "models.deep.model",
    "models.deep_posterior": "models.deep.posterior",
    "models.exact": "models.gp.tiled_cholesky",
    "models.feature_gram": "covariance.linear",
    "models.gp_problem": "models.gp.fit",
    "models.laplace": "models.network.model",
    "models.laplace_fit": "models.latent.fit",
    "models.laplace_posterior": "models.latent.posterior",
    "models.large": "models.gp.krylov",
    "models.lengthscale": "models.gp.lengthscale_search",
    "models.linear_posterior": "models.linear.posterior",
    "models.linearised": "models.network.linearised",
    "models.network_data": "models.network.data",
    "models.network_posterior": "models.network.posterior",
    "models.null": "select.null",
    "models.objective": "models.gp.objective",
    "models.optimise": "models.gp.gradient_search",
    "models.posterior": "models.gp.posterior",
    "models.precision": "models.network.prior_precision",
    "models.profile": "models.profile_search",
    "models.risk": "pacbayes.gibbs",
    "moments": "spectrum.control_variates",
    "pacbayes.assemble": "pacbayes.certificates.assemble",
    "pacbayes.certificate": "pacbayes.certificates.certificate",
    "pacbayes.coding": "pacbayes.compression.arithmetic_coding",
    "pacbayes.grid": "pacbayes.certificates.grid",
    "pacbayes.laplace": "pacbayes.certificates.laplace",
    "pacbayes.loss": "pacbayes.certificates.losses",
    "pacbayes.predictors": "pacbayes.certificates.predictors",
    "pacbayes.projection": "pacbayes.compression.projections",
    "pacbayes.search": "pacbayes.certificates.search",
    "pacbayes.sharpen": "pacbayes.certificates.free_mean",
    "pacbayes.terms": "pacbayes.certificates.request",
    "pacbayes.tuning": "pacbayes.certificates.tuning",
    "plots.look": "plots.style",
    "priors": "features.priors",
    "sharded": "covariance.distributed",
    "solvers.dense": "solvers.cholesky_factor",
    "solvers.product": "solvers.matmul",
    "spectral_evidence": "spectrum.evidence",
    "spectral_makers": "spectrum.constructors",
    "spectral_solves": "spectrum.solves",
    "tiles": "covariance.tiled",
    "training.bar": "_internal.progress_bar",
    "training.climb": "training.map_fit",
    "training.problem": "training.inputs",
}


# Former public name → new public name, both in `bayesgen`.
RENAMED = {"Climb": "MapFit", "climb": "fit_map"}


def forwarding(package: str, *modules: str) -> Callable[[str], Any]:
    """`__getattr__` of a package that was a module: its former names, from modules inside it.

    Args:
        package: full name of the package.
        modules: names, inside it, of the modules that hold the names now.
    """

    def get(name: str) -> Any:
        own = name.startswith("_") or importlib.util.find_spec(f"{package}.{name}") is not None
        for home in () if own else modules:
            module = importlib.import_module(f"{package}.{home}")
            if hasattr(module, name):
                warnings.warn(
                    f"{package}.{name} has moved to {package}.{home}.{name}; the old path will be "
                    "removed in the next release",
                    DeprecationWarning,
                    stacklevel=2,
                )
                return getattr(module, name)
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    return get


def former_submodules(package: str) -> Callable[[str], Any]:
    """`__getattr__` of a package: its former submodules and names, imported on first use."""

    def get(name: str) -> Any:
        path = f"{package}.{name}"
        if path.removeprefix("bayesgen.") in MOVED:
            return importlib.import_module(path)
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    return get


# Former path → further modules that hold some of its names now.
_ALSO = {
    "gram": ("covariance.radial",),
    "solvers.dense": ("solvers.eigen",),
    "models.linear": ("models.linear.presets",),
    "models.base": ("models.reporting",),
    "mode": ("errors",),
    "models.optimise": (
        "models.search.ascent",
        "models.hyperparameters",
        "models.gp.problem",
    ),
    "models.gp_problem": ("models.gp.problem",),
    "models.posterior": ("models.gp.problem",),
}

# Former path → former name → new name.
_NAMES = {
    "curvature.base": {"Terms": "CurvatureTerms"},
    "curvature.rows": {"_handles": "handles"},
    "deep.features": {"Features": "DeepFeatures"},
    "derivatives": {"Derivatives": "EvidenceDerivatives"},
    "experiments.sweep": {"Task": "Job"},
    "mode": {"Problem": "LatentProblem"},
    "mode.newton": {"Problem": "LatentProblem", "Curvature": "LatentCurvature"},
    "models.conditional": {"Gaussian": "JointNormal"},
    "models.laplace_posterior": {"Setting": "LatentSetting"},
    "models.base": {"Posterior": "Reporting"},
    "models.laplace_fit": {"Learn": "Free"},
    "models.large": {"Found": "KrylovFound"},
    "models.lengthscale": {"maximise": "search_lengthscale"},
    "models.linear_posterior": {"Weights": "WeightPosterior"},
    "models.network_posterior": {"Fitted": "NetworkFit"},
    "models.optimise": {"Setting": "GPSetting", "maximise": "search"},
    "models.precision": {"Setting": "PrecisionSetting", "maximise": "search_precision"},
    "models.profile": {"maximise": "search_profile"},
    "pacbayes.predictors": {"Fitted": "FittedPredictor"},
    "pacbayes.terms": {"Terms": "CertificateTerms"},
    "pacbayes.tuning": {"Problem": "TuningProblem", "Setting": "TunedSetting"},
    "training.climb": {"Climb": "MapFit", "climb": "fit_map"},
}


class _FormerModule(ModuleType):
    """A module at its former path, whose names are those of the modules that hold them now.

    Reading and setting a name acts on the module that holds it. A package may have exported a
    function under the module's own name; the import system puts this module in its place, which
    passes calls on to the function.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name)
        path = name.removeprefix("bayesgen.")
        vars(self)["_homes"] = [f"bayesgen.{home}" for home in (MOVED[path], *_ALSO.get(path, ()))]
        vars(self)["_names"] = _NAMES.get(path, {})
        vars(self)["_before"] = {}
        vars(self)["__doc__"] = f"Moved to {vars(self)['_homes'][0]}."

    def _home_of(self, name: str) -> tuple[ModuleType, str]:
        new = vars(self)["_names"].get(name, name)
        for home in vars(self)["_homes"]:
            module = importlib.import_module(home)
            if hasattr(module, new):
                return module, new
        raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")

    def __getattr__(self, name: str) -> Any:
        return getattr(*self._home_of(name))

    def __setattr__(self, name: str, value: Any) -> None:
        # The import system binds submodules.
        own = isinstance(value, ModuleType) and value.__name__ == f"{self.__name__}.{name}"
        if own or (name.startswith("__") and name.endswith("__")):
            super().__setattr__(name, value)
        else:
            module, new = self._home_of(name)
            vars(self)["_before"].setdefault(name, []).append(getattr(module, new))
            setattr(module, new, value)

    def __delattr__(self, name: str) -> None:
        # A name that was set is set back, which is how a temporary change of it ends.
        module, new = self._home_of(name)
        before = vars(self)["_before"].get(name)
        if not before:
            raise AttributeError(f"{name!r} of {self.__name__!r} can only be changed")
        setattr(module, new, before.pop())

    def __dir__(self) -> list[str]:
        homes = [importlib.import_module(home) for home in vars(self)["_homes"]]
        return sorted({*vars(self)["_names"], *(name for home in homes for name in dir(home))})

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return getattr(self, self.__name__.rpartition(".")[2])(*args, **kwargs)


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Import hook that finds a module by its former path."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """A spec for a former path, or None for any other."""
        if fullname.removeprefix("bayesgen.") not in MOVED or not fullname.startswith("bayesgen."):
            return None
        return importlib.machinery.ModuleSpec(fullname, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        """A module that forwards every name to the module at the new path, after a warning."""
        new = "bayesgen." + MOVED[spec.name.removeprefix("bayesgen.")]
        warnings.warn(
            f"{spec.name} has moved: import {new}. The old path will be removed in the next "
            "release",
            DeprecationWarning,
            stacklevel=2,
        )
        importlib.import_module(new)
        return _FormerModule(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Do nothing, because the module at the new path has already run."""


def install() -> None:
    """Add the import hook before every ordinary finder, if it is not there yet.

    It comes first because a folder that an earlier version left behind would be found as an empty
    package.
    """
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
