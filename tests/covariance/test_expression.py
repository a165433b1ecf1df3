"""Tests of `bayesgen.covariance.expression`, `bayesgen.covariance.pairs` and
`bayesgen.covariance.distances`."""

import copy

import pytest
import torch
from gpytorch import kernels as gk

from bayesgen.covariance import gram as grams
from bayesgen.covariance.distances import decay, squared_distances
from bayesgen.covariance.expression import Opaque
from bayesgen.covariance.gram import gram
from bayesgen.covariance.pairs import LowerPairs, Pairs

F64 = torch.float64
S = gk.ScaleKernel


class Bump(gk.RBFKernel):
    """A user's kernel that derives from a registered one, and is another function."""

    def forward(self, x1, x2, diag=False, **params):
        return super().forward(x1, x2, diag=diag, **params) ** 3


def periodic(**options):
    kernel = gk.PeriodicKernel(**options)
    kernel.period_length = 2.3
    return kernel


KERNELS = {
    "ard": gk.RBFKernel(ard_num_dims=3),
    "sum": S(gk.RBFKernel()) + S(periodic()),
    "product": S(gk.RBFKernel(ard_num_dims=2, active_dims=(2, 0)) * gk.MaternKernel(nu=1.5)),
    "rough": S(gk.MaternKernel(nu=0.5, ard_num_dims=3)) + gk.MaternKernel(active_dims=(1,)),
    "rq": gk.RQKernel(ard_num_dims=3) + gk.RQKernel(),
    "mixture": gk.SpectralMixtureKernel(2, ard_num_dims=3),
    "linear": gk.LinearKernel(ard_num_dims=3) + S(gk.PolynomialKernel(power=2)),
    "constant": gk.ConstantKernel() * gk.CosineKernel() + gk.LinearKernel(),
    "periods": S(periodic(ard_num_dims=3)),
    "opaque": S(gk.RBFKernel() + gk.PiecewisePolynomialKernel(q=2)),
    "derived": S(Bump()) + gk.RBFKernel(),
}


def made(name, n=24, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 3, generator=generator, dtype=F64)
    matrices = gram(copy.deepcopy(KERNELS[name]).double(), x)
    theta = matrices.start()
    return matrices, theta + 0.2 * torch.randn(len(theta), generator=generator, dtype=F64)


def by_gpytorch(matrices, theta, x1, x2):
    """Covariances by gpytorch, which takes a root with a jitter where both inputs are equal."""
    with torch.no_grad():
        return matrices.kernel(theta)(x1, x2.flip(0)).to_dense().flip(1)


@pytest.mark.parametrize("name", sorted(KERNELS))
def test_kernel_equals_gpytorch(name):
    matrices, theta = made(name)
    x, new = matrices.x, matrices.x[:5] + 0.1
    want = by_gpytorch(matrices, theta, x, x)
    torch.testing.assert_close(matrices.matrix(theta), want, rtol=1e-6, atol=1e-6)
    cross = by_gpytorch(matrices, theta, new, x)
    torch.testing.assert_close(matrices.cross(new)(theta), cross, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(
        matrices.diagonal(theta, x), matrices.matrix(theta).diagonal(), rtol=1e-6, atol=1e-6
    )


@pytest.mark.parametrize("name", sorted(KERNELS))
def test_derivatives_match_differences(name):
    matrices, theta = made(name)
    W = torch.randn(24, 24, generator=torch.Generator().manual_seed(1), dtype=F64)
    W = W + W.mT
    slopes = (matrices.tangents(theta[None])[0] * W).sum((1, 2))
    torch.testing.assert_close(matrices.pull(theta, W), slopes, rtol=1e-5, atol=1e-5)
    _, pull = matrices.with_pull(theta)
    torch.testing.assert_close(pull(W), slopes, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", sorted(KERNELS))
def test_settings_together_equal_one_by_one(name):
    matrices, theta = made(name)
    several = theta + 0.1 * torch.arange(3, dtype=F64)[:, None]
    W = torch.randn(3, 24, 24, generator=torch.Generator().manual_seed(1), dtype=F64)
    W = W + W.mT
    one = torch.stack([matrices.matrix(t) for t in several])
    torch.testing.assert_close(matrices.matrices(several), one, rtol=1e-12, atol=1e-7)
    lower, pulls = matrices.with_pulls(several)
    torch.testing.assert_close(lower.tril(), one.tril(), rtol=1e-9, atol=1e-6)
    want = torch.stack([matrices.pull(t, w) for t, w in zip(several, W, strict=True)])
    torch.testing.assert_close(pulls(W), want, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", ["ard", "sum", "linear", "rough"])
def test_blocks_of_rows_equal_the_whole(name, monkeypatch):
    matrices, theta = made(name)
    W = torch.ones(24, 24, dtype=F64)
    whole, slope = matrices.matrix(theta), matrices.pull(theta, W)
    monkeypatch.setattr(grams, "BLOCK", 7)
    torch.testing.assert_close(matrices.matrix(theta), whole, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(matrices.pull(theta, W), slope, rtol=1e-10, atol=1e-10)


def test_a_translation_that_disagrees_is_not_used(monkeypatch):
    monkeypatch.setattr("bayesgen.covariance.expression.decay", lambda exponent: exponent.exp() + 1)
    matrices, theta = made("ard")
    assert isinstance(matrices.expression, Opaque)
    want = by_gpytorch(matrices, theta, matrices.x, matrices.x)
    torch.testing.assert_close(matrices.matrix(theta), want, rtol=1e-9, atol=1e-9)


def test_large_inputs_in_small_units_are_still_translated():
    x = torch.randn(20, 2, generator=torch.Generator().manual_seed(0), dtype=F64)
    x[:, 1] *= 1e6
    assert not isinstance(gram(gk.RBFKernel(ard_num_dims=2).double(), x).expression, Opaque)


def test_lower_pairs_pack_and_unpack():
    x = torch.randn(6, 2, generator=torch.Generator().manual_seed(0), dtype=F64)
    lower, pairs = LowerPairs(x), Pairs(x)
    for columns in ((0,), (0, 1)):
        torch.testing.assert_close(
            lower.unpack(lower.squares(columns)).tril(), pairs.squares(columns).tril()
        )
    W = torch.randn(6, 6, dtype=F64)
    W = W + W.mT
    total = (lower.pack(W) * lower.squares((0, 1))).sum()
    torch.testing.assert_close(total, (W * squared_distances(x)).sum())


def test_decay_has_no_denormal_numbers():
    values = decay(torch.tensor([-1.0, -1e5], dtype=F64))
    assert values[0].item() == pytest.approx(0.36787944117144233)
    assert 0 < values[1] < 1e-30
    assert values[1] * values[1] > torch.finfo(F64).tiny


def test_index_kernels_share_a_table():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(20, 2, generator=generator, dtype=F64)
    x[:, 1] = torch.arange(20) % 4
    kernel = gk.RBFKernel(active_dims=(0,)) * gk.IndexKernel(4, rank=2, active_dims=(1,))
    matrices = gram(kernel.double(), x)
    theta = matrices.start()
    table = kernel.kernels[1]._eval_covar_matrix().detach()
    index = x[:, 1].long()
    want = kernel.kernels[0](x).to_dense().detach() * table[index][:, index]
    torch.testing.assert_close(matrices.matrix(theta), want)
    torch.testing.assert_close(matrices.lower_matrices(theta[None])[0], want.tril())
    step, W = 1e-6, torch.ones(20, 20, dtype=F64)
    slopes = [
        (W * (matrices.matrix(theta + step * e) - matrices.matrix(theta - step * e))).sum()
        for e in torch.eye(len(theta), dtype=F64)
    ]
    want = torch.stack(slopes) / (2 * step)
    torch.testing.assert_close(matrices.with_pull(theta)[1](W), want, rtol=1e-6, atol=1e-6)
    pulled = matrices.with_pulls(theta[None])[1](W[None])[0]
    torch.testing.assert_close(pulled, want, rtol=1e-6, atol=1e-6)


def test_a_kernel_that_keeps_what_it_computed_can_be_learnt():
    class Keeping(Bump):
        def forward(self, x1, x2, diag=False, **params):
            self.last = x1 / self.lengthscale
            return super().forward(x1, x2, diag=diag, **params)

    generator = torch.Generator().manual_seed(0)
    x = torch.randn(10, 1, generator=generator, dtype=F64)
    matrices = gram((Keeping() + gk.LinearKernel()).double(), x)
    theta = matrices.start()
    matrices.with_pull(theta)
    assert matrices.kernel(theta)(x, x[:3]).shape == (10, 3)
