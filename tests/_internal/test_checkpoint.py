"""Tests of `bayesgen._internal.checkpoint`."""

import pytest
import torch

from bayesgen._internal import checkpoint as checkpoints

CPU = torch.device("cpu")


def test_a_state_is_read_as_it_was_written(tmp_path):
    path = tmp_path / "deep" / "state.pt"
    state = {"fingerprint": "a", "step": 3, "z": torch.arange(4.0), "names": ["x"]}
    checkpoints.save(path, state)
    found = checkpoints.load(path, "a", CPU)
    assert found is not None
    assert torch.equal(found.pop("z"), state.pop("z"))
    assert found == state


def test_no_file_is_no_state(tmp_path):
    assert checkpoints.load(tmp_path / "none.pt", "a", CPU) is None


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "state.pt"
    checkpoints.save(path, {"fingerprint": "a"})
    with pytest.raises(ValueError, match="is of another run"):
        checkpoints.load(path, "b", CPU)
    path.write_bytes(b"no state")
    with pytest.raises(ValueError, match="cannot be read"):
        checkpoints.load(path, "a", CPU)
    with pytest.raises(ValueError, match="checkpoint must be a file"):
        checkpoints.load(tmp_path, "a", CPU)
