"""Tests of `bayesgen.models.gp.model`."""

import math
from typing import ClassVar

import gpytorch
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, strategies as st
from scipy.stats import multivariate_normal
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
            (x, y.long(), TypeError, "y must hold real numbers, got dtype torch.int64; convert"),
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


class TestDoors:
    """What the user passes may have any form, and is neither kept nor changed."""

    x = torch.linspace(0, 1, 14, dtype=F64)[:, None]
    y = torch.sin(6 * x[:, 0]) + 0.1 * torch.cos(40 * x[:, 0])
    signs = (y > 0).long()
    KERNELS: ClassVar = {
        "rbf": lambda: kernels.named("rbf"),
        "sum": lambda: kernels.named("rbf") + gpytorch.kernels.LinearKernel(),
        "function": lambda: lambda a, b: torch.exp(-torch.cdist(a, b)),
    }

    def value(self, x, y, kernel="rbf", **options):
        gp = GaussianProcess(self.KERNELS[kernel](), starts=2, **options)
        return gp.fit(x, y).evidence.log_marginal_likelihood.item()

    def parts(self, posterior):
        new = self.x[:3]
        found = [posterior.mean(new), posterior.predict(new).mean, posterior.marginals()[1]]
        return torch.cat([part.reshape(-1) for part in found]).detach().clone()

    @pytest.mark.parametrize("kernel", sorted(KERNELS))
    @pytest.mark.parametrize("how", ["fixed", "evidence", "krylov", "bernoulli", "student-t"])
    def test_overwritten_arrays_do_not_move_a_posterior(self, kernel, how):
        x, y = self.x.clone(), (self.signs if how == "bernoulli" else self.y).clone()
        options = {
            "fixed": {"noise": 0.1, "hyperparameters": "fixed"},
            "krylov": {"engine": "krylov"},
            "bernoulli": {"likelihood": "bernoulli"},
            "student-t": {"likelihood": "student-t", "hyperparameters": ("scale",)},
        }.get(how, {})
        posterior = GaussianProcess(self.KERNELS[kernel](), starts=1, **options).fit(x, y)
        before = self.parts(posterior)
        x.mul_(7).add_(1)
        y.mul_(0)
        assert torch.equal(self.parts(posterior), before)
        assert not (posterior.observed.y == 0).all()

    def test_overwritten_noise_and_mean_do_not_move_a_posterior(self):
        for noise in (torch.tensor(0.1, dtype=F64), torch.full((14,), 0.1, dtype=F64)):
            mean, shown = torch.ones(1, dtype=F64), noise.clone()
            gp = GaussianProcess(kernels.named("rbf"), noise, mean=mean, hyperparameters="fixed")
            posterior = gp.fit(self.x, self.y)
            before = posterior.predict(self.x, latent=True).stddev, posterior.mean(self.x)
            noise.mul_(9)
            mean.mul_(9)
            assert torch.equal(posterior.predict(self.x, latent=True).stddev, before[0])
            assert torch.equal(posterior.mean(self.x), before[1])
            assert torch.equal(gp.noise, shown)

    @pytest.mark.parametrize(
        ("kernel", "options"),
        [
            ("rbf", {}),
            ("sum", {}),
            ("function", {}),
            ("sum", {"engine": "krylov"}),
            ("rbf", {"likelihood": "student-t"}),
        ],
    )
    def test_gradients_are_not_followed(self, kernel, options):
        x, y = (v.clone().requires_grad_() for v in (self.x, self.y))
        want = self.value(self.x, self.y, kernel, **options)
        assert self.value(x, y, kernel, **options) == pytest.approx(want, rel=1e-12)
        posterior = GaussianProcess(
            self.KERNELS[kernel](), torch.tensor(0.1, requires_grad=True), hyperparameters="fixed"
        ).fit(x, y)
        assert not posterior.predict(x).mean.requires_grad
        assert x.grad is None

    @pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
    @pytest.mark.parametrize("kernel", sorted(KERNELS))
    def test_modes_of_autograd_do_not_matter(self, mode, kernel):
        want = self.value(self.x, self.y, kernel)
        with mode():
            made = self.KERNELS[kernel](), self.x.clone(), self.y.clone()
            posterior = GaussianProcess(made[0], starts=2).fit(made[1], made[2])
            posterior.predict(self.x[:2])
            posterior.joint(self.x[:2] + 0.3)
            posterior.learning_curve()
            labels = GaussianProcess(kernels.named("rbf"), likelihood="bernoulli", starts=1)
            labels.fit(made[1], self.signs).predict(made[1])
            batch = GaussianProcess(kernels.named("rbf")).fit_batch(made[1][None], made[2][None])
            batch.predict(made[1][None])
        assert posterior.evidence.log_marginal_likelihood.item() == pytest.approx(want, rel=1e-12)
        posterior.predict(self.x[:2])
        outside = GaussianProcess(made[0], starts=2).fit(made[1], made[2])
        assert torch.equal(outside.evidence.fit, posterior.evidence.fit)

    def test_tables_and_arrays_of_any_layout_are_read_by_position(self):
        x, y = self.x.numpy(), self.y.numpy()
        want = self.value(self.x, self.y)
        frame = pd.DataFrame({"a": x[:, 0]}, index=np.arange(14)[::-1] * 3)
        series = pd.Series(y, index=frame.index)
        locked = x.copy()
        locked.flags.writeable = False
        for own, targets in (
            (frame, series),
            (frame["a"], series.to_frame()),
            (locked, y.astype(object)),
            (x.astype(">f8"), y.tolist()),
            (x[::-1][::-1], np.ma.masked_array(y)),
        ):
            assert self.value(own, targets) == pytest.approx(want, rel=1e-12)
        turned = self.value(x[::-1], y[::-1])
        assert turned == pytest.approx(want, abs=1e-3)
        split = self.value(frame.iloc[5:], series.iloc[5:])
        assert split == pytest.approx(self.value(x[5:], y[5:]), rel=1e-12)
        posterior = GaussianProcess(kernels.named("rbf"), 0.1, hyperparameters="fixed").fit(x, y)
        assert torch.equal(posterior.mean(frame.iloc[:3]), posterior.mean(self.x[:3]))

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.complex128])
    def test_other_precisions_raise(self, dtype):
        with pytest.raises(TypeError, match="x must hold real numbers .* convert it"):
            self.value(self.x.to(dtype), self.y)
        with pytest.raises(TypeError, match="y must hold real numbers"):
            self.value(self.x, self.y.to(dtype))
        with pytest.raises(TypeError, match="x must hold real numbers"):
            GaussianProcess(kernels.named("rbf")).fit_batch(self.x[None].to(dtype), self.y[None])

    @pytest.mark.parametrize("engine", ["krylov", "cholesky"])
    @pytest.mark.parametrize(
        "learn", ["fixed", ("scale",), ("noise",), ("kernel", "scale"), ("kernel", "noise")]
    )
    def test_kept_hyperparameters_in_float32_by_block_lanczos(self, engine, learn):
        x, y = self.x.float(), self.y.float()
        noises = (0.1, torch.tensor(0.1, dtype=F64), np.float32(0.1))
        for noise in noises if learn == "fixed" else noises[1:2]:
            gp = GaussianProcess(kernels.named("rbf"), noise, engine=engine, hyperparameters=learn)
            found = gp.fit(x, y).evidence
        dense = GaussianProcess(kernels.named("rbf"), 0.1, hyperparameters=learn).fit(x, y).evidence
        gap = found.log_marginal_likelihood - dense.log_marginal_likelihood
        # The searches over length-scales stop at different steps.
        assert abs(gap) < (0.2 if "kernel" in learn else 1e-3)

    @pytest.mark.parametrize("kernel", sorted(KERNELS))
    @pytest.mark.parametrize("dtype", [F64, torch.float32])
    def test_noise_per_point_may_have_another_dtype(self, kernel, dtype):
        noise = np.linspace(0.05, 0.3, 14)
        gp = GaussianProcess(
            self.KERNELS[kernel](), torch.tensor(noise).to(dtype), hyperparameters="fixed"
        )
        posterior = gp.fit(self.x, self.y)
        K = posterior.kernels[0](self.x, self.x[:1]).to_dense()  # the kernel can be evaluated
        assert K.shape == (14, 1)
        matrix = posterior._gram.matrix(posterior._theta[0]).numpy() + np.diag(noise)
        want = multivariate_normal(np.zeros(14), matrix).logpdf(self.y.numpy())
        assert posterior.evidence.log_marginal_likelihood.item() == pytest.approx(want, rel=1e-6)
        if dtype == F64:
            single = gp.fit(self.x.float(), self.y.float()).evidence.log_marginal_likelihood
            assert single.item() == pytest.approx(want, rel=1e-4)

    @pytest.mark.parametrize("n", [1, 2])
    @pytest.mark.parametrize("kernel", sorted(KERNELS))
    def test_one_and_two_points(self, n, kernel):
        x, y = self.x[:n], self.y[:n]
        gp = GaussianProcess(self.KERNELS[kernel](), 0.1, hyperparameters="fixed")
        posterior = gp.fit(x, y)
        matrix = posterior._gram.matrix(posterior._theta[0]).numpy() + 0.1 * np.eye(n)
        want = multivariate_normal(np.zeros(n), matrix).logpdf(y.numpy())
        assert posterior.evidence.log_marginal_likelihood.item() == pytest.approx(want, rel=1e-9)
        assert self.value(x, y, kernel) >= want

    @pytest.mark.parametrize("kernel", sorted(KERNELS))
    def test_constant_inputs_give_the_evidence_of_a_constant(self, kernel):
        """All covariances are one number c, whose evidence is that of y ~ N(0, c11ᵀ + σ²I)."""
        y, n = self.y.numpy(), 14
        spread = y.var()
        level = max(y.mean() ** 2 - spread / n, 0.0)
        noise = spread * n / (n - 1) if level else (y**2).mean()
        want = multivariate_normal(
            np.zeros(n), level * np.ones((n, n)) + noise * np.eye(n), allow_singular=True
        ).logpdf(y)
        for x in (torch.ones(n, dtype=F64), torch.zeros(n, dtype=F64)):
            assert self.value(x, self.y, kernel) == pytest.approx(want, abs=0.02)

    def test_empty_and_zero_data_raise(self):
        for x, y, message in (
            (self.x[:, :0], self.y, "x is empty"),
            (self.x[:0], self.y[:0], "x is empty"),
            ([], [], "x is empty"),
            (self.x, self.y * 0, "y must not be zero throughout"),
            (self.x, self.y[None], "one row for each of the 14 inputs"),
        ):
            with pytest.raises(ValueError, match=message):
                self.value(x, y)

    def test_names_that_cannot_be_learnt_raise(self):
        kernel = kernels.named("rbf")
        for options in (
            {"likelihood": "bernoulli"},
            {"likelihood": "poisson"},
            {"noise": torch.ones(14, dtype=F64)},
        ):
            with pytest.raises(ValueError, match="names only 'noise', which cannot be learnt"):
                GaussianProcess(kernel, hyperparameters=("noise",), **options)
            with pytest.raises(ValueError, match="names only 'noise', which cannot be learnt"):
                GaussianProcess(kernel, **options).fit(self.x, self.signs, hyperparameters="noise")

    def test_integers_of_numpy_are_integers(self):
        gp = GaussianProcess(
            kernels.named("rbf"), starts=np.int64(3), seed=np.int64(1), max_spectra=np.int32(20)
        )
        assert (gp.starts, gp.seed, gp.max_spectra) == (3, 1, 20)
        gp.fit(self.x, self.y)
