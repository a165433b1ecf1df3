import math

import gpytorch
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process import kernels as sk

from bayesgen import GaussianProcess, kernels

F64 = torch.float64


def rbf(lengthscale=1.0, scale=1.0):
    kernel = gpytorch.kernels.ScaleKernel(gpytorch.kernels.RBFKernel()).to(F64)
    kernel.base_kernel.lengthscale = torch.tensor(lengthscale, dtype=F64)
    kernel.outputscale = torch.tensor(scale, dtype=F64)
    return kernel


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
def test_fixed_evidence_against_scikit_learn_and_gpytorch(
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


@pytest.mark.parametrize("shape", ["n", "nC", "BnC"])
def test_shapes_and_predictions_against_scikit_learn(regression, shape):
    x, ys = regression
    y = {"n": ys[0, :, 0], "nC": ys[0], "BnC": ys}[shape]
    x_new = torch.rand(7, 2, dtype=F64, generator=torch.Generator().manual_seed(5))
    posterior = GaussianProcess(rbf(0.4, 1.5), 0.05, hyperparameters="fixed").fit(x, y)
    assert posterior.evidence.batch_shape == (() if shape != "BnC" else (3,))
    predicted = posterior.predict(x_new)
    joint = posterior.joint(x_new, latent=True)
    reference = GaussianProcessRegressor(
        sk.ConstantKernel(1.5) * sk.RBF(0.4), alpha=0.05, optimizer=None
    )
    columns = y.reshape(-1, 40, 1 if shape == "n" else 2)
    for b in range(len(columns)):
        for c in range(columns.shape[-1]):
            mean, cov = reference.fit(x.numpy(), columns[b, :, c].numpy()).predict(
                x_new.numpy(), return_cov=True
            )
            at = {"n": (), "nC": (slice(None), c), "BnC": (b, slice(None), c)}[shape]
            np.testing.assert_allclose(predicted.mean[at], mean, rtol=1e-8, atol=1e-10)
            np.testing.assert_allclose(predicted.variance[at], np.diag(cov) + 0.05, rtol=1e-8)
            which = {"n": (), "nC": (c,), "BnC": (b, c)}[shape]
            np.testing.assert_allclose(joint.covariance_matrix[which], cov, rtol=1e-6, atol=1e-9)
            np.testing.assert_allclose(joint.mean[which], mean, rtol=1e-8, atol=1e-10)
    assert posterior.fitted().shape == y.shape
    torch.testing.assert_close(posterior.fitted(), posterior.mean(x), rtol=1e-8, atol=1e-10)
    latent = posterior.predict(x_new, latent=True)
    torch.testing.assert_close(
        predicted.variance - latent.variance, torch.full_like(latent.mean, 0.05)
    )


@pytest.mark.parametrize("name", sorted(SKLEARN))
def test_learnt_hyperparameters_have_as_much_evidence_as_scikit_learn_finds(regression, name):
    x, ys = regression
    y = ys[:, :, 0]
    posterior = GaussianProcess(kernels.named(name), tolerance=1e-6).fit(x, y[..., None])
    for b in range(3):
        kernel = sk.ConstantKernel(1.0, (1e-8, 1e8)) * SKLEARN[name](1.0) + sk.WhiteKernel(
            0.1, (1e-9, 1e3)
        )
        kernel = kernel.clone_with_theta(kernel.theta)
        reference = GaussianProcessRegressor(
            kernel, alpha=0, n_restarts_optimizer=3, random_state=0
        )
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("warnings.warn", lambda *a, **k: None)
            reference.fit(x.numpy(), y[b].numpy())
        got = posterior.evidence.log_marginal_likelihood[b].item()
        assert got >= reference.log_marginal_likelihood_value_ - 1e-3
    assert posterior.spectra <= 40


def test_batch_equals_loop_and_fixed_evaluation_agrees(regression):
    x, ys = regression
    gp = GaussianProcess(kernels.named("rbf"), tolerance=1e-7)
    whole = gp.fit(x, ys)
    for b in range(3):
        one = gp.fit(x, ys[b])
        gap = one.evidence.log_marginal_likelihood - whole.evidence.log_marginal_likelihood[b]
        assert abs(gap.item()) < 1e-4
        at = GaussianProcess(
            rbf(whole.lengthscale[b].item(), whole.scale[b].item()),
            whole.noise[b].item(),
            hyperparameters="fixed",
        ).fit(x, ys[b])
        for name in ("fit", "complexity", "effective_dimension"):
            torch.testing.assert_close(
                getattr(at.evidence, name), getattr(whole.evidence, name)[b], rtol=1e-8, atol=1e-8
            )
        torch.testing.assert_close(at.mean(x), whole.mean(x)[b], rtol=1e-6, atol=1e-8)


def test_gradient_engine_agrees_with_spectra(regression):
    """Two length-scales that are free but tied by the data: the ARD optimum beats the isotropic."""
    x, ys = regression
    isotropic = GaussianProcess(gpytorch.kernels.RBFKernel(), tolerance=1e-7).fit(x, ys[1])
    ard = GaussianProcess(gpytorch.kernels.RBFKernel(ard_num_dims=2)).fit(x, ys[1])
    assert ard.lengthscale.shape == (1, 2)
    assert ard.evidence.log_marginal_likelihood >= isotropic.evidence.log_marginal_likelihood
    one = GaussianProcess(gpytorch.kernels.RBFKernel(ard_num_dims=1)).fit(x[:, :1], ys[1, :, :1])
    column = kernels.named("rbf")
    spectra = GaussianProcess(column, tolerance=1e-7).fit(x[:, :1], ys[1, :, :1])
    gap = one.evidence.log_marginal_likelihood - spectra.evidence.log_marginal_likelihood
    assert abs(gap.item()) < 1e-3


def test_composite_kernels_and_many_tasks(regression):
    x, ys = regression
    kernel = gpytorch.kernels.RBFKernel() + gpytorch.kernels.LinearKernel()
    seen = []
    posterior = GaussianProcess(kernel).fit(x, ys, progress=lambda *a: seen.append(a))
    assert posterior.evidence.batch_shape == (3,)
    assert seen
    assert len(posterior.kernels) == 3
    assert torch.isfinite(posterior.predict(x[:4]).stddev).all()
    plain = GaussianProcess(kernels.named("rbf")).fit(x, ys)
    gain = posterior.evidence.log_marginal_likelihood - plain.evidence.log_marginal_likelihood
    assert (gain > -0.05).all()
    with pytest.raises(AttributeError, match="has no length-scale of its own"):
        _ = posterior.lengthscale


def test_what_is_frozen_or_not_named_is_kept(regression):
    x, ys = regression
    kernel = kernels.named("rbf").to(F64)
    kernel.lengthscale = torch.tensor(0.7, dtype=F64)
    kept = GaussianProcess(kernel, 0.02, hyperparameters=("scale",)).fit(x, ys)
    torch.testing.assert_close(kept.lengthscale, torch.full((3,), 0.7, dtype=F64))
    assert kept.noise.tolist() == [0.02] * 3
    assert len(set(kept.scale.tolist())) == 3
    kernel.raw_lengthscale.requires_grad_(False)
    frozen = GaussianProcess(kernel).fit(x, ys)
    torch.testing.assert_close(frozen.lengthscale, torch.full((3,), 0.7, dtype=F64))
    assert frozen.spectra == 1
    assert kernel.lengthscale.item() == 0.7
    interpolating = GaussianProcess(kernels.named("rbf"), 1e-6, hyperparameters=("kernel", "scale"))
    assert (interpolating.fit(x, ys).fitted() - ys).abs().max() < 1e-2


def test_frozen_outputscale_is_kept(regression):
    x, ys = regression
    kernel = rbf(0.5, 2.0)
    kernel.raw_outputscale.requires_grad_(False)
    posterior = GaussianProcess(kernel).fit(x, ys)
    torch.testing.assert_close(posterior.scale, torch.full((3,), 2.0, dtype=F64))
    assert len(set(posterior.noise.tolist())) == 3


def test_lengthscale_constraint_is_respected(regression):
    x, ys = regression
    kernel = gpytorch.kernels.RBFKernel(lengthscale_constraint=gpytorch.constraints.Interval(2, 5))
    posterior = GaussianProcess(kernel).fit(x, ys[0])
    assert 2 <= posterior.lengthscale.item() <= 5
    assert posterior.at_bound


def test_prior_mean(regression):
    x, ys = regression
    y = ys[0] + 3
    gp = {"noise": 0.1, "hyperparameters": "fixed"}
    shifted = GaussianProcess(rbf(), mean=3.0, **gp).fit(x, y)
    plain = GaussianProcess(rbf(), **gp).fit(x, ys[0])
    torch.testing.assert_close(
        shifted.evidence.log_marginal_likelihood, plain.evidence.log_marginal_likelihood
    )
    torch.testing.assert_close(shifted.mean(x[:5]), plain.mean(x[:5]) + 3)
    torch.testing.assert_close(shifted.fitted(), plain.fitted() + 3)
    by_output = GaussianProcess(rbf(), mean=torch.tensor([3.0, 3.0], dtype=F64), **gp).fit(x, y)
    function = GaussianProcess(rbf(), mean=lambda v: v.new_full((len(v),), 3.0), **gp).fit(x, y)
    for other in (by_output, function):
        torch.testing.assert_close(other.mean(x[:5]), shifted.mean(x[:5]))


@pytest.mark.parametrize("shape", ["n", "nC", "BnC"])
def test_noise_per_point(regression, shape):
    x, ys = regression
    generator = torch.Generator().manual_seed(2)
    full = 0.05 + torch.rand(3, 40, 2, generator=generator, dtype=F64)
    noise = {"n": full[0, :, 0], "nC": full[0], "BnC": full}[shape]
    spread = {"n": noise[None, :, None], "nC": noise[None], "BnC": noise}[shape].expand(3, 40, 2)
    posterior = GaussianProcess(rbf(0.5), noise, hyperparameters="fixed").fit(x, ys)
    K = rbf(0.5)(x).to_dense().detach()
    new = x[:4] + 0.1
    cross = rbf(0.5)(new, x).to_dense().detach()
    for b in range(3):
        want = 0.0
        for c in range(2):
            cov = K + spread[b, :, c].diag()
            normal = torch.distributions.MultivariateNormal(torch.zeros(40, dtype=F64), cov)
            want += normal.log_prob(ys[b, :, c]).item()
            weights = torch.linalg.solve(cov, ys[b, :, c])
            torch.testing.assert_close(posterior.mean(new)[b, :, c], cross @ weights)
            reduced = 1 - (cross @ torch.linalg.solve(cov, cross.mT)).diagonal()
            predicted = posterior.predict(new, latent=True)
            torch.testing.assert_close(predicted.variance[b, :, c], reduced)
        assert posterior.evidence.log_marginal_likelihood[b].item() == pytest.approx(want, rel=1e-9)
    torch.testing.assert_close(posterior.fitted(), posterior.mean(x))
    learnt = GaussianProcess(kernels.named("rbf"), noise).fit(x, ys)
    gain = learnt.evidence.log_marginal_likelihood - posterior.evidence.log_marginal_likelihood
    assert (gain > 0).all()
    with pytest.raises(ValueError, match="latent=True"):
        posterior.predict(new)


def test_constant_noise_per_point_equals_one_number(regression):
    x, ys = regression
    point = GaussianProcess(rbf(), torch.full((40,), 0.1, dtype=F64), hyperparameters="fixed")
    one = GaussianProcess(rbf(), 0.1, hyperparameters="fixed")
    a, b = point.fit(x, ys).evidence, one.fit(x, ys).evidence
    torch.testing.assert_close(a.fit, b.fit)
    torch.testing.assert_close(a.complexity, b.complexity)


def test_follows_float32_and_covers_its_error(regression):
    x, ys = regression
    exact = GaussianProcess(rbf(0.3), 0.01, hyperparameters="fixed").fit(x, ys)
    rounded = GaussianProcess(rbf(0.3), 0.01, hyperparameters="fixed").fit(x.float(), ys.float())
    assert rounded.evidence.fit.dtype == rounded.mean(x.float()).dtype == torch.float32
    gap = rounded.evidence.log_marginal_likelihood - exact.evidence.log_marginal_likelihood
    assert (gap.abs() <= rounded.evidence.error).all()


def test_singular_covariance_reports_its_jitter():
    x = torch.zeros(30, 1, dtype=F64)
    y = torch.ones(30, dtype=F64)
    with pytest.warns(RuntimeWarning, match=r"a jitter of .* was added"):
        posterior = GaussianProcess(rbf(), 1e-18, hyperparameters="fixed").fit(x, y)
    assert posterior.evidence.jitter > 0
    assert "jitter" in repr(posterior.evidence)


def test_adversarial_inputs():
    one = GaussianProcess(rbf(), 0.1, hyperparameters="fixed").fit([[0.0]], [1.0])
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


def test_deterministic(regression):
    x, ys = regression
    a, b = (GaussianProcess(kernels.named("rbf")).fit(x, ys) for _ in range(2))
    assert torch.equal(a.evidence.fit, b.evidence.fit)
    assert torch.equal(a.lengthscale, b.lengthscale)


def test_spectra_limit_is_said(regression):
    x, ys = regression
    gp = GaussianProcess(kernels.named("rbf"), tolerance=1e-12, max_spectra=3)
    with pytest.warns(RuntimeWarning, match="stopped at 3 spectra"):
        gp.fit(x, ys)


class TestBadInput:
    x = torch.zeros(5, 2, dtype=F64)
    y = torch.zeros(5, dtype=F64)

    @pytest.mark.parametrize(
        ("x", "y", "kind", "message"),
        [
            (x * math.nan, y, ValueError, "x must be finite, got 10 NaN"),
            (x, y + math.inf, ValueError, "y must be finite, got 5 NaN or infinite"),
            (x, y[:4], ValueError, "y must have one row for each of the 5 inputs, got 4"),
            (x[:0], y[:0], ValueError, "x is empty"),
            (x, y.float(), TypeError, "y has dtype torch.float32 but torch.float64"),
            (x, y.long(), TypeError, "y must hold real numbers, got dtype torch.int64; for class"),
            (x.long(), y, TypeError, "x must hold real numbers"),
            (x[None, None], y, ValueError, r"x must have shape \(n, d\)"),
            (x, y[None, None, :, None], ValueError, r"y must have shape \(n,\), \(n, C\)"),
            ("text", y, TypeError, "x must be a tensor or an array, got str"),
        ],
    )
    def test_data(self, x, y, kind, message):
        with pytest.raises(kind, match=message):
            GaussianProcess(rbf(), 0.1).fit(x, y)

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
    def test_arguments(self, arguments, kind, message):
        with pytest.raises(kind, match=message):
            GaussianProcess(**{"kernel": rbf(), **arguments})

    def test_fixed_without_noise(self):
        with pytest.raises(ValueError, match="noise must be given"):
            GaussianProcess(rbf(), hyperparameters="fixed").fit(self.x, self.y)

    def test_noise_shape(self):
        with pytest.raises(ValueError, match=r"noise must be a number or have shape"):
            GaussianProcess(rbf(), torch.ones(4, dtype=F64)).fit(self.x, self.y)

    def test_kernel_batch(self):
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
    def test_kernel_function(self, function, kind, message, how):
        x = torch.randn(6, 2, dtype=F64, generator=torch.Generator().manual_seed(0))
        with pytest.raises(kind, match=message):
            GaussianProcess(function, 0.1, hyperparameters=how).fit(x, x[:, 0])

    @pytest.mark.parametrize("how", ["fixed", "evidence"])
    def test_kernel_function_that_is_wrong_on_all_inputs_only(self, how):
        """Every second input, which a look at a few would skip, sees an indefinite kernel."""
        x = torch.arange(400, dtype=F64)

        def function(a, b):
            odd = (a % 2) * (b.mT % 2)
            return torch.exp(-((a - b.mT) ** 2)) - 3 * odd

        with pytest.raises(ValueError, match="kernel function must be positive semi-definite"):
            GaussianProcess(function, 100.0, hyperparameters=how).fit(x, torch.sin(x))

    @pytest.mark.parametrize("how", ["fixed", "evidence"])
    def test_kernel_function_that_is_asymmetric_above_the_diagonal_only(self, how):
        """A factorisation reads one triangle; the other must not go unseen."""
        x = torch.arange(400, dtype=F64)

        def function(a, b):
            return torch.exp(-((a - b.mT) ** 2)) + 0.1 * (a % 2) * (b.mT % 2 == 0) * (a > b.mT)

        for turned in (function, lambda a, b: function(b, a).mT):
            with pytest.raises(ValueError, match="must be symmetric"):
                GaussianProcess(turned, 0.1, hyperparameters=how).fit(x, torch.sin(x))

    def test_new_inputs(self):
        posterior = GaussianProcess(rbf(), 0.1, hyperparameters="fixed").fit(self.x, self.y)
        with pytest.raises(ValueError, match="x_new must have 2 columns, as x had, got 1"):
            posterior.predict(self.x[:, :1])
        with pytest.raises(TypeError, match="x_new has dtype torch.float32"):
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
