"""Invariances of exact models: units, permutations, translations, duplication, dtype, batches.

The models have Gaussian noise. `tests/models/latent` has the same for other likelihoods.
"""

import math

import gpytorch
import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

import bayesgen as bg

K = gpytorch.kernels
N = 25
MODELS = {
    "rbf": lambda: bg.GaussianProcess(K.RBFKernel().double()),
    "matern": lambda: bg.GaussianProcess(K.MaternKernel(1.5).double()),
    "ard": lambda: bg.GaussianProcess(K.RBFKernel(ard_num_dims=2).double()),
    "sum": lambda: bg.GaussianProcess(
        (K.ScaleKernel(K.RBFKernel()) + K.ScaleKernel(K.LinearKernel())).double()
    ),
    "first column": lambda: bg.GaussianProcess(K.RBFKernel(active_dims=(0,)).double()),
    "krylov": lambda: bg.GaussianProcess(K.RBFKernel().double(), engine="krylov"),
    "cholesky": lambda: bg.GaussianProcess(K.RBFKernel().double(), engine="cholesky"),
    "mean": lambda: bg.GaussianProcess(
        K.RBFKernel().double(), mean=gpytorch.means.ConstantMean().double()
    ),
    "linear": lambda: bg.Polynomial(5, bg.priors.geometric(2.0), kind="legendre"),
}
GPS = [name for name in MODELS if name != "linear"]
STATIONARY = [name for name in GPS if name != "sum"]


def data(seed=0, outputs=1):
    rng = np.random.default_rng(seed)
    x = np.stack([rng.random(N), rng.normal(size=N)], 1)
    waves = [np.sin((7 + c) * x[:, 0]) + 0.2 * rng.normal(size=N) for c in range(outputs)]
    return x, waves[0] if outputs == 1 else np.stack(waves, 1)


def value(name, x, y):
    x = x[:, :1] if name == "linear" else x
    return float(np.sum(MODELS[name]().fit(x, y).evidence.log_marginal_likelihood.numpy()))


BASE = {}


def base(name):
    if name not in BASE:
        BASE[name] = value(name, *data())
    return BASE[name]


def tolerance(name):
    """Searches stop where a gain of 1e-4 nats for each observation is not expected."""
    return 1e-4 * N if name in ("rbf", "matern", "krylov", "cholesky", "first column") else 1e-3


@pytest.mark.parametrize("name", MODELS)
@given(exponent=st.floats(-140, 140))
@settings(max_examples=5, deadline=None)
def test_unit_of_y_shifts_the_evidence_by_its_logarithm(name, exponent):
    x, y = data()
    c = 10.0**exponent
    shift = value(name, x, c * y) + N * math.log(c) - base(name)
    assert abs(shift) <= tolerance(name) + 1e-12 * N * abs(exponent)


@pytest.mark.parametrize("name", GPS)
@given(exponent=st.floats(-8, 8))
@settings(max_examples=4, deadline=None)
def test_unit_of_x_changes_nothing(name, exponent):
    x, y = data()
    assert value(name, 10.0**exponent * x, y) == pytest.approx(base(name), abs=tolerance(name))


@pytest.mark.parametrize("name", ["ard", "first column"])
@given(exponents=st.tuples(st.floats(-5, 5), st.floats(-5, 5)))
@settings(max_examples=6, deadline=None)
def test_unit_of_each_input_changes_nothing(name, exponents):
    x, y = data()
    scaled = x * 10.0 ** np.array(exponents)
    assert value(name, scaled, y) == pytest.approx(base(name), abs=tolerance(name))


@pytest.mark.parametrize("name", MODELS)
@given(seed=st.integers(0, 1000))
@settings(max_examples=3, deadline=None)
def test_order_of_rows_changes_nothing(name, seed):
    x, y = data()
    order = np.random.default_rng(seed).permutation(N)
    assert value(name, x[order], y[order]) == pytest.approx(base(name), abs=tolerance(name))


@pytest.mark.parametrize("name", MODELS)
def test_order_of_outputs_changes_nothing(name):
    x, y = data(outputs=3)
    if name == "mean":
        pytest.skip("a mean of one value is refused for several outputs")
    assert value(name, x, y[:, [2, 0, 1]]) == pytest.approx(value(name, x, y), abs=tolerance(name))


@pytest.mark.parametrize("name", STATIONARY)
@given(shift=st.floats(-1e5, 1e5))
@settings(max_examples=3, deadline=None)
def test_translation_changes_nothing(name, shift):
    x, y = data()
    assert value(name, x + shift, y) == pytest.approx(base(name), abs=tolerance(name))


def test_order_of_terms_changes_nothing():
    x, y = data()
    terms = [K.ScaleKernel(K.RBFKernel()), K.ScaleKernel(K.LinearKernel())]
    values = []
    for order in ((0, 1), (1, 0)):
        kernel = (terms[order[0]] + terms[order[1]]).double()
        found = bg.GaussianProcess(kernel).fit(x, y).evidence
        values.append(float(found.log_marginal_likelihood))
    assert values[0] == pytest.approx(values[1], abs=1e-3)


@pytest.mark.parametrize("name", [n for n in MODELS if n != "mean"])
def test_duplicated_task_has_the_same_evidence(name):
    x, y = data()
    x = x[:, :1] if name == "linear" else x
    twice = MODELS[name]().fit(x, np.stack([y, y])[:, :, None]).evidence.log_marginal_likelihood
    torch.testing.assert_close(twice[0], twice[1], rtol=1e-10, atol=1e-10)
    assert float(twice[0]) == pytest.approx(base(name), abs=tolerance(name))


@pytest.mark.parametrize("name", MODELS)
def test_float32_is_within_its_error(name):
    x, y = data()
    x = x[:, :1] if name == "linear" else x
    found = MODELS[name]().fit(x.astype(np.float32), y.astype(np.float32)).evidence
    gap = abs(float(found.log_marginal_likelihood) - base(name))
    assert gap <= 3 * float(found.error) + tolerance(name)


@pytest.mark.parametrize("name", ["rbf", "ard", "sum", "krylov"])
def test_task_beside_a_much_larger_one_has_its_own_evidence(name):
    x, y = data()
    both = MODELS[name]().fit(x, np.stack([y, 1e8 * y])[:, :, None]).evidence
    values = both.log_marginal_likelihood.numpy() + np.array([0, N * math.log(1e8)])
    assert values == pytest.approx([base(name)] * 2, abs=tolerance(name))


@pytest.mark.parametrize("c", [1e-8, 1e-4, 1e4, 1e8])
def test_kept_variance_does_not_limit_the_other(c):
    # White noise of variance c² explains the targets at least this well.
    x, y = data()
    white = -0.5 * N * (math.log(2 * math.pi * (c * c) * float(np.mean(y**2))) + 1)
    scaled = K.ScaleKernel(K.RBFKernel()).double()
    keep_scale = bg.GaussianProcess(scaled, hyperparameters=("kernel", "noise"))
    keep_noise = bg.GaussianProcess(
        K.RBFKernel().double(), 0.01, hyperparameters=("kernel", "scale")
    )
    models = [keep_scale, keep_noise] if c > 1 else []
    for model in models:
        found = model.fit(x, c * y).evidence.log_marginal_likelihood
        assert float(found) >= white - 0.01
