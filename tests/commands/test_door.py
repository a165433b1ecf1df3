"""Tests of `bayesgen.commands.door`."""

import errno

import pytest

from bayesgen.commands.door import full, is_full, worded

OPTIONS = {"data_dir": "--data-dir", "data": "--data", "workers": "--workers", "csv": "--csv",
           "scheduler": "--scheduler", "kernel": "--kernel", "noise": "--noise",
           "targets": "--targets", "device": "--device"}  # fmt: skip


@pytest.mark.parametrize(
    ("message", "wanted"),
    [
        ("data_dir must be a folder", "--data-dir must be a folder"),
        ("name must be one of 'digits'", "--data must be one of 'digits'"),
        ("workers and scheduler must not be given", "--workers and --scheduler must not be given"),
        (
            "kernel, targets and noise are options of --model gp alone",
            "--kernel, --targets and --noise are options of --model gp alone",
        ),
        ("table must have rows", "--csv must have rows"),
        ("fig5 has no setting 'device'; it has", "fig5 has no option --device; it has"),
        ("the kernel must be symmetric", "the kernel must be symmetric"),
        ("--kernel must be one of a", "--kernel must be one of a"),
        ("x must hold images", "x must hold images"),
        ("no verb at all", "no verb at all"),
        ("", ""),
    ],
)
def test_messages_name_options(message, wanted):
    assert worded(message, OPTIONS) == wanted


def test_a_full_disk_is_known_by_number_and_by_hdf5s_words():
    assert is_full(OSError(errno.ENOSPC, "x"))
    assert is_full(OSError("file write failed: errno = 28, error message = 'No space left'"))
    assert is_full(RuntimeError("Unable to flush (No space left on device)"))
    assert not is_full(OSError(errno.EACCES, "x"))
    assert not is_full(ValueError("no space left"))


def test_the_error_of_a_full_disk_says_where_and_how_much(tmp_path):
    message = str(full(tmp_path, 2_500_000))
    assert str(tmp_path) in message
    assert "2.5 MB are wanted" in message
