"""Tests of `bayesgen.verify`: each fast path is broken on purpose, and the break is noticed."""

import dataclasses

import curvlinops
import gpytorch
import pytest
import torch

import bayesgen as bg
from bayesgen import verify
from bayesgen.covariance import expression, radial
from bayesgen.covariance.gram import LengthscaleGram, gram
from bayesgen.covariance.radial import Profile
from bayesgen.curvature import jacobian_rows
from bayesgen.curvature.parameters import Weights
from bayesgen.models.gp import batched
from bayesgen.solvers import krylov
from bayesgen.spectrum.spectrum import Spectrum
from tests.helpers import noisy_waves, points, rbf_matrix

F64 = torch.float64


def test_comparison_is_relative_to_the_direct_values():
    right = torch.tensor([1e9, 2e9], dtype=F64)
    assert verify.compare("sums", right * (1 + 1e-9), right).passed
    assert not verify.compare("sums", right * 1.01, right).passed
    assert not verify.compare("sums", right * torch.nan, right).passed
    assert not verify.compare("sums", right[:1], right).passed
    assert verify.compare("nothing", right[:0], right[:0]).passed


def test_global_random_state_is_left():
    torch.manual_seed(3)
    state = torch.get_rng_state()
    verify.some_rows(10, 3)
    verify.random_vector(5, torch.zeros(1))
    assert torch.equal(state, torch.get_rng_state())


def test_far_inputs_are_decided_by_near_ones():
    def fast(a, b):
        return (a[:, None, 0] - b[:, 0]).square()

    def rounded(a, b):  # as a kernel that loses digits for large inputs
        return a[:, :1].square() + b[:, 0].square() - 2 * a @ b.mT

    x = 1e9 + torch.rand(20, 1, dtype=F64)
    assert verify.entries("squares", fast, rounded, x).passed
    assert not verify.entries("squares", lambda a, b: 2 * fast(a, b), rounded, x).passed


def _data(n=30):
    x = points(n)
    return x, noisy_waves(x)


def _fits_before_and_after(kernel, break_it):
    """A fit, and one after a fast path was broken, which must have the same evidence."""
    x, y = _data()
    gp = bg.GaussianProcess(kernel, noise=0.1, hyperparameters="fixed")
    right = gp.fit(x, y)
    break_it()
    found = gp.fit(x, y)
    torch.testing.assert_close(
        found.evidence.log_marginal_likelihood, right.evidence.log_marginal_likelihood
    )
    assert right.checks[0].passed
    assert not found.checks[0].passed
    assert "the kernel evaluates itself" in found.evidence.method
    return gram(kernel, x)


def test_wrong_profile_of_a_radial_kernel_is_replaced(monkeypatch):
    wrong = Profile(lambda q: torch.exp(-q), lambda q: q * torch.exp(-q))
    kind = gpytorch.kernels.RBFKernel
    used = _fits_before_and_after(
        kind().double(), lambda: monkeypatch.setitem(radial._RADIAL, kind, lambda _: wrong)
    )
    assert type(used) is LengthscaleGram


def test_wrong_leaf_of_a_sum_is_replaced(monkeypatch):
    kind = gpytorch.kernels.LinearKernel

    def wrong(leaf):
        return lambda theta, pairs: 2 * pairs.products(leaf.columns)

    _fits_before_and_after(
        (gpytorch.kernels.RBFKernel() + kind()).double(),
        lambda: monkeypatch.setitem(expression._LEAVES, kind, wrong),
    )


def test_wrong_batched_fit_is_refused(monkeypatch):
    x, y = _data()
    gp = bg.GaussianProcess(gpytorch.kernels.RBFKernel().double())
    both = torch.stack([x, x]), torch.stack([y[:, 0], y[:, 0]])
    assert gp.fit_batch(*both).checks[0].passed
    value = batched._Family.value
    monkeypatch.setattr(batched._Family, "value", lambda self, q, z: value(self, q, z) ** 1.2)
    with pytest.raises(ValueError, match="got a wrong result"):
        gp.fit_batch(*both)


def test_wrong_krylov_space_is_refused(monkeypatch):
    x = points(200, 8)
    K, y = rbf_matrix(x, 0.7), noisy_waves(x)
    assert Spectrum.krylov(K, y, steps=3).checks[0].passed
    known = krylov._known

    def wrong(state):
        space = known(state)
        return dataclasses.replace(space, values=space.values * 1.001)

    monkeypatch.setattr(krylov, "_known", wrong)
    with pytest.raises(ValueError, match="op must be symmetric"):
        Spectrum.krylov(K, y, steps=3)


@pytest.mark.parametrize("fault", ["asymmetric", "random"])
def test_operator_that_is_not_one_symmetric_matrix_is_refused(fault):
    x = points(100, 8)
    K, y = rbf_matrix(x, 0.7), noisy_waves(x)

    class Operator:
        shape, dtype = K.shape, K.dtype

        def __matmul__(self, v):
            if fault == "asymmetric":
                return (K + 1e-3 * K.triu()) @ v
            return K @ v * (1 + 1e-5 * torch.rand(()))

    with pytest.raises(ValueError, match="op must be symmetric"):
        Spectrum.krylov(Operator(), y, steps=3)


def test_rounding_seen_outside_the_space_is_in_the_error():
    x = points(200, 8)
    K, y = rbf_matrix(x, 0.7), noisy_waves(x)
    noise = 1e-9 * torch.randn(200, 200, dtype=F64, generator=torch.Generator().manual_seed(0))

    class Rounded:
        """Products with an error of a fixed, not quite symmetric matrix."""

        shape, dtype = K.shape, K.dtype

        def __matmul__(self, v):
            return K @ v + 1e-2 * noise @ v

    clean = Spectrum.krylov(K, y, steps=3)
    rounded = Spectrum.krylov(Rounded(), y, steps=3)
    assert rounded.rounding.entries > 100 * clean.rounding.entries


def small_network(kind=torch.nn.Tanh):
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(3, 4), kind(), torch.nn.Linear(4, 3)).double()
    return net, torch.randn(10, 3, dtype=F64), torch.randint(3, (10,))


def laplace(curvature):
    net, x, y = small_network()
    options = {"prior_precision": 1.0, "hyperparameters": "fixed", "curvature": curvature}
    return bg.Laplace(net, **options).fit(x, y)


@pytest.mark.filterwarnings("ignore::bayesgen.errors.NotAtModeWarning")
@pytest.mark.parametrize("curvature", ["ggn", "diag"])
def test_wrong_rows_of_a_layer_are_noticed_and_computed_directly(curvature, monkeypatch):
    want = laplace(curvature).evidence
    right = jacobian_rows._HANDLERS[torch.nn.Linear]

    def wrong(module, inputs, gradients):
        found = right(module, inputs, gradients)
        return {**found, "bias": 1.01 * found["bias"]}

    monkeypatch.setitem(jacobian_rows._HANDLERS, torch.nn.Linear, wrong)
    found = laplace(curvature).evidence
    assert "reverse passes" in found.method
    assert "reverse passes" not in want.method
    gap = float(found.log_marginal_likelihood - want.log_marginal_likelihood)
    assert gap == pytest.approx(0, abs=1e-10)


@pytest.mark.filterwarnings("ignore::bayesgen.errors.NotAtModeWarning")
def test_wrong_kronecker_factors_are_refused(monkeypatch):
    right = jacobian_rows._HANDLERS[torch.nn.Linear]
    monkeypatch.setitem(
        jacobian_rows._HANDLERS,
        torch.nn.Linear,
        lambda *given: {name: 1.01 * rows for name, rows in right(*given).items()},
    )
    with pytest.raises(ValueError, match='curvature "kron"'):
        laplace("kron")


@pytest.mark.filterwarnings("ignore::bayesgen.errors.NotAtModeWarning")
def test_wrong_products_of_curvlinops_are_noticed(monkeypatch):
    want = laplace("hessian").evidence
    right = curvlinops.HessianLinearOperator

    class Wrong(right):
        def __matmul__(self, v):
            found = super().__matmul__(v)
            found[0] *= 1.01
            return found

    monkeypatch.setattr(curvlinops, "HessianLinearOperator", Wrong)
    found = laplace("hessian").evidence
    assert "reverse passes" in found.method
    assert "reverse passes" not in want.method
    gap = float(found.log_marginal_likelihood - want.log_marginal_likelihood)
    assert gap == pytest.approx(0, abs=1e-10)


def test_wrong_forward_derivatives_are_noticed(monkeypatch):
    class Square(torch.autograd.Function):
        generate_vmap_rule = True

        @staticmethod
        def forward(h):
            return h.square()

        @staticmethod
        def setup_context(ctx, inputs, output):
            ctx.save_for_backward(*inputs)
            ctx.save_for_forward(*inputs)

        @staticmethod
        def backward(ctx, gradient):
            return 2 * ctx.saved_tensors[0] * gradient

        @staticmethod
        def jvp(ctx, tangent):
            return 3 * ctx.saved_tensors[0] * tangent  # wrong

    class Layer(torch.nn.Module):
        def forward(self, h):
            return Square.apply(h)

    net, x, _ = small_network(Layer)
    weights = Weights(net, None)
    step = torch.randn(weights.count, dtype=F64)
    want = torch.func.jvp(
        lambda theta: (
            (x @ theta[:12].reshape(4, 3).T + theta[12:16]).square() @ theta[16:28].reshape(3, 4).T
            + theta[28:]
        ),
        (weights.theta,),
        (step,),
    )[1]
    torch.testing.assert_close(weights.jvp(x, step), want)
    assert weights._derivative == "reverse"
    monkeypatch.setattr(
        Square,
        "backward",
        staticmethod(torch.autograd.function.once_differentiable(Square.backward)),
    )
    weights = Weights(net, None)
    torch.testing.assert_close(weights.jvp(x, step), want)
    assert weights._derivative == "rows"
