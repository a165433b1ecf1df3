import gpytorch
import pytest
import torch
from torch.autograd import gradcheck

from bayesgen import kernels, solvers
from bayesgen.covariance.gram import gram
from bayesgen.covariance.radial import squared_distances
from bayesgen.models.gp.objective import LogMarginalLikelihood

F64 = torch.float64
RADIAL = [kernels.named(name) for name in ("rbf", "matern12", "matern32", "matern52")]


def inputs(n=12, d=3, seed=0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=F64)


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


@pytest.mark.parametrize(
    "kernel",
    [
        gpytorch.kernels.RBFKernel(),
        gpytorch.kernels.RBFKernel(ard_num_dims=3),
        gpytorch.kernels.RBFKernel() + gpytorch.kernels.LinearKernel(),
        gpytorch.kernels.PeriodicKernel(),
    ],
    ids=lambda k: type(k).__name__,
)
@pytest.mark.parametrize("per_point", [False, True])
def test_gradient_against_differences(kernel, per_point):
    x = inputs()
    y = inputs(12, 2, seed=4)
    objective = LogMarginalLikelihood(gram(kernel.to(F64), x), y)
    theta = objective.gram.start()
    noise = 0.1 + torch.rand(12, 2, dtype=F64, generator=torch.Generator().manual_seed(0))
    noise = noise if per_point else torch.tensor(0.3, dtype=F64)

    class Wrapped(torch.autograd.Function):
        @staticmethod
        def forward(ctx, theta, log_scale, log_factor):
            at = objective(theta, log_scale.exp(), noise * log_factor.exp())
            ctx.gradient = (at.kernel, at.log_scale, at.log_noise)
            return at.value

        @staticmethod
        def backward(ctx, weight):
            return tuple(weight * g for g in ctx.gradient)

    logs = [torch.tensor(v, dtype=F64, requires_grad=True) for v in (0.2, -0.1)]
    assert gradcheck(Wrapped.apply, (theta.clone().requires_grad_(), *logs))


def test_distances():
    x, new = inputs(1100, 4), inputs(7, 4, seed=2)
    got = squared_distances(x)
    torch.testing.assert_close(got, torch.cdist(x, x).square(), rtol=1e-9, atol=1e-9)
    assert torch.equal(got, got.mT)
    torch.testing.assert_close(
        squared_distances(new, x), torch.cdist(new, x).square(), rtol=1e-9, atol=1e-9
    )
    assert kernels.typical_distance(torch.zeros(4, 2)) is None
    assert kernels.typical_distance(torch.tensor([[0.0], [1.0]])) == 1.0


def test_resolve_copies_and_splits():
    base = gpytorch.kernels.RBFKernel()
    kernel = gpytorch.kernels.ScaleKernel(base)
    kernel.outputscale = 3.0
    copy, scale, free = kernels.resolve(kernel, torch.zeros((), dtype=F64))
    assert free
    assert copy is not base
    assert copy.raw_lengthscale.dtype == F64
    assert base.raw_lengthscale.dtype == torch.float32
    assert scale.item() == pytest.approx(3.0, rel=1e-6)
    with pytest.raises(TypeError, match="kernel must be a gpytorch"):
        kernels.resolve("rbf", torch.zeros(()))
    with pytest.raises(ValueError, match="kernel must be one of 'rbf', 'matern12'"):
        kernels.named("cosine")
    with pytest.raises(TypeError, match="function must be a callable"):
        kernels.stationary(1)


def test_function_kernel_diagonal():
    kernel = kernels.FunctionKernel(lambda a, b: a @ b.mT)
    x = inputs(1000, 2)
    torch.testing.assert_close(kernel(x, diag=True), x.square().sum(1))


def test_cholesky_in_place_and_jitter():
    A = inputs(9, 9)
    A = A @ A.mT + torch.eye(9, dtype=F64)
    matrix = A.clone()
    factor = solvers.cholesky(lambda: matrix)
    assert factor.lower.data_ptr() == matrix.data_ptr()
    torch.testing.assert_close(factor.lower @ factor.lower.mT, A)
    torch.testing.assert_close(factor.logdet(), torch.logdet(A))
    torch.testing.assert_close(factor.solve(A), torch.eye(9, dtype=F64), atol=1e-9, rtol=0)
    torch.testing.assert_close(factor.inverse(), torch.linalg.inv(A))
    largest = torch.linalg.eigvalsh(A)[-1].item()
    assert 0.9 * largest < factor.norm() <= largest * (1 + 1e-9)
    torch.testing.assert_close(factor.into_inverse(), torch.linalg.inv(A))
    with pytest.warns(RuntimeWarning, match="jitter"):
        assert solvers.cholesky(lambda: torch.ones(5, 5, dtype=F64)).jitter > 0
    with pytest.raises(ValueError, match="must be positive definite"):
        solvers.cholesky(lambda: -torch.eye(3, dtype=F64))
