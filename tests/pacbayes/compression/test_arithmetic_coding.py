"""Tests of `bayesgen.pacbayes.compression.arithmetic_coding`."""

import math
from collections import Counter

from hypothesis import given, strategies as st

from bayesgen.pacbayes.compression.arithmetic_coding import decode as read, encode


@given(
    st.integers(1, 40).flatmap(
        lambda L: st.tuples(st.just(L), st.lists(st.integers(0, L - 1), max_size=300))
    )
)
def test_code_decodes_to_its_symbols(case):
    alphabet, symbols = case
    assert read(encode(symbols, alphabet), len(symbols), alphabet) == symbols


def test_code_length_is_close_to_entropy(rng):
    symbols = rng.geometric(0.5, 4000).clip(max=9).tolist()
    symbols = [s - 1 for s in symbols]
    counts = Counter(symbols).values()
    entropy = -sum(c * math.log2(c / 4000) for c in counts)
    bits = 8 * len(encode(symbols, 9))
    assert entropy < bits < entropy + 0.5 * 8 * math.log2(4000) + 40
    assert len(encode([3] * 5000, 9)) < 20
