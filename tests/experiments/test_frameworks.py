"""Tests of `bayesgen.experiments.frameworks`, `bayesgen.experiments.framework_bounds` and
`bayesgen.plots.frameworks`."""

import importlib
import math
import runpy
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st

from bayesgen import data as datasets, experiments
from bayesgen.experiments import framework_bounds as five

module = importlib.import_module("bayesgen.experiments.frameworks")
DOCS = Path(__file__).parents[2] / "docs"
SMALL = {"groups": ((3,), (8,)), "features": "relu", "train": 150, "seeds": 2}
SHARES = st.lists(st.floats(0, 2), min_size=3, max_size=3)


def kl(p, q):
    """Binary kl divergence of numbers."""
    parts = ((p, q), (1 - p, 1 - q))
    return sum(a * math.log(a / b) for a, b in parts if a > 0)


def toy(seed, n=60, d=80, flip=0.1):
    """Points on a sphere, labels of a hyperplane with some flipped, and its normal."""
    generator = torch.Generator().manual_seed(seed)
    phi = five.unit(torch.randn(n, d, generator=generator, dtype=torch.float64))
    normal = torch.zeros(d, dtype=torch.float64)
    normal[0] = 1.0
    clean = (phi @ normal > 0).long()
    flipped = torch.rand(n, generator=generator) < flip
    return phi, torch.where(flipped, 1 - clean, clean), clean


def fits_of(phi, labels):
    return five.ridge_fits(phi, labels, torch.linalg.eigh(phi @ phi.T))


@pytest.fixture(scope="module")
def small():
    return experiments.frameworks("digits", **SMALL)


def test_bounds_of_classes_equal_their_formulas():
    phi, labels, _ = toy(0)
    (fits,), n, d = fits_of(phi, labels[None]), 60, 80
    fit, norms, delta, margin = fits[0], [1.0, 64.0], 0.1, 0.5
    assert fit.margin_risk(0.99) == 0.0
    vc = five.vc(fits, delta)
    assert vc.bound == pytest.approx(math.sqrt((2 * n * math.log(2) + math.log(4 / delta)) / n))
    rademacher = five.rademacher(fits, 64.0, norms, margin, delta)
    tail = 3 * math.sqrt(math.log(2 / (delta / 2)) / (2 * n))
    assert rademacher.bound == pytest.approx(2 * 64 / math.sqrt(n) / margin + tail)
    fat = five.fat_shattering(fits, 64.0, norms, margin, delta)
    capacity = d * math.log(34 * math.e * n / d) * math.log2(578 * n)
    assert fat.capacity == d
    assert fat.bound == pytest.approx(math.sqrt(2 / n * (capacity + math.log(4 / (delta / 2)))))
    assert rademacher.own_bound <= rademacher.bound
    assert fat.own_bound <= fat.bound


def test_bounds_of_hypotheses_equal_their_formulas():
    phi, labels, _ = toy(1)
    n, delta = 60, 0.1
    (certificate,) = five.certificates(phi, labels[None], delta)
    gauss = five.pac_bayes(certificate)
    budget = (gauss.capacity + math.log(2 * math.sqrt(n) / delta)) / n
    assert kl(gauss.risk, gauss.bound) == pytest.approx(budget, rel=1e-6)
    ((interpolant, *_),) = fits_of(phi, labels[None])
    coded = five.countable(phi, labels, interpolant, delta)
    nats = coded.capacity * math.log(2) + 2 * math.log(coded.capacity)
    budget = (nats + math.log(five.CANDIDATES) + math.log(1 / delta)) / n
    assert kl(coded.risk, coded.bound) == pytest.approx(budget, rel=1e-6)
    for row in (gauss, coded):
        assert row.fit_error == 0.0
        assert row.fit_bound >= row.bound - 1e-6
        assert row.complexity == row.bound - row.risk


def test_spectrum_of_the_certificate_gives_the_ridge_regressions():
    phi, labels, _ = toy(2)
    (certificate,) = five.certificates(phi, labels[None], 0.05)
    (found,) = five.ridge_fits(phi, labels[None], five.decomposed(certificate))
    y = (2 * labels - 1).double()
    K = phi @ phi.T
    for fit, ridge in zip(found[1:], five._RIDGES, strict=True):
        alpha = torch.linalg.solve(K + ridge * K.trace() / 60 * torch.eye(60), y)
        torch.testing.assert_close(fit.w, phi.T @ alpha)
        assert fit.norm == pytest.approx(float((phi.T @ alpha).norm()))


@pytest.mark.slow
def test_bounds_cover_the_known_risk_of_the_toy_problem():
    """The risk of a disagreement p with the hyperplane is η + (1 − 2η)p, with p from new points."""
    delta, flip, missed = 0.5, 0.1, {"PAC-Bayes": 0, "countable": 0}
    new, _, clean = toy(999, n=20_000, d=60)
    for seed in range(16):
        phi, labels, _ = toy(seed, n=50, d=60, flip=flip)
        (certificate,) = five.certificates(phi, labels[None], delta)
        ((interpolant, *_),) = fits_of(phi, labels[None])
        coded = five.countable(phi, labels, interpolant, delta, seed)
        errors = {
            "PAC-Bayes": (certificate.bound, five._gibbs_error(certificate.posterior, new, clean)),
            "countable": (coded.bound, coded.error(new, clean)),
        }
        for name, (bound, p) in errors.items():
            missed[name] += flip + (1 - 2 * flip) * p > bound
    assert max(missed.values()) <= 13, missed  # P(Bin(16, ½) > 13) = 0.002


def test_bounds_hold_and_those_of_random_labels_are_vacuous(small):
    assert dict(small.sizes) == {"framework": 5, "labels": 2, "seed": 2}
    real, random = small.sel(labels="real"), small.sel(labels="random")
    assert (real.test_error <= real.bound).all()
    assert (random.bound >= 0.5).all()
    assert (random.fit_bound >= 0.5).all()
    assert (small.fit_error == 0).all()
    assert (small.fit_bound >= small.bound - 1e-6).all()
    np.testing.assert_allclose(small.risk + small.complexity, small.bound)
    classes = small.sel(framework=["Rademacher", "VC dimension", "fat shattering"])
    assert (classes.bound >= 1).all()
    np.testing.assert_allclose(classes.bound.sel(labels="real"), classes.bound.sel(labels="random"))
    assert bool(small.passes.sel(framework="PAC-Bayes"))
    assert not small.passes.sel(framework=classes.framework).any()
    assert small.attrs["holds"] in ("yes", "partly")


def test_passing_follows_from_the_bounds(small):
    for name in small.framework.values:
        one = small.sel(framework=name)
        real, random = one.bound.values
        expected = (real <= small.guessing.values[0] - 0.05).all() and (random >= 0.5).all()
        assert bool(one.passes) == expected


@given(real=SHARES, random=SHARES, errors=SHARES, worse=st.floats(0, 1))
def test_the_test_asks_for_all_three_conditions_and_every_seed(real, random, errors, worse):
    passed = module.passes(real, random, [0.5] * 3, errors)
    wanted = max(real) <= 0.45 and min(random) >= 0.5 and max(errors) <= 0.01
    assert passed == wanted
    if not passed:  # Larger bounds on real labels, or smaller ones on random labels, do not help.
        assert not module.passes([r + worse for r in real], random, [0.5] * 3, errors)
        assert not module.passes(real, [r - worse for r in random], [0.5] * 3, errors)
    assert module.passes([0.3], [0.6], [0.5], [0.0])
    assert not module.passes([0.3], [0.6], [0.5], [0.02])
    assert not module.passes([math.nan], [0.6], [0.5], [0.0])


def test_rounded_weights_are_those_of_the_levels_and_cost_their_bytes():
    w = torch.randn(300, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    near, bits = five.rounded(w, 255)
    near = near * w.abs().max()
    assert float((near - w).abs().max()) <= float(w.abs().max()) * (1 / 254 + 1e-3)
    assert bits % 8 == 0
    assert bits > five.rounded(w, 15)[1]
    with pytest.raises(ValueError, match="levels must lie in 2..255, got 256"):
        five.rounded(w, 256)
    with pytest.raises(ValueError, match="w must hold a weight other than 0"):
        five.rounded(torch.zeros(3, dtype=torch.float64), 3)


def test_table_and_figure_show_every_framework(small):
    lines = small.attrs["table"].splitlines()
    assert [line.split(" | ")[0] for line in lines[2:]] == [f"| {f}" for f in five.FRAMEWORKS]
    assert len({line.count("|") for line in lines}) == 1
    bound = float(small.bound.sel(framework="PAC-Bayes", labels="real").mean())
    assert f"= {bound:.3f} |" in lines[2]
    figure = experiments.frameworks.plot(small)
    figure.draw_without_rendering()
    words = [text.get_text() for text in figure.axes[0].texts]
    assert words.count("passes") == int(small.passes.sum())
    assert f"{bound:.2f}" in words


def test_a_table_of_the_page_is_replaced_by_that_of_its_command():
    made = runpy.run_path(str(DOCS / "fill_reproduction.py"))
    page = "A\n<!-- table of x --data-dir DIR -->\nstale\n<!-- end of table -->\nB\n"
    new = made["with_table"](page, "x --data-dir /here --out there", "| new |")
    assert "| new |" in new
    assert "stale" not in new
    assert new.endswith("<!-- end of table -->\nB\n")
    assert made["with_table"](page, "y", "| new |") == page


def test_the_same_seed_gives_the_same_code_and_leaves_the_global_generator():
    state = torch.get_rng_state()
    phi, labels, _ = toy(3)
    ((interpolant, *_),) = fits_of(phi, labels[None])
    first = five.countable(phi, labels, interpolant, 0.05, 1)
    again = five.countable(phi, labels, interpolant, 0.05, 1)
    assert torch.equal(torch.get_rng_state(), state)
    assert (first.bound, first.capacity) == (again.bound, again.capacity)


def test_convolutional_features_are_more_than_the_points_and_of_length_one():
    data = datasets.subset(datasets.restrict(datasets.load("digits"), (3, 8)), 30, 20)
    phi, phi_test = module.mapped(data, "convolutional", None, 0)
    assert phi.shape[1] >= 36
    torch.testing.assert_close(phi_test.norm(dim=1), torch.ones(20, dtype=torch.float64))


@pytest.mark.parametrize(
    ("bad", "match"),
    [
        ({"groups": None}, "groups must give two classes, for which these bounds are, got 10"),
        ({"groups": ((0,), (1,), (2,))}, "groups must give two classes.*got 3"),
        ({"norms": [0.0, 1.0]}, "norms must be positive and finite, got 0"),
        ({"norms": [2.0, 1.0]}, "norms must be one or more increasing numbers"),
        ({"norms": []}, "norms must be one or more increasing numbers"),
        ({"norms": [1e-3]}, "norms must hold one of at least"),
        ({"train": 10}, "train must keep at least 20 points and both classes, got 10"),
        ({"width": 50}, "width must give at least 150 features"),
        ({"margin": 1.0}, "margin must be below 1"),
        ({"margin": 0.0}, "margin must be positive"),
        ({"delta": 0.0}, r"delta must lie in \(0, 1\)"),
        ({"features": "cos"}, "features must be one of"),
        ({"seeds": 0}, "seeds must be at least 1"),
        ({"data": "mnist"}, "name must be one of"),
    ],
)
def test_bad_input_is_named(bad, match):
    with pytest.raises(ValueError, match=match) as error:
        experiments.frameworks(**{"data": "digits", **SMALL, **bad})
    assert "\n" not in str(error.value)
