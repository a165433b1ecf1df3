"""What a reader of a result should be careful about, from the result itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bayesgen._internal.words import plural
from bayesgen.reports.contents import REPEATS, listed

if TYPE_CHECKING:
    import xarray as xr

LAPLACE = (
    "Evidences by Laplace's approximation replace the posterior by a Gaussian at one mode; their "
    "error is not known."
)
# Nats per observation that a Newton step may gain at weights that are called a mode, as in
# `posterior.summary()`.
_GAIN = 0.01
# Share of the evidence that its error may be.
_ERROR = 0.01
# Fewest test points whose errors are given without a word about their number.
_FEW = 1000


def cautions(result: xr.Dataset) -> list[str]:
    """Sentences about what to be careful about in the result of an experiment.

    Args:
        result: the result.

    Example:
        >>> import xarray as xr
        >>> cautions(xr.Dataset({"bound": ("seed", [1.2])}, attrs={"delta": 0.05}))[0]
        'There is one seed only: how much the numbers differ between seeds is not known.'
    """
    checks = (_seeds, _unpaid, _mode, _edge, vacuous, _kinds, _laplace, _rounding, _test_points)
    return [sentence for check in checks for sentence in check(result)]


def _seeds(result: xr.Dataset) -> list[str]:
    alone = [name for name in REPEATS if result.sizes.get(name) == 1]
    if "network" in result.attrs and not set(REPEATS) & set(result.dims):
        alone = ["seed"]
    return [
        f"There is one {name} only: how much the numbers differ between {name}s is not known."
        for name in alone
    ]


def _unpaid(result: xr.Dataset) -> list[str]:
    """Models whose complexity leaves out what was fitted to the same data."""
    if "excludes" not in result:
        return []
    found = result.excludes
    (dim,) = found.dims or ("",)
    groups: dict[str, list[str]] = {}
    for name, what in zip(result[dim].values if dim else [""], np.atleast_1d(found), strict=True):
        if str(what):
            groups.setdefault(str(what), []).append(str(name))
    return [
        f"{listed(names)}: the complexity excludes the {what}, fitted to the same data. The "
        "evidence is too high for a comparison with the others."
        for what, names in groups.items()
    ]


def _mode(result: xr.Dataset) -> list[str]:
    if "gain" not in result or "n" not in result.attrs:
        return []
    far = float(result.gain.max()) / result.attrs["n"]
    if not far > _GAIN:
        return []
    return [
        f"The weights are not at a mode: a Newton step would gain up to {far:.2g} nats per "
        "observation. Train longer, or take more steps to the mode."
    ]


def _edge(result: xr.Dataset) -> list[str]:
    if "at_bound" not in result or not (count := int(result.at_bound.sum())):
        return []
    return [
        f"{count} of {plural(result.at_bound.size, 'fit')} {'is' if count == 1 else 'are'} at the "
        "edge of the searched range of hyperparameters: without noise, or without signal."
    ]


def vacuous(result: xr.Dataset) -> list[str]:
    """Sentences about bounds of a risk in [0, 1] that say no more than guessing does."""
    if "bound" not in result or "delta" not in result.attrs:
        return []
    classes = result.attrs.get("classes")
    guessing = 1.0 if classes is None else 1 - 1 / int(classes)
    values = result.bound.values[np.isfinite(result.bound.values)]
    if not (count := int((values >= guessing).sum())):
        return []
    return [
        f"{count} of {plural(values.size, 'certificate')} {'is' if count == 1 else 'are'} vacuous: "
        f"the bound is no smaller than the risk of guessing, {guessing:.3g}."
    ]


def _kinds(result: xr.Dataset) -> list[str]:
    if "kind" not in result or len(set(np.atleast_1d(result.kind.values).tolist())) < 2:
        return []
    return [
        "Evidences of labels (probabilities) and of their real-valued codes (densities) must not "
        "be compared with each other."
    ]


def _laplace(result: xr.Dataset) -> list[str]:
    said = [str(result.attrs.get(key, "")) for key in ("method", "title")]
    if "says" in result:
        said += [str(each) for each in np.atleast_1d(result["says"].values)]
    if not any("laplace" in each.lower() for each in said):
        return []
    return [LAPLACE]


def _rounding(result: xr.Dataset) -> list[str]:
    found = []
    if {"evidence_error", "log_marginal_likelihood"} <= set(result.data_vars):
        size = abs(result.log_marginal_likelihood)
        share = float((result.evidence_error / size.where(size > 0)).max())
        if share > _ERROR:
            found.append(f"The evidence is uncertain by up to {share:.2g} of its size.")
    if "jitter" in result and (jitter := float(result.jitter.max())) > 0:
        found.append(f"A jitter of up to {jitter:.2g} was added to the diagonal of covariances.")
    return found


def _test_points(result: xr.Dataset) -> list[str]:
    count = int(result.attrs.get("n_test", _FEW))
    if not 0 < count < _FEW:
        return []
    return [
        f"Test errors are those of {plural(count, 'observation')}: their standard error is up to "
        f"{0.5 / count**0.5:.2g}."
    ]
