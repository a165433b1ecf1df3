"""Tests of `bayesgen.sklearn.estimators`: the interface of scikit-learn."""

import gpytorch
import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.datasets import load_diabetes, load_wine
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

import bayesgen as bg
from bayesgen.sklearn import EvidenceClassifier, EvidenceRegressor

DIABETES = load_diabetes(return_X_y=True, as_frame=True)
WINE = load_wine(return_X_y=True)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "estimator",
    [
        EvidenceRegressor(),
        pytest.param(EvidenceClassifier(), marks=pytest.mark.slow),
    ],
    ids=["regressor", "classifier"],
)
def test_scikit_learn_accepts_the_estimator(estimator):
    found = check_estimator(estimator, on_skip=None, on_fail=None)
    failed = [
        (each["check_name"], each["exception"]) for each in found if each["status"] == "failed"
    ]
    assert failed == []
    assert sum(each["status"] == "passed" for each in found) > 45


def test_the_regressor_has_the_evidence_of_its_posterior():
    X, y = DIABETES
    found = EvidenceRegressor().fit(X, y)
    model = bg.GaussianProcess(gpytorch.kernels.RBFKernel())
    same = model.fit(X.to_numpy(), y.to_numpy(), standardise=True)
    assert found.evidence_.log_marginal_likelihood == same.evidence.log_marginal_likelihood
    mean, std = found.predict(X[:5], return_std=True)
    np.testing.assert_allclose(mean, same.predict(X[:5].to_numpy()).mean)
    np.testing.assert_allclose(std, same.predict(X[:5].to_numpy()).stddev)
    assert found.feature_names_in_.tolist() == list(X.columns)
    assert found.score(X, y) > 0.5


def test_the_model_of_largest_evidence_predicts():
    X, y = DIABETES
    models = {"line": bg.Polynomial(1), "cubic": bg.Polynomial(3)}
    found = EvidenceRegressor(models).fit(X, y)
    assert found.best_model_ == found.ranking_.index[0] == "line"
    listed = EvidenceRegressor(list(models.values())).fit(X, y)
    assert listed.best_model_.startswith("0: ")
    np.testing.assert_array_equal(listed.predict(X), found.predict(X))
    again = clone(found)
    assert not hasattr(again, "posterior_")
    assert set(again.get_params()) == {"model", "standardise", "certificate"}


def test_it_works_in_pipelines_searches_and_cross_validation():
    X, y = DIABETES
    pipeline = make_pipeline(StandardScaler(), EvidenceRegressor(bg.Polynomial(1)))
    assert cross_val_score(pipeline, X, y, cv=3).mean() > 0.4
    search = GridSearchCV(
        EvidenceRegressor(), {"model": [bg.Polynomial(1), bg.Polynomial(2)]}, cv=3
    )
    assert search.fit(X, y).best_score_ > 0.4


def test_the_classifier_keeps_texts():
    X, y = WINE
    names = np.array(["red", "rosé", "white"])[y]
    found = EvidenceClassifier(bg.LinearModel(likelihood="softmax")).fit(X, names)
    assert found.classes_.tolist() == ["red", "rosé", "white"]
    assert found.score(X, names) > 0.95
    p = found.predict_proba(X[:4])
    assert p.shape == (4, 3)
    np.testing.assert_allclose(p.sum(1), 1)
    frame = pd.DataFrame(X[names != "rosé"])
    two = EvidenceClassifier().fit(
        frame.set_axis([f"c{i}" for i in range(13)], axis=1), names[names != "rosé"]
    )
    assert two.posterior_.observed.likelihood.name == "bernoulli"
    assert two.predict_proba(frame.set_axis(two.feature_names_in_, axis=1)).shape[1] == 2


def test_a_certificate_is_an_attribute_where_the_prior_was_stated():
    X, y = WINE
    X, y = StandardScaler().fit_transform(X)[y < 2], y[y < 2]
    kernel = gpytorch.kernels.ScaleKernel(gpytorch.kernels.RBFKernel())
    kernel.base_kernel.lengthscale, kernel.outputscale = 3.0, 10.0
    model = bg.GaussianProcess(kernel, likelihood="bernoulli", hyperparameters="fixed")
    found = EvidenceClassifier(model, standardise=False, certificate={"delta": 0.1}).fit(X, y)
    assert found.certificate_.delta == 0.1
    assert found.certificate_.bound < 0.5
    other = EvidenceClassifier(model).fit(X, y)
    assert not hasattr(other, "certificate_")
    with pytest.raises(AttributeError, match="fit without standardise"):
        other.certificate_  # noqa: B018


def test_what_is_no_model_is_named():
    X, y = DIABETES
    with pytest.raises(TypeError, match="model must be a model of bayesgen"):
        EvidenceRegressor("gp").fit(X, y)
    with pytest.raises(TypeError, match="got no model"):
        EvidenceRegressor([]).fit(X, y)
    with pytest.raises(ValueError, match="one class"):
        EvidenceClassifier().fit(X, np.ones(len(y), dtype=int))
