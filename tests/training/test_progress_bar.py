"""Tests of `bayesgen.training.progress_bar`."""

import bayesgen as bg


def test_bar_shows_loss_and_time_left(digits, capfd):
    net = bg.networks.MLP(64, (8,), 10)
    bg.train(net, digits.x_train, digits.y_train, epochs=2, evidence_every=1, progress=True)
    shown = capfd.readouterr().err
    assert "loss" in shown
    assert "left" in shown
    bg.train_ensemble([net], digits.x_train, digits.y_train[None], epochs=1, progress=True)
    assert "mean loss" in capfd.readouterr().err
