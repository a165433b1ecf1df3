"""Tests of `bayesgen.pacbayes.compression.quantisation`."""

import math

import pytest
import torch
from hypothesis import given, strategies as st

from bayesgen.pacbayes.compression import quantisation

ENTRIES = st.lists(st.floats(-5, 5), min_size=4, max_size=30)


@given(ENTRIES, st.integers(2, 4), st.floats(0, 1))
def test_symbols_minimise_distance_plus_penalty(entries, levels, entropy):
    z = torch.tensor(entries, dtype=torch.float64)
    codebook = quantisation.evenly_spaced(z, levels)
    penalties = quantisation.lengths(z, codebook, entropy)
    found = quantisation.symbols(z, codebook, entropy)
    for value, symbol in zip(entries, found.tolist(), strict=True):
        costs = [
            (value - float(c)) ** 2 + float(p) for c, p in zip(codebook, penalties, strict=True)
        ]
        assert costs[symbol] <= min(costs) + 1e-12


def test_penalties_are_code_lengths_in_units_of_the_variance():
    z = torch.tensor([0.0, 0.1, 0.2, 5.0], dtype=torch.float64)
    codebook = torch.tensor([0.0, 5.0], dtype=torch.float64)
    found = quantisation.lengths(z, codebook, 0.5)
    wanted = [-0.5 * float(z.var()) * math.log2(c / 6) for c in (4, 2)]
    assert found.tolist() == pytest.approx(wanted)
    assert quantisation.lengths(z, codebook, 0.0).tolist() == [0, 0]


@given(ENTRIES, st.integers(2, 4))
def test_quantiles_are_means_of_runs_of_the_sorted_entries(entries, levels):
    found = quantisation.quantiles(torch.tensor(entries, dtype=torch.float64), levels)
    assert (found.diff() >= 0).all()
    ordered, start = sorted(entries), 0
    for i in range(levels):
        size = len(entries) // levels + (i < len(entries) % levels)
        part = ordered[start : start + size]
        assert float(found[i]) == pytest.approx(sum(part) / size, abs=1e-12)
        start += size


@given(ENTRIES, st.integers(2, 9))
def test_evenly_spaced_levels_are_symmetric_about_zero(entries, levels):
    z = torch.tensor(entries, dtype=torch.float64)
    found = quantisation.evenly_spaced(z, levels)
    torch.testing.assert_close(found, -found.flip(0))
    end = 2.5 * math.sqrt(sum(e * e for e in entries) / len(entries))
    assert float(found[-1]) == pytest.approx(end)


def test_gradient_passes_to_the_entries_and_to_their_levels():
    z = torch.tensor([0.1, 0.9, 1.1], dtype=torch.float64, requires_grad=True)
    codebook = torch.tensor([0.0, 1.0], dtype=torch.float64, requires_grad=True)
    value = quantisation.rounded(z, codebook, 0.0)
    assert value.tolist() == [0, 1, 1]
    (value * torch.tensor([1.0, 2.0, 4.0])).sum().backward()
    assert z.grad.tolist() == [1, 2, 4]
    assert codebook.grad.tolist() == [1, 6]
