"""Tests of `bayesgen.experiments.calibration`."""

import pytest
import torch
from sklearn.metrics import log_loss

from bayesgen.experiments.calibration import scores


def test_scores_match_scikit_learn_and_definition():
    g = torch.Generator().manual_seed(0)
    p = torch.rand(200, 4, generator=g, dtype=torch.float64).softmax(1)
    y = torch.randint(4, (200,), generator=g)
    found = scores(p, y, bins=10)
    assert found.nll == pytest.approx(log_loss(y, p, labels=range(4)))
    assert found.error == float((p.argmax(1) != y).double().mean())
    confidence, total = p.amax(1), 0.0
    for b in range(10):
        here = (confidence >= b / 10) & (confidence < (b + 1) / 10)
        if here.any():
            hit = (p.argmax(1) == y)[here].double().mean()
            total += float(here.double().mean() * (hit - confidence[here].mean()).abs())
    assert found.ece == pytest.approx(total)


def test_labels_drawn_from_the_probabilities_are_calibrated():
    g = torch.Generator().manual_seed(0)
    p = (3 * torch.randn(40_000, 5, generator=g, dtype=torch.float64)).softmax(1)
    y = torch.multinomial(p, 1, generator=g)[:, 0]
    assert scores(p, y).ece < 0.01


@pytest.mark.parametrize(
    ("p", "y", "message"),
    [
        ([[0.5, 0.6]], [0], "sum to one"),
        ([[0.5, float("nan")]], [0], "finite"),
        ([[0.5, 0.5]], [2], "from 0 to 1"),
        ([[0.5, 0.5]], [0.0], "integers"),
        ([[0.5, 0.5]], [0, 1], "1 integers"),
        ([0.5, 0.5], [0], "shape"),
    ],
)
def test_invalid_probabilities_raise(p, y, message):
    with pytest.raises(ValueError, match=message):
        scores(p, y)
