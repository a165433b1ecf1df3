"""The evidence of a model that was fitted by another package, at its own hyperparameters."""

from __future__ import annotations

from typing import Any

from bayesgen.adopt import gpytorch_models, sklearn_linear, sklearn_processes
from bayesgen.posterior.posterior import Posterior

# Packages whose models are read, with the modules that read them.
_READERS = (gpytorch_models, sklearn_processes, sklearn_linear)


def evidence_of(model: Any, x: Any = None, y: Any = None) -> Posterior:
    """A fitted model of another package as a posterior, at the hyperparameters that it has.

    | model | package |
    | --- | --- |
    | `ExactGP` with a Gaussian likelihood | gpytorch |
    | `SingleTaskGP` | botorch |
    | `GaussianProcessRegressor` | scikit-learn |
    | `BayesianRidge`, `ARDRegression` | scikit-learn |

    Nothing is fitted: the evidence is that of the source at its own hyperparameters, without prior
    densities of the hyperparameters, which some packages add. The hyperparameters count as learnt
    on the data (`posterior.provenance`), so that a certificate asks for a payment, except those of
    a process of scikit-learn with `optimizer=None`, which count as stated beforehand. Where the
    source scales its inputs or targets, the result is a `bayesgen.models.StandardisedPosterior`:
    its `standardised` has the source's own evidence, and its `evidence` is that of the targets in
    their units. The model is left as it was.

    Args:
        model: the fitted model.
        x, y: the data of its fit. Linear models of scikit-learn do not keep them. For the others
            they may be given too, and are compared with those kept: a model that scales its targets
            keeps them to rounding only, and `bayesgen.compare` needs equal targets.

    Returns:
        A `GPPosterior`, a `LinearPosterior` or a `StandardisedPosterior`.

    Raises:
        TypeError: the model is of a kind that has no exact evidence, or that is not read, or has
            another prior than its mean and kernel.
        ValueError: it was not fitted, or was changed since; the data are missing, or are not those
            of its fit.

    Source: Rasmussen & Williams (2006), eq. 2.30; MacKay (1992).

    Example:
        >>> import numpy as np, bayesgen as bg
        >>> from sklearn.gaussian_process import GaussianProcessRegressor
        >>> x = np.linspace(0, 1, 20)[:, None]
        >>> theirs = GaussianProcessRegressor(alpha=0.01, optimizer=None)
        >>> theirs = theirs.fit(x, np.sin(6 * x[:, 0]))
        >>> ours = bg.evidence_of(theirs).evidence.log_marginal_likelihood
        >>> bool(abs(ours - theirs.log_marginal_likelihood_value_) < 1e-8)
        True
    """
    for reader in _READERS:
        if reader.reads(model):
            return reader.posterior_of(model, x, y)
    if isinstance(model, type):
        raise TypeError(f"model must be a fitted model, got the class {model.__name__}")
    kind = f"{type(model).__module__.split('.')[0]}.{type(model).__name__}"
    why = ""
    if hasattr(model, "variational_strategy"):
        why = ": a variational model has a bound and not an evidence"
    elif hasattr(model, "steps"):
        why = ": the features of a pipeline may have been learnt; pass its last step"
    elif hasattr(model, "best_estimator_"):
        why = ": pass its best_estimator_"
    raise TypeError(
        "model must be an ExactGP of gpytorch, a SingleTaskGP of botorch, or a "
        "GaussianProcessRegressor, BayesianRidge or ARDRegression of scikit-learn, got "
        f"{kind}{why}"
    )
