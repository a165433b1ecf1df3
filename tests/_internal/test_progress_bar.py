"""Tests of `bayesgen._internal.progress_bar`."""

import pytest
import torch

import bayesgen as bg
from bayesgen._internal.progress_bar import reporting


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


def test_bar_is_drawn_only_after_some_time(capsys):
    with reporting(True, after=60) as report:
        report(1, 2, "quick work")
    assert capsys.readouterr().err == ""
    with reporting(True, after=1e-9) as report:
        report(1, 2, "slow work")
        report(2, 2, "slow work")
    assert "slow work" in capsys.readouterr().err


def test_public_functions_show_a_bar_for_true_and_refuse_other_values(capsys):
    Phi, y = torch.randn(30, 2), torch.arange(30) % 2
    bg.select.features({"a": Phi}, y, progress=True)
    assert "features a" in capsys.readouterr().err
    with pytest.raises(TypeError, match="progress must be a function"):
        bg.select.features({"a": Phi}, y, progress=5)
    said = []
    bg.pacbayes.certify_network(
        lambda: torch.nn.Linear(2, 2),
        Phi,
        y,
        kind="last_layer",
        progress=lambda *step: said.append(step),
    )
    assert said[-1][0] == said[-1][1]
