"""Estimators with the interface of scikit-learn, whose evidence is an attribute."""

from bayesgen.sklearn.estimators import EvidenceClassifier, EvidenceRegressor

__all__ = ["EvidenceClassifier", "EvidenceRegressor"]
