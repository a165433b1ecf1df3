"""Tests of `bayesgen.kernels.invariant`."""

import math

import gpytorch
import pytest
import torch

import bayesgen as bg
from bayesgen.kernels import Invariant
from bayesgen.networks.transforms import Rotation, Shift

F64 = torch.float64
IMAGE = (1, 6, 6)


def images(n=5, seed=0):
    return torch.rand(n, 36, generator=torch.Generator().manual_seed(seed), dtype=F64)


def make(range=0.7, nodes=4, **settings):
    base = gpytorch.kernels.RBFKernel().double()
    base.lengthscale = 1.5
    return Invariant(base, Rotation(IMAGE), range, nodes=nodes, **settings).double()


def test_kernel_is_the_double_average_over_both_inputs():
    kernel, x, z = make(), images(3), images(2, 1)
    amounts = [0.7 * t for t in (-0.75, -0.25, 0.25, 0.75)]
    want = torch.zeros(3, 2, dtype=F64)
    for i in range(3):
        for j in range(2):
            for a in amounts:
                for b in amounts:
                    left, right = kernel.function(x[i : i + 1], a), kernel.function(z[j : j + 1], b)
                    want[i, j] += torch.exp(-0.5 * (left - right).square().sum() / 1.5**2) / 16
    torch.testing.assert_close(kernel(x, z).to_dense(), want)


def test_diagonal_and_batches_agree_with_the_matrix():
    kernel, x = make(), images(6)
    matrix = kernel(x).to_dense()
    torch.testing.assert_close(kernel(x, diag=True), matrix.diagonal())
    batch = kernel(x.reshape(2, 3, 36)).to_dense()
    torch.testing.assert_close(batch[0], matrix[:3, :3])
    torch.testing.assert_close(batch[1], matrix[3:, 3:])


def test_kernel_is_positive_semi_definite():
    assert torch.linalg.eigvalsh(make(2.0)(images(20)).to_dense()).min() > -1e-12


def test_kernel_over_a_whole_cyclic_group_is_invariant():
    limits = (0.01, 3.2)
    kernel, x, z = make(math.pi, 4, limits=limits), images(4), images(3, 1)
    turned = torch.rot90(x.reshape(-1, 6, 6), 1, (1, 2)).flatten(1)
    torch.testing.assert_close(kernel(turned, z).to_dense(), kernel(x, z).to_dense())
    part = make(1.0, 4)
    assert (part(turned, z).to_dense() - part(x, z).to_dense()).abs().max() > 1e-3


def test_a_range_near_zero_gives_the_kernel_itself():
    kernel, x = make(1e-9, limits=(0.0, 1.0)), images()
    torch.testing.assert_close(kernel(x).to_dense(), kernel.kernel(x).to_dense())


def test_gradient_in_the_range():
    kernel, x = make(), images(4)

    def total(raw):
        return torch.func.functional_call(kernel, {"raw_range": raw}, (x, x)).to_dense()

    raw = kernel.raw_range.detach().clone().requires_grad_()
    assert torch.autograd.gradcheck(total, (raw,))


def test_fit_finds_the_maximum_of_evidence_in_the_range():
    data = bg.data.load("digits", train=40)
    y = (data.y_train % 2).double()[:, None] - 0.5
    angles = torch.linspace(-1.5, 1.5, 40, dtype=F64)
    rotate = Rotation((1, 8, 8))
    x = torch.cat([rotate(row[None], a) for row, a in zip(data.x_train, angles, strict=True)])
    kernel = Invariant(gpytorch.kernels.RBFKernel(), rotate, 0.5, nodes=3)
    found = bg.GaussianProcess(kernel, starts=1).fit(x, y)
    top = float(found.evidence.log_marginal_likelihood)
    best, scale = found.kernels[0], found.scale
    for factor in (0.9, 1.1):
        moved = Invariant(best.kernel, rotate, factor * best.range.item(), nodes=3).double()
        near = gpytorch.kernels.ScaleKernel(moved).double()
        near.outputscale = scale
        fixed = bg.GaussianProcess(near, found.noise, hyperparameters="fixed").fit(x, y)
        assert float(fixed.evidence.log_marginal_likelihood) < top
    assert not bool(found.at_bound)


def test_a_range_at_its_limit_is_flagged():
    data = bg.data.load("digits", train=40)
    angles = torch.linspace(-1.5, 1.5, 40, dtype=F64)
    rotate = Rotation((1, 8, 8))
    x = torch.cat([rotate(row[None], a) for row, a in zip(data.x_train, angles, strict=True)])
    kernel = Invariant(gpytorch.kernels.RBFKernel(), rotate, 0.5, limits=(0.1, 3.0), nodes=3)
    found = bg.GaussianProcess(kernel, starts=1).fit(x, angles.sign())
    assert found.kernels[0].range.item() == pytest.approx(0.1, rel=1e-3)
    assert bool(found.at_bound)


def test_users_transform_and_any_kernel_serve():
    kernel = Invariant(gpytorch.kernels.MaternKernel(), lambda x, t: x + t, 0.5, nodes=2).double()
    x = torch.linspace(0, 1, 4, dtype=F64)[:, None]
    base = kernel.kernel
    want = sum(
        base(x + a, x + b).to_dense() for a in (-0.25, 0.25) for b in (-0.25, 0.25)
    ) / 4  # fmt: skip
    torch.testing.assert_close(kernel(x).to_dense(), want)
    shift = Invariant(gpytorch.kernels.RBFKernel(), Shift((1, 1, 4)), 1.0, nodes=2)
    assert shift(torch.rand(3, 4)).to_dense().shape == (3, 3)


@pytest.mark.parametrize(
    ("settings", "error", "words"),
    [
        ({"kernel": "rbf"}, TypeError, "kernel must be a gpytorch kernel, got str"),
        ({"transform": 3}, TypeError, "transform must be a function"),
        ({"transform": Rotation}, TypeError, "transform must be a function .* got Rotation"),
        ({"range": 4.0}, ValueError, "range must lie within its limits"),
        ({"range": -1.0}, ValueError, "range must be finite and at least 0"),
        ({"limits": (1.0, 0.5)}, ValueError, "limits must be 0 ≤ low < high"),
        ({"nodes": 0}, ValueError, "nodes must be an integer of at least 1"),
    ],
)
def test_bad_arguments_are_named(settings, error, words):
    given = {"kernel": gpytorch.kernels.RBFKernel(), "transform": Rotation(IMAGE)} | settings
    with pytest.raises(error, match=words):
        Invariant(**given)


def test_a_transform_must_keep_rows_and_dtype():
    x = torch.rand(3, 2, dtype=F64)
    fewer = Invariant(gpytorch.kernels.RBFKernel(), lambda x, t: x[:1] + t, 0.5).double()
    with pytest.raises(ValueError, match="transform must return one row for each of the 3"):
        fewer(x).to_dense()
    single = Invariant(gpytorch.kernels.RBFKernel(), lambda x, t: x.float(), 0.5).double()
    with pytest.raises(TypeError, match="transform must return a tensor of dtype torch.float64"):
        single(x).to_dense()


def test_a_range_beside_its_limit_is_flagged_for_any_function_of_the_radius():
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(60, 2, generator=generator, dtype=torch.float64)
    noise = 0.05 * torch.randn(60, generator=generator, dtype=torch.float64)

    def turned(x, t):
        c, s = t.cos(), t.sin()
        return x @ torch.stack([torch.stack([c, -s]), torch.stack([s, c])]).to(x)

    kernel = Invariant(gpytorch.kernels.RBFKernel(), turned, nodes=4)
    posterior = bg.GaussianProcess(kernel, starts=2).fit(x, (2 * x.norm(dim=1)).sin() + noise)
    assert posterior.kernels[0].range.item() > 0.999 * math.pi
    assert bool(posterior.at_bound)
    assert posterior.hyperparameters.at_bound["Invariant.range"]


@pytest.mark.parametrize(
    ("value", "error"),
    [(10.0, ValueError), (float("nan"), ValueError), (torch.tensor([0.2, 0.3]), TypeError)],
    ids=range(3),
)
def test_a_range_that_is_set_is_checked(value, error):
    kernel = Invariant(gpytorch.kernels.RBFKernel(), Rotation((1, 4, 4)), limits=(0, 3))
    with pytest.raises(error, match="range must"):
        kernel.range = value
