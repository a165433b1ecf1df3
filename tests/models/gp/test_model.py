"""Tests of `bayesgen.models.gp.model`."""

import math

import gpytorch
import pytest
import torch
from hypothesis import given, strategies as st
from sklearn.gaussian_process import GaussianProcessRegressor, kernels as sk

from bayesgen import GaussianProcess, kernels
from tests.helpers import scaled_rbf

F64 = torch.float64


SKLEARN = {
    "rbf": lambda ell: sk.RBF(ell),
    "matern12": lambda ell: sk.Matern(ell, nu=0.5),
    "matern32": lambda ell: sk.Matern(ell, nu=1.5),
    "matern52": lambda ell: sk.Matern(ell, nu=2.5),
}


@given(
    name=st.sampled_from(sorted(SKLEARN)),
    n=st.integers(1, 25),
    d=st.integers(1, 4),
    outputs=st.integers(1, 3),
    ell=st.floats(0.2, 5),
    scale=st.floats(0.1, 10),
    noise=st.floats(1e-2, 1),
    seed=st.integers(0, 100),
)
def test_fixed_evidence_matches_scikit_learn_and_gpytorch(
    name, n, d, outputs, ell, scale, noise, seed
):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, d, generator=generator, dtype=F64)
    y = torch.randn(n, outputs, generator=generator, dtype=F64)
    base = kernels.named(name).to(F64)
    base.lengthscale = torch.tensor(ell, dtype=F64)
    kernel = gpytorch.kernels.ScaleKernel(base).to(F64)
    kernel.outputscale = torch.tensor(scale, dtype=F64)
    got = GaussianProcess(kernel, noise).fit(x, y, hyperparameters="fixed").evidence
    want = 0.0
    for c in range(outputs):
        reference = GaussianProcessRegressor(
            sk.ConstantKernel(scale) * SKLEARN[name](ell), alpha=noise, optimizer=None
        ).fit(x.numpy(), y[:, c].numpy())
        want += reference.log_marginal_likelihood_value_
    assert got.log_marginal_likelihood.item() == pytest.approx(want, rel=1e-8)

    class Model(gpytorch.models.ExactGP):
        def forward(self, inputs):
            return gpytorch.distributions.MultivariateNormal(
                inputs.new_zeros(len(inputs)), kernel(inputs)
            )

    likelihood = gpytorch.likelihoods.GaussianLikelihood().to(F64)
    likelihood.noise = torch.tensor(noise, dtype=F64)
    total = 0.0
    with gpytorch.settings.fast_computations(False, False, False):
        for c in range(outputs):
            model = Model(x, y[:, c], likelihood).train()
            mll = gpytorch.mlls.ExactMarginalLogLikelihood(likelihood, model)
            total += n * mll(model(x), y[:, c]).item()
    assert got.log_marginal_likelihood.item() == pytest.approx(total, rel=1e-8)


def test_float32_error_covers_gap(regression):
    x, ys = regression
    exact = GaussianProcess(scaled_rbf(0.3), 0.01, hyperparameters="fixed").fit(x, ys)
    rounded = GaussianProcess(scaled_rbf(0.3), 0.01, hyperparameters="fixed").fit(
        x.float(), ys.float()
    )
    assert rounded.evidence.fit.dtype == rounded.mean(x.float()).dtype == torch.float32
    gap = rounded.evidence.log_marginal_likelihood - exact.evidence.log_marginal_likelihood
    assert (gap.abs() <= rounded.evidence.error).all()


def test_extreme_inputs_have_finite_evidence():
    one = GaussianProcess(scaled_rbf(), 0.1, hyperparameters="fixed").fit([[0.0]], [1.0])
    want = -0.5 * (1 / 1.1 + math.log(2 * math.pi * 1.1))
    assert one.evidence.log_marginal_likelihood.item() == pytest.approx(want, rel=1e-6)
    x = torch.linspace(0, 1, 20, dtype=F64).repeat(2)
    y = torch.sin(5 * x) + 1e-3 * torch.cos(1e4 * x * torch.arange(40))
    assert torch.isfinite(GaussianProcess(kernels.named("rbf")).fit(x, y).evidence.fit)
    huge = GaussianProcess(kernels.named("rbf")).fit(x * 1e8 + 1e9, y * 1e6)
    small = GaussianProcess(kernels.named("rbf")).fit(x, y)
    shift = 40 * math.log(1e6)
    assert huge.evidence.log_marginal_likelihood.item() + shift == pytest.approx(
        small.evidence.log_marginal_likelihood.item(), abs=0.05
    )


def test_fit_is_deterministic(regression):
    x, ys = regression
    a, b = (GaussianProcess(kernels.named("rbf")).fit(x, ys) for _ in range(2))
    assert torch.equal(a.evidence.fit, b.evidence.fit)
    assert torch.equal(a.lengthscale, b.lengthscale)


class TestInvalidInput:
    x = torch.zeros(5, 2, dtype=F64)
    y = torch.zeros(5, dtype=F64)

    @pytest.mark.parametrize(
        ("x", "y", "kind", "message"),
        [
            (x * math.nan, y, ValueError, "x must be finite, got 10 NaN"),
            (x, y + math.inf, ValueError, "y must be finite, got 5 NaN or infinite"),
            (x, y[:4], ValueError, "y must have one row for each of the 5 inputs, got 4"),
            (x[:0], y[:0], ValueError, "x is empty"),
            (x, y.float(), TypeError, "y must have the dtype .* torch.float64, got torch.float32"),
            (x, y.long(), TypeError, "y must hold real numbers, got dtype torch.int64; for class"),
            (x.long(), y, TypeError, "x must hold real numbers"),
            (x[None, None], y, ValueError, r"x must have shape \(n, d\)"),
            (x, y[None, None, :, None], ValueError, r"y must have shape \(n,\), \(n, C\)"),
            ("text", y, TypeError, "x must be a tensor or an array, got str"),
        ],
    )
    def test_invalid_data_raise(self, x, y, kind, message):
        with pytest.raises(kind, match=message):
            GaussianProcess(scaled_rbf(), 0.1).fit(x, y)

    @pytest.mark.parametrize(
        ("arguments", "kind", "message"),
        [
            ({"kernel": 3}, TypeError, "kernel must be a gpytorch"),
            ({"noise": -1.0}, ValueError, "noise must be positive and finite, got -1"),
            ({"hyperparameters": "all"}, ValueError, 'hyperparameters must be "evidence"'),
            ({"tolerance": 0.0}, ValueError, "tolerance must be positive"),
            ({"max_spectra": 1}, ValueError, "max_spectra must be an integer of at least 3"),
        ],
    )
    def test_invalid_arguments_raise(self, arguments, kind, message):
        with pytest.raises(kind, match=message):
            GaussianProcess(**{"kernel": scaled_rbf(), **arguments})

    def test_fixed_hyperparameters_without_noise_raise(self):
        with pytest.raises(ValueError, match="noise must be given"):
            GaussianProcess(scaled_rbf(), hyperparameters="fixed").fit(self.x, self.y)

    def test_noise_of_wrong_shape_raises(self):
        with pytest.raises(ValueError, match=r"noise must be a number or have shape"):
            GaussianProcess(scaled_rbf(), torch.ones(4, dtype=F64)).fit(self.x, self.y)

    def test_batch_of_kernels_raises(self):
        kernel = gpytorch.kernels.RBFKernel(batch_shape=torch.Size([2]))
        with pytest.raises(ValueError, match="kernel must have no batch shape"):
            GaussianProcess(kernel, 0.1).fit(self.x, self.y)

    @pytest.mark.parametrize(
        ("function", "kind", "message"),
        [
            (lambda a, b: torch.ones(len(a), 3, dtype=F64), ValueError, r"shape \(n1, n2\)"),
            (lambda a, b: (a[:, None] - b).sum(-1), ValueError, "must be symmetric"),
            (lambda a, b: -(a @ b.mT), ValueError, "must be positive semi-definite: its smallest"),
            (lambda a, b: torch.full((len(a), len(b)), math.nan), ValueError, "must be finite"),
            (lambda a, b: 1.0, TypeError, "must return a tensor, got float"),
        ],
    )
    @pytest.mark.parametrize("how", ["fixed", "evidence"])
    def test_invalid_kernel_function_raises(self, function, kind, message, how):
        x = torch.randn(6, 2, dtype=F64, generator=torch.Generator().manual_seed(0))
        with pytest.raises(kind, match=message):
            GaussianProcess(function, 0.1, hyperparameters=how).fit(x, x[:, 0])

    @pytest.mark.parametrize("how", ["fixed", "evidence"])
    def test_kernel_function_indefinite_on_all_inputs_only_raises(self, how):
        """The kernel is indefinite on every second input, which checking a few would miss."""
        x = torch.arange(400, dtype=F64)

        def function(a, b):
            odd = (a % 2) * (b.mT % 2)
            return torch.exp(-((a - b.mT) ** 2)) - 3 * odd

        with pytest.raises(ValueError, match="kernel function must be positive semi-definite"):
            GaussianProcess(function, 100.0, hyperparameters=how).fit(x, torch.sin(x))

    @pytest.mark.parametrize("how", ["fixed", "evidence"])
    def test_kernel_function_asymmetric_above_diagonal_only_raises(self, how):
        """A factorisation reads one triangle only, and the other must be checked too."""
        x = torch.arange(400, dtype=F64)

        def function(a, b):
            return torch.exp(-((a - b.mT) ** 2)) + 0.1 * (a % 2) * (b.mT % 2 == 0) * (a > b.mT)

        for turned in (function, lambda a, b: function(b, a).mT):
            with pytest.raises(ValueError, match="must be symmetric"):
                GaussianProcess(turned, 0.1, hyperparameters=how).fit(x, torch.sin(x))

    def test_invalid_new_inputs_raise(self):
        posterior = GaussianProcess(scaled_rbf(), 0.1, hyperparameters="fixed").fit(self.x, self.y)
        with pytest.raises(ValueError, match="x_new must have 2 columns, as x had, got 1"):
            posterior.predict(self.x[:, :1])
        with pytest.raises(TypeError, match="x_new must have the dtype .* got torch.float32"):
            posterior.mean(self.x.float())


@pytest.mark.cuda
def test_cuda_agrees_with_cpu(regression):
    x, ys = regression
    here = GaussianProcess(kernels.named("rbf")).fit(x, ys)
    there = GaussianProcess(kernels.named("rbf")).fit(x.cuda(), ys.cuda())
    assert there.evidence.fit.is_cuda
    assert there.mean(x.cuda()).is_cuda
    torch.testing.assert_close(
        there.evidence.log_marginal_likelihood.cpu(), here.evidence.log_marginal_likelihood
    )
