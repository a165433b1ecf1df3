"""Tests of `bayesgen.pacbayes.bounds`."""

import math

import mpmath
import pytest
import torch
from hypothesis import given, strategies as st
from scipy.optimize import brentq

import bayesgen as bg
from bayesgen import pacbayes
from bayesgen.pacbayes import maurer

RISK = st.floats(0, 1)


KL = st.floats(0, 500)


N = st.integers(10, 100_000)


DELTA = st.floats(1e-6, 0.5)


UNIT = [
    pacbayes.maurer,
    pacbayes.mcallester,
    pacbayes.quadratic,
    pacbayes.thiemann,
    pacbayes.catoni,
    pacbayes.catoni_union,
    pacbayes.alquier,
]


@given(RISK, KL, N, DELTA)
def test_bounds_are_ordered_as_theory_states(risk, kl, n, delta):
    tight = pacbayes.maurer(risk, kl, n, delta)
    assert tight <= pacbayes.mcallester(risk, kl, n, delta=delta) + 1e-9
    assert tight <= pacbayes.quadratic(risk, kl, n, delta) + 1e-9
    assert tight >= risk - 1e-12
    torch.testing.assert_close(
        pacbayes.thiemann(risk, kl, n, delta), pacbayes.quadratic(risk, kl, n, delta)
    )
    for lam in (0.1, 0.5, 1.5):
        other = pacbayes.thiemann(risk, kl, n, delta, lam)
        assert other >= pacbayes.quadratic(risk, kl, n, delta) - 1e-9


@pytest.mark.parametrize("bound", UNIT)
@given(risk=RISK, kl=KL, n=N, delta=DELTA, more=st.floats(1.01, 3))
def test_bounds_increase_with_kl_confidence_and_risk(bound, risk, kl, n, delta, more):
    base = bound(risk, kl, n, delta=delta)
    assert bound(risk, kl * more, n, delta=delta) >= base - 1e-12
    assert bound(risk, kl, n, delta=delta / more) >= base - 1e-12
    assert bound(min(1.0, risk * more), kl, n, delta=delta) >= base - 1e-12


@pytest.mark.parametrize("bound", UNIT)
@given(risk=RISK, kl=KL, n=N, delta=DELTA, more=st.integers(2, 20))
def test_bounds_decrease_with_n(bound, risk, kl, n, delta, more):
    # The union bound has a grid of λ, which depends on n.
    slack = 1e-4 if bound is pacbayes.catoni_union else 1e-12
    assert bound(risk, kl, more * n, delta=delta) <= bound(risk, kl, n, delta=delta) + slack


@pytest.mark.parametrize("bound", [b for b in UNIT if b is not pacbayes.catoni])
def test_bounds_approach_risk_for_large_n(bound):
    far = bound(0.2, 3.0, 10**12, delta=0.05)
    assert float(far) == pytest.approx(0.2, abs=1e-3)
    assert bound(0.2, 3.0, 10**4) < bound(0.2, 3.0, 10**3) < bound(0.2, 3.0, 10**2)
    assert bound(torch.tensor([0.0, 1.0]), torch.zeros(2), 100).shape == (2,)


def test_germain_equals_catoni_at_evidence():
    for risk, kl in ((0.3, 5.0), (2.0, 40.0)):
        left = pacbayes.germain(-200 * risk - kl, 200, (0.0, 4.0), 0.05)
        right = pacbayes.catoni(risk, kl, 200, (0.0, 4.0), 0.05)
        torch.testing.assert_close(left, right, rtol=1e-12, atol=1e-12)
    assert math.isfinite(pacbayes.germain(-1e6, 1000, (0.0, 4.0)))
    naive = 1 + 3 / (1 - math.exp(-3)) * (1 - math.e * (math.exp(-150) * 0.05) ** (1 / 100))
    assert float(pacbayes.germain(-150.0, 100, (1.0, 4.0))) == pytest.approx(naive)


def test_germain_equals_catoni_for_exact_and_laplace_posteriors():
    x = torch.linspace(-1, 1, 40, dtype=torch.float64)
    for posterior in (
        bg.Polynomial(3, noise=0.5, hyperparameters="fixed").fit(x, torch.sin(3 * x)),
        bg.Polynomial(3, likelihood="bernoulli", hyperparameters="fixed").fit(x, x > 0),
    ):
        e = posterior.evidence
        one = pacbayes.germain(e.log_marginal_likelihood, e.n, (0.0, 10.0))
        other = pacbayes.catoni(-e.fit / e.n, e.complexity, e.n, (0.0, 10.0))
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_catoni_union_is_below_mcallester_for_small_risk():
    assert pacbayes.catoni_union(0.01, 5.0, 1000) < pacbayes.mcallester(0.01, 5.0, 1000)


def test_bounds_match_formulas_by_hand():
    assert float(pacbayes.alquier(0.1, 2.0, 100, form="n", delta=0.05)) == pytest.approx(
        0.1 + (2 + math.log(20)) / 100 + 0.5
    )
    assert float(pacbayes.subgamma(1.0, 2.0, 100, 0.3, 0.2)) == pytest.approx(
        1 + (2 + math.log(20)) / 100 + 0.3 / 1.6
    )
    assert float(pacbayes.solomonoff(8.0)) == pytest.approx(-8 * math.log(2) - 2 * math.log(8))
    assert float(pacbayes.countable(0.1, -10.0, 200)) == pytest.approx(
        0.1 + math.sqrt((10 + math.log(20)) / 400)
    )


def test_maurer_holds_in_simulation():
    """With Q on the better of two hypotheses the bound fails in at most a share δ of the draws."""
    generator = torch.Generator().manual_seed(0)
    n, delta, truth = 50, 0.2, torch.tensor([0.3, 0.35], dtype=torch.float64)
    draws = torch.rand(2000, 2, n, generator=generator, dtype=torch.float64)
    risks = (draws < truth[:, None]).double().mean(-1)
    best = risks.argmin(1)
    risk = risks.gather(1, best[:, None])[:, 0]
    bound = pacbayes.maurer(risk, math.log(2), n, delta)
    assert (truth[best] > bound).double().mean() <= delta


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: pacbayes.maurer(1.1, 1.0, 10), r"risk must lie in \[0, 1\]"),
        (lambda: pacbayes.mcallester(0.1, -1.0, 10), "kl must be finite and at least 0"),
        (lambda: pacbayes.quadratic(0.1, math.nan, 10), "kl must be finite"),
        (lambda: pacbayes.catoni(0.1, 1.0, 0), "n must be an integer of at least 1"),
        (lambda: pacbayes.alquier(0.1, 1.0, 10, delta=1.0), r"delta must lie in \(0, 1\)"),
        (lambda: pacbayes.alquier(0.1, 1.0, 10, form="log"), "form must be one of"),
        (lambda: pacbayes.germain(-10.0, 10, (1.0, 1.0)), "loss_range must be"),
        (lambda: pacbayes.germain(math.inf, 10, (0.0, 1.0)), "must be finite"),
        (lambda: pacbayes.subgamma(0.1, 1.0, 10, 1.0, 1.0), r"c must lie in \[0, 1\)"),
        (lambda: pacbayes.countable(0.1, 1.0, 10), "log_prior must be finite and at most 0"),
        (lambda: pacbayes.solomonoff(0.0), "at least 1"),
        (lambda: pacbayes.thiemann(0.1, 1.0, 10, lam=2.0), r"lam must lie in \(0, 2\)"),
    ],
)
def test_invalid_arguments_raise(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@given(RISK, KL, N, DELTA)
def test_catoni_at_its_best_constant_is_below_mcallester(risk, kl, n, delta):
    constants = [2.0**k for k in range(-12, 7)]
    best = min(float(pacbayes.catoni(risk, kl, n, delta=delta, constant=c)) for c in constants)
    # Its infimum over all constants is kl⁻¹(risk, (KL + ln 1/δ)/n).
    exact = float(pacbayes.upper_risk(risk, (kl - math.log(delta)) / n))
    assert best >= exact - 1e-9
    assert exact <= float(pacbayes.mcallester(risk, kl, n, delta=delta)) + 1e-9
    assert best <= float(pacbayes.quadratic(risk, kl, n, delta)) + 0.02


def test_monte_carlo_bound_holds_in_simulation():
    generator = torch.Generator().manual_seed(0)
    wrong = (torch.rand(2000, 40, generator=generator) < 0.3).double().mean(1)
    assert (pacbayes.monte_carlo(wrong, 40, 0.1) < 0.3).double().mean() <= 0.1


def test_occam_is_never_looser_than_countable():
    for risk in (0.0, 0.1, 0.4):
        for nats in (1.0, 50.0, 500.0):
            a = pacbayes.occam(risk, -nats, 1000)
            assert a <= pacbayes.countable(risk, -nats, 1000) + 1e-12


@pytest.mark.parametrize(("risk", "kl", "n"), [(0.0, 0.0, 10), (0.1, 20.0, 1000), (1.0, 5.0, 50)])
def test_maurer_inverts_binary_kl(risk, kl, n):
    budget = (kl + math.log(2 * math.sqrt(n) / 0.05)) / n

    def excess(q):
        return (
            torch.special.xlogy(torch.tensor(risk), torch.tensor(risk / q)).item()
            + ((1 - risk) * math.log((1 - risk) / (1 - q)) if risk < 1 else 0.0)
            - budget
        )

    want = 1.0 if risk == 1 else brentq(excess, max(risk, 1e-12), 1 - 1e-12)
    assert float(maurer(risk, kl, n)) == pytest.approx(want, abs=1e-6)


def exact(risk, kl, n, delta):
    """The bounds of a loss in [0, 1] at exact arithmetic, by name."""
    m = mpmath.mpf
    r, kl, log_delta = m(risk), m(kl), mpmath.log(m(delta))
    budget = (kl + mpmath.log(2 * mpmath.sqrt(n)) - log_delta) / n
    half, lam = budget / 2, m(0.7)
    return {
        "mcallester": r + mpmath.sqrt(half),
        "quadratic": (mpmath.sqrt(r + half) + mpmath.sqrt(half)) ** 2,
        "thiemann": r / (1 - lam / 2) + budget / (lam * (1 - lam / 2)),
        "catoni": -mpmath.expm1(-r - (kl - log_delta) / n) / -mpmath.expm1(-1),
        "alquier": r + (kl - log_delta + m(0.5)) / mpmath.sqrt(n),
        "subgamma": r + (kl - log_delta) / n + m(0.3) ** 1 / (2 * (1 - m(0.25))),
        "countable": r + mpmath.sqrt((kl - log_delta) / (2 * n)),
    }


@given(RISK, KL, N, DELTA)
def test_bounds_are_not_below_their_exact_values(risk, kl, n, delta):
    found = {
        "mcallester": pacbayes.mcallester(risk, kl, n, delta=delta),
        "quadratic": pacbayes.quadratic(risk, kl, n, delta),
        "thiemann": pacbayes.thiemann(risk, kl, n, delta, 0.7),
        "catoni": pacbayes.catoni(risk, kl, n, delta=delta),
        "alquier": pacbayes.alquier(risk, kl, n, delta=delta),
        "subgamma": pacbayes.subgamma(risk, kl, n, 0.3, 0.25, delta),
        "countable": pacbayes.countable(risk, -kl, n, delta),
    }
    with mpmath.workdps(50):
        for name, value in exact(risk, kl, n, delta).items():
            assert value <= float(found[name]) <= value * (1 + mpmath.mpf(1e-13)) + 1e-300, name


@given(RISK, KL, N, DELTA)
def test_kl_bounds_are_not_below_their_exact_values(risk, kl, n, delta):
    bound = float(pacbayes.maurer(risk, kl, n, delta))
    occam = float(pacbayes.occam(risk, -kl, n, delta))
    with mpmath.workdps(50):
        r, log_delta = mpmath.mpf(risk), mpmath.log(mpmath.mpf(delta))
        spent = {
            bound: (mpmath.mpf(kl) + mpmath.log(2 * mpmath.sqrt(n)) - log_delta) / n,
            occam: (mpmath.mpf(kl) - log_delta) / n,
        }
        for q, budget in spent.items():
            left = r * mpmath.log(r / q) if risk else mpmath.mpf(0)
            rest = (1 - r) * mpmath.log((1 - r) / (1 - mpmath.mpf(q))) if q < 1 else mpmath.inf
            assert q == 1 or left + rest >= budget


@given(st.floats(-300.0, -1e-3), N, DELTA, st.floats(-3, 3), st.floats(0.1, 9))
def test_bounds_for_other_ranges_are_not_below_their_exact_values(log_z, n, delta, a, width):
    b = a + width
    log_z = log_z - max(0.0, n * a)
    found = float(pacbayes.germain(log_z, n, (a, b), delta))
    with mpmath.workdps(50):
        m = mpmath.mpf
        spent = -(m(log_z) + mpmath.log(m(delta))) / n - m(a)
        share = mpmath.expm1(-spent) / mpmath.expm1(m(a) - m(b))
        assert found >= m(a) + (m(b) - m(a)) * share
    assert float(pacbayes.solomonoff(1000.0)) <= -(1000 * math.log(2) + 2 * math.log(1000))


@pytest.mark.parametrize("name", ["catoni", "catoni_union", "alquier", "mcallester", "quadratic"])
def test_bounds_have_the_stated_defaults(name):
    bound = getattr(pacbayes, name)
    assert float(bound(0.1, 2.0, 500)) == float(bound(0.1, 2.0, 500, delta=0.05))
    assert float(pacbayes.catoni_union(0.1, 2.0, 500)) == float(
        pacbayes.catoni_union(0.1, 2.0, 500, alpha=0.1)
    )


def test_alquier_scales_with_the_square_of_the_range():
    paid = 2.0 - math.log(0.05)
    found = [float(pacbayes.alquier(1.0, 2.0, 100, (0.0, 3.0), form=f)) for f in ("n", "sqrt")]
    assert found == pytest.approx([1.0 + paid / 100 + 4.5, 1.0 + (paid + 4.5) / 10])


def test_vacuous_union_bound_is_one():
    assert float(pacbayes.catoni_union(0.9, 1e6, 10)) == 1.0


@pytest.mark.parametrize("log_z", [-1e9, -1e5, 1e5])
def test_rounding_of_germain_has_the_size_of_its_largest_term(log_z):
    # The terms −ln Z/n and a nearly cancel, so that their rounding is large beside the sum.
    for n in (7, 300):
        a = -log_z / n * (1 - 1e-9) - 1e-3
        found = float(pacbayes.germain(log_z, n, (a, a + 2.0)))
        with mpmath.workdps(50):
            m = mpmath.mpf
            spent = -(m(log_z) + mpmath.log(m(0.05))) / n - m(a)
            share = mpmath.expm1(-spent) / mpmath.expm1(m(a) - m(a + 2.0))
            assert found >= m(a) + (m(a + 2.0) - m(a)) * share


def test_code_of_one_bit_is_the_shortest():
    assert float(pacbayes.solomonoff(1.0)) == pytest.approx(-math.log(2))
    with pytest.raises(ValueError, match="code_length_bits must be finite and at least 1"):
        pacbayes.solomonoff(0.999)
