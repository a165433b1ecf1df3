"""Tests of `bayesgen.cli`."""

import subprocess
import sys

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
