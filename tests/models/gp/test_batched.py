"""Tests of `bayesgen.models.gp.batched`.

A batch of small data sets is compared with a fit of each alone.
"""

import math

import gpytorch
import pytest
import torch

import bayesgen as bg
from bayesgen.covariance.radial import profile_of
from bayesgen.models.gp import batched
from bayesgen.models.hyperparameters import Free

F64 = torch.float64


KERNELS = [
    gpytorch.kernels.RBFKernel,
    lambda: gpytorch.kernels.MaternKernel(1.5),
    gpytorch.kernels.RQKernel,
]


def problems(B=6, n=30, d=2, C=None, seed=0):
    g = torch.Generator().manual_seed(seed)
    x = torch.rand(B, n, d, generator=g, dtype=F64)
    waves = torch.sin(torch.linspace(3, 9, B, dtype=F64)[:, None] * x.sum(-1))
    if C is None:
        return x, waves + 0.2 * torch.randn(B, n, generator=g, dtype=F64)
    y = waves[..., None] * torch.linspace(1, 2, C, dtype=F64)
    return x, y + 0.2 * torch.randn(B, n, C, generator=g, dtype=F64)


@pytest.mark.parametrize("make", KERNELS)
@pytest.mark.parametrize("C", [None, 3])
def test_fixed_batch_equals_separate_fits(make, C):
    x, y = problems(C=C)
    kernel = gpytorch.kernels.ScaleKernel(make())
    kernel.outputscale, kernel.base_kernel.lengthscale = 0.7, 0.4
    gp = bg.GaussianProcess(kernel, noise=0.05, hyperparameters="fixed")
    many, new = gp.fit_batch(x, y), torch.rand(6, 4, 2, dtype=F64)
    for b in range(len(x)):
        one = gp.fit(x[b], y[b])
        for part in ("fit", "complexity", "effective_dimension"):
            torch.testing.assert_close(
                getattr(many.evidence, part)[b], getattr(one.evidence, part), rtol=1e-6, atol=1e-6
            )
        torch.testing.assert_close(many.mean(new)[b], one.mean(new[b]), rtol=1e-6, atol=1e-8)
        a, w = many.predict(new), one.predict(new[b])
        torch.testing.assert_close(a.stddev[b], w.stddev, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("make", KERNELS[:2])
def test_learnt_batch_reaches_evidence_of_separate_fits(make):
    x, y = problems(B=8, n=40)
    gp = bg.GaussianProcess(make())
    many = gp.fit_batch(x, y)
    assert many.converged.all()
    for b in range(len(x)):
        one = gp.fit(x[b], y[b])
        gap = many.evidence.log_marginal_likelihood[b] - one.evidence.log_marginal_likelihood
        # Where the data ask for no noise at all the evidence only creeps up to its end.
        assert gap > (-1e-4 if one.noise > 1e-6 else -0.1)
    settings = torch.stack([many.lengthscale, many.scale, many.noise], -1)
    kernel = gpytorch.kernels.ScaleKernel(make())
    for b in range(2):  # At a maximum no neighbour is better.
        for j in range(3):
            for factor in (0.97, 1.03):
                near = settings[b].clone()
                near[j] *= factor
                kernel.base_kernel.lengthscale, kernel.outputscale = near[0].item(), near[1].item()
                fixed = bg.GaussianProcess(kernel, noise=near[2].item(), hyperparameters="fixed")
                there = fixed.fit(x[b], y[b]).evidence.log_marginal_likelihood
                assert there <= many.evidence.log_marginal_likelihood[b] + 1e-6


@pytest.mark.parametrize("make", [lambda: gpytorch.kernels.MaternKernel(2.5), KERNELS[2]])
def test_gradient_matches_differences_and_fisher_is_positive(make):
    x, y = problems(B=3, n=12, C=2)
    kernel = make().double()
    free, one = Free(True, True, True), torch.ones((), dtype=F64)
    family = batched._Family(kernel, profile_of(kernel), free)
    problem = batched._Chunk(x, y, family, free, one, one)
    z = problem.start + 0.1
    found = problem.look(z, slice(None))
    assert z.shape[1] == (4 if family.shaped else 3)
    for j in range(z.shape[1]):
        step = torch.zeros(z.shape[1], dtype=F64)
        step[j] = 1e-5
        up, down = (problem.look(z + s * step, slice(None)) for s in (1, -1))
        slope = (up.value - down.value) / 2e-5
        torch.testing.assert_close(found.gradient[:, j], slope, rtol=1e-5, atol=1e-6)
        tilt = (up.floor - down.floor) / 2e-5
        torch.testing.assert_close(found.tilt[:, j], tilt, rtol=1e-5, atol=1e-6)
    assert (torch.linalg.eigvalsh(found.fisher) > -1e-9).all()


def gaps(gp, x, y):
    """Evidence of each problem in a batch, less that of its own fit, and the batch's posterior."""
    many = gp.fit_batch(x, y)
    ones = [gp.fit(x[b], y[b]).evidence.log_marginal_likelihood for b in range(len(x))]
    return many.evidence.log_marginal_likelihood - torch.stack(ones), many


@pytest.mark.parametrize("kind", ["smooth", "fast", "noise", "two scales"])
def test_batch_finds_the_modes_of_separate_searches(kind):
    g = torch.Generator().manual_seed(3)
    x = torch.rand(24, 40, 1, generator=g, dtype=F64)
    t, noise = x[..., 0], torch.randn(24, 40, generator=g, dtype=F64)
    speed = torch.linspace(0, 1, 24, dtype=F64)[:, None]
    y = {
        "smooth": torch.sin((2 + 6 * speed) * t) + 0.1 * noise,
        # The median distance between points is longer than a wave.
        "fast": torch.sin((30 + 30 * speed) * t) + 0.1 * noise,
        "noise": 0.3 * torch.sin(8 * t) + noise,
        "two scales": torch.sin(3 * t) + 0.3 * torch.sin((30 + 20 * speed) * t) + 0.05 * noise,
    }[kind]
    gap, many = gaps(bg.GaussianProcess(gpytorch.kernels.RBFKernel()), x, y)
    assert (gap > -0.01).sum() >= 23
    assert gap.min() > -0.5
    assert many.converged.double().mean() > 0.9


def interval(low, high, transform):
    """A constraint with limits that float32 represents, as gpytorch keeps them in it."""
    kinds = gpytorch.constraints
    if low == 0:
        return kinds.LessThan(high)
    if high == math.inf:
        return kinds.GreaterThan(low)
    if transform == "softplus":
        return kinds.Interval(low, high)
    start = math.sqrt(low * high)
    return kinds.Interval(low, high, transform=None, inv_transform=None, initial_value=start)


@pytest.mark.parametrize("transform", ["softplus", None])
@pytest.mark.parametrize(("low", "high"), [(1 / 64, 1 / 16), (1.5, 4.0)])
def test_lengthscale_stays_within_its_constraint(low, high, transform):
    x, y = problems(B=6, n=30)
    kernel = gpytorch.kernels.RBFKernel(lengthscale_constraint=interval(low, high, transform))
    gap, many = gaps(bg.GaussianProcess(kernel), x, y)
    assert ((many.lengthscale > low) & (many.lengthscale < high)).all()
    assert gap.min() > -0.01
    assert many.converged.all()
    assert (many.at_bound == torch.tensor([many.task(b).at_bound for b in range(6)])).all()
    assert many.at_bound.any()
    torch.testing.assert_close(many.kernels[2].lengthscale.reshape(()), many.lengthscale[2])


@pytest.mark.parametrize("transform", ["softplus", None])
@pytest.mark.parametrize(("low", "high"), [(1 / 64, 1 / 8), (40.0, math.inf)])
def test_outputscale_stays_within_its_constraint(low, high, transform):
    x, y = problems(B=6, n=30)
    constraint = interval(low, high, transform)
    kernel = gpytorch.kernels.ScaleKernel(gpytorch.kernels.RBFKernel(), None, constraint)
    gap, many = gaps(bg.GaussianProcess(kernel), x, y)
    assert ((many.scale > low) & (many.scale < high)).all()
    assert gap.min() > -0.01
    assert many.converged.all()
    assert many.at_bound.any()
    kept = bg.GaussianProcess(kernel, hyperparameters=("kernel", "noise")).fit_batch(x, y)
    own = kernel.outputscale.detach().double().expand(6)
    torch.testing.assert_close(kept.scale, own, rtol=1e-6, atol=0)


def test_shape_is_learnt_as_by_separate_fits():
    g = torch.Generator().manual_seed(0)
    x = 4 * torch.rand(6, 40, 1, generator=g, dtype=F64)
    kernel = gpytorch.kernels.RQKernel().double()
    kernel.alpha, kernel.lengthscale = 0.3, 0.3
    with torch.no_grad():
        roots = torch.linalg.cholesky(kernel(x).to_dense() + 1e-3 * torch.eye(40, dtype=F64))
    y = (roots @ torch.randn(6, 40, 1, generator=g, dtype=F64))[..., 0]
    gp = bg.GaussianProcess(gpytorch.kernels.RQKernel())
    gap, many = gaps(gp, x, y)
    assert gap.min() > -0.01
    alpha = torch.stack([k.alpha.detach().reshape(()) for k in many.kernels])
    assert (alpha - alpha[0]).abs().max() > 0.01
    inside = [b for b in range(6) if not many.at_bound[b] and 0.05 < alpha[b] < 20]
    assert inside
    new = torch.rand(6, 5, 1, generator=g, dtype=F64)
    for b in inside:
        one = gp.fit(x[b], y[b])
        torch.testing.assert_close(
            alpha[b].log(), one.kernels[0].alpha.log().reshape(()), rtol=0, atol=0.1
        )
    for b in range(6):
        task = many.task(b)
        torch.testing.assert_close(
            task.evidence.log_marginal_likelihood, many.evidence.log_marginal_likelihood[b]
        )
        torch.testing.assert_close(many.mean(new)[b], task.mean(new[b]))
        torch.testing.assert_close(many.predict(new).stddev[b], task.predict(new[b]).stddev)
    kept = gpytorch.kernels.RQKernel()
    kept.alpha = 2.0
    kept.raw_alpha.requires_grad_(False)
    gap, many = gaps(bg.GaussianProcess(kept), x, y)
    assert gap.min() > -0.01
    torch.testing.assert_close(many.kernels[0].alpha.reshape(()), torch.tensor(2.0, dtype=F64))
    kept.raw_alpha.requires_grad_(True)
    kept.raw_lengthscale.requires_grad_(False)
    many = bg.GaussianProcess(kept).fit_batch(x, y)
    own = kept.lengthscale.detach().double().reshape(1).expand(6)
    torch.testing.assert_close(many.lengthscale, own)


@pytest.mark.parametrize("make", KERNELS)
@pytest.mark.parametrize("power", [-150, -8, -3, 3, 8, 150])
@pytest.mark.parametrize("what", ["inputs", "targets"])
def test_units_do_not_matter(make, power, what):
    x, y = problems(B=5, n=25, C=2, seed=1)
    gp, c = bg.GaussianProcess(make()), 10.0**power
    usual = gp.fit_batch(x, y)
    many = gp.fit_batch(x * c, y) if what == "inputs" else gp.fit_batch(x, y * c)
    shift = 0 if what == "inputs" else -50 * math.log(c)
    lengths, variances = (c, 1.0) if what == "inputs" else (1.0, c**2)
    torch.testing.assert_close(
        many.evidence.log_marginal_likelihood - shift,
        usual.evidence.log_marginal_likelihood,
        rtol=0,
        atol=1e-4,
    )
    inner = ~usual.at_bound
    assert inner.any()
    close = {"rtol": 0.02, "atol": 0.0}
    torch.testing.assert_close(
        (many.lengthscale / lengths)[inner], usual.lengthscale[inner], **close
    )
    torch.testing.assert_close((many.noise / variances)[inner], usual.noise[inner], **close)
    assert (many.at_bound == usual.at_bound).all()
    assert (many.converged == usual.converged).all()


@pytest.mark.parametrize("make", KERNELS)
def test_duplicated_inputs_match_separate_fits(make):
    x, y = problems(B=4, n=20)
    x[:, 10:] = x[:, :10]
    x[3] = x[3, :1]  # all points of one problem coincide
    gap, many = gaps(bg.GaussianProcess(make()), x[:3], y[:3])
    assert gap.min() > -0.01
    many = bg.GaussianProcess(make()).fit_batch(x, y)
    # With no distances, K is a matrix of ones, and s + σ²/n and σ² are variances in closed form.
    across = y[3].sum() ** 2 / 20
    rest = y[3].square().sum() - across
    noise = min(float(rest / 19), float(y[3].square().mean()))
    assert many.noise[3].item() == pytest.approx(noise, rel=1e-3)


def test_single_point_and_constant_targets():
    x, y = problems(B=3, n=1)
    many = bg.GaussianProcess(gpytorch.kernels.RBFKernel()).fit_batch(x, y)
    torch.testing.assert_close(many.scale + many.noise, y[:, 0] ** 2, rtol=1e-3, atol=0)
    expected = -0.5 * (1 + (2 * math.pi * y[:, 0] ** 2).log())
    torch.testing.assert_close(many.evidence.log_marginal_likelihood, expected, rtol=0, atol=1e-5)
    x, y = problems(B=3)
    y[1] = 2.0
    many = bg.GaussianProcess(gpytorch.kernels.RBFKernel()).fit_batch(x, y)
    assert many.at_bound[1]
    new = torch.rand(3, 4, 2, dtype=F64)
    torch.testing.assert_close(
        many.mean(new)[1], torch.full((4,), 2.0, dtype=F64), rtol=2e-3, atol=0
    )


def test_active_dims_select_columns():
    x, y = problems(B=2)
    one = bg.GaussianProcess(gpytorch.kernels.RBFKernel()).fit_batch(x[..., 1:], y)
    kernel = gpytorch.kernels.RBFKernel(active_dims=(1,))
    many = bg.GaussianProcess(kernel).fit_batch(x, y)
    torch.testing.assert_close(many.lengthscale, one.lengthscale)
    torch.testing.assert_close(many.predict(x).stddev, one.predict(x[..., 1:]).stddev)
    torch.testing.assert_close(many.task(1).mean(x[1]), many.mean(x)[1])


def test_result_does_not_depend_on_chunk_size(monkeypatch):
    x, y = problems(B=7)
    whole = bg.GaussianProcess(gpytorch.kernels.RBFKernel()).fit_batch(x, y)
    monkeypatch.setattr("bayesgen.models.gp.batched._CPU", 2 * 30 * 30)
    heard = []
    parts = bg.GaussianProcess(gpytorch.kernels.RBFKernel()).fit_batch(
        x, y, progress=lambda done, *_: heard.append(done)
    )
    assert heard == [2, 4, 6, 7]
    torch.testing.assert_close(parts.noise, whole.noise, rtol=1e-8, atol=0)


def test_fixed_hyperparameters_are_kept():
    x, y = problems()
    many = bg.GaussianProcess(
        gpytorch.kernels.RBFKernel(), noise=0.1, hyperparameters=("kernel", "scale")
    ).fit_batch(x, y)
    torch.testing.assert_close(many.noise, torch.full((6,), 0.1, dtype=F64))
    kernel = gpytorch.kernels.RBFKernel()
    kernel.lengthscale = 0.5
    kernel.raw_lengthscale.requires_grad_(False)
    many = bg.GaussianProcess(kernel).fit_batch(x, y)
    torch.testing.assert_close(many.lengthscale, torch.full((6,), 0.5).double(), rtol=1e-6, atol=0)


def test_invalid_batches_raise():
    x, y = problems()
    gp = bg.GaussianProcess(gpytorch.kernels.RBFKernel())
    with pytest.raises(ValueError, match="y must have shape \\(6, 30\\)"):
        gp.fit_batch(x, y[:, :5])
    with pytest.raises(ValueError, match="none of them 0"):
        gp.fit_batch(x[:, :0], y[:, :0])
    with pytest.raises(ValueError, match="x must be finite; problem 0 has 60"):
        gp.fit_batch(x * float("nan"), y)
    hole = y.clone()
    hole[3, :2] = math.inf
    with pytest.raises(ValueError, match="y must be finite; problem 3 has 2 NaN or infinite"):
        gp.fit_batch(x, hole)
    blank = y.clone()
    blank[2] = 0
    with pytest.raises(ValueError, match="zero throughout, as in problem 2"):
        gp.fit_batch(x, blank)
    with pytest.raises(ValueError, match="radial kernel"):
        bg.GaussianProcess(gpytorch.kernels.LinearKernel()).fit_batch(x, y)
    with pytest.raises(ValueError, match="prior mean of 0"):
        bg.GaussianProcess(gpytorch.kernels.RBFKernel(), mean=1.0).fit_batch(x, y)
    with pytest.raises(ValueError, match="zero throughout"):
        gp.fit_batch(x, y * 0)
    with pytest.raises(ValueError, match="x_new must have shape"):
        gp.fit_batch(x, y).mean(x[0])
    double = x.clone()
    double[:, 1] = double[:, 0]
    singular = bg.GaussianProcess(
        gpytorch.kernels.RBFKernel(), noise=1e-30, hyperparameters="fixed"
    )
    with pytest.raises(ValueError, match="a larger noise"):
        singular.fit_batch(double, y)


def test_overwritten_arrays_do_not_move_a_batch():
    x, y = problems()
    x, y = x.clone().requires_grad_(), y.clone().requires_grad_()
    posterior = bg.GaussianProcess(gpytorch.kernels.RBFKernel()).fit_batch(x, y)
    new = x.detach()[:, :3].clone()
    before = posterior.mean(new), posterior.fitted(), posterior.task(1).mean(new[1])
    with torch.no_grad():
        x.mul_(7)
        y.mul_(0)
    after = posterior.mean(new), posterior.fitted(), posterior.task(1).mean(new[1])
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    new[4, 0, 0] = math.nan
    with pytest.raises(ValueError, match="x_new must be finite; problem 4 has 1"):
        posterior.mean(new)


def test_a_batch_of_single_points_has_the_evidence_of_each():
    x, y = problems()
    many = bg.GaussianProcess(gpytorch.kernels.RBFKernel(), 0.1, hyperparameters="fixed")
    found = many.fit_batch(x[:, :1], y[:, :1]).evidence.log_marginal_likelihood
    want = torch.distributions.Normal(0, 1.1**0.5).log_prob(y[:, 0])
    torch.testing.assert_close(found, want)


def test_clusters_far_apart_in_many_columns_match_separate_fits():
    # The distances within a cluster are 1e-5 of that between the clusters.
    g = torch.Generator().manual_seed(0)
    side = torch.tensor([1.0, -1.0], dtype=torch.float64).repeat(10)[:, None]
    x = 1e4 * side + 0.1 * torch.randn(2, 20, 20, generator=g, dtype=torch.float64)
    y = torch.sin(20 * (x[..., 0] - 1e4 * side[:, 0]))
    kernel = gpytorch.kernels.RBFKernel().double()
    kernel.lengthscale = torch.tensor(0.5, dtype=torch.float64)
    gp = bg.GaussianProcess(kernel, noise=0.1, hyperparameters="fixed")
    batch = gp.fit_batch(x, y)
    for b in range(2):
        one = gp.fit(x[b], y[b])
        torch.testing.assert_close(
            batch.evidence.log_marginal_likelihood[b],
            one.evidence.log_marginal_likelihood,
            rtol=0,
            atol=1e-9,
        )
        torch.testing.assert_close(batch.mean(x)[b], one.mean(x[b]), rtol=0, atol=1e-8)
