"""Tests of `bayesgen.spectrum.maximise`."""

import importlib
import math

import numpy as np
import pytest
import scipy.optimize
import torch

from bayesgen import Spectrum
from tests.spectrum.problems import problem

F64 = torch.float64


def brute_force(spectrum, *, scale=None, noise=None):
    """Best of many Nelder–Mead runs over the free settings."""

    def negative(logs):
        logs = iter(np.clip(logs, -30, 30))
        s = scale if scale is not None else math.exp(next(logs))
        v = noise if noise is not None else math.exp(next(logs))
        return -float(spectrum.log_marginal_likelihood(s, v))

    free = (scale is None) + (noise is None)
    starts = np.stack(np.meshgrid(*[np.linspace(-6, 3, 4)] * free), -1).reshape(-1, free)
    options = {"xatol": 1e-9, "fatol": 1e-11, "maxiter": 4000}
    return max(
        -scipy.optimize.minimize(negative, s, method="Nelder-Mead", options=options).fun
        for s in starts
    )


@pytest.mark.parametrize("kept", [{}, {"noise": 0.3}, {"scale": 2.0}, {"scale": 2.0, "noise": 0.3}])
@pytest.mark.parametrize("seed", [0, 1])
def test_maximum_matches_brute_force(kept, seed):
    K, _ = problem(25, 1, seed)
    generator = torch.Generator().manual_seed(seed)
    noise = 0.3 * torch.randn(25, generator=generator, dtype=F64)
    y = torch.linalg.cholesky(K + 1e-9 * torch.eye(25, dtype=F64)) @ torch.randn(
        25, generator=generator, dtype=F64
    )
    spectrum = Spectrum.dense(K, y + noise)
    best = spectrum.maximise(**kept)
    got = best.evidence.log_marginal_likelihood.item()
    if len(kept) == 2:
        assert (float(best.scale), float(best.noise)) == (2.0, 0.3)
        assert got == spectrum.evidence(**kept).log_marginal_likelihood.item()
        return
    assert not best.at_bound
    assert got >= brute_force(spectrum, **kept) - 1e-7
    gradient = spectrum.derivatives(best.scale, best.noise).gradient
    for i, name in enumerate(("scale", "noise")):
        if name in kept:
            assert getattr(best, name).item() == kept[name]
        else:
            assert abs(gradient[i].item()) < 1e-6


def test_pure_signal_and_pure_noise_end_at_bound():
    x = torch.linspace(0, 1, 30, dtype=F64)[:, None]
    K = torch.exp(-((x - x.mT) ** 2) * 4)
    signal = Spectrum.dense(K, K @ torch.randn(30, dtype=F64, generator=torch.Generator()))
    assert signal.maximise().at_bound
    alternating = torch.tensor([1.0, -1.0], dtype=F64).repeat(15)
    noise = Spectrum.dense(K, alternating).maximise()
    assert noise.at_bound
    assert noise.noise.item() == pytest.approx(1.0, rel=1e-3)  # It is the targets' variance.


def test_search_ends_at_the_rounding_level_and_far_above_the_largest_eigenvalue():
    """The range is 10nε to 10⁶ times the largest eigenvalue, in σ²/s."""
    K = torch.diag(torch.linspace(1.0, 2.0, 20, dtype=F64))
    eps = torch.finfo(F64).eps
    signal = Spectrum.dense(K, K.diagonal()).maximise()
    assert signal.at_bound
    assert float(signal.noise / signal.scale) == pytest.approx(10 * 20 * eps * 2.0, rel=1e-6, abs=0)
    noise = Spectrum.dense(K, 1 / K.diagonal()).maximise()
    assert noise.at_bound
    assert float(noise.noise / noise.scale) == pytest.approx(1e6 * 2.0)


@pytest.mark.parametrize("name", ["scale", "noise"])
def test_kept_setting_has_the_batch_shape(name):
    K, y = problem(12, 1, 0, (3,))
    spectrum = Spectrum.dense(K, y)
    one, three = torch.tensor(0.5, dtype=F64), torch.full((3,), 0.5, dtype=F64)
    torch.testing.assert_close(
        spectrum.maximise(**{name: one}).evidence.fit,
        spectrum.maximise(**{name: three}).evidence.fit,
    )
    for wrong in (three[:2], three[:1], three[:, None]):
        with pytest.raises(ValueError, match=f"{name} must be a number or of the batch shape"):
            spectrum.maximise(**{name: wrong})


def test_many_tasks_take_few_steps(monkeypatch):
    """Newton's steps converge, so that bisection is the exception."""
    found = importlib.import_module("bayesgen.spectrum.maximise")
    calls, plain = [], found.slopes_and_bends
    monkeypatch.setattr(found, "slopes_and_bends", lambda *a: (calls.append(1), plain(*a))[1])
    K, _ = problem(25, 1, 0)
    root = torch.linalg.cholesky(K + 1e-6 * torch.eye(25, dtype=F64))
    y = torch.stack([(root + 0.3 * torch.eye(25)) @ torch.randn(25, dtype=F64) for _ in range(20)])
    Spectrum.dense(K, y[..., None]).maximise()
    assert len(calls) <= 12


def test_nothing_is_searched_where_both_settings_are_kept(monkeypatch):
    found = importlib.import_module("bayesgen.spectrum.maximise")

    def never(*_):
        raise AssertionError("a search began")

    monkeypatch.setattr(found, "slopes_and_bends", never)
    K, y = problem(12, 1, 0, (3,))
    best = Spectrum.dense(K, y).maximise(scale=2.0, noise=0.3)
    assert best.scale.tolist() == [2.0] * 3
    assert not best.at_bound.any()
