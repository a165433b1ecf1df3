"""Tests of `bayesgen.errors`."""

import pytest

import bayesgen as bg
from bayesgen import cli, errors


def test_errors_are_public_and_of_documented_kinds():
    for name in ("DivergedError", "NotConvergedError"):
        assert getattr(bg, name) is getattr(errors, name)
        assert issubclass(getattr(errors, name), RuntimeError)
    assert issubclass(errors.RankLostError, RuntimeError)
    assert issubclass(bg.NotAtModeWarning, UserWarning)


@pytest.mark.parametrize("kind", [errors.DivergedError, errors.RankLostError, ValueError, OSError])
def test_command_line_ends_with_the_message_of_an_error(monkeypatch, capsys, kind):
    def fails(**_):
        raise kind("it [stopped] here")

    monkeypatch.setattr("bayesgen.commands.app.app", fails)
    monkeypatch.setattr("warnings.showwarning", None)
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 2
    assert "error: it [stopped] here" in capsys.readouterr().err
