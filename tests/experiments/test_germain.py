"""Tests of `bayesgen.experiments.germain`."""

from bayesgen import experiments


def test_figure_of_germain_et_al_is_reproduced():
    result = experiments.germain(sizes=(10, 100, 1_000, 100_000))
    total = result.risk + result.kl
    assert int(result.degree[total.values.argmin()]) == 3
    assert (result.kl.diff("degree") > 0).all()
    assert float(result.test_risk[6]) > float(result.test_risk[2])
    for name in ("catoni", "alquier_n", "alquier_sqrt"):
        assert (result[name] > result.clipped_expected_risk).all()
    assert (result.subgamma > result.expected_risk).all()
    # λ = √n converges, the others to something above the risk; sub-gamma is below λ = n's.
    gap = result.alquier_sqrt - result.clipped_expected_risk
    assert (gap.diff("n") < 0).all()
    assert (result.subgamma < result.alquier_n).all()
