"""Tests of `bayesgen.kernels.wide_networks`: kernels of infinite networks."""

import math

import gpytorch
import numpy as np
import pytest
import torch

import bayesgen as bg
from bayesgen.kernels import NNGP, NTK, ArcCosine

F64 = torch.float64
PHI = {
    "relu": torch.relu,
    "erf": torch.erf,
    "step": lambda z: (z > 0).double(),
    "squared_relu": lambda z: torch.relu(z) ** 2,
}


def inputs(n=5, d=3):
    return torch.tensor(np.random.default_rng(0).normal(size=(n, d)))


def covariance(kernel, x, other=None):
    with torch.no_grad():
        return kernel.double()(x, other).to_dense()


def sampled(kernel, x, width=512, draws=60):
    """Mean and standard error of the Gram matrices of wide random networks."""
    found = []
    generator = torch.Generator().manual_seed(0)
    for _ in range(draws):
        h = x / x.shape[1] ** 0.5
        for w, b in zip(
            kernel.weight_variance.detach(), kernel.bias_variance.detach(), strict=True
        ):
            W = torch.randn(h.shape[1], width, generator=generator, dtype=F64) * w.sqrt()
            bias = torch.randn(width, generator=generator, dtype=F64) * b.sqrt()
            h = PHI[kernel.activation](h @ W + bias) / width**0.5
        found.append(h @ h.T)
    every = torch.stack(found)
    return every.mean(0), every.std(0) / draws**0.5


@pytest.mark.parametrize("depth", [1, 3])
@pytest.mark.parametrize("activation", PHI)
def test_the_nngp_is_the_covariance_of_wide_random_networks(activation, depth):
    kernel = NNGP(depth, activation, bias_variance=0.3).double()
    mean, error = sampled(kernel, inputs())
    # Products of three squared layers have heavy tails and a bias of order 1/width.
    slack = 8.0 if (activation, depth) == ("squared_relu", 3) else 4.5
    assert float(((mean - covariance(kernel, inputs())) / error).abs().max()) < slack


@pytest.mark.slow
@pytest.mark.parametrize("activation", PHI)
def test_the_nngp_is_within_three_standard_errors_of_networks_of_width_4096(activation):
    kernel = NNGP(2, activation, bias_variance=0.3).double()
    mean, error = sampled(kernel, inputs(), width=4096, draws=24)
    assert float(((mean - covariance(kernel, inputs())) / error).abs().max()) < 3


@pytest.mark.parametrize("activation", ["relu", "erf"])
def test_the_tangent_kernel_is_that_of_the_gradients_of_wide_networks(activation):
    x, width, draws = inputs(4), 1024, 40
    kernel = NTK(2, activation, bias_variance=0.3).double()
    (w1, w2), (b1, b2) = kernel.weight_variance.detach(), kernel.bias_variance.detach()
    phi = PHI[activation]
    generator = torch.Generator().manual_seed(0)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=F64)

    found = []
    for _ in range(draws):
        weights = [
            normal(3, width),
            normal(width),
            normal(width, width),
            normal(width),
            normal(width),
        ]
        for p in weights:
            p.requires_grad_()
        rows = []
        for row in x:
            h = phi(row / 3**0.5 @ weights[0] * w1.sqrt() + weights[1] * b1.sqrt())
            h = phi(h / width**0.5 @ weights[2] * w2.sqrt() + weights[3] * b2.sqrt())
            out = h @ weights[4] / width**0.5
            gradients = torch.autograd.grad(out, weights)
            rows.append(torch.cat([g.reshape(-1) for g in gradients]))
        J = torch.stack(rows)
        found.append(J @ J.T)
    every = torch.stack(found)
    error = every.std(0) / draws**0.5
    assert float(((every.mean(0) - covariance(kernel, x)) / error).abs().max()) < 5


def test_published_values_of_arc_cosine_kernels():
    x = torch.tensor([[1.0, 0.0], [math.cos(1.0), math.sin(1.0)]], dtype=F64) * 2**0.5
    angle = 1.0
    expected = {
        0: (math.pi - angle) / math.pi,
        1: (math.sin(angle) + (math.pi - angle) * math.cos(angle)) / math.pi,
        2: 3 * math.sin(angle) * math.cos(angle) / math.pi
        + (math.pi - angle) * (1 + 2 * math.cos(angle) ** 2) / math.pi,
    }
    for order, wanted in expected.items():
        found = covariance(ArcCosine(order, bias_variance=0.0), x)
        assert float(found[0, 1]) == pytest.approx(wanted, rel=1e-6)  # float32 variances
    # Composition, Cho & Saul (2009), eq. 10, for order 1: the norms stay as they are.
    inner = math.acos(expected[1])
    twice = (math.sin(inner) + (math.pi - inner) * math.cos(inner)) / math.pi
    assert float(covariance(ArcCosine(1, 2, bias_variance=0.0), x)[0, 1]) == pytest.approx(twice)


MADE = {
    "nngp": lambda: NNGP(2),
    "nngp erf": lambda: NNGP(2, "erf"),
    "nngp without biases": lambda: NNGP(3, bias_variance=0.0),
    "ntk": lambda: NTK(2),
    "ntk erf": lambda: NTK(2, "erf"),
    "arc-cosine 0": lambda: ArcCosine(0),
    "arc-cosine 2": lambda: ArcCosine(2, 2),
}


@pytest.mark.parametrize("make", MADE.values(), ids=MADE)
def test_diagonals_blocks_and_definiteness(make):
    x, kernel = inputs(7), make().double()
    whole = covariance(kernel, x)
    np.testing.assert_allclose(whole, whole.T, rtol=1e-12)
    np.testing.assert_allclose(covariance(kernel, x, x[:3]), whole[:, :3], rtol=1e-7)
    with torch.no_grad():
        np.testing.assert_allclose(kernel(x, diag=True), whole.diagonal(), rtol=1e-7)
    assert float(torch.linalg.eigvalsh(whole)[0]) > -1e-12 * float(whole.max())


@pytest.mark.parametrize("make", MADE.values(), ids=MADE)
def test_derivatives_are_finite_where_inputs_coincide_and_right_elsewhere(make):
    kernel, x = make().double(), inputs(4)
    names = [name for name, p in kernel.named_parameters() if p.requires_grad]

    def of(x1, x2):
        def function(*values):
            given = dict(zip(names, values, strict=True))
            return torch.func.functional_call(_Forward(kernel), given, (x1, x2))

        return function

    values = [dict(kernel.named_parameters())[name].detach().clone() for name in names]
    names = [f"kernel.{name}" for name in names]
    for value in values:
        value.requires_grad_()
    if names:
        assert torch.autograd.gradcheck(of(x, x + 0.3), values)
        same = torch.autograd.grad(of(x, x.clone())(*values).sum(), values)
        assert all(bool(torch.isfinite(g).all()) for g in same)


class _Forward(torch.nn.Module):
    def __init__(self, kernel):
        super().__init__()
        self.kernel = kernel

    def forward(self, x1, x2):
        return self.kernel.forward(x1, x2)


def test_a_fit_learns_the_variances_of_the_layers():
    x = torch.linspace(-2, 2, 30, dtype=F64)[:, None]
    y = torch.sin(2 * x[:, 0]) + 0.1 * torch.cos(37 * x[:, 0])
    fixed = bg.GaussianProcess(NNGP(2, "erf"), hyperparameters=("scale", "noise")).fit(x, y)
    learnt = bg.GaussianProcess(NNGP(2, "erf")).fit(x, y)
    gain = learnt.evidence.log_marginal_likelihood - fixed.evidence.log_marginal_likelihood
    assert float(gain) > 1
    assert learnt.hyperparameters["NNGP.bias_variance"].shape == (2,)
    assert "NNGP.weight_variance" in learnt.hyperparameters
    assert "NNGP.weight_variance" not in bg.GaussianProcess(NNGP(2)).fit(x, y).hyperparameters


@pytest.mark.parametrize("depth", [1, 2, 5])
@pytest.mark.parametrize("activation", ["relu", "erf"])
def test_the_neural_tangents_package_agrees(activation, depth):
    stax = pytest.importorskip("neural_tangents").stax
    enable_x64 = pytest.importorskip("jax").experimental.enable_x64
    x = inputs(6)
    weight = 2.0 if activation == "relu" else 1.3
    make = {"relu": stax.Relu, "erf": stax.Erf}[activation]
    layers = [stax.Dense(512, W_std=weight**0.5, b_std=0.3**0.5), make()] * depth
    with enable_x64():
        _, _, theirs = stax.serial(*layers, stax.Dense(1, W_std=1.0, b_std=0.0))
        for kind, name in ((NNGP, "nngp"), (NTK, "ntk")):
            kernel = kind(depth, activation).double()
            # Values set before .double() would keep the rounding of float32.
            kernel.weight_variance, kernel.bias_variance = weight, 0.3
            expected = np.asarray(theirs(x.numpy(), None, name))
            np.testing.assert_allclose(covariance(kernel, x), expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: NNGP(0), ValueError, "depth must be an integer of at least 1"),
        (lambda: NNGP(2, "tanh"), ValueError, "activation must be one of"),
        (lambda: NTK(2, "step"), ValueError, "activation must be one of 'relu', 'erf'"),
        (lambda: NNGP(2, bias_variance=-1.0), ValueError, "bias_variance must be positive"),
        (lambda: NNGP(2, weight_variance=[1.0, 2.0, 3.0]), ValueError, "each of 2 hidden layers"),
        (lambda: ArcCosine(3), ValueError, "order must be 0, 1 or 2"),
        (lambda: setattr(NNGP(2, bias_variance=0.0), "bias_variance", 1.0), ValueError, "without"),
    ],
)
def test_bad_arguments_are_named(make, error, words):
    with pytest.raises(error, match=words):
        make()


def test_zero_inputs_and_gpytorch_compositions():
    x = torch.zeros(3, 2, dtype=F64)
    assert torch.isfinite(covariance(NNGP(2, bias_variance=0.0), x)).all()
    both = gpytorch.kernels.ScaleKernel(NNGP(1)) + gpytorch.kernels.RBFKernel()
    assert covariance(both, inputs()).shape == (5, 5)


@pytest.mark.parametrize("size", [1e3, 1e9, 1e20])
@pytest.mark.parametrize("make", [lambda: NTK(2, "erf"), lambda: NNGP(2, "erf"), lambda: NTK(2)])
def test_large_inputs_have_finite_covariances(make, size):
    x = size * torch.eye(3, dtype=torch.float64)
    x = torch.cat([x, x[:1], 0 * x[:1]]).requires_grad_()
    matrix = make().double()(x).to_dense()
    assert bool(matrix.isfinite().all())
    assert bool(torch.autograd.grad(matrix.sum(), x)[0].isfinite().all())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_angle_between_equal_inputs_is_zero(dtype):
    x = torch.randn(20, 3, dtype=dtype, generator=torch.Generator().manual_seed(0))
    matrix = ArcCosine(0).to(dtype)(torch.cat([x, x])).to_dense()
    assert torch.equal(matrix.diagonal(), torch.ones(40, dtype=dtype))
    assert torch.equal(matrix[:20, 20:].diagonal(), torch.ones(20, dtype=dtype))


@pytest.mark.parametrize("make", [lambda: NTK(2), lambda: NNGP(3), lambda: ArcCosine(2, 2)])
def test_blocks_of_rows_give_the_same_values_and_derivatives(make, monkeypatch):
    x = inputs(9)

    def found(block):
        monkeypatch.setattr(bg.kernels.wide_networks, "_BLOCK", block)
        kernel = make().double()
        weights = torch.linspace(0.5, 1.5, 81, dtype=F64).reshape(9, 9)

        def total(raw):
            named = {"raw_bias_variance": raw}
            K = torch.func.functional_call(kernel, named, (x, x))
            return (K.to_dense() * weights).sum()

        with gpytorch.settings.lazily_evaluate_kernels(False):
            raw = kernel.raw_bias_variance.detach().clone().requires_grad_()
            value = total(raw)
            (gradient,) = torch.autograd.grad(value, raw, create_graph=True)
            second = torch.autograd.grad(gradient.sum(), raw)[0]
        return value.detach(), gradient.detach(), second

    for one, other in zip(found(1 << 18), found(20), strict=True):
        assert torch.allclose(one, other, rtol=1e-10)
    with torch.no_grad():
        K = covariance(make(), x)
    monkeypatch.setattr(bg.kernels.wide_networks, "_BLOCK", 1 << 18)
    assert torch.equal(K, covariance(make(), x))
