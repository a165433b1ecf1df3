import json
import math

import gpytorch
import pandas as pd
import pytest
import torch

import bayesgen as bg
from bayesgen import cli, select

F64 = torch.float64


def data(n=30):
    x = torch.linspace(-1, 1, n, dtype=F64)
    return x, torch.sin(4 * x) + 0.1 * torch.cos(57 * x)


def command(monkeypatch, *arguments):
    monkeypatch.setattr("sys.argv", ["bayesgen", "select", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    return stop.value.code


def test_a_discrete_space_is_exhausted_and_the_best_found():
    x, y = data()
    optimum = select.optimise(
        lambda degree: bg.Polynomial(degree).fit(x, y),
        {"degree": (0, 7)},
        trials=30,
        progress=False,
    )
    values = [float(bg.Polynomial(k).fit(x, y).evidence.log_marginal_likelihood) for k in range(8)]
    assert len(optimum.trials) == 8
    assert optimum.setting["degree"] == max(range(8), key=values.__getitem__)


def test_a_mixed_space_beats_its_random_start():
    x, y = data()

    def build(kernel, lengthscale, degree):
        base = bg.kernels.named(kernel)
        base.lengthscale = torch.tensor(lengthscale, dtype=F64)
        return bg.GaussianProcess(base, 0.01 * (1 + degree), hyperparameters=("scale",)).fit(x, y)

    space = {"kernel": ["rbf", "matern32"], "lengthscale": (0.01, 10.0, "log"), "degree": (0, 3)}
    optimum = select.optimise(build, space, trials=12, initial=4, progress=False)
    trials = optimum.trials
    assert optimum.value == trials.value.max()
    assert optimum.value > trials.value[:4].max()
    assert trials.lengthscale.between(0.01, 10.0).all()


def test_a_killed_run_goes_on_where_it_was(tmp_path):
    x, y = data()
    log, calls = tmp_path / "runs" / "log.jsonl", []

    def build(degree, rate):
        calls.append(degree)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return bg.Polynomial(degree, bg.priors.geometric(rate)).fit(x, y, hyperparameters=["noise"])

    space = {"degree": (1, 9), "rate": (1.0, 5.0)}
    with pytest.raises(KeyboardInterrupt):
        select.optimise(build, space, trials=7, log=log, progress=False)
    assert len(log.read_text().splitlines()) == 3
    with log.open("a") as handle:
        handle.write('{"setting": {"deg')  # cut short
    optimum = select.optimise(build, space, trials=7, log=log, progress=False)
    assert len(optimum.trials) == 7
    assert len(calls) == 4 + 4
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    assert [row["value"] for row in rows] == optimum.trials.value.tolist()
    again = select.optimise(build, space, trials=7, log=log, progress=False)
    assert len(calls) == 8
    assert again.setting == optimum.setting
    with pytest.raises(ValueError, match="of another space"):
        select.optimise(build, {"degree": (1, 9)}, log=log, progress=False)
    with pytest.raises(ValueError, match="lies outside it"):
        select.optimise(build, {"degree": (10, 12), "rate": (1.0, 5.0)}, log=log, progress=False)


def test_failed_trials_are_passed_over():
    x, y = data()

    def build(degree):
        if degree % 2:
            raise ValueError("odd")
        return bg.Polynomial(degree).fit(x, y).evidence

    optimum = select.optimise(build, {"degree": (0, 5)}, trials=6, progress=False)
    assert optimum.setting["degree"] % 2 == 0
    assert optimum.trials.value.isna().sum() == 3
    with pytest.raises(ValueError, match="no trial of 2 succeeded; the last said: odd"):
        select.optimise(lambda degree: build(1), {"degree": [1, 3]}, trials=2, progress=False)


@pytest.mark.parametrize("value", [(), (1, 0), (0.0, 1.0, "log"), [], (1, math.inf), "rbf", (1,)])
def test_bad_spaces(value):
    with pytest.raises(ValueError, match=r"space\['a'\] must be"):
        select.optimise(lambda a: None, {"a": value})


def test_bad_builds():
    with pytest.raises(TypeError, match="must return a posterior or an Evidence, got float"):
        select.optimise(lambda a: 1.0, {"a": (0, 3)}, progress=False)


def frame(n=25):
    x, y = data(n)
    return pd.DataFrame({"x": x.numpy(), "z": x.numpy() ** 2, "y": 100 + 5 * y.numpy()})


def test_select_on_a_table(monkeypatch, tmp_path, capsys):
    table = frame()
    table["name"], table["one"] = "text", 1.0
    table.loc[3, "x"] = math.nan
    table.to_csv(tmp_path / "table.csv", index=False)
    out = tmp_path / "out"
    arguments = ("--csv", tmp_path / "table.csv", "--target", "y", "--out", out)
    assert not command(monkeypatch, *arguments)
    said = capsys.readouterr().out
    assert "null" in said
    assert "columns that are not numbers: name" in said
    assert "constant columns: one" in said
    assert "1 row(s) with missing values" in said
    ranking = pd.read_csv(out / "ranking.csv", index_col="model")
    assert ranking.log_evidence.is_monotonic_decreasing
    assert {p.name for p in out.iterdir()} == {"ranking.csv", "ranking.png", "fits.png"}


def test_predictions_come_in_the_tables_units():
    selection = select.select(select.from_frame(frame()[["x", "y"]], "y"))
    best = selection.ranking.index[0]
    curve = select.table.profile(selection, best, 0)
    assert curve["mean"].between(85, 115).all()
    assert (curve.low < curve["mean"]).all()
    assert curve.x.min() == pytest.approx(-1)


def test_select_demo(monkeypatch, tmp_path, capsys):
    assert not command(monkeypatch, "--demo", "bishop", "--out", tmp_path)
    assert "polynomial 30, decaying" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "target", "message"),
    [
        (lambda t: t.assign(y="text"), "y", "target 'y' must hold numbers, got text such as"),
        (lambda t: t, "w", "target must be a column of the table"),
        (lambda t: t[:4], "y", "at least 5 rows without missing values, got 4"),
        (lambda t: t.assign(y=1.0), "y", "target 'y' must vary"),
        (lambda t: t[["y"]].assign(a=3), "y", "a numeric column beside 'y' that varies"),
        (lambda t: t.assign(x=[math.inf] + [1.0] * 24), "y", "finite numbers"),
    ],
)
def test_bad_tables(monkeypatch, tmp_path, capsys, change, target, message):
    change(frame()).to_csv(tmp_path / "t.csv", index=False)
    arguments = ("--csv", tmp_path / "t.csv", "--target", target, "--out", tmp_path)
    assert command(monkeypatch, *arguments) == 2
    assert message in capsys.readouterr().err


def test_select_wants_data(monkeypatch, tmp_path, capsys):
    assert command(monkeypatch) == 2
    assert command(monkeypatch, "--csv", tmp_path / "none.csv", "--target", "y") == 2
    assert command(monkeypatch, "--csv", tmp_path / "none.csv") == 2
    said = capsys.readouterr().err
    assert "one of --csv FILE" in said
    assert "csv must be a file" in said
    assert "target must be given" in said


def test_several_inputs_include_ard():
    x = torch.rand(20, 2, generator=torch.Generator().manual_seed(0), dtype=F64)
    names = select.table.candidates(x)
    assert isinstance(names["GP RBF, ARD"].kernel, gpytorch.kernels.RBFKernel)
