"""Regression and classification by models of largest evidence, as scikit-learn estimators."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

if TYPE_CHECKING:
    import pandas as pd

    from bayesgen.evidence import Evidence
    from bayesgen.pacbayes.certificates.certificate import Statement
    from bayesgen.posterior.posterior import Posterior


class _EvidenceEstimator(BaseEstimator):
    """What both estimators share: candidates, their ranking, and the attributes of the best."""

    model: Any
    standardise: bool
    certificate: Mapping[str, Any] | None

    def _candidates(self) -> dict[str, Any]:
        """Models by name: those given, or the default."""
        given = self._default() if self.model is None else self.model
        if isinstance(given, Mapping):
            found = {str(name): model for name, model in given.items()}
        elif isinstance(given, list | tuple):
            words = [" ".join(repr(model).split()) for model in given]
            found = {f"{i}: {text}": given[i] for i, text in enumerate(words)}
        else:
            found = {"model": given}
        bad = [type(model).__name__ for model in found.values() if not hasattr(model, "fit")]
        if bad or not found:
            raise TypeError(
                "model must be a model of bayesgen, such as bayesgen.Polynomial(3), or a list or "
                f"dict of them, got {bad[0] if bad else 'no model'}"
            )
        return found

    @abstractmethod
    def _default(self) -> Any:
        """The model where none is given."""

    def _fit_models(self, X: np.ndarray, y: np.ndarray) -> None:
        """Fit every candidate and keep the one of largest evidence."""
        from bayesgen.select.compare import compare

        fitted = {
            name: copy.deepcopy(model).fit(X, y, standardise=self.standardise)
            for name, model in self._candidates().items()
        }
        best = max(fitted, key=lambda name: float(fitted[name].evidence.log_marginal_likelihood))
        self.posterior_: Posterior = fitted[best]
        self.best_model_ = best
        self.evidence_: Evidence = self.posterior_.evidence
        self.ranking_: pd.DataFrame = compare(fitted)

    @property
    def certificate_(self) -> Statement:
        """The PAC-Bayes certificate of the posterior, with the arguments of `certificate`.

        Raises:
            AttributeError: the posterior has none with these arguments; the message says why.
        """
        check_is_fitted(self, "posterior_")
        posterior: Any = self.posterior_
        try:
            found: Statement = posterior.certificate(**dict(self.certificate or {}))
        except (ValueError, AttributeError) as err:
            raise AttributeError(f"there is no certificate: {err}") from None
        return found

    def _inputs(self, X: Any) -> np.ndarray:
        check_is_fitted(self, "posterior_")
        found: np.ndarray = validate_data(self, X, dtype=np.float64, reset=False)
        return found


class EvidenceRegressor(RegressorMixin, _EvidenceEstimator):
    """Regression by the model of largest evidence.

    Args:
        model: a `GaussianProcess` or linear model of bayesgen with Gaussian noise, or a list or
            dict of several, of which the one of largest evidence predicts. None is a Gaussian
            process with an RBF kernel.
        standardise: whether inputs and targets get mean 0 and standard deviation 1 for the model.
        certificate: arguments of `posterior.certificate` for `certificate_`, such as
            `{"loss": "squared", "clip": 4.0}`. A certificate needs `standardise=False` and a kernel
            that was stated before the data or is on a stated grid.

    Attributes:
        evidence_: the `Evidence` of the model that predicts, in nats and in the units of y.
        posterior_: its posterior.
        best_model_: its name.
        ranking_: the table of `bayesgen.compare` of all models.
        certificate_: its PAC-Bayes certificate, computed when it is asked for.
        n_features_in_, feature_names_in_: as in scikit-learn.

    Raises:
        TypeError: the model is something else.
        ValueError: X or y is refused by scikit-learn or by the model.

    Example:
        >>> import numpy as np
        >>> X = np.linspace(-1, 1, 30)[:, None]
        >>> regressor = EvidenceRegressor().fit(X, np.sin(3 * X[:, 0]))
        >>> bool(regressor.score(X, np.sin(3 * X[:, 0])) > 0.99), regressor.evidence_.n
        (True, 30)
    """

    def __init__(
        self,
        model: Any = None,
        *,
        standardise: bool = True,
        certificate: Mapping[str, Any] | None = None,
    ) -> None:
        self.model = model
        self.standardise = standardise
        self.certificate = certificate

    def _default(self) -> Any:
        import gpytorch

        from bayesgen.models import GaussianProcess

        return GaussianProcess(gpytorch.kernels.RBFKernel())

    def fit(self, X: Any, y: Any) -> EvidenceRegressor:
        """Fit every model, and keep the one of largest evidence.

        Args:
            X: inputs, (n, d).
            y: targets, (n,) or (n, C).
        """
        X, y = validate_data(
            self, X, y, dtype=np.float64, multi_output=True, y_numeric=True, ensure_min_samples=2
        )
        self._fit_models(X, y.astype(np.float64))
        return self

    def predict(self, X: Any, return_std: bool = False) -> Any:
        """Posterior predictive means, (m,) or (m, C).

        Args:
            X: inputs, (m, d).
            return_std: whether the standard deviations of new observations are returned too.
        """
        X = self._inputs(X)
        posterior: Any = self.posterior_
        if not return_std:
            return posterior.mean(X).numpy()
        found = posterior.predict(X)
        return found.mean.numpy(), found.stddev.numpy()

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags


class EvidenceClassifier(ClassifierMixin, _EvidenceEstimator):
    """Classification by the model of largest evidence.

    Args:
        model: a `GaussianProcess` or linear model of bayesgen with a "softmax" or "bernoulli"
            likelihood, or a list or dict of several, of which the one of largest evidence predicts.
            None is a Gaussian process with an RBF kernel, and a Bernoulli likelihood for two
            classes or a softmax likelihood for more.
        standardise: whether inputs get mean 0 and standard deviation 1 for the model.
        certificate: arguments of `posterior.certificate` for `certificate_`, such as
            `{"bound": "quadratic"}`. A certificate needs `standardise=False` and a kernel that was
            stated before the data, with `hyperparameters="fixed"`.

    Attributes:
        classes_: the class labels.
        evidence_: the `Evidence` of the model that predicts, in nats, by Laplace's approximation.
        posterior_: its posterior.
        best_model_: its name.
        ranking_: the table of `bayesgen.compare` of all models.
        certificate_: its PAC-Bayes certificate, computed when it is asked for.
        n_features_in_, feature_names_in_: as in scikit-learn.

    Raises:
        TypeError: the model is something else.
        ValueError: X or y is refused by scikit-learn or by the model; there is one class.

    Example:
        >>> import numpy as np
        >>> X = np.linspace(-2, 2, 20)[:, None]
        >>> classifier = EvidenceClassifier().fit(X, np.where(X[:, 0] > 0, "up", "down"))
        >>> classifier.predict([[1.5]]), classifier.predict_proba([[1.5]]).shape
        (array(['up'], dtype='<U4'), (1, 2))
    """

    def __init__(
        self,
        model: Any = None,
        *,
        standardise: bool = True,
        certificate: Mapping[str, Any] | None = None,
    ) -> None:
        self.model = model
        self.standardise = standardise
        self.certificate = certificate

    def _default(self) -> Any:
        import gpytorch

        from bayesgen.models import GaussianProcess

        likelihood = "bernoulli" if len(self.classes_) == 2 else "softmax"
        return GaussianProcess(gpytorch.kernels.RBFKernel(), likelihood=likelihood)

    def fit(self, X: Any, y: Any) -> EvidenceClassifier:
        """Fit every model, and keep the one of largest evidence.

        Args:
            X: inputs, (n, d).
            y: class labels, (n,): integers, booleans or texts.
        """
        X, y = validate_data(self, X, y, dtype=np.float64, ensure_min_samples=2)
        check_classification_targets(y)
        self.classes_, codes = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(
                f"y must hold at least two classes, got one class: {self.classes_.tolist()[0]!r}"
            )
        self._fit_models(X, codes)
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities of the classes in the order of `classes_`, (m, C)."""
        X = self._inputs(X)
        posterior: Any = self.posterior_
        found: np.ndarray = posterior.predict(X).probs.numpy()
        return found if found.ndim == 2 else np.stack([1 - found, found], 1)

    def predict(self, X: Any) -> np.ndarray:
        """The most probable class of each row, (m,)."""
        best = self.predict_proba(X).argmax(1)
        found: np.ndarray = self.classes_[best]
        return found
