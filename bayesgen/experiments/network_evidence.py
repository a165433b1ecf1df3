"""Estimates of a network's log p(D) besides Laplace's, for studies of label corruption."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

from torch import Tensor

from bayesgen.data.dataset import Dataset
from bayesgen.errors import NotMixedWarning
from bayesgen.experiments.networks import NETWORKS, Architecture, Cell, EstimatedEvidence
from bayesgen.models import Laplace
from bayesgen.sampling import anneal, prequential

# Prior precision of the weights in annealing, and in codes of networks at modes.
PRECISION = 1.0


def _as_trained(architecture: Architecture) -> dict[str, Any]:
    """Settings of a code whose networks are trained as in the study, not taken to modes."""
    given = dict(architecture.settings)
    return {"prior_precision": given.pop("prior_precision"), "training": given}


# Settings of the code of each architecture.
_CODES: dict[str, dict[str, Any]] = {
    "mlp": {"prior_precision": PRECISION, "members": 4},
    "resnet": {"members": 1, **_as_trained(NETWORKS["resnet"])},
}


def tangent(name: str, data: Dataset, labels: Tensor, seed: int) -> Cell:
    """Evidence of the tangent kernel at the initial weights, with one prior precision learnt.

    These weights do not depend on the labels, so that the complexity excludes nothing.

    Args:
        name: name of an architecture.
        data: inputs, and test data.
        labels: training labels, (n,).
        seed: seed of the initial weights.
    """
    net, x, new = NETWORKS[name].untrained(data, seed)
    posterior = Laplace(net, mode="tangent", dtype=None).fit(x, labels)
    evidence = replace(posterior.evidence, complexity_excludes=())
    return Cell(evidence, posterior.mean(x), posterior.mean(new))


def code_length(name: str, data: Dataset, labels: Tensor, seed: int) -> Cell:
    """Prequential code of the labels in one order; errors are those of a network trained on all.

    Args:
        name, data, labels, seed: as in `tangent`.
    """
    net, x, new = NETWORKS[name].trained(data, labels, seed)
    # One order is enough, because a study has several seeds.
    code = prequential(net, x, labels, orders=1, seed=seed, **_CODES[name])
    net.eval()
    return Cell(EstimatedEvidence(code.log_evidence, 0.0), net(x).detach(), net(new).detach())


def annealed(name: str, data: Dataset, labels: Tensor, seed: int) -> Cell:
    """Annealed evidence; errors are those of the mean prediction of the chains at β = 1.

    The error of the evidence is half the width of its interval. A `NotMixedWarning` is not shown,
    because R-hat exceeds 1.1 for most networks at these settings; the upper ends of their intervals
    are not reliable.

    Args:
        name, data, labels, seed: as in `tangent`.
    """
    net, x, new = NETWORKS[name].untrained(data, seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotMixedWarning)
        found = anneal(
            net, x, labels, prior_precision=PRECISION, chains=16, rungs=200, settle=50, seed=seed
        )
    half = 0.5 * (found.interval.upper - found.interval.lower)
    estimate = EstimatedEvidence(found.log_evidence, half, found.fit, found.complexity)
    return Cell(estimate, found.predict(x), found.predict(new))
