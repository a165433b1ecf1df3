"""Tests of `bayesgen.pacbayes.certificates.losses`."""

import pytest

import bayesgen as bg
from bayesgen import pacbayes
from bayesgen.pacbayes import expected_losses
from tests.helpers import rbf_kernel


def test_one_hot_of_two_classes_costs_as_much_as_signs(digits, parity):
    labels = (parity > 0).long()
    model = bg.GaussianProcess(rbf_kernel(2.0), hyperparameters=("scale", "noise"))
    sign = model.fit(digits.x_train, parity).certificate()
    coded = model.fit(digits.x_train, bg.likelihoods.one_hot(labels, 2)).certificate()
    assert coded.bound == pytest.approx(sign.bound, abs=1e-6)


def test_squared_loss_requires_clip_and_paid_scale(regression):
    x, y = regression
    learnt = bg.GaussianProcess(rbf_kernel(0.5), hyperparameters=("scale", "noise")).fit(x, y[0])
    with pytest.raises(ValueError, match='take loss="squared"|needs class labels'):
        bg.GaussianProcess(rbf_kernel(0.5), 0.1, hyperparameters="fixed").fit(
            x, y[0, :, 0]
        ).certificate()
    with pytest.raises(ValueError, match="pass clip=c"):
        learnt.certificate(loss="squared")
    with pytest.raises(ValueError, match="scale was learnt from the data"):
        learnt.certificate(loss="squared", clip=4.0)
    made = learnt.certificate(loss="squared", clip=4.0, grid={"scale": [0.1, 1.0, 10.0]})
    assert 0 < made.risk < made.bound < 4
    assert made.guessing is None
    assert made.vacuous is None
    fixed = bg.GaussianProcess(rbf_kernel(0.5), 0.05, hyperparameters="fixed").fit(x, y[0])
    mean, variance = fixed.marginals()
    risk = expected_losses.clipped_squared(mean, variance, y[0], 4.0).mean()
    got = fixed.certificate(loss="squared", clip=4.0)
    assert got.risk == pytest.approx(float(risk))
    tuned = fixed.certificate(loss="squared", clip=4.0, noise="tune")
    assert tuned.bound <= got.bound + 1e-9
    assert tuned.settings["scale"] == pytest.approx(1.0)


def test_nll_requires_clip_and_gives_oracle_bound_for_subgamma(regression):
    x, y = regression
    learnt = bg.GaussianProcess(rbf_kernel(0.5), hyperparameters=("noise",)).fit(x, y[0])
    with pytest.raises(ValueError, match="the evidence holds the unclipped loss"):
        learnt.certificate(loss="nll")
    with pytest.raises(ValueError, match="noise was learnt from the data"):
        learnt.certificate(loss="nll", clip=(-1.0, 5.0))
    fixed = bg.GaussianProcess(rbf_kernel(0.5), 0.2, hyperparameters="fixed").fit(x, y[0])
    made = fixed.certificate(loss="nll", clip=(0.0, 5.0))
    assert isinstance(made, pacbayes.Certificate)
    assert 0 < made.risk < made.bound < 5
    oracle = fixed.certificate(loss="nll", subgamma=(0.5, 0.1))
    assert isinstance(oracle, pacbayes.OracleBound)
    assert not isinstance(oracle, pacbayes.Certificate)
    assert "not a certificate" in str(oracle)
    want = pacbayes.subgamma(
        -float(fixed.evidence.fit) / 40, float(fixed.evidence.complexity), 40, 0.5, 0.1
    )
    assert oracle.bound == pytest.approx(float(want))
