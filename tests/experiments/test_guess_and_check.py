"""Tests of `bayesgen.experiments.guess_and_check`, `bayesgen.experiments.prior_mass` and
`bayesgen.plots.guesses`.
"""

import numpy as np
import pytest
import torch
import xarray as xr

from bayesgen import experiments, networks
from bayesgen.experiments.guess_and_check import Solutions, _trained, matched
from bayesgen.experiments.guess_problems import problem
from bayesgen.experiments.guesses import Guesser

TINY = {"problems": ["digits 0/1", "blobs"], "models": ["linear", "LeNet-like"], "sizes": [2, 4],
        "guesses": 300, "solutions": 3, "draws": 1}  # fmt: skip


def test_matched_solutions_differ_less_than_unmatched_ones_and_guesses_generalise():
    result = experiments.guess_and_check(
        models=["linear", "MLP"], sizes=[4, 8], guesses=10_000, solutions=40, draws=2
    )
    plain = float((result.guess_error - result.sgd_error).mean())
    own = float((result.matched_guess_error - result.matched_sgd_error).mean())
    assert plain > 0.05
    assert abs(own) < 0.5 * plain
    assert (result.guess_error.mean("draw") < 0.45).all()
    share = result.share.mean("draw")
    assert (share.sel(n=8) < share.sel(n=4)).all()
    np.testing.assert_allclose(result.log_marginal_likelihood, np.log(result.share))


def test_matching_compares_solutions_of_one_loss():
    """The error is a function of the loss, but the two sets have different losses."""
    loss = torch.linspace(0, 1, 400, dtype=torch.float64)
    high, low = loss[loss > 0.3], loss[loss < 0.6]
    found = matched(Solutions(high, high), Solutions(low, low))
    assert abs(found["matched_guess_error"] - found["matched_sgd_error"]) < 0.02
    assert found["guess_bin_count"].sum() == len(high)
    assert found["sgd_bin_count"].sum() == len(low)
    apart = matched(Solutions(loss[:100], loss[:100]), Solutions(loss[300:], loss[300:]))
    assert np.isnan(apart["matched_guess_error"])
    shifted = matched(Solutions(loss, loss + 0.25), Solutions(loss, loss))
    difference = shifted["matched_guess_error"] - shifted["matched_sgd_error"]
    assert difference == pytest.approx(0.25)


def test_resumed_run_equals_an_uninterrupted_one_and_its_figure_draws(tmp_path):
    whole = experiments.guess_and_check(**TINY)

    def stop(done, expected, what):
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        experiments.guess_and_check(**TINY, store=tmp_path / "cells", progress=stop)
    resumed = experiments.guess_and_check(**TINY, store=tmp_path / "cells")
    xr.testing.assert_identical(
        whole.drop_vars("rate").drop_attrs(), resumed.drop_vars("rate").drop_attrs()
    )
    assert np.isnan(resumed.share.sel(problem="blobs", model="LeNet-like")).all()
    figure = experiments.guess_and_check.plot(resumed)
    assert len(figure.axes) == 6
    axes = figure.axes[2]
    drawn = axes.lines[0].get_ydata()
    np.testing.assert_array_equal(
        drawn, resumed.guess_error.sel(problem="digits 0/1").values.ravel()
    )


def test_prior_mass_prefers_true_to_random_labels_and_resumes(tmp_path):
    settings = {"widths": [1, 8], "n": 4, "guesses": 3000, "draws": 2}
    result = experiments.prior_mass(**settings, store=tmp_path)
    share = result.share.sel(problem="digits 0/1")
    assert (share.sel(label="true") > 2 * share.sel(label="random")).all()
    assert (result.share_low <= result.share).sum() == result.share.notnull().sum()
    pooled = result.accepted.sum("draw", skipna=False) / 6000
    np.testing.assert_allclose(result.share, pooled)
    again = experiments.prior_mass(**settings, store=tmp_path)
    xr.testing.assert_identical(result.drop_attrs(), again.drop_attrs())
    figure = experiments.prior_mass.plot(result)
    assert len(figure.axes) == 6


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"problems": "blobs"}, "problems must be one or more different names"),
        ({"models": ["cnn"]}, "models must be one of"),
        ({"sizes": [4, 2]}, "sizes must be increasing numbers"),
        ({"sizes": [3]}, "sizes must be even numbers"),
        ({"sizes": 3}, "sizes must be increasing numbers"),
        ({"problems": ["digits 0/1"], "sizes": [400]}, "n must leave test points"),
        ({"guesses": 0}, "guesses must be"),
    ],
)
def test_bad_settings_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        experiments.guess_and_check(**(TINY | change))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"problems": []}, "problems must be one or more different names"),
        ({"widths": [2]}, "widths must be increasing numbers, two or more"),
        ({"n": 3}, "n must be even"),
        ({"draws": 0}, "draws must be"),
    ],
)
def test_bad_settings_of_prior_mass_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        experiments.prior_mass(**change)


def test_trained_networks_do_not_start_from_guesses_or_from_solutions():
    points = problem("blobs", 4, 0)
    guesser = Guesser(networks.MLP(points.x.shape[1], (), 1))
    starts = []
    guesser.descend = lambda start, *_, **__: starts.append(start) or iter([start])
    _trained(guesser, points, 20, 0)
    guesses, _ = next(guesser.batches(points.x, 3000, seed=0))
    assert not (starts[0][:, None] == guesses).all(2).any()
    assert not ((guesser.scores(starts[0], points.x) > 0) == points.y.bool()).all(1).any()
