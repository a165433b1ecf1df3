"""Tests of `bayesgen.cli`."""

import os
import signal
import subprocess
import sys
import time

import pytest

from bayesgen import cli
from tests.helpers import run_command

SMALL = ["--train", "80", "--test", "50", "--levels", "0:1:0.5", "--seeds", "2"]


def test_command_runs_in_own_process(tmp_path):
    command = [sys.executable, "-c", "from bayesgen.cli import main; main()", "corruption"]
    done = subprocess.run(
        [*command, *SMALL, "--threads", "1", "--out", str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "Wrote" in done.stdout
    assert "spectrum" in done.stderr or "done" in done.stderr  # The progress bar was shown.


def _with_default_signals():
    """A shell in the background lets its children ignore Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def interrupted(words, ready, number=signal.SIGINT, program=("-m", "bayesgen")):
    """Status and stderr of a command that gets a signal when `ready()` first holds."""
    process = subprocess.Popen(
        [sys.executable, *program, *map(str, words)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        preexec_fn=_with_default_signals,
    )  # fmt: skip
    while process.poll() is None and not ready():
        time.sleep(0.05)
    os.killpg(process.pid, number)  # as a terminal does
    _, err = process.communicate(timeout=120)
    return process.returncode, err


@pytest.mark.parametrize("workers", [[], ["--workers", "2"]])
def test_an_interruption_says_what_was_kept(tmp_path, workers):
    words = ("--model", "polynomial", "--train", "100", "--seeds", "40", "--out", tmp_path / "o")
    cells = tmp_path / "o" / "cells"
    code, err = interrupted(
        ("corruption", *words, *workers), lambda: len([*cells.glob("*.nc")]) > 1
    )
    assert code == 130
    assert "Traceback" not in err
    last = err.strip().splitlines()[-1]
    assert last.startswith("interrupted at polynomial, level ")
    assert f"kept in {cells}, and the same command continues" in last


# A command that creates the file in its first argument once it handles signals. Before that moment
# the interpreter itself starts, and how long that takes depends on the machine.
TELLS = """
import contextlib, pathlib, sys
from bayesgen import cli
from bayesgen._internal import interrupts

watched = interrupts.watched

@contextlib.contextmanager
def tells():
    with watched() as watch:
        pathlib.Path(sys.argv.pop(1)).touch()
        yield watch

interrupts.watched = tells
cli.main()
"""


@pytest.mark.parametrize("delay", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_during_imports_is_one_sentence(tmp_path, delay, number):
    started = tmp_path / "started"

    def ready():
        if started.exists():
            time.sleep(delay)
        return started.exists()

    words = (started, "corruption", "--model", "gp-laplace", "--out", tmp_path / "o")
    code, err = interrupted(words, ready, number, program=("-c", TELLS))
    assert code == 128 + number
    how = "interrupted" if number == signal.SIGINT else "ended by a signal"
    assert err.strip().endswith(": nothing was kept")
    assert err.strip().startswith(how)
    assert not (tmp_path / "o").exists()


def test_faults_of_the_program_are_not_hidden(monkeypatch):
    def fault():
        raise ZeroDivisionError

    monkeypatch.setattr(cli, "_run", fault)
    with pytest.raises(ZeroDivisionError):
        cli.main()


def test_a_warning_is_a_note_on_stderr(monkeypatch, tmp_path, capfd):
    import warnings

    from bayesgen.experiments import corruption

    def warns(*_, **__):
        warnings.warn("[look] here", stacklevel=1)
        raise ValueError("name must be another")

    monkeypatch.setattr("bayesgen.experiments.corruption", warns)
    assert corruption is not warns
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        assert run_command(monkeypatch, "corruption", "--out", tmp_path) == 2
    lines = [line for line in capfd.readouterr().err.splitlines() if line]
    assert lines[-2:] == ["note: [look] here", "error: --data must be another"]
