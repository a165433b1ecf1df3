"""Tests of `bayesgen.pacbayes.compression.selection`."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from torch import nn

from bayesgen import pacbayes
from bayesgen.pacbayes import Compressed, compress_best
from bayesgen.pacbayes.compression.selection import least_bound

FEW = {"epochs": 2, "quantised_epochs": 1, "batch": 128}


def test_the_selected_network_has_the_least_bound_and_pays_for_all_settings(digits, net):
    x, y = digits.x_train, digits.y_train
    grid = [(k, L, s) for k in (20, 60) for L in (3, 5) for s in (0, 7)]
    best = compress_best(
        net, x, y, dimensions=(20, 60), levels=(3, 5), seeds=(0, 7), candidates=3, **FEW
    )
    found = [pacbayes.compress(net, x, y, dimension=k, levels=L, seed=s, **FEW) for k, L, s in grid]
    bounds = [one.certificate(candidates=24).bound for one in found]
    assert best.code == found[int(np.argmin(bounds))].code
    assert best.candidates == 24
    assert best.certificate().bound == min(bounds)
    assert best.certificate().payments[0].nats == pytest.approx(math.log(24))
    chosen = best.settings
    assert (chosen["dimension"], chosen["levels"], chosen["seed"]) in grid


def test_the_certificate_cannot_be_had_without_the_payment(digits, net):
    best = compress_best(net, digits.x_train, digits.y_train, dimensions=(20, 30), **FEW)
    free = dataclasses.replace(best, candidates=1)
    assert best.certificate().bound > free.certificate().bound
    assert best.certificate(candidates=5).bound == free.certificate(candidates=10).bound
    assert not free.certificate().payments


def test_the_projection_is_selected_too(digits, net):
    best = compress_best(
        net, digits.x_train, digits.y_train, dimensions=(30,), projections=("sparse", "kronecker"),
        **FEW,
    )  # fmt: skip
    assert best.candidates == 2
    assert best.projection in ("sparse", "kronecker")
    decoded = pacbayes.decode(best.code, net, best.projection)
    assert all(
        torch.equal(a, b)
        for a, b in zip(decoded.parameters(), best.decoded().parameters(), strict=True)
    )


def test_without_the_payment_the_bound_of_the_best_of_many_fails():
    """Networks whose codes are equal and that predict independent coins have a risk of ½ each."""
    n, delta, draws, rng = 200, 0.2, 400, np.random.default_rng(0)
    single = Compressed(b"a", nn.Linear(1, 2), "kronecker", 0.5, n, 2)
    # Enough candidates that the best of them beats the length of one byte by itself.
    K = round(20 * math.exp(-float(single.log_prior)) / delta)
    assert K < 10**7
    failures = {1: 0, K: 0}
    # The least of K independent risks: its distribution function is 1 − (1 − F)ᴷ.
    from scipy.stats import binom

    tail = 1 - (1 - rng.random(draws)) ** (1 / K)
    for least in binom.ppf(tail, n, 0.5) / n:
        one = dataclasses.replace(single, risk=float(least))
        for paid in failures:
            best = dataclasses.replace(one, candidates=paid)
            failures[paid] += best.certificate(delta).bound < 0.5
    assert failures[1] / draws > 2 * delta
    assert failures[K] / draws <= delta


def test_one_candidate_alone_needs_no_payment():
    """The same coins without a selection: the bound holds with the length of the code alone."""
    n, delta, rng = 200, 0.2, np.random.default_rng(1)
    single = Compressed(b"a", nn.Linear(1, 2), "kronecker", 0.5, n, 2)
    risks = rng.binomial(n, 0.5, 400) / n
    failed = [dataclasses.replace(single, risk=r).certificate(delta).bound < 0.5 for r in risks]
    assert np.mean(failed) <= delta


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dimensions": ()}, "dimensions must be one or more different settings"),
        ({"dimensions": 20}, "dimensions must be a list of settings, got 20"),
        ({"levels": (3, 3)}, "levels must be one or more different settings"),
        ({"levels": (3, 300)}, r"levels must lie in 2\.\.255, got 300"),
        ({"seeds": (0, -1)}, "seed must be an integer of at least 0, got -1"),
        ({"projections": "sparse"}, "projections must be a list"),
        ({"projections": ("sparse", "dense")}, "projection must be one of"),
        ({"candidates": 0}, "candidates must be an integer of at least 1"),
        ({"dimensions": (20, 10**6)}, "dimensions must be at most the net's 1,810 parameters"),
    ],
)
def test_settings_are_checked_before_training(digits, net, change, message):
    calls = []

    def report(done, expected, what):
        calls.append(done)

    with pytest.raises(ValueError, match=message):
        compress_best(
            net,
            digits.x_train,
            digits.y_train,
            **{"dimensions": (20,), "progress": report, **FEW, **change},
        )
    assert calls == []


def test_unknown_training_settings_and_nets_raise(digits, net):
    x, y = digits.x_train, digits.y_train
    with pytest.raises(TypeError, match="epoch"):
        compress_best(net, x, y, dimensions=(20,), epoch=2)
    with pytest.raises(TypeError, match=r"net must be a torch\.nn\.Module"):
        compress_best("net", x, y, dimensions=(20,))


def test_progress_counts_the_epochs_of_all_networks(digits, net):
    seen = []
    compress_best(
        net, digits.x_train, digits.y_train, dimensions=(20, 30), **FEW,
        progress=lambda done, expected, what: seen.append((done, expected, what)),
    )  # fmt: skip
    assert [done for done, _, _ in seen] == [1, 2, 3, 4, 5, 6]
    assert {expected for _, expected, _ in seen} == {6}
    assert seen[-1][2].startswith("dimension 30, quantised")


def test_least_bound_names_what_it_cannot_select_from():
    one = Compressed(b"a", nn.Linear(1, 2), "kronecker", 0.5, 100, 2)
    with pytest.raises(ValueError, match="found must be one or more"):
        least_bound([], 3)
    with pytest.raises(ValueError, match="candidates must be at least the number of networks, 2"):
        least_bound([one, one], 1)
    with pytest.raises(ValueError, match="not selected before"):
        least_bound([dataclasses.replace(one, candidates=2)], 3)
    with pytest.raises(ValueError, match=r"networks of one sample, got \[50, 100\]"):
        least_bound([one, dataclasses.replace(one, n=50)], 3)
