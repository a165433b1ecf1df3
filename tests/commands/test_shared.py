"""Tests of `bayesgen.commands.shared`."""

import errno
import os

import pytest

from bayesgen.commands.call import command_line
from bayesgen.commands.shared import source
from tests.helpers import run_command

SMALL = ["--train", "80", "--test", "50", "--levels", "0:1:0.5", "--seeds", "2"]


def test_unwritable_output_is_found_before_work(monkeypatch, tmp_path, capfd):
    file = tmp_path / "taken"
    file.write_text("")
    monkeypatch.setattr("bayesgen.experiments.corruption", None)  # This is never reached.
    assert run_command(monkeypatch, "corruption", "--out", file) == 2
    assert "must be writable" in capfd.readouterr().err


def test_failed_write_leaves_no_file(monkeypatch, tmp_path, capfd):
    replace = os.replace

    def fail(source, target):
        if str(target).endswith(".nc"):
            raise OSError(errno.ENOSPC, "No space left on device")
        replace(source, target)

    monkeypatch.setattr("bayesgen._internal.files.os.replace", fail)
    assert run_command(monkeypatch, "corruption", *SMALL, "--out", tmp_path) == 2
    printed = capfd.readouterr()
    assert "evidence in nats" in printed.out  # The table is printed before it is written.
    assert f"the disk is full: {tmp_path} has" in printed.err
    assert "kB are wanted" in printed.err
    assert not list(tmp_path.iterdir())


def test_command_line_names_the_result_in_place_of_several(monkeypatch):
    monkeypatch.setattr("sys.argv", ["bayesgen", "reproduce", "--quick", "all", "--out", "a b"])
    assert command_line(all="fig5") == "bayesgen reproduce --quick fig5 --out 'a b'"
    assert command_line() == "bayesgen reproduce --quick all --out 'a b'"


def test_options_of_a_table_go_together(tmp_path):
    table = tmp_path / "a.csv"
    with pytest.raises(ValueError, match="--target names a column of --csv"):
        source("digits", None, None, "kind", ",")
    with pytest.raises(FileNotFoundError, match="--csv must be a file"):
        source("digits", None, table, "kind", ",")
    table.write_text("size,kind\n" + "1.5,a\n2.5,b\n3.5,a\n" * 5)
    with pytest.raises(ValueError, match="--target must be given"):
        source("digits", None, table, None, ",")
    with pytest.raises(ValueError, match="together with --data"):
        source("cifar10", None, table, "kind", ",")
    data = source("digits", None, table, "kind", ",").load()
    assert (data.name, data.classes) == ("a", ("a", "b"))
