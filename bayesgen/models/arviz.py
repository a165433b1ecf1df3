"""Export of posteriors to ArviZ 0.x and 1.x."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    import xarray as xr

    from bayesgen.posterior.posterior import Posterior

_CHAINS = 4


def export(posterior: Posterior, *, draws: int, task: int | None, seed: int) -> Any:
    """Export a posterior to ArviZ; see `Reporting.to_arviz`."""
    import xarray as xr

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # arviz 0.23 announces its successor at import
        import arviz

    if posterior.observed.batched and task is None:
        raise ValueError(
            f"the posterior holds {len(posterior.observed.y)} tasks: choose one, e.g. "
            "to_arviz(task=0)"
        )
    posterior, b = posterior.task(task or 0), 0
    per_chain = draws // _CHAINS
    if per_chain < 2:
        raise ValueError(f"draws must be at least {2 * _CHAINS}, two for each chain, got {draws}")
    parameters = posterior.parameters(per_chain * _CHAINS, task=b, seed=seed)
    f = parameters["f"]
    generator_state = torch.random.get_rng_state()
    try:  # torch.distributions draw from the global generator alone
        torch.manual_seed(seed + 1)
        replicated = posterior.observe(f, task=b).sample()
    finally:
        torch.random.set_rng_state(generator_state)
    # A likelihood that is a density has real targets; counts and labels are integers.
    kept = np.float64 if posterior.observed.likelihood.density else np.int64
    groups = {
        "posterior": {name: _chains(value) for name, value in parameters.items()},
        "posterior_predictive": {"y": _chains(replicated).astype(kept)},
        "log_likelihood": {"y": _chains(posterior.log_likelihood(f, task=b))},
    }
    observed = posterior.observed.y[b].double().cpu().numpy()
    if replicated.shape[1:] != observed.shape:  # classes, observed as one label a row
        observed = observed.argmax(-1)
    elif observed.shape[-1] == 1:
        observed = observed[:, 0]
    sets: dict[str, Any] = {name: _dataset(values) for name, values in groups.items()}
    sets["observed_data"] = xr.Dataset({"y": _array(observed.astype(kept), ())})
    evidence = posterior.evidence[b] if posterior.observed.batched else posterior.evidence
    attributes = {
        "log_marginal_likelihood": float(evidence.log_marginal_likelihood),
        "fit": float(evidence.fit),
        "complexity": float(evidence.complexity),
        "effective_dimension": float(evidence.effective_dimension),
        "evidence_method": evidence.method,
        "inference_library": "bayesgen",
    }
    classes = posterior.observed.likelihood.classes
    if classes is not None:  # y holds their numbers 0 … C − 1
        attributes["classes"] = [str(label) for label in classes]
    if getattr(arviz, "InferenceData", xr.DataTree) is not xr.DataTree:  # 0.x
        return arviz.InferenceData(attrs=attributes, **sets)
    tree = xr.DataTree.from_dict(sets)
    tree.attrs.update(attributes)
    return tree


def _chains(draws: Tensor) -> np.ndarray:
    """Reshape draws (S, ...) to (chain, draw, ...), without a last axis of length 1."""
    values = draws.detach().double().cpu().numpy()
    values = values.reshape(_CHAINS, -1, *values.shape[1:])
    return values[..., 0] if values.ndim > 3 and values.shape[-1] == 1 else values


def _dataset(values: dict[str, np.ndarray]) -> xr.Dataset:
    import xarray as xr

    return xr.Dataset({name: _array(v, ("chain", "draw"), name) for name, v in values.items()})


def _array(values: np.ndarray, leading: tuple[str, ...], name: str = "y") -> xr.DataArray:
    """An array with named axes and coordinates; all variables but the weights share the rows."""
    import xarray as xr

    row = "feature" if name == "w" else "row"
    names = (*leading, row, "output")[: values.ndim]
    coords = {dim: np.arange(size) for dim, size in zip(names, values.shape, strict=True)}
    return xr.DataArray(values, dims=names, coords=coords)
