"""Tests of `bayesgen.experiments.certify`."""

from bayesgen import experiments


def test_bounds_follow_labels_and_rademacher_does_not():
    result = experiments.certify(
        "digits",
        train=250,
        test=200,
        levels=[0.0, 0.5, 1.0],
        lengthscales=[1.0, 2.0, 4.0],
        groups=[range(5), range(5, 10)],
    )
    bound, rademacher = result.bound[:, 0].values, result.rademacher[:, 0].values
    assert bound[0] < 0.35 < bound[1] < bound[2]
    assert bound[2] > 0.5  # It is vacuous on random labels.
    assert (rademacher == 1).all()
    for name in ("rademacher_trace", "fat_shattering", "vc"):
        assert (result[name] == 1).all()
    assert (result.test_gibbs_risk < result.bound).all()
    assert (result.gibbs_risk < result.bound).all()
    assert (result.paid > result.complexity).all()
    evidence = result.log_marginal_likelihood[:, 0].values
    assert evidence[0] > evidence[1] > evidence[2]
