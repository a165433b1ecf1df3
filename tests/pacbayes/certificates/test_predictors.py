"""Tests of `bayesgen.pacbayes.certificates.predictors`."""

import pytest
import torch

import bayesgen as bg
from bayesgen.pacbayes.certificates.predictors import Updated
from tests.helpers import rbf_kernel


@pytest.mark.parametrize("kind", ["gp", "linear"])
def test_updated_predictor_equals_fit_to_all_data(kind):
    x = torch.linspace(-1, 1, 50, dtype=torch.float64)[torch.randperm(50)]
    y = torch.where(torch.sin(4 * x) > 0, 1.0, -1.0).double()
    if kind == "gp":
        model = bg.GaussianProcess(rbf_kernel(0.4), 0.3, hyperparameters="fixed")
    else:
        model = bg.Polynomial(
            6, 1.0, 0.3, kind="chebyshev", input_range=None, hyperparameters="fixed"
        )
    m = 20
    spectrum, offset = model.fit(x[:m], y[:m]).as_prior(x[m:, None], y[m:, None])
    after = spectrum.evidence(1.0, 0.3)
    whole = model.fit(x, y).conditional_evidence(m, orderings=1)
    torch.testing.assert_close(after.complexity.squeeze(), whole.complexity, rtol=1e-7, atol=1e-8)
    torch.testing.assert_close(after.fit.squeeze(), whole.fit, rtol=1e-7, atol=1e-8)
    mean, variance = spectrum.marginals(1.0, 0.3)
    full = model.fit(x, y)
    later = Updated(model.fit(x[:m], y[:m]), x[m:, None], spectrum.solve(1.0, 0.3)[0])
    new = torch.linspace(-1, 1, 7, dtype=torch.float64)[:, None]
    torch.testing.assert_close(later.mean(new)[:, 0], full.mean(new), rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(
        (offset + mean[0])[:, 0], full.predict(x[m:], latent=True).mean, rtol=1e-6, atol=1e-8
    )
    torch.testing.assert_close(
        variance[0, :, 0], full.predict(x[m:], latent=True).variance, rtol=1e-5, atol=1e-8
    )
