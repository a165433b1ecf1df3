"""Tests of `bayesgen.experiments.claims.full_batch`."""

import importlib

import numpy as np
import pytest

from bayesgen.experiments import full_batch

module = importlib.import_module("bayesgen.experiments.claims.full_batch")


def test_full_batches_generalise_like_sgd_at_one_training_loss(tmp_path):
    settings = {"architectures": ["MLP"], "n": 100, "loss": 0.4, "seeds": 2}
    result = full_batch(store=tmp_path, **settings)
    assert (result.train_loss <= 0.4).all()
    assert (result.train_loss > 0.2).all()
    mean = result.test_error.mean("seed")
    assert float(abs(mean.sel(batch=0) - mean.sel(batch=10)).max()) < 0.05
    assert (result.epochs.sel(batch=0) > 3 * result.epochs.sel(batch=10)).all()
    files = sorted(tmp_path.glob("*.nc"))
    assert len(files) == 6
    files[0].unlink()
    again = full_batch(store=tmp_path, **settings)
    for name in result.data_vars:
        np.testing.assert_allclose(result[name], again[name])
    assert len(full_batch.plot(result).axes) == 3


def test_a_loss_that_is_not_reached_is_an_error(monkeypatch):
    monkeypatch.setattr(module, "_MOST", 2)
    with pytest.raises(RuntimeError, match="MLP with batch 10: loss .* after 2 epochs"):
        module.descent("MLP", 40, 1e-9, 10, 0)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"architectures": ["RNN"]}, "architectures must be one of"),
        ({"loss": 0.0}, "loss must be"),
        ({"seeds": 1}, "seeds must be"),
    ],
)
def test_bad_settings_are_named(settings, words):
    with pytest.raises(ValueError, match=words):
        full_batch(**settings)
