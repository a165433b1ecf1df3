"""Tests of `bayesgen.pacbayes.capacity`."""

import itertools
import math

import pytest
import torch

from bayesgen import pacbayes


def test_capacity_bounds_match_formulas_by_hand():
    growth = 11 * (math.log(200 / 11) + 1)
    want = 0.1 + math.sqrt((growth + math.log(4 / 0.05)) / 100)
    assert float(pacbayes.vc(0.1, 11, 100)) == pytest.approx(want)
    want = 0.1 + 2 * 0.05 / 0.5 + 3 * math.sqrt(math.log(2 / 0.05) / 200)
    assert float(pacbayes.rademacher(0.1, 0.05, 0.5, 100)) == pytest.approx(want)
    inner = 16 * math.log(34 * math.e * 1000 / 16) * math.log2(578_000) + math.log(80)
    want = 0.1 + math.sqrt(2 / 1000 * inner)
    assert float(pacbayes.fat_shattering(0.1, 16.0, 1000)) == pytest.approx(want)


def test_sampled_rademacher_matches_average_over_all_signs(rng):
    x = torch.from_numpy(rng.standard_normal((8, 3)))
    K = x @ x.mT
    signs = torch.tensor(list(itertools.product((-1.0, 1.0), repeat=8)), dtype=torch.float64)
    exact = float((signs @ x).norm(dim=1).mean()) * 2.0 / 8
    got = pacbayes.rademacher_sampled(K, 2.0, draws=20_000)
    assert abs(got.value - exact) < 4 * got.error
    trace = float(pacbayes.rademacher_trace(K, 2.0))
    assert exact <= trace <= float(pacbayes.rademacher_norm(x, 2.0)) + 1e-12


def test_class_that_fits_random_labels_has_vacuous_rademacher_bound(rng):
    K = torch.eye(100, dtype=torch.float64)  # Every task has a function of norm √n.
    norm = math.sqrt(100)
    capacity = pacbayes.rademacher_sampled(K, norm, draws=50).value
    assert capacity == pytest.approx(1.0)
    assert float(pacbayes.rademacher(0.0, capacity, 1.0, 100)) > 1


def test_vc_saturates_where_everything_is_shattered():
    assert float(pacbayes.vc(0.0, 1000, 100)) > 1
    assert float(pacbayes.vc(0.0, 1e9, 100)) == float(pacbayes.vc(0.0, 1000, 100))
    values = pacbayes.vc(0.0, torch.tensor([1.0, 5.0, 20.0, 99.0]), 100)
    assert (values.diff() > 0).all()
    assert (pacbayes.fat_shattering(0.0, torch.tensor([1.0, 10.0, 1e9]), 100) > 0.5).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: pacbayes.vc(0.1, 0.5, 10), "dimension must be finite and at least 1"),
        (lambda: pacbayes.rademacher(1.1, 0.1, 1.0, 10), r"risk must lie in \[0, 1\]"),
        (lambda: pacbayes.rademacher(0.1, -0.1, 1.0, 10), "complexity must be finite"),
        (lambda: pacbayes.rademacher(0.1, 0.1, 0.0, 10), "margin must be positive"),
        (lambda: pacbayes.rademacher_trace(torch.ones(2, 3), 1.0), "K must give a square"),
        (lambda: pacbayes.rademacher_sampled(torch.eye(2), 1.0, draws=1), "draws must be"),
        (lambda: pacbayes.fat_shattering(0.1, math.nan, 10), "dimension must be finite"),
    ],
)
def test_invalid_arguments_raise(call, message):
    with pytest.raises(ValueError, match=message):
        call()
