"""Tests of `bayesgen.commands.reproduce`."""

import pytest
import xarray as xr
from matplotlib.figure import Figure

from bayesgen import experiments
from bayesgen.experiments.experiment import experiment
from tests.helpers import run_command

_GERMAIN = experiments.germain._function


def _small(**more):
    return _GERMAIN(sizes=(10, 100, 1000), **more)


def test_reproduce_germain_writes_figure(monkeypatch, tmp_path):
    monkeypatch.setattr(experiments.germain, "_function", lambda **more: _small(**more))
    assert not run_command(monkeypatch, "reproduce", "germain", "--out", tmp_path)
    assert (tmp_path / "germain.png").exists()


def test_reproduce_writes_figure_data_and_a_row_of_the_table(monkeypatch, tmp_path, capsys):
    assert not run_command(monkeypatch, "reproduce", "fig1abc", "--out", tmp_path)
    assert (tmp_path / "fig1abc.png").stat().st_size > 10_000
    with xr.open_dataset(tmp_path / "fig1abc.nc", engine="h5netcdf") as result:
        assert result.attrs["command"].startswith("bayesgen reproduce")
    out = capsys.readouterr().out
    assert "fig1abc" in out
    assert "holds" in out
    rows = (tmp_path / "table.md").read_text(encoding="utf-8").splitlines()
    assert rows[0].startswith("| name | paper says | we get")
    assert rows[2].startswith("| fig1abc | A polynomial of degree 150")


def test_list_names_everything(monkeypatch, capsys):
    assert not run_command(monkeypatch, "reproduce", "--list")
    out = capsys.readouterr().out
    for name in ("fig1", *experiments.REPRODUCTIONS):
        assert f" {name} " in out


def _toy(title, fails=False):
    @experiment(plot=lambda result: Figure())
    def toy(*, device="cpu", command=None):
        """A toy."""
        if fails:
            raise ValueError("toy must be right")
        return xr.Dataset(
            {"value": 1}, attrs={"title": title, "command": command, "on": str(device)}
        )

    return toy


def test_all_runs_the_others_after_a_failure(monkeypatch, tmp_path, capsys):
    toys = {"a": _toy("a"), "b": _toy("b", fails=True), "c": _toy("c")}
    monkeypatch.setattr(experiments.reproductions, "REPRODUCTIONS", toys)
    monkeypatch.setattr(experiments, "REPRODUCTIONS", toys)
    page = experiments.reproductions.Page(("a", "c"), lambda parts: Figure(), "A page.")
    monkeypatch.setattr(experiments, "PAGES", {"page": page})
    assert run_command(monkeypatch, "reproduce", "all", "--out", tmp_path, "--device", "cpu") == 2
    assert {p.name for p in tmp_path.iterdir()} == {
        *(f"{name}.{end}" for name in ("a", "c", "page") for end in ("nc", "png", "html")),
        "table.md",
    }
    said = capsys.readouterr()
    assert "b failed: ValueError: toy must be right" in said.out
    assert "1 experiment failed, see above: b" in said.err
    tree = xr.open_datatree(tmp_path / "page.nc", engine="h5netcdf")
    assert set(tree.children) == {"a", "c"}
    assert tree["a"].attrs["on"] == "cpu"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["fig9"], "NAME must be one of all, fig1, fig2, fig1abc"),
        ([], "NAME must be given"),
        (["fig5", "--list"], "--list takes no name"),
        (["fig5", "--model", "language"], "--model can be given for fig2, got it for 'fig5'"),
        (["fig2", "--model", "tree"], "--model must be one of classifier or language"),
        (["fig2b", "--text", "/nowhere/text"], "--text must be a file or a folder"),
        (["fig5", "--text", "."], "fig5 has no option --text"),
        (["fig5", "--device", "cpu"], "fig5 has no option --device"),
        (["fig1d", "--device", "tpu"], "--device must be one of"),
        (["fig1d", "--data", "letters", "--quick"], "letters"),
    ],
)
def test_bad_arguments_end_with_one_sentence(monkeypatch, tmp_path, capsys, arguments, words):
    out = tmp_path / "out"
    assert run_command(monkeypatch, "reproduce", *arguments, "--out", out) == 2
    said = capsys.readouterr().err
    assert words in said
    assert "Traceback" not in said
    assert not out.exists() or not list(out.glob("*.nc"))


def test_an_unreadable_result_is_left_out_of_the_table(monkeypatch, tmp_path):
    (tmp_path / "fig4.nc").write_bytes(b"garbage")
    assert not run_command(monkeypatch, "reproduce", "fig1abc", "--out", tmp_path)
    assert "fig4" not in (tmp_path / "table.md").read_text(encoding="utf-8")


def test_quick_results_have_their_own_folder(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert not run_command(monkeypatch, "reproduce", "fig1abc", "--quick")
    assert (tmp_path / "results" / "reproduce-quick" / "fig1abc.png").exists()
