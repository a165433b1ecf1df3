"""Tests of `bayesgen.evidence`."""

import math

import pytest
import torch

from bayesgen import Evidence
from bayesgen.evidence import same_data


def make(**changes):
    parts = {"fit": -10.0, "complexity": 2.5, "n": 5, "effective_dimension": 1.2}
    return Evidence(**{**parts, **changes})


def test_log_evidence_is_fit_minus_complexity():
    evidence = make()
    assert evidence.log_marginal_likelihood.item() == -12.5
    assert evidence.per_observation.item() == -2.5
    assert evidence.bits.item() == pytest.approx(-12.5 / math.log(2))
    assert evidence.fit.dtype == torch.float64


def test_batches_broadcast_and_index():
    evidence = make(fit=torch.tensor([-1.0, -2.0], dtype=torch.float64))
    assert evidence.batch_shape == (2,)
    assert evidence[1].log_marginal_likelihood.item() == -4.5
    assert evidence.complexity.shape == evidence.error.shape == (2,)


def test_bayes_factor_subtracts_evidences_of_same_data():
    assert make().log_bayes_factor(make(complexity=4.0)).item() == 1.5
    with pytest.raises(ValueError, match=r"n=5 observations, other has n=6"):
        make().log_bayes_factor(make(n=6))
    with pytest.raises(TypeError, match="other must be an Evidence, got float"):
        make().log_bayes_factor(1.0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n": 0}, "n must be an integer of at least 1, got 0"),
        ({"n": 2.0}, "n must be an integer"),
        ({"fit": math.nan}, "fit must be finite"),
        ({"complexity": -0.1}, "complexity is a Kullback–Leibler divergence"),
        ({"complexity": torch.ones(2), "fit": torch.ones(3)}, "must share a batch shape"),
    ],
)
def test_invalid_parts_raise(changes, message):
    with pytest.raises(ValueError, match=message):
        make(**changes)


def test_repr_shows_error_and_jitter_only_when_relevant():
    assert "±" not in repr(make(error=1e-9))
    assert "± 0.5" in repr(make(error=0.5))
    assert "jitter" not in repr(make())
    assert "jitter 1e-08 was added" in repr(make(jitter=1e-8))


def test_evidence_is_frozen():
    with pytest.raises(AttributeError):
        make().fit = torch.zeros(())


@pytest.mark.parametrize(("size", "last"), [(1.0, 1e-6), (1e-3, 1e-6), (1e4, 1e-2)])
def test_repr_shows_an_error_above_the_sixth_digit(size, last):
    assert "±" in repr(make(fit=-size, complexity=0.0, error=1.01 * last))
    assert "±" not in repr(make(fit=-size, complexity=0.0, error=0.99 * last))


@pytest.mark.parametrize(("mark", "other"), [(0, 1), (1, 0), (0, 0), (1, 1), (2, 2)])
def test_an_unknown_fingerprint_agrees_with_any(mark, other):
    same_data("a", make(fingerprint=mark), "b", make(fingerprint=other))


@pytest.mark.parametrize(("mark", "other"), [(1, 2), (2, 1)])
def test_other_fingerprints_disagree(mark, other):
    with pytest.raises(ValueError, match="a and b were fitted to different targets"):
        same_data("a", make(fingerprint=mark), "b", make(fingerprint=other))
