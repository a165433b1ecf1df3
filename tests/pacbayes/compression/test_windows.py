"""Tests of `bayesgen.pacbayes.compression.windows`."""

import pytest
import torch
from hypothesis import given, strategies as st

from bayesgen.data import Corpus
from bayesgen.pacbayes.compression.windows import NONE, START, Windows

DOCUMENTS = st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=12), min_size=1, max_size=5)


@given(DOCUMENTS, st.integers(1, 12), st.sampled_from([10, 300]))
def test_each_token_is_a_target_once_after_the_tokens_before_it(documents, T, vocabulary):
    T = min(T, max(map(len, documents)))
    windows = Windows.of(Corpus("toy", documents, vocabulary), T)
    found = [[] for _ in documents]
    before = [[] for _ in documents]
    for i in range(len(windows)):
        length, document = int(windows.lengths[i]), int(windows.documents[i])
        assert 1 <= length <= T
        assert windows.mask[i].tolist() == [t < length for t in range(T)]
        found[document] += windows.targets[i, :length].tolist()
        before[document] += windows.inputs[i, :length].tolist()
    assert found == documents
    assert before == [[START, *d[:-1]] for d in documents]


@given(DOCUMENTS, st.integers(1, 12))
def test_labelled_windows_mark_places_without_tokens(documents, T):
    T = min(T, max(map(len, documents)))
    windows = Windows.of(Corpus("toy", documents, 10), T)
    inputs, targets = windows.labelled()
    assert inputs.dtype == targets.dtype == torch.int64
    assert torch.equal(targets != NONE, windows.mask)
    assert int((targets != NONE).sum()) == sum(map(len, documents))


def test_rows_can_be_taken():
    windows = Windows.of(Corpus("toy", [[0, 1, 2, 3, 4]], 5), 2)
    some = windows[torch.tensor([2, 0, 2])]
    assert some.lengths.tolist() == [1, 2, 1]
    assert some.targets[:, 0].tolist() == [4, 0, 4]
    assert len(some) == 3


@pytest.mark.parametrize("T", [0, 4, 10**12, 1.5, None])
def test_windows_longer_than_all_documents_are_refused(T):
    with pytest.raises(ValueError, match="context must be"):
        Windows.of(Corpus("toy", [[0, 1, 1], [0]], 2), T)
