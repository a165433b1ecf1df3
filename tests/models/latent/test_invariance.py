"""Tests of what must not change Laplace's evidence: units, order and copies.

They test `bayesgen.models.latent.search`, `bayesgen.models.latent.setting` and
`bayesgen.models.latent.fit`.
"""

import math

import gpytorch
import pytest
import torch
from hypothesis import given, settings, strategies as st

import bayesgen as bg
from bayesgen.likelihoods import StudentT
from bayesgen.select.null import null
from tests.models.latent.problems import NAMES, inputs, targets

F64 = torch.float64
N = 14
X = inputs(N)
# Powers of ten of the unit of y.
UNITS = [-100, -5, 3, 6, 100]


def value(posterior):
    return float(posterior.evidence.log_marginal_likelihood)


def process(name="student-t", kernel=None, **options):
    return bg.GaussianProcess(kernel or gpytorch.kernels.RBFKernel(), likelihood=name, **options)


MODELS = {
    "process": process,
    "sum": lambda: process(
        kernel=gpytorch.kernels.ScaleKernel(gpytorch.kernels.RBFKernel())
        + gpytorch.kernels.ScaleKernel(gpytorch.kernels.LinearKernel())
    ),
    "one start": lambda: process(starts=1),
    "linear": lambda: bg.LinearModel(likelihood="student-t"),
    "polynomial": lambda: bg.Polynomial(2, bg.priors.geometric(2.0), likelihood="student-t"),
}


@pytest.fixture(scope="module")
def learnt():
    return {name: value(make().fit(X, targets("student-t", X))) for name, make in MODELS.items()}


@pytest.mark.parametrize(
    ("name", "power"),
    [(n, p) for n in MODELS for p in ([-10, 6] if n in ("sum", "polynomial") else UNITS)],
)
def test_unit_of_real_targets_shifts_the_evidence(name, power, learnt):
    y = targets("student-t", X) * 10.0**power
    shifted = value(MODELS[name]().fit(X, y)) + N * power * math.log(10)
    assert shifted == pytest.approx(learnt[name], abs=1e-3)


@given(st.floats(-100, 100), st.sampled_from([1.0, 4.0]))
@settings(max_examples=15, deadline=None)
def test_unit_of_fixed_settings_shifts_the_evidence(power, df):
    c = 10.0**power

    def fixed(c):
        kernel = gpytorch.kernels.ScaleKernel(gpytorch.kernels.RBFKernel()).double()
        kernel.raw_outputscale_constraint = gpytorch.constraints.Positive(
            transform=torch.exp, inv_transform=torch.log
        )
        kernel.outputscale = torch.tensor(0.7 * c**2, dtype=F64)
        likelihood = StudentT(df, 0.05 * c**2)
        return process(likelihood, kernel, hyperparameters="fixed").fit(
            X, targets("student-t", X) * c
        )

    assert value(fixed(c)) + N * math.log(c) == pytest.approx(value(fixed(1.0)), abs=1e-6)


@pytest.mark.parametrize("power", UNITS)
def test_unit_shifts_the_null_row(power):
    y = targets("student-t", X)
    rows = []
    for c in (1.0, 10.0**power):
        observed = bg.LinearModel(likelihood="student-t").fit(X, y * c).observed
        rows.append(float(null(observed).log_marginal_likelihood))
    assert rows[1] + N * power * math.log(10) == pytest.approx(rows[0], abs=1e-3)


@pytest.mark.parametrize("kept", ["scale", "noise"])
def test_unit_shifts_the_evidence_with_a_kept_part(kept):
    values = []
    for c in (1.0, 1e-4, 1e5):
        kernel = gpytorch.kernels.ScaleKernel(gpytorch.kernels.RBFKernel()).double()
        kernel.outputscale = 0.7 * c**2
        model = process(
            StudentT(4.0, 0.05 * c**2),
            kernel,
            hyperparameters={"kernel", "scale", "noise"} - {kept},
        )
        values.append(value(model.fit(X, targets("student-t", X) * c)) + N * math.log(c))
    assert values == pytest.approx([values[0]] * 3, abs=2e-3)


@pytest.fixture(scope="module")
def fits():
    return {name: process(name).fit(X, targets(name, X)) for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_order_of_rows_does_not_matter(name, fits):
    order = torch.randperm(N, generator=torch.Generator().manual_seed(2))
    other = process(name).fit(X[order], targets(name, X)[order])
    assert value(other) == pytest.approx(value(fits[name]), abs=1e-3)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("change", [lambda x: 1e-3 * x, lambda x: 1e4 * x, lambda x: x + 50])
def test_unit_and_origin_of_inputs_do_not_matter(name, change, fits):
    other = process(name).fit(change(X), targets(name, X))
    assert value(other) == pytest.approx(value(fits[name]), abs=1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_copies_of_a_task_in_a_batch_are_fitted_alike(name, fits):
    y = targets(name, X)
    y = torch.stack([y, y]) if name != "student-t" else torch.stack([y, 1e4 * y])[..., None]
    found = process(name).fit(X, y).evidence.log_marginal_likelihood
    second = float(found[1]) + (N * math.log(1e4) if name == "student-t" else 0.0)
    assert float(found[0]) == pytest.approx(value(fits[name]), abs=1e-3)
    assert second == pytest.approx(value(fits[name]), abs=1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_float32_agrees_within_its_error(name, fits):
    y = targets(name, X)
    other = process(name).fit(X.float(), y.float() if name == "student-t" else y)
    assert value(other) == pytest.approx(value(fits[name]), abs=0.01 + float(other.evidence.error))


def test_names_of_classes_do_not_matter(fits):
    new = X[:4] + 0.1
    y = targets("softmax", X)
    order = torch.tensor([2, 0, 1])
    other = process("softmax").fit(X, order[y])
    assert value(other) == pytest.approx(value(fits["softmax"]), abs=1e-3)
    torch.testing.assert_close(
        other.predict(new).probs[:, order], fits["softmax"].predict(new).probs, atol=4e-3, rtol=0
    )
    labels = process("softmax").fit(X, [["low", "middle", "top"][k] for k in y])
    assert labels.classes == ("low", "middle", "top")
    assert value(labels) == value(fits["softmax"])
    assert "'middle'" in repr(labels)
    y = targets("bernoulli", X)
    other = process("bernoulli").fit(X, 1 - y)
    assert value(other) == pytest.approx(value(fits["bernoulli"]), abs=1e-6)
    torch.testing.assert_close(
        other.predict(new).probs, 1 - fits["bernoulli"].predict(new).probs, atol=1e-5, rtol=0
    )
    moved = process("bernoulli").fit(X, 2 * y - 1)
    assert moved.classes == (-1, 1)
    assert value(moved) == value(fits["bernoulli"])
    assert bg.compare({"a": moved, "b": fits["bernoulli"]}).loc["null", "log_evidence"] == (
        pytest.approx(-N * math.log(2))
    )


def test_order_of_outputs_does_not_matter():
    y = torch.stack([targets("student-t", X), targets("student-t", -X)], 1)
    found = [process().fit(X, each) for each in (y, y.flip(1))]
    assert value(found[0]) == pytest.approx(value(found[1]), abs=1e-3)


def frozen(kernel):
    return kernel.requires_grad_(False)


def rbf(a, b):
    return torch.exp(-0.5 * torch.cdist(a, b) ** 2)


def expanded(a, b):
    return torch.ones(1, dtype=a.dtype).expand(len(a), len(b))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("n", [1, 2, 9])
@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_kernels_without_parameters_are_fitted(name, n, dtype):
    x = X[:n].to(dtype)
    y = targets(name, X)[:n]
    y = y.to(dtype) if name == "student-t" else y
    if name == "softmax":
        y = y.clamp(max=1)
    kernels = (rbf, expanded, frozen(gpytorch.kernels.RBFKernel()))
    for kernel in kernels:
        for choice in ("fixed", "evidence", "scale"):
            posterior = process(name, kernel, hyperparameters=choice, starts=2).fit(x, y)
            assert posterior.evidence.log_marginal_likelihood.isfinite()
            assert posterior.predict(x, latent=True).mean.isfinite().all()
    pair = torch.stack([y, y])[..., None] if name == "student-t" else torch.stack([y, y])
    batch = process(name, rbf, hyperparameters="fixed").fit(x, pair)
    assert batch.evidence.batch_shape == (2,)


def test_function_and_frozen_kernel_agree():
    y = targets("bernoulli", X)
    kernel = gpytorch.kernels.RBFKernel().double()
    kernel.lengthscale = 1.0
    fits = [process("bernoulli", k).fit(X, y) for k in (rbf, frozen(kernel))]
    assert value(fits[0]) == pytest.approx(value(fits[1]), abs=1e-6)
