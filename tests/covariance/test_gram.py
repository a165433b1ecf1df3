"""Tests of `bayesgen.covariance.gram`."""

import gpytorch
import pytest
import torch

from bayesgen import GaussianProcess, kernels
from bayesgen.covariance.gram import DifferenceGram, gram

F64 = torch.float64


def inputs(n=12, d=3, seed=0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=F64)


RADIAL = [kernels.named(name) for name in ("rbf", "matern12", "matern32", "matern52")]


@pytest.fixture(params=[*RADIAL, "rq", "custom"], ids=lambda k: getattr(k, "nu", str(k)[:6]))
def kernel(request):
    if request.param == "custom":
        return kernels.stationary(lambda a, b: torch.exp(-0.5 * torch.cdist(a, b) ** 2)).to(F64)
    if request.param == "rq":
        result = gpytorch.kernels.RQKernel().to(F64)
        result.alpha = torch.tensor(1.7, dtype=F64)
        result.raw_alpha.requires_grad_(False)
        return result
    return request.param.to(F64)


def test_gram_matches_gpytorch(kernel):
    x, new = inputs(), inputs(5, seed=1)
    matrices = gram(kernel, x)
    theta = torch.tensor([0.3], dtype=F64)
    reference = matrices.kernel(theta)
    assert reference.lengthscale.item() == pytest.approx(torch.tensor(0.3).exp().item(), rel=1e-6)
    with torch.no_grad():
        want, cross = reference(x).to_dense(), reference(new, x).to_dense()
    torch.testing.assert_close(matrices.matrix(theta), want, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(matrices.cross(new)(theta), cross, rtol=1e-9, atol=1e-9)


def test_slopes_match_differences(kernel):
    matrices = gram(kernel, inputs())
    theta, step = torch.tensor([0.3], dtype=F64), 1e-5
    want = (matrices.matrix(theta + step) - matrices.matrix(theta - step)) / (2 * step)
    torch.testing.assert_close(matrices.slope(theta), want, rtol=1e-6, atol=1e-8)
    weights = inputs(12, 12, seed=3)
    pulled = matrices.pull(theta, weights)
    torch.testing.assert_close(pulled, (weights * want).sum().reshape(1), rtol=1e-6, atol=1e-7)


class Rough(gpytorch.kernels.Kernel):
    """A Matérn kernel of order 1/2 whose derivatives are NaN at coinciding points."""

    has_lengthscale = True

    def __init__(self, *, detached=False):
        super().__init__()
        self.detached = detached
        self.register_parameter("raw_size", torch.nn.Parameter(torch.zeros(1)))

    def forward(self, a, b, diag=False, **_):
        ell = self.lengthscale.detach() if self.detached else self.lengthscale
        square = ((a[:, None] / ell - b / ell) ** 2).sum(-1)
        root = square.clamp(min=1e-30).sqrt() if self.detached else square.sqrt()
        matrix = torch.exp(self.raw_size - root)
        return matrix.diagonal() if diag else matrix


class Smooth(Rough):
    """The same kernel, with derivatives that autograd gives rightly."""

    def forward(self, a, b, diag=False, **_):
        square = ((a[:, None] / self.lengthscale - b / self.lengthscale) ** 2).sum(-1)
        same = square == 0
        root = torch.where(same, 1.0, square).sqrt().masked_fill(same, 0.0)
        matrix = torch.exp(self.raw_size - root)
        return matrix.diagonal() if diag else matrix


@pytest.mark.parametrize("kernel", [Rough(), Rough(detached=True)], ids=["nan", "detached"])
def test_kernels_without_right_derivatives_are_differentiated_by_differences(kernel):
    x = inputs(9)
    made, right = gram(kernel.double(), x), gram(Smooth().double(), x)
    assert isinstance(made, DifferenceGram)
    assert not isinstance(right, DifferenceGram)
    theta = made.start() + 0.3
    weights = inputs(9, 9, seed=2)
    weights = weights + weights.mT
    torch.testing.assert_close(made.matrix(theta), right.matrix(theta))
    want = right.pull(theta, weights)
    for found in (
        made.pull(theta, weights),
        made.with_pull(theta)[1](weights),
        made.with_pulls(theta[None])[1](weights[None])[0],
    ):
        torch.testing.assert_close(found, want, rtol=1e-6, atol=1e-6)


def test_a_search_with_differences_finds_the_same_evidence():
    x = inputs(15, 1)
    y = torch.sin(3 * x[:, 0])
    values = [
        GaussianProcess(kernel, 0.05, hyperparameters=("kernel",), starts=2).fit(x, y)
        for kernel in (Rough(), Rough(detached=True), Smooth())
    ]
    logs = [v.evidence.log_marginal_likelihood.item() for v in values]
    assert logs[0] == pytest.approx(logs[2], abs=1e-4)
    assert logs[1] == pytest.approx(logs[2], abs=1e-4)


def test_lengthscales_stay_inside_their_constraint_in_any_dtype():
    kernel = kernels.stationary(lambda a, b: torch.exp(-torch.cdist(a, b)))
    kernel.register_constraint("raw_lengthscale", gpytorch.constraints.Interval(0.3, 0.5))
    made = gram(kernel.float(), inputs(5).float())
    for log in (-5.0, 5.0):
        found = made.kernel(torch.tensor([log])).lengthscale.item()
        assert 0.3 < found < 0.5 + 1e-6
