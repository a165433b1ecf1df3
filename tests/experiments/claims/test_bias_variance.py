"""Tests of `bayesgen.experiments.claims.bias_variance`."""

import importlib

import numpy as np
import pytest
import torch

from bayesgen.experiments import bias_variance

module = importlib.import_module("bayesgen.experiments.claims.bias_variance")
TINY = {"n": 20, "repetitions": 3, "members": 2, "epochs": 3}


def test_soft_polynomial_has_low_bias_and_low_variance():
    simple, moderate = (
        module.polynomial_cell(name, 40, 0.04, 8, 0) for name in module.FUNCTIONS[:2]
    )
    low, high, soft = moderate["error"]
    assert moderate["bias2"][0] > 0.1
    assert soft < 0.7 * high
    assert soft < 0.1 * low
    low, high, soft = simple["error"]
    assert soft < 0.5 * high
    assert simple["rate"] > moderate["rate"]


def test_variance_of_least_squares_is_that_of_theory():
    found = module.polynomial_cell(module.FUNCTIONS[2], 40, 0.04, 100, 0)
    Phi, new = (
        np.polynomial.legendre.legvander(np.linspace(-1, 1, count), 15)
        for count in (40, module.POINTS)
    )
    want = 0.04 * np.square(new @ np.linalg.pinv(Phi)).sum(1).mean()
    np.testing.assert_allclose(found["variance"][1], want, rtol=0.15)
    assert abs(found["bias2"][1]) < 0.1 * want


def test_forest_has_less_variance_than_a_tree():
    found = module.forest_cell(module.FUNCTIONS[1], 40, 0.04, 6, 0)
    assert found["variance"][1] < 0.7 * found["variance"][0]
    assert found["error"][1] < found["error"][0]


def test_an_ensemble_averages_over_its_members_only():
    generator = torch.Generator().manual_seed(0)
    shared = torch.randn(2000, 1, 1, generator=generator, dtype=torch.float64)
    own = torch.randn(2000, 8, 1, generator=generator, dtype=torch.float64)
    parts = module.decomposed(0.5 + 0.7 * shared + own, torch.zeros(1, dtype=torch.float64))
    np.testing.assert_allclose(parts["one"], (0.25, 0.49 + 1.0), rtol=0.12)
    np.testing.assert_allclose(parts["mean"], (0.25, 0.49 + 1 / 8), rtol=0.12)


def test_an_ensemble_of_networks_has_no_more_variance_than_one():
    found = module.network_cell(module.FUNCTIONS[2], 20, 0.04, 3, 0, 3, 20)
    np.testing.assert_allclose(found["bias2"][0], found["bias2"][1])
    assert found["variance"][1] < found["variance"][0]


def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "TREES", 3)
    result = bias_variance(store=tmp_path, **TINY)
    files = sorted(tmp_path.glob("*.nc"))
    assert len(files) == 9
    for path in files[::3]:
        path.unlink()
    again = bias_variance(store=tmp_path, **TINY)
    for name in result.data_vars:
        np.testing.assert_allclose(result[name], again[name])
    assert len(bias_variance.plot(result).axes) == 3
    assert result.attrs["holds"] in ("partly", "no")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"n": 10}, "n must be"),
        ({"repetitions": 1}, "repetitions must be"),
        ({"noise": 0.0}, "noise must be"),
    ],
)
def test_bad_settings_are_named(settings, words):
    with pytest.raises(ValueError, match=words):
        bias_variance(**settings)
