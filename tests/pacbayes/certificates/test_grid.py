"""Tests of `bayesgen.pacbayes.certificates.grid`."""

import math

import pytest
import torch

import bayesgen as bg
from tests.helpers import rbf_kernel


def test_learnt_lengthscale_raises_or_is_rounded_and_paid(digits, parity):
    posterior = bg.GaussianProcess(rbf_kernel(2.0)).fit(digits.x_train, parity)
    with pytest.raises(ValueError, match=r"kernel was learnt from.*grid=\{\"lengthscale\""):
        posterior.certificate()
    made = posterior.certificate(grid={"lengthscale": [1.0, 2.0, 4.0, 8.0]})
    assert made.settings["lengthscale"] in (1.0, 2.0, 4.0, 8.0)
    assert made.payments[0].nats == pytest.approx(math.log(4))
    prior = {1.0: 0.7, 2.0: 0.1, 4.0: 0.1, 8.0: 0.1}
    skewed = posterior.certificate(grid={"lengthscale": prior})
    assert skewed.payments[0].nats == pytest.approx(-math.log(prior[made.settings["lengthscale"]]))
    with pytest.raises(ValueError, match="sum to at most 1"):
        posterior.certificate(grid={"lengthscale": {1.0: 0.7, 2.0: 0.7}})
    any_power = posterior.certificate(grid="geometric")
    k = round(2 * math.log2(float(posterior.lengthscale)))
    assert any_power.settings["lengthscale"] == pytest.approx(2 ** (k / 2))
    assert any_power.payments[0].nats == pytest.approx(
        2 * math.log(1 + abs(k)) + math.log(math.pi**2 / 3 - 1)
    )
    chances = [1 / (math.pi**2 / 3 - 1) / (1 + abs(j)) ** 2 for j in range(-10_000, 10_001)]
    assert 0.999 < sum(chances) < 1
    nearest = min((1.0, 2.0, 4.0, 8.0), key=lambda v: abs(math.log(v / posterior.lengthscale)))
    assert made.settings["lengthscale"] == nearest
    fixed = bg.GaussianProcess(rbf_kernel(nearest), hyperparameters=("scale", "noise"))
    assert fixed.fit(digits.x_train, parity).certificate().bound < made.bound


def test_learnt_decay_and_order_are_paid():
    x = torch.linspace(-1, 1, 60, dtype=torch.float64)
    y = torch.where(torch.sin(4 * x) > 0, 1.0, -1.0).double()
    legendre = {"kind": "legendre", "input_range": (-1.0, 1.0)}
    posterior = bg.Polynomial(12, bg.priors.geometric(2.0), **legendre).fit(x, y)
    with pytest.raises(ValueError, match="decay was learnt from the data"):
        posterior.certificate()
    made = posterior.certificate(grid={"decay": [1.5, 2.0, 4.0]})
    assert made.settings["decay"] == pytest.approx(
        min((1.5, 2.0, 4.0), key=lambda v: abs(math.log(v / float(posterior.decay))))
    )
    posterior = bg.Polynomial(12, **legendre, hyperparameters=("order", "noise")).fit(x, y)
    made = posterior.certificate(grid={"order": list(range(13))})
    assert made.payments[0].nats == pytest.approx(math.log(13))
    fixed = bg.Polynomial(6, 1.0, 0.3, **legendre, hyperparameters="fixed").fit(x, y)
    kept = fixed.certificate()
    assert kept.complexity == pytest.approx(float(fixed.evidence.complexity))
