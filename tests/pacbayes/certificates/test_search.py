"""Tests of `bayesgen.pacbayes.certificates.search`."""

import math

import gpytorch
import pytest
import torch

import bayesgen as bg
from bayesgen import pacbayes
from bayesgen.spectrum.spectrum import Spectrum
from tests.helpers import rbf_kernel


def test_certify_pays_for_choice_and_takes_best(digits, parity):
    models = {f"{v}": bg.GaussianProcess(rbf_kernel(v)) for v in (1.0, 2.0, 4.0)}
    best = pacbayes.certify(models, digits.x_train, parity)
    assert best.payments[0].nats == pytest.approx(math.log(3))
    for value in (1.0, 2.0, 4.0):
        one = bg.GaussianProcess(rbf_kernel(value), hyperparameters=("scale", "noise"))
        free = one.fit(digits.x_train, parity).certificate()
        paid = pacbayes.maurer(free.risk, free.complexity + math.log(3), 200)
        assert best.bound <= float(paid) + 1e-4
    skewed = pacbayes.certify(
        models,
        digits.x_train,
        parity,
        log_prior={"1.0": math.log(0.9), "2.0": math.log(0.05), "4.0": math.log(0.05)},
    )
    assert sum(p.nats for p in skewed.payments) == pytest.approx(
        -math.log(0.9 if skewed.settings["lengthscale"] == 1.0 else 0.05)
    )


def test_certify_serves_a_batch_of_tasks(digits):
    labels = [bg.corrupt_labels(digits.y_train, v, num_classes=10)[0] for v in (0.0, 1.0)]
    y = bg.likelihoods.one_hot(torch.stack(labels), 10)
    models = [bg.GaussianProcess(rbf_kernel(v)) for v in (2.0, 3.0)]
    both = pacbayes.certify(models, digits.x_train, y)
    alone = pacbayes.certify(models, digits.x_train, y[0])
    assert both[0].bound == pytest.approx(alone.bound, abs=1e-6)
    assert both[1].vacuous
    assert not both[0].vacuous


def test_spectrum_is_accepted_as_prior(digits, parity):
    gp = bg.GaussianProcess(rbf_kernel(2.0), hyperparameters=("scale", "noise"))
    posterior = gp.fit(digits.x_train, parity)
    K = posterior._gram.matrix(posterior._theta[0])
    made = pacbayes.certify({"K": Spectrum.dense(K)}, None, parity)
    assert made.bound == pytest.approx(posterior.certificate().bound, abs=1e-6)
    assert made.posterior is None


def test_split_learns_prior_on_its_share(digits, parity):
    free = bg.GaussianProcess(gpytorch.kernels.RBFKernel())
    made = pacbayes.certify(free, digits.x_train, parity, split=0.5)
    assert made.n == 100
    assert "100 other observations" in str(made)
    whole = pacbayes.certify(bg.GaussianProcess(rbf_kernel(2.0)), digits.x_train, parity)
    assert made.bound < whole.bound
    signs = torch.where(made.posterior.mean(digits.x_test)[:, 0] > 0, 1, 0)
    assert (signs != digits.y_test % 2).double().mean() < 0.15
    random = 2 * torch.randint(2, (200,), generator=torch.Generator().manual_seed(0)).double() - 1
    assert pacbayes.certify(free, digits.x_train, random, split=0.5).vacuous


def test_invalid_arguments_of_certify_raise(digits, parity):
    gp, x = bg.GaussianProcess(rbf_kernel(2.0)), digits.x_train
    for arguments, more, message in (
        (({}, x, parity), {}, "at least one model"),
        ((gp, x, parity), {"split": 1.0}, r"split must lie in \(0, 1\)"),
        ((gp, x, parity), {"log_prior": {"1": 0.5}}, "sum to at most 1"),
        ((gp, x, parity), {"log_prior": {"a": 0.0}}, "log_prior must name the models"),
        ((gp, None, parity), {}, "x must be given"),
        ((gp, x, parity), {"split": 0.5, "cooling": []}, "at least one share"),
        ((gp, x, parity), {"split": 0.5, "seed": "a"}, "seed must be an integer"),
        ((gp, x, parity), {"split": 0.5, "cooling": (1.0, 0.0)}, "cooling must be positive"),
    ):
        with pytest.raises(ValueError, match=message):
            pacbayes.certify(*arguments, **more)
    with pytest.raises(TypeError, match="cooling must be a sequence of positive numbers, got 1"):
        pacbayes.certify(gp, x, parity, split=0.5, cooling=1.0)
    with pytest.raises(TypeError, match="must be a GaussianProcess"):
        pacbayes.certify({"a": 3.0}, x, parity)
    with pytest.raises(TypeError, match="must have Gaussian noise, got a bernoulli"):
        pacbayes.certify(bg.GaussianProcess(rbf_kernel(2.0), likelihood="bernoulli"), x, parity)


def test_unpaid_choice_of_prior_fails_too_often():
    """The best of 5,000 point-mass priors looks good on random labels unless it is paid for."""
    generator = torch.Generator().manual_seed(0)
    n, M, delta = 20, 5000, 0.05
    free, paid = 0, 0
    for _ in range(200):
        wrong = torch.rand(M, n, generator=generator) < 0.5
        risk = float(wrong.double().mean(1).min())
        free += float(pacbayes.maurer(risk, 0.0, n, delta)) < 0.5
        paid += float(pacbayes.maurer(risk, math.log(M), n, delta)) < 0.5
    assert free > 2 * delta * 200
    assert paid <= delta * 200
