"""Tests of `bayesgen.training.progress_bar`."""

import pytest

import bayesgen as bg
from bayesgen.training.progress_bar import reporting


def test_bar_shows_loss_and_time_left(digits, capfd):
    net = bg.networks.MLP(64, (8,), 10)
    bg.train(net, digits.x_train, digits.y_train, epochs=2, evidence_every=1, progress=True)
    shown = capfd.readouterr().err
    assert "loss" in shown
    assert "left" in shown
    bg.train_ensemble([net], digits.x_train, digits.y_train[None], epochs=1, progress=True)
    assert "mean loss" in capfd.readouterr().err


@pytest.mark.parametrize("given", [None, False])
def test_no_bar_is_drawn_unless_asked(given, capfd):
    with reporting(given) as progress:
        assert progress is None
    assert capfd.readouterr().err == ""


def test_own_function_is_used_as_it_is():
    heard = []
    with reporting(lambda *said: heard.append(said)) as progress:
        progress(1, 2, "epoch")
    assert heard == [(1, 2, "epoch")]


def test_bar_shows_steps_and_what_is_done(capfd):
    with reporting(True) as progress:
        progress(2, 4, "loss 0.5")
    shown = capfd.readouterr().err
    assert "loss 0.5" in shown
    assert "2/4" in shown
