"""Tests of `bayesgen.pacbayes.compression.token_losses`."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st

from bayesgen import pacbayes
from bayesgen.data import Corpus
from bayesgen.pacbayes.compression import token_losses as module
from bayesgen.pacbayes.compression.token_losses import (
    TokenLosses,
    alpha_grid,
    evaluation,
    loss_range,
    smoothed,
    token_losses,
)
from bayesgen.pacbayes.compression.windows import Windows

ALPHA = st.floats(1e-6, 0.999)


def corpus(seed=0, documents=12, length=60, vocabulary=4):
    generator = torch.Generator().manual_seed(seed)
    sizes = torch.randint(1, length, (documents,), generator=generator).tolist()
    return Corpus(
        "toy",
        [torch.randint(vocabulary, (max(9, n),), generator=generator) for n in sizes],
        vocabulary,
    )


def table(seed=0, vocabulary=4):
    """Scores from a table of pairs."""
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(vocabulary, vocabulary, generator=generator, dtype=torch.float64)
    return scores, evaluation(lambda tokens: scores[tokens], vocabulary)


def of(losses, expected, lengths, **more):
    """Losses made by hand, of all tokens, with one document for each window."""
    lengths = torch.tensor(lengths)
    given = {
        "documents": torch.arange(len(lengths)),
        "n": int(lengths.sum()),
        "total": len(lengths),
        "longest": int(lengths.max()),
        "sampled": False,
        "alpha": 0.1,
        "alphas": (0.1,),
        "vocabulary": 4,
        **more,
    }
    return TokenLosses(losses, expected, lengths, **given)


@given(ALPHA, st.integers(2, 50), st.integers(0, 100))
def test_losses_and_their_expectation_lie_in_the_stated_range(alpha, V, seed):
    generator = torch.Generator().manual_seed(seed)
    p = (20 * torch.randn(8, V, generator=generator, dtype=torch.float64)).softmax(-1)
    p[0] = torch.eye(V)[0]
    losses, expected = smoothed(p, alpha, V)
    low, high = loss_range(alpha, V)
    assert high - low == pytest.approx(math.log2(1 + (1 - alpha) * V / alpha), rel=1e-6)
    assert losses.min() >= low - 1e-12
    assert losses.max() <= high + 1e-12
    assert losses[0, 0] == pytest.approx(low, abs=1e-12)
    assert losses[0, 1] == pytest.approx(high)
    assert expected.min() >= low - 1e-12
    assert expected.max() <= math.log2(V) + 1e-12
    mixed = torch.exp2(-losses)
    torch.testing.assert_close(mixed.sum(-1), torch.ones(8, dtype=torch.float64))
    torch.testing.assert_close((mixed * losses).sum(-1), expected)


def test_losses_are_those_of_a_loop_over_the_corpus():
    scores, evaluate = table()
    text = corpus()
    found = token_losses(evaluate, Windows.of(text, 7), 4, [0.05])
    p = 0.95 * scores.softmax(-1) + 0.05 / 4
    wanted, means = [], []
    for document in text.documents:
        own = [0, *document.tolist()]
        part = [-math.log2(p[a, b]) for a, b in pairwise(own)]
        wanted += part
        means.append(sum(part) / len(part))
    assert found.losses.tolist() == pytest.approx(wanted)
    assert found.risk == pytest.approx(sum(wanted) / text.tokens)
    assert found.of_documents().tolist() == pytest.approx(means)
    assert found.evaluated == found.n == text.tokens
    assert found.choice == 0


def test_batches_do_not_matter(monkeypatch):
    _, evaluate = table()
    windows = Windows.of(corpus(), 7)
    whole = token_losses(evaluate, windows, 4)
    monkeypatch.setattr(module, "_AT_ONCE", 1)
    said = []
    parts = token_losses(evaluate, windows, 4, progress=lambda *each: said.append(each[:2]))
    assert torch.equal(whole.losses, parts.losses)
    assert said[-1] == (len(windows), len(windows))
    monkeypatch.setattr(module, "_SCORES", 1)
    assert torch.equal(whole.losses, token_losses(evaluate, windows, 4).losses)


def test_alpha_is_the_one_of_least_rank_and_its_choice_is_paid():
    _, evaluate = table()
    grid = (0.01, 0.1, 0.9)
    found = token_losses(evaluate, Windows.of(corpus(), 7), 4, grid)
    assert found.alpha in grid
    assert found.choice == pytest.approx(math.log(3))
    assert found.range == loss_range(found.alpha, 4)
    assert found.width == found.range[1] - found.range[0]


@pytest.mark.parametrize("seed", [0, 1])
def test_all_bounds_are_the_formulas(seed):
    _, evaluate = table(seed)
    text = corpus(seed, documents=200)
    found = token_losses(evaluate, Windows.of(text, 8), 4)
    price, delta, (low, high) = -20.0, 0.1, found.range
    plain = pacbayes.countable(found.risk, price, text.tokens, delta, (low, high))
    assert found.hoeffding(price, delta) == pytest.approx(float(plain))
    near = pacbayes.freedman(found.losses, found.expected, price, high - low, delta)
    assert found.freedman(price, delta) == float(near)
    means = found.of_documents()
    half = [
        pacbayes.countable(means.mean(), price, len(means), delta / 2, (low, high)),
        pacbayes.freedman(means, 1.0, price, high - 1.0, delta / 2),
    ]
    assert found.by_documents(price, delta) == pytest.approx(float(min(half)))
    for name in ("hoeffding", "freedman"):
        # All tokens were evaluated, so that no sample was compared.
        assert getattr(found, name)(price, candidates=9) == getattr(found, name)(price)


@given(ALPHA, st.integers(1, 60), st.sampled_from([2, 7, 128]), st.booleans())
def test_losses_at_an_end_of_the_range_have_bounds(alpha, n, V, best):
    """Means of equal losses may leave the range by rounding."""
    p = torch.zeros(n, V, dtype=torch.float64)
    p[:, 0] = 1
    losses, expected = smoothed(p, alpha, V)
    chosen = losses[:, 0 if best else 1].contiguous()
    found = of(chosen, expected, [1] * n, alpha=alpha, vocabulary=V)
    for value in (found.hoeffding(-9.0), found.freedman(-9.0), found.by_documents(-9.0)):
        assert math.isfinite(value)
        assert value >= found.range[0] if best else value >= found.range[1] * (1 - 1e-9)


@pytest.mark.parametrize("alpha", [1e-300, 1e-16, 1 - 1e-9, 1 - 2**-53])
def test_extreme_smoothing_has_finite_bounds(alpha):
    _, evaluate = table()
    found = token_losses(evaluate, Windows.of(corpus(), 7), 4, [alpha])
    assert torch.isfinite(found.losses).all()
    if found.width > 0:
        assert math.isfinite(found.freedman(-5.0))
        assert math.isfinite(found.hoeffding(-5.0))


@pytest.mark.parametrize(
    ("alphas", "error"),
    [
        ((), ValueError),
        ((0.0,), ValueError),
        ((1.0,), ValueError),
        ((0.1, -0.1), ValueError),
        ((1e-301,), ValueError),
        ((math.nan,), ValueError),
        ((0.1, math.inf), ValueError),
        (0.1, TypeError),
        ("0.1", TypeError),
        (("a",), TypeError),
        (None, TypeError),
    ],
)
def test_bad_values_of_alpha_raise(alphas, error):
    with pytest.raises(error, match="alphas must"):
        alpha_grid(alphas)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"delta": 0.0}, "delta must lie"),
        ({"delta": 1.05}, "delta must lie"),
        ({"delta": 1.5}, "delta must lie"),
        ({"log_prior": 1.0}, "log_prior must be finite and at most 0"),
        ({"log_prior": math.nan}, "log_prior must be finite and at most 0"),
    ],
)
@pytest.mark.parametrize("sample", [None, 20])
@pytest.mark.parametrize("name", ["freedman", "hoeffding", "by_documents"])
def test_bad_arguments_of_bounds_raise(name, sample, arguments, message):
    _, evaluate = table()
    found = token_losses(evaluate, Windows.of(corpus(), 7), 4, sample=sample)
    message = "sample of the windows" if name == "by_documents" and sample else message
    with pytest.raises(ValueError, match=message):
        getattr(found, name)(**{"log_prior": -5.0, **arguments})


def test_a_sample_has_no_document_means_and_needs_two_windows():
    _, evaluate = table()
    found = token_losses(evaluate, Windows.of(corpus(), 7), 4, sample=2)
    with pytest.raises(ValueError, match="sample of the windows"):
        found.of_documents()
    with pytest.raises(ValueError, match="candidates must be an integer"):
        found.freedman(-5.0, candidates=0)
    for size in (0, 1, 2.5):
        with pytest.raises(ValueError, match="sample must be an integer of at least 2"):
            token_losses(evaluate, Windows.of(corpus(), 7), 4, sample=size)


def test_scores_that_are_not_finite_raise():
    evaluate = evaluation(lambda tokens: torch.full((*tokens.shape, 4), math.nan), 4)
    with pytest.raises(ValueError, match="net must return finite scores"):
        token_losses(evaluate, Windows.of(corpus(), 7), 4)


# Samples of windows: simulations over the seeds of the draw.


def test_the_mean_loss_of_a_sample_is_unbiased_and_depends_on_the_seed():
    """Also where the lengths of the windows and their losses go together."""
    _, evaluate = table()
    windows = Windows.of(corpus(documents=30), 7)
    whole = token_losses(evaluate, windows, 4, [0.1])
    risks = [token_losses(evaluate, windows, 4, [0.1], sample=10, seed=s).risk for s in range(300)]
    error = np.std(risks) / math.sqrt(len(risks))
    assert abs(np.mean(risks) - whole.risk) < 4 * error
    assert error > 0


@pytest.mark.parametrize("name", ["freedman", "hoeffding"])
def test_bound_from_a_sample_covers_that_of_all_tokens(name):
    """It is the bound of all tokens at 0.9 δ or more, except with a probability of 0.1 δ."""
    _, evaluate = table()
    windows = Windows.of(corpus(documents=30), 7)
    whole = getattr(token_losses(evaluate, windows, 4, [0.1]), name)(-5.0, 0.5 * 0.9)
    some = [
        getattr(token_losses(evaluate, windows, 4, [0.1], sample=60, seed=s), name)(-5.0, 0.5)
        for s in range(40)
    ]
    assert np.mean([value < whole for value in some]) <= 0.05
    more = getattr(token_losses(evaluate, windows, 4, [0.1], sample=20_000), name)(-5.0, 0.5)
    assert more < np.mean(some)
    assert more == pytest.approx(whole, rel=0.05)


def test_bounds_from_a_sample_are_the_formulas_in_double_precision():
    _, evaluate = table()
    found = token_losses(evaluate, Windows.of(corpus(), 7), 4, [0.1], sample=500)
    (low, high), D, n, delta = found.range, found.width, found.n, 0.2
    share, rest = 0.1 * delta / 3, 0.9 * delta
    mean = found._mean_bound(found.losses, high, share)
    plain = pacbayes.countable(mean, -5.0, n, rest, (low, high))
    assert found.hoeffding(-5.0, delta, candidates=3) == pytest.approx(float(plain), rel=1e-13)
    scales, values = pacbayes.sequences.SCALES, []
    for s in scales:
        x = s * (found.expected - found.losses) / D
        each = found.losses + D / s * (x - torch.log1p(x))
        top = high + D / s * (-s - math.log1p(-s))
        price = (5.0 + math.log(len(scales) / rest)) / n
        values += [float(found._mean_bound(each, top, share / len(scales))) + D / s * price]
    assert found.freedman(-5.0, delta, candidates=3) == pytest.approx(min(values), rel=1e-12)
    assert found.freedman(-5.0, delta, candidates=3) >= min(values)


def test_mean_bound_covers_means_of_skewed_values_at_its_delta():
    """One window in 30 holds all of the loss, and most samples miss it."""
    lengths = [7] * 29 + [3]
    values = torch.zeros(sum(lengths), dtype=torch.float64)
    values[-3:] = 3.0
    mean, delta, broken, bare = float(values.mean()), 0.3, 0, 0
    starts = np.cumsum([0, *lengths])
    for run in range(200):
        rows = np.random.default_rng(run).integers(30, size=25)
        own = torch.cat([values[starts[i] : starts[i + 1]] for i in rows])
        found = of(
            own, own, [lengths[i] for i in rows], n=len(values), total=30, longest=7, sampled=True
        )
        broken += found._mean_bound(own, 3.0, delta) < mean
        bare += found.risk < mean
    assert broken / 200 <= delta
    assert bare / 200 > delta


def test_mean_bound_is_that_of_a_loop():
    """The centre of each window's sum is the mean of those before it, and 0 at first."""
    lengths = [3, 1, 2]
    values = torch.tensor([0.5, 1.0, 0.0, 2.0, 1.5, 1.0], dtype=torch.float64)
    found = of(values, values, lengths, n=50, total=20, longest=4, sampled=True)
    sums = [20 / 50 * s for s in (1.5, 2.0, 2.5)]
    centres = [0.0, sums[0], (sums[0] + sums[1]) / 2]
    wanted = pacbayes.freedman(sums, centres, 0.0, 2.0 * 20 / 50 * 4, 0.2)
    assert found._mean_bound(values, 2.0, 0.2) == pytest.approx(float(wanted), rel=1e-12)


def test_values_of_the_sampled_bound_lie_below_its_highest_one():
    """l + (D/s) v(s(Y − l)/D) is at most what `_sampled_freedman` takes, for all scales s."""
    alpha, V = 0.01, 16
    low, high = loss_range(alpha, V)
    D = high - low
    L, Y = torch.meshgrid(
        torch.linspace(low, high, 60).double(), torch.linspace(low, math.log2(V), 60).double(),
        indexing="ij",
    )  # fmt: skip
    for s in pacbayes.sequences.SCALES:
        v = pacbayes.sequences.excess(s * (Y - L) / D)
        assert float((L + D / s * v).max()) <= high + D / s * (-s - math.log1p(-s))


def test_the_best_of_many_samples_is_covered_with_its_payment_and_not_without():
    """K models of the same loss on all tokens, and the sample of least mean among theirs.

    Windows have one token, of loss 0 or 1 with equal shares, so that counts of ones are binomial.
    """
    m, K, delta, runs = 2000, 5000, 0.3, 20
    broken = hidden = 0
    for run in range(runs):
        rng = np.random.default_rng(run)
        own = torch.zeros(m, dtype=torch.float64)
        own[rng.permutation(m)[: rng.binomial(m, 0.5, K).min()]] = 1.0
        found = of(own, own, [1] * m, n=100, total=100, longest=1, sampled=True)
        hidden += found._mean_bound(own, 1.0, delta) < 0.5
        broken += found._mean_bound(own, 1.0, delta / K) < 0.5
    assert broken / runs <= delta
    assert hidden / runs > delta


def test_compared_samples_lower_the_share_of_delta():
    _, evaluate = table()
    found = token_losses(evaluate, Windows.of(corpus(), 7), 4, sample=50)
    for name in ("freedman", "hoeffding"):
        values = [getattr(found, name)(-5.0, candidates=k) for k in (1, 10, 1000)]
        assert values == sorted(values)
        assert values[2] > values[0]


def test_bounds_do_not_fall_below_the_smallest_loss_after_a_sample_of_short_windows():
    own = torch.full((3,), loss_range(0.9, 4)[0], dtype=torch.float64)
    found = of(
        own, own, [1, 1, 1], n=10**6, total=1000, longest=1000, sampled=True, alpha=0.9,
        alphas=(0.9,),
    )  # fmt: skip
    assert found.hoeffding(-0.0, 0.999) >= found.range[0]


def test_tokens_of_a_chain_are_covered_after_a_choice_among_many_tables():
    """The best of 400 tables on a short text of coin flips; the hidden choice breaks the bound."""
    n, K, broken, hidden, delta = 400, 400, 0, 0, 0.2
    for run in range(40):
        rng = np.random.default_rng(run)
        flips = rng.integers(2, size=n)
        guesses = rng.integers(2, size=(K, n))
        hits = (guesses == flips).mean(1)
        alpha = 0.6
        p = torch.eye(2, dtype=torch.float64)[torch.from_numpy(guesses[hits.argmax()])]
        lengths, _ = smoothed(p, alpha, 2)
        own = lengths.gather(1, torch.from_numpy(flips)[:, None])[:, 0]
        # The centre is the conditional mean, so that the bound has no slack from it.
        centre = lengths.mean(1)
        found = of(own, centre, [1] * n, alpha=alpha, alphas=(alpha,), vocabulary=2)
        mean = float(centre.mean())
        broken += found.freedman(-math.log(K), delta) < mean
        hidden += found.freedman(0.0, delta) < mean
    assert broken / 40 <= delta
    assert hidden / 40 > delta
