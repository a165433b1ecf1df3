"""Tests of `bayesgen.training.checkpoint`."""

import pytest
import torch
from torch import nn

import bayesgen as bg
from bayesgen.training import checkpoint as checkpoints
from tests.training.problems import mlp, same


def killed_after(epochs, batches):
    """A progress function that interrupts a run as a kill would."""

    def stop(done, expected, said):
        if done > epochs * batches + 1:
            raise KeyboardInterrupt

    return stop


@pytest.mark.parametrize("evidence", [False, True])
def test_resumed_run_equals_unbroken_run(digits, tmp_path, evidence):
    settings = {"epochs": 6, "batch": 40, "prior_precision": 0.5}
    if evidence:
        settings |= {"evidence_every": 2, "keep": "best"}
    whole = bg.train(mlp(), digits.x_train, digits.y_train, **settings)
    path = tmp_path / "run.pt"
    with pytest.raises(KeyboardInterrupt):
        bg.train(
            mlp(), digits.x_train, digits.y_train, checkpoint=path, progress=killed_after(3, 3),
            **settings,
        )  # fmt: skip
    resumed = bg.train(mlp(5), digits.x_train, digits.y_train, checkpoint=path, **settings)
    same(whole.net, resumed.net)
    assert whole.history.equals(resumed.history)
    torch.testing.assert_close(whole.prior_precision, resumed.prior_precision)
    if evidence:
        assert resumed.evidence.fit == whole.evidence.fit


def test_foreign_or_truncated_checkpoint_raises(digits, tmp_path):
    path = tmp_path / "run.pt"
    bg.train(mlp(), digits.x_train, digits.y_train, epochs=2, checkpoint=path)
    with pytest.raises(ValueError, match="checkpoint"):
        bg.train(mlp(), digits.x_train, digits.y_train.flip(0), epochs=2, checkpoint=path)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match="checkpoint"):
        bg.train(mlp(), digits.x_train, digits.y_train, epochs=2, checkpoint=path)


def test_checkpoint_with_code_raises(tmp_path):
    path = tmp_path / "bad.pt"
    torch.save({"fingerprint": "x", "net": nn.Linear(1, 1)}, path)
    with pytest.raises(ValueError, match="checkpoint"):
        checkpoints.load(path, "x", torch.device("cpu"))
