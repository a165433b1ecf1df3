"""Tests of `bayesgen.covariance.distributed`.

One Gram matrix over several processes gives the same results, and a clear error where one is lost.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bayesgen.covariance import distributed


@pytest.fixture(scope="module")
def launched(tmp_path_factory):
    """Folder and exit statuses of the programs in `tests.covariance.processes`."""
    folder = tmp_path_factory.mktemp("processes")
    done = subprocess.run(
        [sys.executable, "-m", "tests.covariance.processes", str(folder)],
        cwd=Path(__file__).parents[2],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    return folder, json.loads((folder / "statuses.json").read_text()), done.stderr


def test_backend_follows_number_of_cards():
    assert distributed.backend(4, 0) == "gloo"
    assert distributed.backend(4, 4) == "cpu:gloo,cuda:nccl"
    assert distributed.backend(4, 1) == "gloo"


@pytest.mark.parametrize("count", [2, 4])
def test_any_number_of_processes_finds_the_same(launched, count):
    folder, statuses, said = launched
    assert statuses["1"] == [0], said
    assert statuses[str(count)] == [0] * count, said
    alone, several = (json.loads((folder / str(c) / "found.json").read_text()) for c in (1, count))
    assert several[0] == pytest.approx(alone[0], rel=1e-6)
    assert several[1] == pytest.approx(alone[1], abs=1e-6)  # These errors are of rounding alone.
    assert several[2:4] == pytest.approx(alone[2:4], rel=1e-6)
    for a, b in zip(several[4], alone[4], strict=True):
        assert a == pytest.approx(b, rel=1e-6)


def test_lost_process_ends_others_with_error(launched):
    folder, statuses, said = launched
    assert statuses["lost"] == [3, 9, 3], said
    for rank in (0, 2):
        assert "lost another one" in (folder / "lost" / f"error {rank}").read_text()
