"""The scripts in `examples/` run without a warning, draw a figure, and show what they promise."""

import ast
import runpy
import warnings
from pathlib import Path

import pytest

SCRIPTS = sorted((Path(__file__).parent.parent / "examples").glob("*.py"))


def custom_kernel(_, printed):
    rows = [line.split("log p(D)")[1].split() for line in printed.splitlines()]
    assert len(rows) == 3
    for row in rows[1:]:
        for mine, built_in in zip(row, rows[0], strict=True):
            if mine[0].isdigit() or mine[0] == "-":
                assert float(mine) == pytest.approx(float(built_in), rel=1e-5)


def conditional_evidence(table, _):
    best = table["test log density"].idxmax()
    assert table["conditional, m = 10"].idxmax() == best
    assert table["log evidence"].idxmax() != best


def evidence_and_loo(table, _):
    gap = table.loc["quintic"] - table.loc["quintic, vague prior"]
    assert gap.log_evidence > 20
    assert abs(gap.elpd_loo) < 5


def scale_invariance(values, _):
    before, after = values[1.0]
    assert abs(before - after) > 0.1
    before, after = values["layer"]
    assert abs(before - after) < 0.01


def certificate(certificates, _):
    assert certificates[0].bound < 0.25
    assert certificates[-1].bound > 0.5


def compression_bound(found, _):
    real, random = ([c.certificate().bound for c in codes] for codes in found.values())
    assert min(real) < 0.6
    assert min(random) > 0.9


def deep_kernel(found, _):
    assert found["deep kernel"][0] > found["fixed kernel"][0]
    assert found["deep kernel"][1] > found["fixed kernel"][1]


def double_descent(errors, _):
    least, evidence = errors["least squares"], errors["maximum evidence"]
    assert max(least) > 10 * least[0]
    assert max(evidence) < 1.2


def effective_dimension(found, _):
    assert (found[1].diff() <= 0).all()


def evidence_of_polynomials(found, _):
    fall = {
        name: max(e.log_marginal_likelihood for e in evidences)
        - evidences[-1].log_marginal_likelihood
        for name, evidences in found.items()
    }
    assert fall["isotropic"] > 20
    assert fall["order-dependent"] < 6


def kernel_modes(posterior, _):
    assert len(posterior.modes) > 1
    assert posterior.hyperparameters["noise"] < 0.1


def label_corruption(result, _):
    assert result["training error"] == [0] * 6
    assert result["evidence"] == sorted(result["evidence"], reverse=True)


def laplace_of_a_network(found, _):
    evidence = {k: float(p.evidence.per_observation) for k, p in found.items()}
    assert evidence["ggn"] > evidence["kron"] > evidence["diag"]
    assert found["last_layer"].evidence.complexity_excludes == ("features",)


def many_small_data_sets(found, _):
    frequency, lengthscale = found
    assert lengthscale[frequency < 1].median() > 2 * lengthscale[frequency > 2.5].median()


def off_the_mode(found, _):
    assert found["as trained"][0] < found["moved to a mode"][0] - 1
    assert max(found["moved to a mode"]) - min(found["moved to a mode"]) < 0.05


def own_table(result, _):
    assert result["evidence"] == sorted(result["evidence"], reverse=True)
    assert result["noise"] == sorted(result["noise"])


def save_and_load(coverage, printed):
    assert "to the last bit: True" in printed
    assert coverage["95%"] > 0.9


def select_on_a_table(ranking, _):
    assert ranking.index[-1] == "null"


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_example_shows_what_it_promises(script, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings():
        if script.stem == "evidence_and_loo":
            warnings.simplefilter("ignore")  # arviz announces its successor at import
        result = runpy.run_path(str(script))["main"]()
    printed = capsys.readouterr().out
    assert printed
    assert [file.name for file in tmp_path.iterdir()] == [f"{script.stem}.png"]
    globals()[script.stem](result, printed)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_example_is_short_and_says_what_it_shows(script):
    source = script.read_text(encoding="utf-8")
    assert source.count("\n") <= 80
    said = ast.get_docstring(ast.parse(source))
    assert said.endswith(f"    python examples/{script.name}")
    assert len(said.splitlines()) >= 5


def test_there_are_twelve_examples_or_more():
    assert len(SCRIPTS) >= 12
