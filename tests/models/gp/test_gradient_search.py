"""Tests of `bayesgen.models.gp.gradient_search`."""

import math
import pickle

import gpytorch
import numpy as np
import pytest
import scipy.optimize
import torch

from bayesgen import GaussianProcess, kernels
from bayesgen.covariance.gram import gram
from bayesgen.models.gp.objective import LogMarginalLikelihood


def test_gradient_search_agrees_with_lengthscale_search(regression):
    """The optimum over two length-scales has at least the evidence of that over one."""
    x, ys = regression
    isotropic = GaussianProcess(gpytorch.kernels.RBFKernel(), tolerance=1e-7).fit(x, ys[1])
    ard = GaussianProcess(gpytorch.kernels.RBFKernel(ard_num_dims=2)).fit(x, ys[1])
    assert ard.lengthscale.shape == (1, 2)
    assert ard.evidence.log_marginal_likelihood >= isotropic.evidence.log_marginal_likelihood
    kernel = gpytorch.kernels.RBFKernel(ard_num_dims=1)
    one = GaussianProcess(kernel, tolerance=1e-7).fit(x[:, :1], ys[1, :, :1])
    column = kernels.named("rbf")
    spectra = GaussianProcess(column, tolerance=1e-7).fit(x[:, :1], ys[1, :, :1])
    gap = one.evidence.log_marginal_likelihood - spectra.evidence.log_marginal_likelihood
    assert abs(gap.item()) < 1e-3


def test_composite_kernel_fits_many_tasks(regression):
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


# ---------------------------------------------------------------------- the maximum is found

S = gpytorch.kernels.ScaleKernel
K = gpytorch.kernels
F64 = torch.float64


def waves(n=150):
    generator = torch.Generator().manual_seed(0)
    t = (20 * torch.rand(n, generator=generator, dtype=F64)).sort().values
    y = 0.3 * t + torch.sin(2 * torch.pi * t) + 0.5 * torch.sin(0.7 * t)
    return t[:, None], y + 0.1 * torch.randn(n, generator=generator, dtype=F64)


def irrelevant(seed=0):
    generator = torch.Generator().manual_seed(seed)
    u = torch.rand(40, generator=generator, dtype=F64).sort().values
    y = torch.sin(9 * u) + 0.1 * torch.randn(40, generator=generator, dtype=F64)
    return torch.stack([u, torch.randn(40, generator=generator, dtype=F64)], 1), y


def best(kernel, x, y, **options):
    return GaussianProcess(kernel, **options).fit(x, y)


def log_evidence(posterior):
    return float(posterior.evidence.log_marginal_likelihood)


def restarts(kernel, x, y, count=8):
    """The largest evidence of L-BFGS-B (SciPy) on the same gradient from random starts."""
    objective = LogMarginalLikelihood(gram(kernel.double(), x), y[:, None])
    first, generator = objective.gram.start(), torch.Generator().manual_seed(0)

    def negative(z):
        theta, s, noise = y.new_tensor(z[:-2]), math.exp(z[-2]), math.exp(z[-1])
        try:
            at = objective(theta, s, noise)
        except ValueError:
            return 1e10, np.zeros(len(z))
        return -float(at.value), -np.array([*at.kernel.tolist(), float(at.log_scale),
                                            float(at.log_noise)])  # fmt: skip

    values = []
    for _ in range(count):
        start = torch.cat([first, torch.zeros(2, dtype=F64)])
        start = start + 1.5 * torch.randn(len(start), generator=generator, dtype=F64)
        bounds = [(-12, 12)] * len(start)
        found = scipy.optimize.minimize(negative, start.numpy(), jac=True, bounds=bounds)
        values.append(-found.fun)
    return max(values)


@pytest.mark.filterwarnings("ignore:the covariance is singular")
@pytest.mark.parametrize(
    "kernel",
    [
        S(K.RBFKernel()) + S(K.PeriodicKernel()),
        S(K.RBFKernel()) + S(K.LinearKernel()),
        S(K.RQKernel()),
        K.RBFKernel(active_dims=(0,)) * K.MaternKernel(nu=1.5, active_dims=(1,)),
    ],
    ids=["periodic", "linear", "rq", "product"],
)
def test_no_random_start_finds_more(kernel):
    two = isinstance(kernel, K.ProductKernel)
    x, y = irrelevant() if two else waves(80)
    found = best(kernel, x, y)
    assert log_evidence(found) > restarts(kernel, x, y) - 0.05
    assert found.modes.gradient[0] < 1e-3


@pytest.mark.parametrize("seed", range(4))
def test_signal_beside_an_irrelevant_column_is_found(seed):
    x, y = irrelevant(seed)
    found = best(K.RBFKernel(ard_num_dims=2), x, y)
    null = -0.5 * 40 * (math.log(2 * math.pi * float(y.square().mean())) + 1)
    assert log_evidence(found) > null + 30
    assert found.hyperparameters["RBF.lengthscale"][1] > 1


@pytest.mark.parametrize("unit", [1e-4, 1e4])
@pytest.mark.parametrize(
    "kernel",
    [K.RBFKernel(ard_num_dims=2), S(K.RBFKernel(active_dims=(0,))) + S(K.LinearKernel())],
    ids=["ard", "sum"],
)
def test_units_of_a_column_do_not_matter(kernel, unit):
    x, y = irrelevant()
    plain = log_evidence(best(kernel, x, y))
    assert log_evidence(best(kernel, x * torch.tensor([1.0, unit]), y)) == pytest.approx(
        plain, abs=0.02
    )
    assert log_evidence(best(kernel, x * unit, y)) == pytest.approx(plain, abs=0.02)
    scaled = log_evidence(best(kernel, x, y * unit))
    assert scaled + 40 * math.log(unit) == pytest.approx(plain, abs=0.02)


def test_column_that_the_kernel_does_not_use_does_not_matter():
    x, y = irrelevant()
    kernel = K.RBFKernel(active_dims=(0,))
    wild = torch.cat([x[:, :1], 1e5 * x[:, 1:]], 1)
    alone = best(K.RBFKernel(), x[:, :1], y)
    assert log_evidence(best(kernel, wild, y)) == pytest.approx(log_evidence(alone), abs=1e-6)


def test_order_of_terms_does_not_matter_and_more_terms_do_not_lose():
    x, y = waves(100)
    one, two = S(K.RBFKernel()), S(K.PeriodicKernel())
    first, second = (log_evidence(best(k, x, y)) for k in (one + two, two + one))
    assert first == pytest.approx(second, abs=0.05)
    larger = S(K.RBFKernel()) + S(K.PeriodicKernel() * K.RBFKernel())
    assert log_evidence(best(larger, x, y)) > first - 0.05


def test_period_is_found_from_the_default_start():
    generator = torch.Generator().manual_seed(0)
    x = (30 * torch.rand(60, generator=generator, dtype=F64)).sort().values[:, None]
    y = torch.sin(2 * torch.pi * x[:, 0] / 4.3)
    y = y + 0.1 * torch.randn(60, generator=generator, dtype=F64)
    found = best(K.PeriodicKernel(), x, y)
    period = found.hyperparameters["Periodic.period_length"]
    assert period == pytest.approx(4.3, rel=0.01)


INTERVAL = gpytorch.constraints.Interval


@pytest.mark.parametrize("transform", [torch.sigmoid, None])
@pytest.mark.parametrize("inside", ["scale", "ard", "sum"])
def test_constraints_are_kept(inside, transform):
    x, y = irrelevant()

    def limits(low, high):
        inverse = None if transform is None else torch.logit
        return INTERVAL(low, high, transform=transform, inv_transform=inverse, initial_value=high)

    if inside == "scale":
        kernel = S(K.RBFKernel(ard_num_dims=2), outputscale_constraint=limits(1e-3, 0.05))
        found = best(kernel, x, y)
        assert 1e-3 <= found.kernels[0].outputscale.item() <= 0.05 + 1e-8
        assert found.hyperparameters.at_bound["RBF.outputscale"]
    else:
        base = K.RBFKernel(ard_num_dims=2, lengthscale_constraint=limits(0.5, 2.0))
        found = best(base if inside == "ard" else S(base) + S(K.LinearKernel()), x, y)
        values = torch.as_tensor(found.hyperparameters["RBF.lengthscale"])
        assert ((values >= 0.5) & (values <= 2.0)).all()
        assert found.at_bound


def test_kept_parameters_stay_and_the_users_kernel_and_random_state_are_left():
    x, y = waves(60)
    kernel = S(K.RBFKernel()) + S(K.PeriodicKernel())
    kernel.kernels[1].base_kernel.period_length = 1.0
    kernel.kernels[1].base_kernel.raw_period_length.requires_grad_(False)
    before = {k: v.clone() for k, v in kernel.state_dict().items()}
    state = torch.random.get_rng_state()
    first, again = best(kernel, x, y), best(kernel, x, y)
    assert first.kernels[0].kernels[1].base_kernel.period_length.item() == pytest.approx(1.0)
    assert all(torch.equal(v, kernel.state_dict()[k]) for k, v in before.items())
    assert torch.equal(state, torch.random.get_rng_state())
    assert log_evidence(first) == log_evidence(again)


def test_starts_and_seed_are_checked_and_one_start_climbs_from_the_users_values():
    x, y = waves(60)
    kernel = S(K.RBFKernel()) + S(K.PeriodicKernel())
    one = best(kernel, x, y, starts=1)
    assert len(one.modes) == 1
    assert log_evidence(one) <= log_evidence(best(kernel, x, y)) + 1e-6
    assert torch.isfinite(best(K.RBFKernel(), x, y, starts=1).evidence.log_marginal_likelihood)
    with pytest.raises(ValueError, match="starts"):
        GaussianProcess(kernel, starts=0)
    with pytest.raises((ValueError, TypeError), match="seed"):
        GaussianProcess(kernel, seed=-1)
    with pytest.raises(TypeError, match=r"got the class RBFKernel: write RBFKernel\(\)"):
        GaussianProcess(K.RBFKernel)


def test_noise_per_point_outputs_and_many_points_use_the_search():
    x, y = waves(160)
    kernel = S(K.RBFKernel()) + S(K.PeriodicKernel())
    noise = torch.full((160,), 0.01, dtype=F64)
    known = best(kernel, x, y, noise=noise)
    given = GaussianProcess(kernel, 0.01, hyperparameters=("kernel", "scale")).fit(x, y)
    assert log_evidence(known) == pytest.approx(log_evidence(given), abs=0.02)
    both = best(kernel, x, torch.stack([y, -y], 1))
    assert both.fitted().shape == (160, 2)


@pytest.mark.slow
def test_stages_on_subsets_find_the_maximum_of_many_points():
    x, y = waves(900)
    kernel = S(K.RBFKernel()) + S(K.PeriodicKernel())
    found = best(kernel, x, y)
    assert found.hyperparameters["Periodic.period_length"] == pytest.approx(1.0, rel=0.01)
    assert found.modes.gradient[0] < 1e-3


def test_very_large_prior_variances_are_found():
    """A kernel that is too smooth for the data needs a variance 10⁸ times that of the targets."""
    x, y = irrelevant()
    x = x[:, :1]

    def smooth():
        return K.RBFKernel(lengthscale_constraint=INTERVAL(3.0, 4.0))

    alone = log_evidence(best(smooth(), x, y))
    for kernel in (smooth() * K.ConstantKernel(), S(smooth()) + S(K.LinearKernel())):
        assert log_evidence(best(kernel, x, y)) > alone - 0.05


class Exponential(K.Kernel):
    """A user's kernel with a length-scale."""

    has_lengthscale = True

    def forward(self, x1, x2, diag=False, **params):
        ell = self.lengthscale
        return torch.exp(-self.covar_dist(x1 / ell, x2 / ell, diag=diag, **params))


def test_users_kernel_in_a_sum_is_searched():
    x, y = waves(60)
    found = best(S(Exponential()) + S(K.RBFKernel()), x, y)
    assert log_evidence(found) > log_evidence(best(S(K.RBFKernel()), x, y)) - 0.05


def test_fit_in_inference_mode_is_the_same():
    x, y = irrelevant()
    kernel = K.RBFKernel(ard_num_dims=2)
    with torch.inference_mode():
        inside = best(kernel, x, y)
    assert log_evidence(inside) == log_evidence(best(kernel, x, y))


def test_posterior_of_a_sum_is_pickled():
    x, y = waves(40)
    posterior = best(S(K.RBFKernel()) + S(K.LinearKernel()), x, y)
    again = pickle.loads(pickle.dumps(posterior))
    torch.testing.assert_close(again.mean(x[:3]), posterior.mean(x[:3]))


def test_kernels_without_an_evidence_are_refused():
    x, y = irrelevant()
    with pytest.raises(ValueError, match="CosineKernel must be positive semi-definite"):
        best(S(K.CosineKernel()), torch.cat([x, x.flip(0)], 1), y)
    with pytest.raises(ValueError, match="y must not be zero throughout"):
        best(K.RQKernel(), x, 0 * y)


@pytest.mark.parametrize("unit", [1e-6, 1e6])
def test_offset_of_a_polynomial_has_a_unit(unit):
    x, y = irrelevant()
    kernel = S(K.PolynomialKernel(power=2))
    plain = log_evidence(best(kernel, x[:, :1], y))
    assert log_evidence(best(kernel, x[:, :1] * unit, y)) == pytest.approx(plain, abs=0.02)


def test_upper_limits_keep_lengthscales_positive():
    x, y = waves(40)
    limit = gpytorch.constraints.LessThan(0.5)
    found = best(K.RBFKernel(lengthscale_constraint=limit), x, y)
    assert 0 < found.lengthscale <= 0.5


def test_a_short_length_scale_is_found_beside_a_long_one():
    """It fits all of the points of a trend with a season, but not a part of them."""
    random = np.random.default_rng(0)
    months = np.sort(random.permutation(420)[:376]) / 12
    y = 0.06 * months + 0.0012 * months**2 + 0.17 * np.sin(2 * np.pi * months)
    y = torch.tensor(y + 0.02 * random.standard_normal(376))
    x, y = torch.tensor((months - months.mean()) / months.std()), (y - y.mean()) / y.std()
    kernel = kernels.parsed("rbf + constant").double()
    found = GaussianProcess(kernel, starts=4).fit(x, y)
    kernel.kernels[0].base_kernel.lengthscale = 0.03
    near = GaussianProcess(kernel, 1e-4, starts=1).fit(x, y)
    values = [float(p.evidence.log_marginal_likelihood) for p in (found, near)]
    assert values[0] >= values[1] - 0.01
    assert found.hyperparameters["RBF.lengthscale"] < 0.1
