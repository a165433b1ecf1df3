"""The scripts in `examples/` give the numbers that they promise."""

import runpy
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"


def test_custom_kernel_gives_numbers_of_built_in_kernel(capsys):
    runpy.run_path(str(EXAMPLES / "custom_kernel.py"))["main"]()
    rows = [line.split("log p(D)")[1].split() for line in capsys.readouterr().out.splitlines()]
    assert len(rows) == 3
    for row in rows[1:]:
        for mine, built_in in zip(row, rows[0], strict=True):
            if mine[0].isdigit() or mine[0] == "-":
                assert float(mine) == pytest.approx(float(built_in), rel=1e-5)


def test_conditional_evidence_ranks_as_test_density(capsys):
    table = runpy.run_path(str(EXAMPLES / "conditional_evidence.py"))["main"]()
    best = table["test log density"].idxmax()
    assert table["conditional, m = 10"].idxmax() == best
    assert table["log evidence"].idxmax() != best


@pytest.mark.filterwarnings("ignore")
def test_evidence_and_loo_disagree_about_a_vague_prior(capsys):
    table = runpy.run_path(str(EXAMPLES / "evidence_and_loo.py"))["main"]()
    gap = table.loc["quintic"] - table.loc["quintic, vague prior"]
    assert gap.log_evidence > 20
    assert abs(gap.elpd_loo) < 5


def test_evidence_depends_on_scale_of_scale_invariant_weights(capsys):
    values = runpy.run_path(str(EXAMPLES / "scale_invariance.py"))["main"]()
    before, after = values[1.0]
    assert abs(before - after) > 0.1
    before, after = values["layer"]
    assert abs(before - after) < 0.01
