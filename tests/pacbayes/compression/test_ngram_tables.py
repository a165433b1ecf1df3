"""Tests of `bayesgen.pacbayes.compression.ngram_tables`."""

import math

import pytest
import torch
from hypothesis import given, strategies as st

from bayesgen import pacbayes
from bayesgen.data import Corpus
from bayesgen.pacbayes import coded_table
from bayesgen.pacbayes.compression.container import integer
from bayesgen.pacbayes.compression.ngram_tables import decoded_table

DOCUMENTS = st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=30), min_size=1, max_size=4)


@given(DOCUMENTS, st.integers(1, 2), st.sampled_from([1 / 16, 0.5, 1.0, 15.0]))
def test_decoded_table_is_that_of_rounded_frequencies(documents, order, resolution):
    found = coded_table(Corpus("toy", documents, 4), order, resolution)
    counts = [[0] * 4 for _ in range(4 if order == 2 else 1)]
    for document in documents:
        for a, b in zip([0, *document], document, strict=False):
            counts[a if order == 2 else 0][b] += 1
    wanted = []
    for row in counts:
        largest = math.floor(20 / resolution)
        units = [
            min(largest, round(-math.log2(c / sum(row)) / resolution)) if c else largest
            for c in row
        ]
        weights = [2.0 ** (-resolution * u) for u in units]
        wanted.append([w / sum(weights) for w in weights])
    torch.testing.assert_close(decoded_table(found.code, 4), torch.tensor(wanted).double())


@pytest.mark.parametrize("order", [1, 2])
def test_losses_are_those_of_the_decoded_table_token_by_token(order):
    documents = torch.randint(5, (6, 300), generator=torch.Generator().manual_seed(0)).tolist()
    found = coded_table(Corpus("toy", documents, 5), order, 0.5)
    p, alpha = decoded_table(found.code, 5), found.losses.alpha
    wanted = [
        -math.log2((1 - alpha) * p[a if order == 2 else 0, b] + alpha / 5)
        for document in documents
        for a, b in zip([0, *document], document, strict=False)
    ]
    assert found.losses.losses.tolist() == pytest.approx(wanted)
    assert found.bits == 8 * len(found.code)
    assert found.log_prior == float(pacbayes.solomonoff(float(found.bits)))


def test_pairs_beat_single_tokens_on_a_chain_and_bounds_cover_the_source():
    """A chain that repeats its last token with a probability of 0.9."""
    generator = torch.Generator().manual_seed(1)
    steps = (torch.rand(20_000, generator=generator) > 0.9).long()
    corpus = Corpus("chain", [steps.cumsum(0) % 2], 2)
    one, two = (coded_table(corpus, order, 1 / 16) for order in (1, 2))
    entropy = -0.9 * math.log2(0.9) - 0.1 * math.log2(0.1)
    assert two.losses.risk == pytest.approx(entropy, abs=0.02)
    assert one.losses.risk == pytest.approx(1, abs=0.01)
    price = two.log_prior - two.losses.choice
    for bound in (two.losses.freedman(price), two.losses.hoeffding(price)):
        assert entropy < bound < 1
    assert two.losses.freedman(price) < two.losses.hoeffding(price)


def test_a_text_of_one_token_and_of_short_documents_has_tables():
    assert coded_table(Corpus("one", [[1]], 2), 1).losses.n == 1
    assert coded_table(Corpus("short", [[1], [0, 1]], 256), 2).losses.n == 3


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"corpus": [[0, 1]]}, TypeError, "corpus must be a bayesgen"),
        ({"order": 0}, ValueError, "order must be an integer"),
        ({"order": 3}, ValueError, "order must be 1 or 2, got 3"),
        ({"resolution": 0}, ValueError, "resolution must be a multiple"),
        ({"resolution": 0.1}, ValueError, "resolution must be a multiple"),
        ({"resolution": 15.5}, ValueError, "resolution must be a multiple"),
        ({"resolution": 1e300}, ValueError, "resolution must be a multiple"),
        ({"resolution": math.nan}, ValueError, "resolution must be finite"),
        ({"resolution": "a"}, TypeError, "resolution must be a number"),
        ({"resolution": torch.ones(2)}, TypeError, "resolution must be a number"),
        ({"corpus": Corpus("big", [[5]], 10**6)}, ValueError, "order must be such that a table"),
    ],
)
def test_bad_arguments_raise(arguments, error, message):
    with pytest.raises(error, match=message):
        coded_table(**{"corpus": Corpus("toy", [[0, 1]], 2), **arguments})


def test_bad_codes_raise():
    code = coded_table(Corpus("toy", [[0, 1, 1]], 2)).code
    for wrong in (b"", code[:-1], code + b"a", integer(2) + bytes([1, 16])):
        with pytest.raises(ValueError, match="code must hold"):
            decoded_table(wrong, 2)
    for head in ([0, 16], [3, 16], [1, 0], [1, 250]):
        with pytest.raises(ValueError, match="code must hold order 1 or 2"):
            decoded_table(integer(3) + bytes([*head, 7]), 2)
    with pytest.raises(TypeError, match="code must be bytes"):
        decoded_table("abc", 2)
    with pytest.raises(ValueError, match="vocabulary must be an integer"):
        decoded_table(code, 1)
