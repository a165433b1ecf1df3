"""Tests of `bayesgen.commands.info`."""

from tests.helpers import run_command


def test_info_prints_versions(monkeypatch, capfd):
    assert not run_command(monkeypatch, "info")
    assert "torch" in capfd.readouterr().out


def test_plan_states_engine_and_reason(monkeypatch, capfd, tmp_path):
    assert not run_command(monkeypatch, "info", "--plan", "n=50000", "d=3072", "outputs=110")
    printed = capfd.readouterr().out
    assert "engine" in printed
    assert "why" in printed
    assert "GFLOP/s" in printed
    assert "GB/s" not in printed  # No disk was asked for.
    words = ("--plan", "n=50000", "d=3072", "outputs=110", "--work", str(tmp_path))
    assert not run_command(monkeypatch, "info", *words)
    assert "GB/s" in capfd.readouterr().out
    assert run_command(monkeypatch, "info", "--plan", "n=50000") == 2
    assert "--plan must be n=… d=… outputs=…" in capfd.readouterr().err
