"""Tests of `bayesgen._internal.progress_bar`."""

import pytest

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
