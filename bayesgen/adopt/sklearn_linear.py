"""Bayesian linear regressions of scikit-learn as posteriors."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from bayesgen._internal import checks
from bayesgen.models.linear.model import LinearModel
from bayesgen.models.standardised import Scaling, StandardisedPosterior
from bayesgen.posterior.posterior import Posterior

# Largest relative difference between the coefficients of the source and the posterior mean.
_SAME = 1e-4


def reads(model: Any) -> bool:
    """Whether a model is a `BayesianRidge` or an `ARDRegression`."""
    from sklearn.linear_model import ARDRegression, BayesianRidge

    return isinstance(model, BayesianRidge | ARDRegression)


def posterior_of(model: Any, x: Any = None, y: Any = None) -> Posterior:
    """The posterior of a linear regression; see `bayesgen.evidence_of`.

    The intercept of the source is the mean of the targets, which it subtracts; the evidence is that
    of the centred targets. Features that `ARDRegression` has pruned have a prior variance of zero.
    The entries of `scores_` are the same evidence plus the log densities of the hyperparameters;
    those of `ARDRegression` leave out the constant −½ n log 2π.
    """
    kind = type(model).__name__
    if x is None or y is None:
        raise ValueError(f"x and y must be given for a {kind}, which does not keep its data")
    if not hasattr(model, "coef_"):
        raise ValueError(f"model must be fitted, got a {kind} that is not")
    inputs = checks.owned(checks.inputs("x", checks.reals("x", x).double()))
    given = checks.reals("y", y).double()
    given = given[:, 0] if given.ndim == 2 and given.shape[1] == 1 else given
    targets = checks.owned(checks.targets("y", given, len(inputs), like=inputs))
    if targets.ndim != 1:
        raise ValueError(f"y must have shape (n,), got {tuple(targets.shape)}")
    if inputs.shape[1] != len(model.coef_):
        raise ValueError(
            f"x must have the {len(model.coef_)} columns of the fit, got {inputs.shape[1]}"
        )
    d = inputs.shape[1]
    variance = 1 / torch.from_numpy(np.broadcast_to(model.lambda_, d).astype(float).copy())
    kept = torch.ones(d, dtype=torch.bool)
    if np.ndim(model.lambda_):  # pruned features have the coefficient 0
        kept = torch.from_numpy(np.asarray(model.lambda_) < model.threshold_lambda)
        if not bool(kept.any()):
            raise ValueError("model must have a feature that is not pruned, got none")
    zero, one = inputs.new_zeros(1, d), inputs.new_ones(1, d)
    centred = model.fit_intercept
    x_scaling = Scaling(inputs.mean(0, keepdim=True) if centred else zero, one)
    y_scaling = Scaling(targets.mean(0, keepdim=True) if centred else zero[0, :1], one[0, :1])

    basis = None if bool(kept.all()) else ColumnBasis(tuple(kept.nonzero().flatten().tolist()))
    linear: Any = LinearModel(
        basis, variance[kept], float(1 / model.alpha_), hyperparameters="fixed"
    )
    found = linear.fit(x_scaling.inward(inputs), y_scaling.inward(targets))
    found.data_dependent = f"the prior variances, which {kind} has learnt"
    found.learnt = frozenset({"scale", "noise"})
    found.learn()
    weights = found.weights.reshape(-1)
    theirs = torch.from_numpy(np.asarray(model.coef_, dtype=float))[kept]
    size = float(targets.abs().max())
    intercept = float(y_scaling.centre - x_scaling.centre[0, kept] @ theirs) if centred else 0.0
    differs = float((weights - theirs).abs().max()) > _SAME * float(theirs.abs().max()) + 1e-12
    if differs or abs(intercept - float(model.intercept_)) > _SAME * size:
        raise ValueError(
            "x and y must be the data of the fit, all of weight 1, but the posterior mean at its "
            f"hyperparameters differs from the coefficients and the intercept of the {kind}"
        )
    if not centred:
        posterior: Posterior = found
        return posterior
    return StandardisedPosterior(found, inputs, targets, x_scaling, y_scaling)


class ColumnBasis:
    """The basis of some columns of the inputs.

    Args:
        which: the columns.
    """

    def __init__(self, which: tuple[int, ...]) -> None:
        self.which = which

    def __call__(self, x: Any) -> Any:
        """The columns of inputs (n, D), (n, d)."""
        return x[:, list(self.which)]
