"""Former module paths and names, which work for one release with a `DeprecationWarning`."""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
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
    "training.bar": "training.progress_bar",
    "training.climb": "training.map_fit",
    "training.problem": "training.inputs",
}


# Former public name → new public name, both in `bayesgen`.
RENAMED = {"Climb": "MapFit", "climb": "fit_map"}


def forwarding(package: str, module: str, names: tuple[str, ...]) -> Callable[[str], Any]:
    """`__getattr__` of a package that was a module: its old public names, from a module inside.

    Args:
        package: the package's full name.
        module: the name, inside it, of the module that holds the names now.
        names: the old public names.
    """
    home = f"{package}.{module}"

    def get(name: str) -> Any:
        if name not in names:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        warnings.warn(
            f"{package}.{name} has moved to {home}.{name}; the old path will be removed in the "
            "next release",
            DeprecationWarning,
            stacklevel=2,
        )
        return getattr(importlib.import_module(home), name)

    return get


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Import hook that finds a module by its former path and returns the module at the new one."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """A spec for a former path, or None for any other."""
        if fullname.removeprefix("bayesgen.") not in MOVED or not fullname.startswith("bayesgen."):
            return None
        return importlib.machinery.ModuleSpec(fullname, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        """A module with the names of the one at the new path; later imports return the same one."""
        new = "bayesgen." + MOVED[spec.name.removeprefix("bayesgen.")]
        warnings.warn(
            f"{spec.name} has moved: import {new}. The old path will be removed in the next "
            "release",
            DeprecationWarning,
            stacklevel=2,
        )
        module = ModuleType(spec.name, f"Moved to {new}.")
        module.__dict__.update(
            {
                name: value
                for name, value in vars(importlib.import_module(new)).items()
                if not (name.startswith("__") and name.endswith("__"))
            }
        )
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Do nothing, because the module at the new path has already run."""


def install() -> None:
    """Add the import hook after every ordinary finder, if it is not there yet."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.append(_Finder())
