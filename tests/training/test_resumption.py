"""Tests of `bayesgen.training.train` when it continues from a checkpoint."""

import pytest
import torch
from torch import nn

import bayesgen as bg
from bayesgen._internal import checkpoint as checkpoints
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


@pytest.mark.parametrize(
    "change",
    [{"noise": 1.0}, {"noise": None}, {"augment": lambda x: x}, {"likelihood": "poisson"}],
    ids=["noise", "learnt noise", "augment", "likelihood"],
)
def test_checkpoint_of_other_settings_raises(tmp_path, change):
    torch.manual_seed(0)
    x, y = torch.randn(20, 3), torch.randint(3, (20,)).float()
    settings = {"likelihood": "gaussian", "noise": 0.1, "epochs": 1}
    settings["checkpoint"] = tmp_path / "run.pt"
    bg.train(nn.Linear(3, 1), x, y, **settings)
    settings |= change
    if settings["likelihood"] == "poisson":
        del settings["noise"]
    if settings.get("noise", 0) is None:
        settings["evidence_every"] = 1
    with pytest.raises(ValueError, match="is of another run"):
        bg.train(nn.Linear(3, 1), x, y, **settings)


def test_a_folder_is_no_checkpoint(digits, tmp_path):
    x, y = digits.x_train, digits.y_train
    with pytest.raises(ValueError, match="checkpoint must be a file, got the folder"):
        bg.train(mlp(), x, y, epochs=1, checkpoint=tmp_path)
