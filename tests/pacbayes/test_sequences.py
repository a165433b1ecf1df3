"""Tests of `bayesgen.pacbayes.sequences`.

The simulated sequences are dependent, and their conditional means are known, so that the quantity
that a bound covers can be compared with the bound.
"""

import math

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st

from bayesgen.pacbayes import countable, freedman, sequences, solomonoff, subsampled

LOSSES = st.lists(st.floats(0, 1), min_size=1, max_size=12)
SCALE = st.floats(1e-6, 1e6)


def exact(losses, centres, log_prior, width, delta, scales):
    """The formula of the bound, in 60 digits and plain loops."""
    with mpmath.workdps(60):
        n = len(losses)
        L, Y, D = [mpmath.mpf(v) for v in losses], [mpmath.mpf(v) for v in centres], width
        C = (-mpmath.mpf(log_prior) + mpmath.log(mpmath.mpf(len(scales)) / delta)) / n
        found = []
        for scale in map(mpmath.mpf, scales):
            total = mpmath.mpf(0)
            for a, b in zip(L, Y, strict=True):
                x = scale * (b - a) / D
                total += x - mpmath.log(1 + x)
            found.append(D / scale * (C + total / n))
        return mpmath.fsum(L) / n + min(found)


@given(LOSSES, st.floats(0, 1), st.floats(0, 1e6), st.floats(1e-9, 0.9), st.floats(1, 50))
def test_bound_is_that_of_the_formula_rounded_outwards(losses, centre, paid, delta, width):
    centres = [centre * (i % 3) / 2 for i in range(len(losses))]
    value = float(freedman(losses, centres, -paid, width, delta))
    wanted = exact(losses, centres, -paid, width, delta, sequences.SCALES)
    assert wanted <= value <= wanted * (1 + 1e-11) + 1e-11


def test_a_centre_for_all_losses_is_that_centre_for_each():
    losses = torch.rand(50, dtype=torch.float64)
    one, each = (freedman(losses, Y, -3.0, 1.0) for Y in (0.4, torch.full_like(losses, 0.4)))
    assert float(one) == pytest.approx(float(each), rel=1e-14)


@given(LOSSES, st.integers(0, 1000))
def test_order_of_losses_does_not_matter(losses, seed):
    """It matters for the centres only, which are functions of the past."""
    L = torch.tensor(losses, dtype=torch.float64)
    Y = torch.linspace(0, 1, len(L), dtype=torch.float64)
    rows = torch.randperm(len(L), generator=torch.Generator().manual_seed(seed))
    one, other = freedman(L, Y, -5.0, 1.0), freedman(L[rows], Y[rows], -5.0, 1.0)
    assert float(one) == pytest.approx(float(other), rel=1e-12)


@given(LOSSES, st.integers(2, 5))
def test_repeated_losses_with_as_many_times_the_price_have_the_same_bound(losses, times):
    L, delta, log_prior = torch.tensor(losses, dtype=torch.float64), 0.05, -7.0
    price = math.log(len(sequences.SCALES) / delta)
    more = -(times * (price - log_prior) - price)
    one = freedman(L, 0.5, log_prior, 1.0, delta)
    assert float(freedman(L.repeat(times), 0.5, more, 1.0, delta)) == pytest.approx(float(one))


@given(LOSSES, st.floats(0, 1), SCALE)
def test_bound_has_the_unit_of_the_losses(losses, centre, unit):
    one = float(freedman(losses, centre, -5.0, 1.0))
    scaled = [unit * v for v in losses]
    assert float(freedman(scaled, unit * centre, -5.0, unit)) == pytest.approx(unit * one)


@given(LOSSES, st.floats(0, 1), st.floats(-3, 3))
def test_bound_moves_with_losses_and_centres(losses, centre, by):
    one = float(freedman(losses, centre, -5.0, 1.0))
    moved = [by + v for v in losses]
    assert float(freedman(moved, by + centre, -5.0, 1.0)) == pytest.approx(by + one, abs=1e-9)


@given(LOSSES, st.floats(0, 500), st.floats(1e-6, 0.5), st.floats(1, 3))
def test_bound_rises_with_price_confidence_and_width(losses, paid, delta, more):
    base = float(freedman(losses, 0.5, -paid, 1.0, delta))
    assert base >= np.mean(losses)
    assert float(freedman(losses, 0.5, -paid * more, 1.0, delta)) >= base - 1e-12
    assert float(freedman(losses, 0.5, -paid, 1.0, delta / more)) >= base - 1e-12
    # In units of D, a wider range means smaller deviations, and a larger factor before C.
    assert float(freedman(losses, losses, -paid, more, delta)) >= float(
        freedman(losses, losses, -paid, 1.0, delta)
    )


@given(
    st.floats(math.log(1e-7), math.log(0.03)),
    st.floats(72, 1e6),
    st.floats(0, 1 / 3),
    st.floats(0, 1),
)
def test_bound_is_below_hoeffdings_where_deviations_are_a_third_of_the_width(
    log_share, paid, spread, mix
):
    """It is, for a root mean square of Y − L up to D/3, 1e-7 ≤ (ln 1/P + ln 1/δ)/n ≤ 0.03, and
    ln 1/P of 72 nats or more.

    With v(x) ≤ x² v(−s)/s² for x ≥ −s, the penalty is at most D (C/s + σ²/2 · s/(1 − s)) where σ is
    the root mean square in units of D. At the best s this is C + σ√(2C). The grid of scales costs
    one percent, and ln S at most five, so that σ ≤ 1/3 leaves room to √(C/2).
    """
    delta = 0.05
    n = max(1, round((paid - math.log(delta)) / math.exp(log_share)))
    # Two values of Y − L, of either sign, with the given mean square, stand for n losses.
    x = torch.tensor([-spread, spread], dtype=torch.float64)
    weight = torch.tensor([mix, 1 - mix], dtype=torch.float64)
    C = (paid + math.log(len(sequences.SCALES) / delta)) / n
    s = torch.tensor(sequences.SCALES, dtype=torch.float64)
    mean = (weight * sequences.excess(s[:, None] * x)).sum(1)
    penalty = float(((C + mean) / s).min())
    assert penalty <= float(countable(0.0, -paid, n, delta))


def test_calibrated_predictions_have_a_bound_below_hoeffdings():
    """A binary source that is predicted by its true probabilities, for several prices."""
    generator = torch.Generator().manual_seed(1)
    n, alpha = 200_000, 0.01
    p = torch.rand(n, generator=generator, dtype=torch.float64) * (1 - alpha) + alpha / 2
    ones = torch.rand(n, generator=generator, dtype=torch.float64) < p
    losses = -torch.where(ones, p, 1 - p).log2()
    expected = -(torch.special.entr(p) + torch.special.entr(1 - p)) / -math.log(2)
    low, high = -math.log2(1 - alpha / 2), -math.log2(alpha / 2)
    for bits in (100.0, 1000.0, 8000.0):
        price = solomonoff(bits)
        bound = freedman(losses, expected, price, high - low)
        assert expected.mean() < bound
        assert bound < countable(losses.mean(), price, n, loss_range=(low, high))


@pytest.mark.parametrize("n", [1, 2])
def test_few_losses_have_a_bound(n):
    value = float(freedman(torch.zeros(n), 0.0, 0.0, 1.0, delta=0.05))
    assert value == pytest.approx(math.log(len(sequences.SCALES) / 0.05) / n / 0.98, rel=1e-9)


def test_many_losses_in_several_blocks(monkeypatch):
    losses = torch.rand(10_000, dtype=torch.float64)
    whole = freedman(losses, 0.5, -10.0, 1.0)
    monkeypatch.setattr(sequences, "_BLOCK", 77)
    assert float(freedman(losses, 0.5, -10.0, 1.0)) == pytest.approx(float(whole), rel=1e-13)


def test_losses_are_left_as_they_were_and_may_have_other_dtypes():
    losses = torch.rand(20)
    before = losses.clone()
    one = freedman(losses, 0.5, -1.0, 1.0)
    assert torch.equal(losses, before)
    assert one.dtype == torch.float64
    torch.testing.assert_close(one, freedman(losses.double().numpy(), 0.5, -1.0, 1.0))
    assert float(freedman([0, 1, 1, 0], 0, -1.0, 1)) > 0.5


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"losses": []}, ValueError, r"losses must have shape \(n,\)"),
        ({"losses": 0.5}, ValueError, r"losses must have shape \(n,\)"),
        ({"losses": [[0.5]]}, ValueError, r"losses must have shape \(n,\)"),
        ({"losses": [0.1, math.nan]}, ValueError, "must be finite"),
        ({"losses": [0.1, 1j]}, TypeError, "losses must hold real numbers"),
        ({"losses": "abc"}, TypeError, "losses must be a tensor"),
        ({"centres": [0.5]}, ValueError, r"centres must have shape \(2,\) or \(\)"),
        ({"centres": math.inf}, ValueError, "must be finite"),
        ({"centres": -0.5}, ValueError, "exceed their centres by at most the width"),
        ({"width": 0.0}, ValueError, "width must be positive"),
        ({"width": -1.0}, ValueError, "width must be positive"),
        ({"width": math.nan}, ValueError, "width must be finite"),
        ({"width": torch.ones(2)}, TypeError, "width must be a number"),
        ({"width": None}, TypeError, "width must be a number"),
        ({"log_prior": 0.1}, ValueError, "log_prior must be finite and at most 0"),
        ({"log_prior": -math.inf}, ValueError, "log_prior must be finite and at most 0"),
        ({"log_prior": [-1.0, -2.0]}, ValueError, "log_prior must be one number"),
        ({"delta": 0.0}, ValueError, r"delta must lie in \(0, 1\)"),
        ({"delta": 1.0}, ValueError, r"delta must lie in \(0, 1\)"),
        ({"scales": ()}, ValueError, r"scales must lie in \(0, 1\)"),
        ({"scales": (0.5, 1.0)}, ValueError, r"scales must lie in \(0, 1\)"),
        ({"scales": (math.nan,)}, ValueError, r"scales must lie in \(0, 1\)"),
        ({"losses": [-1.5e308] * 2, "centres": 1.5e308}, ValueError, "finite in float64"),
        ({"losses": [0.0, -1.0], "width": 5e-324}, ValueError, "finite in float64"),
        ({"losses": [1e308] * 2, "centres": 1e308, "width": 1e308}, ValueError, "finite in"),
    ],
)
def test_bad_arguments_raise(change, error, message):
    given = {"losses": [0.2, 0.9], "centres": 0.5, "log_prior": -1.0, "width": 1.0, **change}
    with pytest.raises(error, match=message):
        freedman(**given)


def test_rounding_of_losses_at_the_end_of_their_range_is_accepted():
    """A short range of large losses, as with a smoothing that is almost uniform."""
    losses = torch.full((1000,), 7.0 + 1e-7, dtype=torch.float64)
    assert float(freedman(losses, 7.0, -1.0, 1e-7 * (1 - 1e-8))) > 7


# Simulations. The source is binary; a hypothesis predicts a one with probability q, and its loss is
# the 0–1 loss or a squared error, whose conditional mean follows from the source.

RUNS, DELTA = 150, 0.2


def failures(runs, sequence, bound):
    """Share of runs in which the mean conditional loss exceeds the bound."""
    count = 0
    for run in range(runs):
        losses, means, centres = sequence(np.random.default_rng(run))
        count += means.mean() > bound(torch.from_numpy(losses), torch.from_numpy(centres))
    return count / runs


def markov(rng, n=200):
    """Losses |x_k − q_k| of predictions q_k from a Markov chain's last state; the chain is slow."""
    stay, state = (0.9, 0.6), int(rng.random() < 0.5)
    losses, means, centres = np.empty((3, n))
    for k in range(n):
        p = stay[1] if state else 1 - stay[0]  # probability of a one
        q = 0.5 * p + 0.25
        state = int(rng.random() < p)
        losses[k], means[k] = abs(state - q), p * (1 - q) + (1 - p) * q
        centres[k] = 2 * q * (1 - q)
    return losses, means, centres


def adversary(rng, n=200):
    """The source stops being random once its losses lie below their means: a stopping rule.

    The variance depends on the past, and the mean loss of a run is a maximum over times.
    """
    losses, means = np.empty((2, n))
    ahead = 0.0
    for k in range(n):
        p = 0.5 if ahead < 2.5 * math.sqrt(k + 1) / 2 else 0.0
        losses[k], means[k] = float(rng.random() < p), p
        ahead += means[k] - losses[k]
    return losses, means, np.where(means > 0, 0.5, 0.0)


@pytest.mark.parametrize("source", [markov, adversary])
def test_bound_covers_dependent_losses(source):
    share = failures(RUNS, source, lambda L, Y: float(freedman(L, Y, 0.0, 1.0, DELTA)))
    assert share <= DELTA
    one = failures(RUNS, source, lambda L, Y: float(freedman(L, Y, 0.0, 1.0, DELTA, scales=[0.1])))
    assert one <= DELTA
    plain = failures(RUNS, source, lambda L, _: float(countable(L.mean(), 0.0, len(L), DELTA)))
    assert plain <= DELTA
    # The simulation is sharp enough that a bound without any confidence term fails.
    assert failures(RUNS, source, lambda L, _: float(L.mean())) > DELTA


def test_centres_that_know_the_loss_break_the_bound():
    """A centre must be determined by the past. Centres equal to the losses hide all deviations."""

    def coins(rng, n=50_000):
        return (rng.random(n) < 0.5).astype(float), np.full(n, 0.5), np.full(n, 0.5)

    assert failures(60, coins, lambda L, Y: float(freedman(L, Y, 0.0, 1.0, DELTA))) <= DELTA
    assert failures(60, coins, lambda L, _: float(freedman(L, L, 0.0, 1.0, DELTA))) > DELTA


def chosen(rng, hypotheses, n=150):
    """The hypothesis of least empirical loss, of many that guess fair coin flips."""
    guesses = rng.random((hypotheses, n)) < 0.5
    flips = rng.random(n) < 0.5
    losses = (guesses != flips).astype(float)
    best = losses[losses.mean(1).argmin()]
    return best, np.full(n, 0.5), np.full(n, 0.5)


def test_a_model_chosen_among_many_is_covered_with_its_payment_and_not_without():
    def bound(paid):
        return lambda L, Y: float(freedman(L, Y, -paid, 0.5, DELTA))

    source = lambda rng: chosen(rng, 3000)  # noqa: E731
    assert failures(60, source, bound(math.log(3000))) <= DELTA
    assert failures(60, source, bound(0.0)) > 0.9


def test_scales_chosen_on_the_data_need_their_payment():
    """The union over scales is in the bound: it holds for the best scale of any finite set."""
    source = lambda rng: markov(rng, 60)  # noqa: E731
    grid = tuple(np.linspace(0.02, 0.98, 10))
    share = failures(100, source, lambda L, Y: float(freedman(L, Y, 0.0, 1.0, 0.5, scales=grid)))
    hidden = failures(
        100,
        source,
        lambda L, Y: min(float(freedman(L, Y, 0.0, 1.0, 0.5, scales=[s])) for s in grid),
    )
    assert share <= 0.5
    assert hidden > share


def test_bound_holds_for_all_hypotheses_of_a_toy_set_at_once():
    """All 256 functions of three bits, with prices by their number of ones, on a Markov chain."""
    functions = [tuple((code >> i) & 1 for i in range(8)) for code in range(256)]
    ones = np.array([sum(f) for f in functions])
    log_prior = np.array([-math.log(9) - math.log(math.comb(8, c)) for c in ones])
    assert np.exp(log_prior).sum() == pytest.approx(1)
    table, n, broken, loose = np.array(functions, dtype=float), 60, 0, 0
    runs, scales = 6, (0.03, 0.1, 0.3, 0.9)
    for run in range(runs):
        rng = np.random.default_rng(run)
        pasts, flips, means = np.empty(n, dtype=int), np.empty(n), np.empty((256, n))
        past = 0
        for k in range(n):
            p = 0.35 + 0.3 * (past % 2)
            flip = int(rng.random() < p)
            pasts[k], flips[k] = past, flip
            means[:, k] = np.where(table[:, past] == 1, 1 - p, p)
            past = (2 * past + flip) % 8
        losses = np.abs(table[:, pasts] - flips)
        bounds = [
            float(freedman(torch.from_numpy(L), 0.5, float(price), 0.5, DELTA, scales=scales))
            for L, price in zip(losses, log_prior, strict=True)
        ]
        broken += bool((means.mean(1) > bounds).any())
        loose += bool((means.mean(1) > losses.mean(1)).any())
    assert broken / runs <= DELTA
    assert loose == runs


# Sub-sampled losses.


@given(
    st.floats(0, 1), st.floats(0, 1e6), st.integers(1, 10**18), st.integers(1, 10**18),
    st.floats(1e-9, 0.9), st.floats(-5, 5), st.floats(0.1, 10),
)  # fmt: skip
def test_bound_from_a_subsample_is_that_of_the_formula(share, paid, n, m, delta, a, length):
    b = a + length
    risk = min(b, max(a, a + share * length))
    value = float(subsampled(risk, -paid, n, m, delta, (a, b)))
    with mpmath.workdps(60):
        r = mpmath.mpf(m) / (m + n)
        first = mpmath.sqrt((mpmath.mpf(paid) - mpmath.log(r * delta)) / (2 * n))
        second = mpmath.sqrt(-mpmath.log((1 - r) * delta) / (2 * m))
        wanted = mpmath.mpf(risk) + (mpmath.mpf(b) - mpmath.mpf(a)) * (first + second)
        assert wanted <= value
        assert value <= wanted + 1e-12 * (abs(wanted) + abs(risk))


def test_bound_from_a_subsample_is_above_that_of_the_whole_sample_and_nears_it():
    whole = float(countable(0.3, -50.0, 1000))
    few = [float(subsampled(0.3, -50.0, 1000, m)) for m in (10, 100, 1000, 10**6, 10**12)]
    assert few == sorted(few, reverse=True)
    assert few[-1] > whole
    assert few[-1] == pytest.approx(whole, abs=1e-4)


def test_bound_from_a_subsample_takes_many_risks():
    risks = torch.tensor([0.1, 0.2], dtype=torch.float64)
    both = subsampled(risks, torch.tensor([-1.0, -2.0]), 100, 10)
    each = [
        float(subsampled(float(r), -p, 100, 10)) for r, p in zip(risks, (1.0, 2.0), strict=True)
    ]
    assert both.tolist() == pytest.approx(each)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"risk": 1.5}, ValueError, r"risk must lie in \[0, 1\]"),
        ({"risk": math.nan}, ValueError, r"risk must lie in \[0, 1\]"),
        ({"log_prior": 1.0}, ValueError, "log_prior must be finite"),
        ({"n": 0}, ValueError, "n must be an integer"),
        ({"m": 0}, ValueError, "m must be an integer"),
        ({"m": 2.5}, ValueError, "m must be an integer"),
        ({"delta": 1}, ValueError, "delta must lie"),
        ({"loss_range": (1, 0)}, ValueError, "loss_range must be"),
    ],
)
def test_bad_arguments_of_a_subsample_raise(change, error, message):
    with pytest.raises(error, match=message):
        subsampled(**{"risk": 0.3, "log_prior": -1.0, "n": 100, "m": 10, **change})


@pytest.mark.parametrize("replacement", [False, True])
def test_bound_from_a_subsample_covers(replacement):
    """One hypothesis chosen among 100 by all losses, evaluated on a sub-sample: the coding pays."""
    n, m, broken, hidden = 60, 20, 0, 0
    for run in range(RUNS):
        rng = np.random.default_rng(run)
        losses = (rng.random((100, n)) < 0.5).astype(float)
        best = losses[losses.mean(1).argmin()]
        risk = float(rng.choice(best, m, replace=replacement).mean())
        broken += float(subsampled(risk, -math.log(100), n, m, DELTA)) < 0.5
        hidden += float(countable(risk, 0.0, n, DELTA)) < 0.5
    assert broken / RUNS <= DELTA
    assert hidden / RUNS > DELTA


def test_the_best_of_many_subsamples_needs_its_own_payment():
    """The least mean of one hypothesis over many sub-samples; a code does not pay for draws."""
    n, m, draws, broken, paid = 4000, 20, 300, 0, 0
    for run in range(100):
        rng = np.random.default_rng(run)
        losses = (rng.random(n) < 0.9).astype(float)
        risk = float(rng.choice(losses, (draws, m)).mean(1).min())
        broken += float(subsampled(risk, 0.0, n, m, DELTA)) < 0.9
        paid += float(subsampled(risk, 0.0, n, m, DELTA / draws)) < 0.9
    assert broken / 100 > DELTA
    assert paid / 100 <= DELTA
