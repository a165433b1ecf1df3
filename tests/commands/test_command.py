"""Every command's common options, from the command line.

Tests of `bayesgen.commands.command`, `bayesgen.commands.app` and `bayesgen.commands.choices`.
"""

import inspect
import json
import subprocess
import sys

import pytest
import typer

from bayesgen import data, kernels
from bayesgen.commands import certify, choices, corruption, laplace, reproduce
from bayesgen.commands.app import app
from bayesgen.commands.choices import choice, nearest
from bayesgen.curvature.factory import CURVATURES
from bayesgen.experiments import corruption_models, laplace as study
from bayesgen.experiments.reproductions import described
from bayesgen.pacbayes.certificates.request import THEOREMS
from tests.helpers import run_command

COMMANDS = typer.main.get_command(app).commands
SMALL = ("--train", 40, "--test", 30, "--levels", "0,1", "--seeds", 1)


def help_of(name, monkeypatch, capsys, width="80"):
    monkeypatch.setenv("COLUMNS", width)
    monkeypatch.setenv("TERMINAL_WIDTH", width)
    assert run_command(monkeypatch, name, "--help") == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_the_common_options(monkeypatch, capsys, name):
    words = help_of(name, monkeypatch, capsys)
    assert all(option in words for option in ("--quiet", "--json", "--config"))
    assert max(len(line) for line in words.splitlines()) <= 80


@pytest.mark.parametrize("name", COMMANDS)
def test_help_lists_every_value_that_completion_offers(monkeypatch, capsys, name):
    words = help_of(name, monkeypatch, capsys, "400")
    command = COMMANDS[name]
    context = command.make_context(name, [], resilient_parsing=True)
    found = 0
    for param in command.params:
        for item in param.shell_complete(context, ""):
            if item.type == "plain":
                found += 1
                assert item.value in words, (param.name, item.value)
    assert found or name == "predict"


def test_values_are_those_of_the_functions_that_take_them():
    assert set(choices.DATA) == set(data.names())
    assert choices.KERNELS == kernels.NAMES
    assert set(corruption.MODELS) == set(inspect.unwrap(corruption_models).__globals__["MODELS"])
    assert tuple(THEOREMS) == certify.BOUNDS
    assert tuple(CURVATURES) == laplace.CURVATURES
    assert tuple(inspect.unwrap(study).__globals__["NETWORKS"]) == laplace.NETWORKS
    assert ("all", *described()) == reproduce.NAMES


def test_registered_values_are_accepted(monkeypatch, tmp_path, capfd):
    read = data.loading._READERS["digits"]
    monkeypatch.setitem(data.loading._READERS, "toy", read)
    words = ("--data", "toy", *SMALL, "--out", tmp_path)
    assert not run_command(monkeypatch, "corruption", *words)
    assert "toy, n = 40" in capfd.readouterr().out


def test_completion_offers_what_is_left_of_several_values():
    option = choice("gp", "mlp", "resnet", help="Models", several=True)
    assert option.autocompletion("") == ["gp", "mlp", "resnet"]
    assert option.autocompletion("gp,m") == ["gp,mlp"]
    assert option.autocompletion("gp,") == ["gp,mlp", "gp,resnet"]


def test_completion_of_the_shell_offers_values(tmp_path):
    words = {"_BAYESGEN_COMPLETE": "complete_bash", "COMP_WORDS": "bayesgen corruption --data ci",
             "COMP_CWORD": "3"}  # fmt: skip
    import os

    done = subprocess.run(
        [sys.executable, "-m", "bayesgen"],
        env={**os.environ, **words}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout.split() == ["cifar10", "cifar100"]


def test_the_nearest_value_is_suggested():
    assert nearest("CIFAR10", choices.DATA) == "; did you mean 'cifar10'?"
    assert nearest("zzz", choices.DATA) == ""


def test_json_is_one_document_on_stdout(monkeypatch, tmp_path, capfd):
    assert not run_command(monkeypatch, "corruption", *SMALL, "--json", "--out", tmp_path)
    printed = capfd.readouterr()
    document = json.loads(printed.out)
    assert [row["level"] for row in document["tables"]["summary"]] == [0.0, 1.0]
    assert document["attrs"]["n"] == 40
    names = ("corruption.nc", "corruption.png", "report.html")
    assert document["files"] == [str(tmp_path / name) for name in names]
    assert document["command"].startswith("bayesgen corruption --train 40")
    assert "done" in printed.err


@pytest.mark.parametrize(
    "words",
    [("info",), ("reproduce", "--list"), ("select", "--demo", "bishop", "--models", "linear")],
)
def test_other_commands_print_one_document_too(monkeypatch, tmp_path, capfd, words):
    monkeypatch.chdir(tmp_path)
    assert not run_command(monkeypatch, *words, "--json")
    assert json.loads(capfd.readouterr().out)["attrs"]


def test_errors_leave_stdout_empty_with_json(monkeypatch, tmp_path, capfd):
    assert run_command(monkeypatch, "corruption", "--data", "cifar", "--json") == 2
    printed = capfd.readouterr()
    assert printed.out == ""
    assert "did you mean 'cifar10'?" in printed.err


def test_quiet_prints_the_result_alone(monkeypatch, tmp_path, capfd):
    (tmp_path / "a.csv").write_text("u,v,kind\n" + "1.5,x,a\n2.5,y,b\n3.5,x,a\n" * 15)
    words = ("--csv", tmp_path / "a.csv", "--target", "kind", "--levels", "0", "--seeds", 1)
    assert not run_command(monkeypatch, "corruption", *words, "--quiet", "--out", tmp_path / "o")
    printed = capfd.readouterr()
    assert printed.err == ""
    assert "Wrote" in printed.out
    assert not run_command(monkeypatch, "corruption", *words, "--out", tmp_path / "o")
    assert "a: texts in 'v' were coded" in capfd.readouterr().err
