"""Tests of `bayesgen.pacbayes.compression.container`."""

import pytest
import torch
from hypothesis import given, settings, strategies as st

from bayesgen.pacbayes.compression.container import LARGEST_SEED, Container, unpacked

WHERE = b"an architecture"


def container(seed=0, levels=3, dimension=50):
    generator = torch.Generator().manual_seed(0)
    symbols = torch.randint(levels, (dimension,), generator=generator)
    return Container(seed, torch.linspace(-1, 1, levels).half(), symbols)


@settings(max_examples=30)
@given(st.integers(0, LARGEST_SEED), st.integers(2, 255), st.integers(255, 400))
def test_a_code_gives_back_what_was_packed(seed, levels, dimension):
    made = container(seed, levels, dimension)
    found = unpacked(made.packed(WHERE), WHERE, 400)
    assert found.seed == seed
    assert torch.equal(found.codebook, made.codebook)
    assert torch.equal(found.symbols, made.symbols)


def test_the_header_takes_seven_bytes_for_small_settings():
    """Length and dimension below 128 and a seed of 0 take one byte each, and the checksum three."""
    from bayesgen.pacbayes.compression import arithmetic_coding

    made = container()
    coded = arithmetic_coding.encode(made.symbols.tolist(), 3)
    assert len(made.packed(WHERE)) == 7 + 2 * 3 + len(coded)


def test_every_damage_is_noticed():
    code = container().packed(WHERE)
    for end in range(len(code)):
        with pytest.raises(ValueError, match="code must"):
            unpacked(code[:end], WHERE, 100)
    for place in range(len(code)):
        for bit in range(8):
            damaged = bytearray(code)
            damaged[place] ^= 1 << bit
            with pytest.raises(ValueError, match="code must"):
                unpacked(bytes(damaged), WHERE, 100)
    for longer in (code + b"\0", code + code):
        with pytest.raises(ValueError, match="too long"):
            unpacked(longer, WHERE, 100)


def test_codes_for_something_else_are_refused():
    code = container().packed(WHERE)
    with pytest.raises(ValueError, match="checksum does not match"):
        unpacked(code, b"another one", 100)
    with pytest.raises(ValueError, match=r"dimension from their number to 49"):
        unpacked(code, WHERE, 49)
    with pytest.raises(TypeError, match="code must be bytes, got str"):
        unpacked("abc", WHERE, 100)
    few = Container(0, torch.zeros(3).half(), torch.tensor([0, 1]))
    with pytest.raises(ValueError, match="3 levels, dimension 2"):
        unpacked(few.packed(WHERE), WHERE, 100)
    infinite = Container(0, torch.tensor([0.0, torch.inf]).half(), torch.zeros(9).long())
    with pytest.raises(ValueError, match="finite levels"):
        unpacked(infinite.packed(WHERE), WHERE, 100)
