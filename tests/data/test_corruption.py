"""Tests of `bayesgen.data.corruption`."""

import pytest
import torch
from hypothesis import given, strategies as st

from bayesgen import corrupt_labels

LABELS = torch.arange(10).repeat(500)


@given(
    low=st.floats(0, 1),
    high=st.floats(0, 1),
    seed=st.integers(0, 2**31),
    classes=st.integers(2, 12),
    kind=st.sampled_from(["uniform", "flip"]),
)
def test_corruptions_are_nested_along_level(low, high, seed, classes, kind):
    low, high = sorted((low, high))
    labels = torch.arange(300) % classes
    small, mask = corrupt_labels(labels, low, num_classes=classes, seed=seed, kind=kind)
    large, wide = corrupt_labels(labels, high, num_classes=classes, seed=seed, kind=kind)
    assert (wide | ~mask).all()
    assert torch.equal(small[mask], large[mask])
    assert torch.equal(small != labels, mask)


def test_altered_shares_follow_level():
    for level in (0.3, 0.8):
        _, mask = corrupt_labels(LABELS, level, num_classes=10, seed=4)
        assert mask.double().mean().item() == pytest.approx(0.9 * level, abs=0.03)
        flipped, mask = corrupt_labels(LABELS, level, num_classes=10, seed=4, kind="flip")
        assert mask.double().mean().item() == pytest.approx(level, abs=0.03)
        assert torch.equal(flipped[mask], (LABELS[mask] + 1) % 10)
    counts = [corrupt_labels(LABELS, 0.5, num_classes=10, seed=s)[1].sum().item() for s in range(9)]
    assert len(set(counts)) > 5  # The number of altered labels is random.
    redrawn, _ = corrupt_labels(LABELS, 1.0, num_classes=10, seed=1)
    assert redrawn.bincount().min() > 400  # New labels are uniform over all classes.


def test_level_zero_keeps_labels_and_seeds_reproduce():
    same, mask = corrupt_labels(LABELS, 0.0, num_classes=10)
    assert torch.equal(same, LABELS)
    assert not mask.any()
    a = corrupt_labels(LABELS, 0.5, num_classes=10, seed=1)[0]
    assert torch.equal(a, corrupt_labels(LABELS, 0.5, num_classes=10, seed=1)[0])
    assert not torch.equal(a, corrupt_labels(LABELS, 0.5, num_classes=10, seed=2)[0])
    torch.manual_seed(0)
    state = torch.get_rng_state()
    corrupt_labels(LABELS, 0.5, num_classes=10, seed=1)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        ({"level": 1.1}, ValueError, r"level must lie in \[0, 1\], got 1.1"),
        ({"level": "x"}, TypeError, "level must be a number"),
        ({"labels": [0, 10]}, ValueError, r"labels must lie in 0..9 \(num_classes=10\), got"),
        ({"labels": [-1, 0]}, ValueError, "got values from -1 to 0"),
        ({"labels": [0.5]}, TypeError, "labels must hold integer class labels"),
        ({"labels": torch.zeros(0, dtype=torch.int64)}, ValueError, "labels is empty"),
        ({"labels": [[1]]}, ValueError, r"labels must have shape \(n,\)"),
        ({"num_classes": 1}, ValueError, "num_classes must be an integer of at least 2"),
        ({"kind": "swap"}, ValueError, "kind must be one of 'uniform', 'flip', got 'swap'"),
        ({"seed": 0.5}, ValueError, "seed must be an integer"),
    ],
)
def test_invalid_arguments_raise(arguments, kind, message):
    with pytest.raises(kind, match=message):
        corrupt_labels(**{"labels": [0, 1], "level": 0.5, "num_classes": 10, **arguments})
