"""Tests of `bayesgen.kernels.admission`, `bayesgen.kernels.evaluation` and
`bayesgen.kernels.structure`."""

import random
import warnings

import numpy as np
import pytest
import torch
from gpytorch import kernels as gk
from gpytorch.constraints import GreaterThan, Interval, LessThan
from scipy.stats import multivariate_normal

from bayesgen import GaussianProcess, kernels
from bayesgen.kernels.structure import innermost, is_known

F64 = torch.float64
X = torch.linspace(0, 1, 14, dtype=F64)[:, None]
Y = torch.sin(6 * X[:, 0]) + 0.1 * torch.cos(40 * X[:, 0])
PLANE = torch.cat([X, X.flip(0) ** 2], 1)
S = gk.ScaleKernel


def fixed(kernel, x=X, **options):
    return GaussianProcess(kernel, 0.1, hyperparameters="fixed", **options).fit(x, Y)


def log_evidence(kernel, x=X):
    return float(fixed(kernel, x).evidence.log_marginal_likelihood)


class UserKernel(gk.Kernel):
    """A user's kernel of one function, which may be anything."""

    def __init__(self, function):
        super().__init__()
        self.evaluated = function

    def forward(self, a, b, diag=False, **_):
        matrix = self.evaluated(a, b)
        return matrix.diagonal() if diag else matrix


class Layers(gk.Kernel):
    """A user's kernel on the features of a network with dropout."""

    def __init__(self):
        super().__init__()
        self.net = torch.nn.Sequential(torch.nn.Linear(1, 8), torch.nn.Dropout(0.5))
        self.base = gk.RBFKernel()

    def forward(self, a, b, diag=False, **_):
        return self.base(self.net(a), self.net(b), diag=diag)


def laplace(a, b):
    return torch.exp(-torch.cdist(a, b))


@pytest.mark.parametrize(
    ("make", "x"),
    [
        (lambda: gk.RFFKernel(num_samples=5), X),
        (lambda: S(gk.RFFKernel(num_samples=5)) + gk.RBFKernel(), X),
        (lambda: gk.RFFKernel(num_samples=5, active_dims=(1,)) * gk.RBFKernel(), PLANE),
    ],
)
def test_lazily_drawn_weights_are_drawn_once(make, x):
    kernel = make()
    states = torch.get_rng_state(), np.random.get_state()[1], random.getstate()  # noqa: NPY002
    first = fixed(kernel, x)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert (np.random.get_state()[1] == states[1]).all()  # noqa: NPY002
    assert random.getstate() == states[2]
    assert not any("randn_weights" in name for name, _ in kernel.named_buffers())
    torch.manual_seed(123)
    again = fixed(make(), x)
    assert torch.equal(first.evidence.fit, again.evidence.fit)
    torch.testing.assert_close(first.fitted(), first.mean(x))
    learnt = GaussianProcess(make(), starts=2).fit(x, Y)
    torch.testing.assert_close(learnt.fitted(), learnt.mean(x))


def test_weights_that_the_user_drew_are_kept():
    kernel = gk.RFFKernel(num_samples=5, num_dims=1).double()
    features = X.numpy() @ kernel.randn_weights.numpy() / kernel.lengthscale.item()
    features = np.concatenate([np.cos(features), np.sin(features)], 1) / 5**0.5
    covariance = features @ features.T + 0.1 * np.eye(14)
    want = multivariate_normal(np.zeros(14), covariance).logpdf(Y.numpy())
    assert log_evidence(kernel) == pytest.approx(want, rel=1e-9)


@pytest.mark.parametrize(
    "function",
    [
        lambda a, b: laplace(a, b) * (1 + 0.1 * torch.rand(1, dtype=F64)),
        lambda a, b: laplace(a, b) * (1 + 0.1 * np.random.rand()),  # noqa: NPY002
        lambda a, b: laplace(a, b) * (1 + 0.1 * random.random()),
        lambda a, b: laplace(torch.nn.functional.dropout(a), b),
    ],
)
@pytest.mark.parametrize("wrap", [UserKernel, lambda f: f, lambda f: S(UserKernel(f))])
def test_kernels_that_draw_numbers_raise(function, wrap):
    with pytest.raises(ValueError, match="the same covariances whenever it is evaluated"):
        fixed(wrap(function))


def test_networks_in_a_kernel_are_evaluated_without_dropout():
    kernel = Layers()
    features = kernel.net[0](X.float()).detach().double().numpy()
    gap = ((features[:, None] - features) ** 2).sum(-1)
    covariance = np.exp(-0.5 * gap / kernel.base.lengthscale.item() ** 2) + 0.1 * np.eye(14)
    want = multivariate_normal(np.zeros(14), covariance).logpdf(Y.numpy())
    posterior = fixed(kernel)
    assert float(posterior.evidence.log_marginal_likelihood) == pytest.approx(want, rel=1e-5)
    torch.testing.assert_close(posterior.fitted(), posterior.mean(X))
    assert kernel.training
    assert kernel.net.training


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: gk.MultitaskKernel(gk.RBFKernel(), num_tasks=2), "MultitaskKernel has 2"),
        (lambda: gk.LCMKernel([gk.RBFKernel()], num_tasks=2, rank=1), "LCMKernel has 2"),
        (gk.RBFKernelGrad, "RBFKernelGrad has 2"),
        (gk.RBFKernelGradGrad, "RBFKernelGradGrad has 3"),
        (gk.Matern52KernelGrad, "Matern52KernelGrad has 2"),
        (lambda: gk.PolynomialKernelGrad(power=2), "PolynomialKernelGrad has 2"),
    ],
)
@pytest.mark.parametrize(
    "place", [lambda k: k, S, lambda k: gk.RBFKernel() + S(k), lambda k: k * gk.RBFKernel()]
)
def test_kernels_with_several_outputs_are_named(make, name, place):
    with pytest.raises(ValueError, match=f"kernel {name} outputs for each input"):
        fixed(place(make()))


@pytest.mark.parametrize(
    ("function", "kind", "message"),
    [
        (lambda a, b: laplace(a, b).to(torch.complex128), TypeError, "got torch.complex128"),
        (lambda a, b: laplace(a, b) * torch.nan, ValueError, "must be finite"),
        (lambda a, b: torch.cdist(a, b) / torch.cdist(a, b), ValueError, "must be finite"),
        (lambda a, b: laplace(a, b) + a, ValueError, "must be symmetric"),
        (lambda a, b: laplace(a, b)[:3, :3], ValueError, "kernel|shape"),
        (lambda a, b: np.eye(len(a)), (TypeError, ValueError), "tensor|Tensor"),
        (lambda a, b: {}[0], ValueError, "cannot be evaluated on inputs .* KeyError"),
    ],
)
@pytest.mark.parametrize(
    "wrap", [UserKernel, lambda f: f, lambda f: UserKernel(f) + gk.RBFKernel()]
)
def test_covariances_of_another_kind_raise(function, kind, message, wrap):
    with pytest.raises(kind, match=message):
        fixed(wrap(function))


@pytest.mark.parametrize(
    ("function", "dtype"),
    [
        (lambda a, b: laplace(a, b).float(), "float32"),
        (lambda a, b: (a == b.mT).long(), "int64"),
        (lambda a, b: a == b.mT, "bool"),
    ],
)
@pytest.mark.parametrize("wrap", [UserKernel, lambda f: f, lambda f: S(UserKernel(f))])
def test_covariances_of_another_dtype_raise(function, dtype, wrap):
    with pytest.raises(TypeError, match=f"must return dtype torch.float64, .* got torch.{dtype}"):
        fixed(wrap(function))


def test_expanded_tensors_and_stored_matrices_are_right_and_left_alone():
    want = multivariate_normal(np.zeros(14), np.ones((14, 14)) + 0.1 * np.eye(14)).logpdf(Y.numpy())
    one = torch.ones(1, 1, dtype=F64)
    assert log_evidence(lambda a, b: one.expand(len(a), len(b))) == pytest.approx(want, rel=1e-9)
    matrix = laplace(X, X)
    kept = matrix.clone()
    covariance = kept.numpy() + 0.1 * np.eye(14)
    want = multivariate_normal(np.zeros(14), covariance).logpdf(Y.numpy())

    def stored(a, b):
        return matrix if len(a) == len(b) == 14 else laplace(a, b)

    for kernel in (stored, lambda a, b: matrix, UserKernel(stored), kernels.stationary(stored)):
        for _ in range(2):
            posterior = fixed(kernel)
            value = float(posterior.evidence.log_marginal_likelihood)
            assert value == pytest.approx(want, rel=1e-9)
        posterior.joint(X, latent=False)
        posterior.marginals()
        posterior.spectrum()
        assert torch.equal(matrix, kept)


def test_a_kernel_object_is_left_as_it_was():
    kernel = S(gk.RBFKernel() + UserKernel(laplace))
    kernel.raw_outputscale.grad = torch.ones(())
    kernel.eval()
    before = {name: value.clone() for name, value in kernel.state_dict().items()}
    GaussianProcess(kernel, starts=2).fit(X, Y)
    after = kernel.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert kernel.raw_outputscale.grad == 1
    assert not kernel.training


def test_a_module_as_a_kernel_is_copied():
    class Decay(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.rate = torch.nn.Parameter(torch.tensor(1.0))
            self.drop = torch.nn.Dropout(0.5)

        def forward(self, a, b):
            return torch.exp(-torch.cdist(self.drop(a), self.drop(b)) * self.rate.abs())

    module = Decay()
    assert log_evidence(module) == pytest.approx(log_evidence(laplace), rel=1e-9)
    assert module.rate.dtype == torch.float32
    assert module.drop.training


def test_index_kernels_are_right_and_their_columns_are_checked():
    kernel = gk.IndexKernel(num_tasks=3, rank=2)
    index = np.arange(14) % 3
    table = kernel._eval_covar_matrix().detach().double().numpy()
    covariance = table[np.ix_(index, index)] + 0.1 * np.eye(14)
    want = multivariate_normal(np.zeros(14), covariance).logpdf(Y.numpy())
    x = torch.tensor(index, dtype=F64)[:, None]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        posterior = fixed(kernel, x)
        assert float(posterior.evidence.log_marginal_likelihood) == pytest.approx(want, rel=1e-6)
        posterior.predict(x[:3])
    with pytest.raises(ValueError, match=r"x_new must hold whole numbers in 0\.\.2 in column 0"):
        posterior.mean(x + 1)
    for bad in (x + 0.5, x - 1):
        with pytest.raises(ValueError, match="x must hold whole numbers"):
            fixed(kernel, bad)
    with pytest.raises(ValueError, match="needs one column"):
        fixed(kernel, torch.cat([x, x], 1))


OUTSIDE = [
    gk.RBFKernel(lengthscale_constraint=Interval(0.2, 0.3, transform=None)),
    gk.RBFKernel() + S(gk.RBFKernel(), outputscale_constraint=GreaterThan(1.0, transform=None)),
]


@pytest.mark.parametrize("kernel", OUTSIDE)
def test_values_outside_a_constraint_raise(kernel):
    with pytest.raises(ValueError, match="= 0, outside its constraint"):
        fixed(kernel)


def test_columns_that_do_not_fit_are_named_anywhere_in_the_kernel():
    for kernel, message in (
        (gk.LinearKernel() + S(gk.RBFKernel(ard_num_dims=3)), "ard_num_dims=3, .* 2 column"),
        (gk.LinearKernel() * S(gk.RBFKernel(active_dims=(5,))), r"active_dims \(5,\)"),
        (S(gk.RBFKernel(active_dims=(-1,))), r"active_dims \(-1,\)"),
        (gk.RBFKernel() + S(gk.RBFKernel(batch_shape=torch.Size([2]))), "no batch shape"),
    ):
        with pytest.raises(ValueError, match=message):
            fixed(kernel, PLANE)
    with pytest.raises(TypeError, match=r"write RBFKernel\(\)"):
        fixed(gk.RBFKernel)


def test_columns_of_an_outer_scale_are_used():
    x = PLANE.flip(1)
    want = log_evidence(gk.RBFKernel(active_dims=(1,)), x)
    for kernel in (
        S(gk.RBFKernel(), active_dims=(1,)),
        S(gk.RBFKernel(active_dims=(1,))),
        S(S(gk.RBFKernel()), active_dims=(1,)),
    ):
        for part in kernel.modules():
            if isinstance(part, S):
                part.outputscale = 1.0
        assert log_evidence(kernel, x) == pytest.approx(want, rel=1e-6)
    limited = S(gk.RBFKernel(), active_dims=(1,), outputscale_constraint=Interval(0.5, 2.0))
    plain = S(gk.RBFKernel(active_dims=(1,)), outputscale_constraint=Interval(0.5, 2.0))
    assert log_evidence(limited, x) == pytest.approx(log_evidence(plain, x), rel=1e-9)
    one, other = (GaussianProcess(k).fit_batch(x[None], Y[None]) for k in (limited, plain))
    torch.testing.assert_close(one.evidence.fit, other.evidence.fit)


def test_a_kernel_with_an_autograd_graph_cannot_be_copied():
    kernel = UserKernel(laplace)
    kernel.last = kernel(X, X).to_dense() * torch.ones((), requires_grad=True)
    with pytest.raises(ValueError, match="kernel UserKernel cannot be copied"):
        fixed(kernel)


LIMITED = {
    "interval": lambda **o: Interval(0.02, 0.05, **o),
    "above": lambda **o: GreaterThan(2.0, **o),
    "below": lambda **o: LessThan(0.05, **o),
}


@pytest.mark.parametrize("name", sorted(LIMITED))
@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize(
    ("how", "dtype"),
    [
        ("dense", F64),
        ("sum", torch.float32),
        ("krylov", F64),
        ("krylov", torch.float32),
        ("cholesky", torch.float32),
        ("batch", F64),
        ("bernoulli", F64),
    ],
)
def test_constraints_of_lengthscales_are_kept(name, plain, how, dtype):
    start = {"interval": 0.03, "above": 3.0, "below": 0.04}[name]
    options = {"transform": None, "initial_value": start} if plain else {}
    own = LIMITED[name](**options)
    kernel = gk.RBFKernel(lengthscale_constraint=own)
    found = lengthscale_of(kernel, how, dtype)
    slack = 1e-5 if dtype == torch.float32 else 1e-12
    assert float(own.lower_bound) * (1 - slack) <= found <= float(own.upper_bound) * (1 + slack)


def lengthscale_of(kernel, how, dtype):
    x, y = X.to(dtype), Y.to(dtype)
    if how == "batch":
        found = GaussianProcess(kernel).fit_batch(x[None], y[None])
        return found.kernels[0].lengthscale.item()
    if how == "bernoulli":
        found = GaussianProcess(kernel, likelihood="bernoulli", starts=2).fit(x, (y > 0).long())
    elif how == "sum":
        found = GaussianProcess(S(kernel) + gk.LinearKernel(), starts=2).fit(x, y)
    else:
        engine = None if how == "dense" else how
        found = GaussianProcess(kernel, engine=engine, starts=2).fit(x, y)
    return float(found.hyperparameters["RBF.lengthscale"])


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("how", ["dense", "sum", "product", "krylov", "batch", "bernoulli"])
def test_constraints_of_outputscales_are_kept(plain, how):
    """The targets are 100 times larger than the constraint allows."""
    options = {"transform": None, "initial_value": 2.0} if plain else {}
    kernel = S(gk.RBFKernel(), outputscale_constraint=Interval(0.1, 5, **options))
    y = 100 * Y
    if how == "batch":
        found = GaussianProcess(kernel).fit_batch(X[None], y[None]).scale.item()
    elif how == "bernoulli":
        gp = GaussianProcess(kernel, likelihood="bernoulli", starts=2)
        found = gp.fit(X, (y > 0).long()).hyperparameters["RBF.outputscale"]
    else:
        whole = {"sum": kernel + gk.LinearKernel(), "product": kernel * gk.CosineKernel()}
        engine = "krylov" if how == "krylov" else None
        gp = GaussianProcess(whole.get(how, kernel), engine=engine, starts=2)
        found = gp.fit(X, y).hyperparameters["RBF.outputscale"]
    assert 0.1 <= found <= 5.0
    if how in ("dense", "krylov", "batch"):
        assert found == pytest.approx(5.0, rel=1e-3)


def test_innermost_kernels_are_found_once():
    shared = gk.RBFKernel()
    kernel = S(shared) + shared * UserKernel(laplace)
    assert [type(k).__name__ for k in innermost(kernel)] == ["RBFKernel", "UserKernel"]
    assert is_known(shared)
    assert not is_known(UserKernel(laplace))
    assert not is_known(kernels.FunctionKernel(laplace))


def _rbf(a, b):
    return torch.exp(-0.5 * torch.cdist(a, b) ** 2)


class _OtherDiagonal(gk.RBFKernel):
    def forward(self, x1, x2, diag=False, **params):
        result = super().forward(x1, x2, diag=diag, **params)
        return 3 * result if diag else result


@pytest.mark.parametrize(
    ("kernel", "message"),
    [
        (lambda a, b: _rbf(a, b) + 0.1 * torch.eye(len(a), len(b)).to(a), "function of two inputs"),
        (lambda a, b: _rbf(a - a.mean(0), b - b.mean(0)), "function of two inputs"),
        (_OtherDiagonal().double(), "diagonal of its matrix"),
    ],
    ids=["positions", "averages", "diagonal"],
)
def test_kernels_that_depend_on_other_rows_raise(kernel, message):
    x = torch.linspace(0, 3, 12, dtype=torch.float64)[:, None]
    gp = GaussianProcess(kernel, 0.1, hyperparameters="fixed")
    with pytest.raises(ValueError, match=message):
        gp.fit(x, torch.sin(x[:, 0]))


def test_lengthscale_that_is_read_otherwise_than_written_is_kept():
    class Thrice(gk.RBFKernel):
        @property
        def lengthscale(self):
            return super().lengthscale * 3

        @lengthscale.setter
        def lengthscale(self, value):
            self._set_lengthscale(value)

    x = torch.linspace(0, 3, 12, dtype=torch.float64)[:, None]
    y, kernel = torch.sin(x[:, 0]), Thrice().double()
    found = GaussianProcess(kernel, 0.1, hyperparameters="fixed").fit(x, y).evidence
    covariance = _rbf(x / kernel.lengthscale.detach(), x / kernel.lengthscale.detach())
    covariance = covariance + 0.1 * torch.eye(12, dtype=torch.float64)
    right = torch.distributions.MultivariateNormal(torch.zeros_like(y), covariance).log_prob(y)
    torch.testing.assert_close(found.log_marginal_likelihood, right)
