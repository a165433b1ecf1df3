import math
import warnings

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import bayesgen as bg
from bayesgen.curvature import factory, jacobian, jacobian_rows, matrix_free
from bayesgen.curvature.block_diagonal import kronecker
from bayesgen.curvature.jacobian import Sample
from bayesgen.curvature.parameters import Weights

F64 = torch.float64
ALL = ["ggn", "hessian", "kron", "diag", "last_layer"]


@pytest.fixture
def small(monkeypatch):
    """Sizes at which everything but Lanczos is taken for too large."""

    def set_to(dual, primal):
        monkeypatch.setattr(factory, "LARGEST_DUAL", dual)
        monkeypatch.setattr(factory, "LARGEST_PRIMAL", primal)
        monkeypatch.setattr(factory, "LARGEST_HESSIAN", primal)

    return set_to


def problem(name="softmax", n=30, hidden=6, seed=0):
    """Inputs, labels and a network near a mode of its log posterior."""
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 3, generator=g, dtype=F64)
    score = x[:, 0] + 0.5 * torch.randn(n, generator=g, dtype=F64)
    y = {
        "softmax": (score > -0.5).long() + (score > 0.5).long(),
        "bernoulli": (score > 0).long(),
        "poisson": torch.poisson(torch.exp(0.5 * score), generator=g),
        "gaussian": score,
    }[name]
    torch.manual_seed(seed)
    net = bg.networks.MLP(
        3, (hidden,) if hidden else (), 3 if name == "softmax" else 1, activation="tanh"
    )
    net = net.double()
    bg.train(
        net, x, y, name, epochs=400, batch=None, optimiser="adam", learning_rate=0.02,
        prior_precision=1.0,
    )  # fmt: skip
    return net, x, y


def laplace(net, name="softmax", precision=1.0, **settings):
    noise = 1.0 if name == "gaussian" else None
    return bg.Laplace(net, name, precision, noise, **{"hyperparameters": "fixed"} | settings)


# ---------------------------------------------------------------- exact where it should be


@pytest.mark.parametrize("curvature", ALL)
def test_a_linear_network_is_the_linear_model(curvature):
    g = torch.Generator().manual_seed(0)
    x = torch.randn(30, 4, generator=g, dtype=F64)
    y = x @ torch.tensor([1.0, 0.5, -1.0, 0.2], dtype=F64) + 0.4 * torch.randn(30, generator=g)
    y = y.double()
    if curvature == "diag":  # exact where the features are orthogonal
        x = torch.linalg.qr(x)[0] * 5
    model = bg.LinearModel(prior_variance=0.5, noise=0.3, hyperparameters="fixed").fit(x, y)
    net = nn.Linear(4, 1, bias=False).double()
    with torch.no_grad():
        net.weight.copy_(model.weights[None])
    ours = bg.Laplace(net, "gaussian", 2.0, 0.3, curvature, "fixed").fit(x, y)
    for part in ("log_marginal_likelihood", "fit", "complexity", "effective_dimension"):
        want = getattr(model.evidence, part)
        torch.testing.assert_close(getattr(ours.evidence, part), want, rtol=1e-8, atol=1e-8)
    new = torch.randn(5, 4, generator=g, dtype=F64)
    torch.testing.assert_close(ours.predict(new).mean, model.predict(new).mean)
    torch.testing.assert_close(ours.predict(new).stddev, model.predict(new).stddev)
    assert ours.gain < 1e-10


def test_hyperparameters_learnt_are_the_linear_models():
    g = torch.Generator().manual_seed(0)
    x = torch.randn(40, 4, generator=g, dtype=F64)
    y = (x[:, 0] - 0.5 * x[:, 2]) + 0.3 * torch.randn(40, generator=g, dtype=F64)
    model = bg.LinearModel().fit(x, y)
    net = nn.Linear(4, 1, bias=False).double()
    with torch.no_grad():
        net.weight.copy_(model.weights[None])
    ours = bg.Laplace(net, "gaussian").fit(x, y)
    torch.testing.assert_close(1 / ours.prior_precision, model.scale, rtol=1e-4, atol=0)
    torch.testing.assert_close(ours.noise, model.noise, rtol=1e-4, atol=0)
    torch.testing.assert_close(
        ours.evidence.log_marginal_likelihood, model.evidence.log_marginal_likelihood
    )


def test_logistic_regression_is_that_of_the_linear_model():
    _, x, y = problem("bernoulli")
    model = bg.LinearModel(prior_variance=1.0, likelihood="bernoulli", hyperparameters="fixed")
    want = model.fit(x, y)
    net = nn.Linear(3, 1, bias=False).double()
    with torch.no_grad():
        net.weight.copy_(want.weights.reshape(1, -1))
    for curvature in ("ggn", "hessian", "last_layer"):
        ours = laplace(net, "bernoulli", curvature=curvature).fit(x, y)
        torch.testing.assert_close(
            ours.evidence.log_marginal_likelihood,
            want.evidence.log_marginal_likelihood,
            rtol=1e-8,
            atol=1e-6,
        )


@pytest.mark.parametrize("name", ["softmax", "bernoulli", "poisson"])
def test_hessian_is_the_ggn_where_the_outputs_are_linear(name):
    net, x, y = problem(name, hidden=0)
    a, b = (laplace(net, name, curvature=c).fit(x, y).evidence for c in ("ggn", "hessian"))
    torch.testing.assert_close(a.fit, b.fit, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(a.complexity, b.complexity, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("name", ["softmax", "bernoulli", "poisson", "gaussian"])
def test_ggn_and_hessian_are_brute_forces(name):
    net, x, y = problem(name)
    weights = Weights(net, None)
    likelihood = bg.likelihoods.resolve(name) or bg.likelihoods.Gaussian(1.0)
    inner = likelihood.targets(y, weights.outputs(x, 64))[0]

    def f(theta):
        return torch.func.functional_call(weights.net, weights.unpacked(theta), (x,))

    def nll(theta):
        return -likelihood.log_density(inner, f(theta)).sum()

    J = torch.autograd.functional.jacobian(f, weights.theta).flatten(0, 1)
    outer = torch.autograd.functional.hessian(
        lambda v: -likelihood.log_density(inner, v.reshape(len(x), -1)).sum(),
        f(weights.theta).reshape(-1),
    )
    ggn = J.T @ outer @ J
    hessian = torch.autograd.functional.hessian(nll, weights.theta)
    values, vectors = torch.linalg.eigh(hessian)
    lifted = vectors @ torch.diag(values.clamp(min=0)) @ vectors.T
    for curvature, H in (("ggn", ggn), ("hessian", lifted)):
        ours = quiet(laplace(net, name, curvature=curvature), x, y)
        assert ours.negative_eigenvalues == (values < -1e-8).sum() * (curvature == "hessian")
        want = -nll(weights.theta) - 0.5 * weights.theta.square().sum()
        want = want - 0.5 * torch.linalg.slogdet(torch.eye(len(H), dtype=F64) + H)[1]
        torch.testing.assert_close(
            ours.evidence.log_marginal_likelihood, want.detach(), rtol=1e-8, atol=1e-8
        )
        freedom = torch.linalg.solve(H + torch.eye(len(H), dtype=F64), H).trace()
        torch.testing.assert_close(ours.evidence.effective_dimension, freedom)


def quiet(model, *data):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", bg.NotAtModeWarning)
        return model.fit(*data)


def _warned(model, x, y):
    with pytest.warns(bg.NotAtModeWarning, match="negative eigenvalue"):
        return model.fit(x, y)


@given(seed=st.integers(0, 50), precision=st.floats(1e-2, 1e2))
def test_dual_and_primal_are_one(seed, precision):
    g = torch.Generator().manual_seed(seed)
    x, y = torch.randn(8, 3, generator=g, dtype=F64), torch.randint(3, (8,), generator=g)
    torch.manual_seed(seed)
    net = bg.networks.MLP(3, (4,), 3, activation="tanh").double()
    new = torch.randn(3, 3, generator=g, dtype=F64)
    found = []
    for primal in (0, 4000):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(factory, "LARGEST_PRIMAL", primal)
            model = laplace(net, precision=precision)
            found.append(quiet(model, torch.cat([x] * 3), torch.cat([y] * 3)))
    a, b = found
    assert a.evidence.method != b.evidence.method
    for part in ("log_marginal_likelihood", "fit", "effective_dimension"):
        torch.testing.assert_close(
            getattr(a.evidence, part), getattr(b.evidence, part), rtol=1e-8, atol=1e-8
        )
    torch.testing.assert_close(
        a.predict(new, latent=True).stddev, b.predict(new, latent=True).stddev
    )


def test_root_and_matrix_are_one(monkeypatch):
    net, x, y = problem()
    root = laplace(net).fit(x, y)
    monkeypatch.setattr(factory, "LARGEST_ROOT", 0)
    matrix = laplace(net).fit(x, y)
    assert "root" in root.evidence.method
    assert "matrix" in matrix.evidence.method
    torch.testing.assert_close(root.evidence.fit, matrix.evidence.fit)
    torch.testing.assert_close(root.evidence.complexity, matrix.evidence.complexity)
    assert matrix.negative_eigenvalues == 0


def test_layer_precisions_of_both_ways_agree_and_balance(small):
    net, x, y = problem()
    primal = quiet(laplace(net, precision="layer", hyperparameters="evidence"), x, y)
    small(20_000, 0)
    dual = quiet(laplace(net, precision="layer", hyperparameters="evidence"), x, y)
    torch.testing.assert_close(dual.prior_precision, primal.prior_precision, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(
        dual.evidence.log_marginal_likelihood, primal.evidence.log_marginal_likelihood
    )
    one = quiet(laplace(net, hyperparameters="evidence"), x, y)
    assert dual.evidence.log_marginal_likelihood >= one.evidence.log_marginal_likelihood
    # MacKay's balance for one precision: N_eff = α‖θ‖².
    theta = one.curvature.weights.theta
    torch.testing.assert_close(
        one.evidence.effective_dimension, one.prior_precision * theta.square().sum()
    )


@pytest.mark.parametrize("kind", ["ggn", "hessian"])
def test_matrix_free_evidence_is_within_its_error(small, kind):
    net, x, y = problem(n=40)
    exact = laplace(net, curvature="ggn").fit(x, y)
    if kind == "hessian":
        exact = _warned(laplace(net, curvature=kind), x, y)
    small(5, 5)
    model = laplace(net, curvature=kind, probes=64)
    ours = model.fit(x, y) if kind == "ggn" else _warned(model, x, y)
    gap = ours.evidence.log_marginal_likelihood - exact.evidence.log_marginal_likelihood
    assert 0 < float(ours.evidence.error) < 2
    assert abs(float(gap)) < 4 * float(ours.evidence.error)
    with pytest.raises(ValueError, match="products alone"):
        ours.predict(x)


@pytest.mark.parametrize("seed", range(3))
def test_lanczos_trace_determinant_and_freedom_of_a_ggn_are_within_their_errors(small, seed):
    g = torch.Generator().manual_seed(seed)
    x, y = torch.randn(200, 8, generator=g, dtype=F64), torch.randint(10, (200,), generator=g)
    torch.manual_seed(seed)
    weights = Weights(bg.networks.MLP(8, (12,), 10).double(), None)
    likelihood = bg.likelihoods.Softmax(10)
    inner = likelihood.targets(y, weights.outputs(x, 64))[0]
    op = matrix_free.operator("ggn", weights, likelihood, [(x, inner)])
    exact = bg.Spectrum.dense(matrix_free.matrix(op))
    ours = bg.Spectrum.lanczos(op, probes=32, steps=60, seed=seed)
    for function in (lambda v: v, lambda v: v.clamp(min=0).log1p(), lambda v: v / (v + 1)):
        gap = float((ours.density.integrate(function) - exact.density.integrate(function)).abs())
        assert gap < 4 * float(ours.sampling_error(function))


def test_kronecker_factors_are_curvlinops():
    from curvlinops import KFACLinearOperator

    net, x, y = problem("gaussian")
    weights = Weights(net, None)
    values, vectors = torch.ones(30, 1, dtype=F64), torch.ones(30, 1, 1, dtype=F64)
    ours = kronecker(weights, Sample(x, values, vectors, 16, 1e9))
    dense = torch.zeros(weights.count, weights.count, dtype=F64)
    for block in ours:
        basis = block.back(torch.eye(len(block.values), dtype=F64))
        dense[block.columns, block.columns] = basis.T @ torch.diag(block.values) @ basis
    peer_net = weights.net.requires_grad_(True)
    peer = KFACLinearOperator(
        peer_net, nn.MSELoss(reduction="sum"), list(peer_net.parameters()),
        [(x, y[:, None])], fisher_type="type-2", separate_weight_and_bias=True,
    )  # fmt: skip
    want = matrix_free.matrix(peer)
    torch.testing.assert_close(2 * dense, want, rtol=1e-6, atol=1e-6)


# ---------------------------------------------------------------- what is said to the user


def test_batch_norm_pitfall_a_rescaled_layer_changes_the_evidence_not_the_function():
    g = torch.Generator().manual_seed(0)
    x, y = torch.randn(20, 3, 8, 8, generator=g, dtype=F64), torch.randint(2, (20,), generator=g)
    torch.manual_seed(0)
    net = bg.networks.PreResNet20(1, 2).double()
    bg.train(net, x, y, epochs=30, batch=None, learning_rate=0.05)
    before, scores, block = quiet(laplace(net), x, y), net(x), net.blocks[0]
    with torch.no_grad():  # the convolution before a BatchNorm, and what the norm remembers
        block.conv1.weight.mul_(3)
        block.norm2.running_mean.mul_(3)
        block.norm2.running_var.mul_(9).add_(8 * block.norm2.eps)
    after = quiet(laplace(net), x, y)
    torch.testing.assert_close(net(x), scores, rtol=1e-6, atol=1e-6)
    assert abs(float(before.evidence.per_observation - after.evidence.per_observation)) > 0.05


def test_evidence_below_guessing_is_said():
    net, x, _ = problem()
    y = torch.randint(3, (30,), generator=torch.Generator().manual_seed(9))
    with pytest.warns(bg.NotAtModeWarning, match="gradient norm"):
        posterior = laplace(net, precision=1e-3).fit(x, y)
    assert float(posterior.evidence.per_observation) < -math.log(3)
    assert "below guessing uniformly" in repr(posterior)


def test_last_layer_says_what_nothing_pays_for():
    net, x, y = problem()
    some, all_ = laplace(net, curvature="last_layer").fit(x, y), laplace(net).fit(x, y)
    assert some.evidence.complexity_excludes == ("features",)
    table = bg.compare({"last layer": some, "whole": all_})
    assert table.loc["last layer", "excludes"] == "features"
    with pytest.raises(ValueError, match="certif"):
        all_.certificate()


# ---------------------------------------------------------------- predictions


def calibration(probs, y, bins=10):
    confidence, guess = probs.max(-1)
    hit = (guess == y).double()
    which = (confidence * bins).long().clamp(max=bins - 1)
    return sum(
        abs(float((hit - confidence)[which == b].sum())) / len(y) for b in range(bins)
    )  # fmt: skip


def test_averaging_over_weights_is_better_calibrated_than_the_mode():
    data = bg.data.load("digits", train=150, test=390)
    y, _ = bg.corrupt_labels(data.y_train, 0.3, num_classes=10, seed=0)
    truth, _ = bg.corrupt_labels(data.y_test, 0.3, num_classes=10, seed=1)
    torch.manual_seed(0)
    net = bg.networks.MLP(64, (24,), 10, activation="tanh").double()
    bg.train(net, data.x_train, y, epochs=600, batch=None, optimiser="adam", learning_rate=0.02)
    with pytest.warns(bg.NotAtModeWarning):
        posterior = bg.Laplace(net, curvature="kron").fit(data.x_train, y)
    point = net(data.x_test).softmax(-1).detach()
    want = -float(point.clamp(min=1e-300).log()[torch.arange(390), truth].mean())
    for method in ("mc", "probit"):
        probs = posterior.predict(data.x_test, method=method).probs
        nll = -float(probs.log()[torch.arange(390), truth].mean())
        assert nll < want - 0.2
        assert calibration(probs, truth) < calibration(point, truth) - 0.05
    mc = posterior.predict(data.x_test, method="mc", samples=300).probs
    assert float((mc - posterior.predict(data.x_test, method="probit").probs).abs().mean()) < 0.03


def test_draws_of_the_weights_have_the_posteriors_covariance():
    net, x, y = problem(n=20, hidden=2)
    for curvature in ("ggn", "kron", "diag"):
        posterior = laplace(net, curvature=curvature).fit(x, y)
        steps = posterior.sample_weights(20_000) - posterior.curvature.weights.theta
        f = posterior.curvature.covariance(x[:4], torch.ones(1, dtype=F64))
        J = next(iter(jacobian.jacobians(posterior.curvature.weights, x[:4], 3, 8)))
        got = torch.einsum("mcp,sp->smc", J, steps).var(0)
        torch.testing.assert_close(got, f.diagonal(dim1=1, dim2=2), rtol=0.06, atol=1e-3)


def test_weights_of_a_gaussian_posterior_predict_as_the_linearisation_does():
    net, x, y = problem("gaussian", hidden=0)
    posterior = laplace(net, "gaussian").fit(x, y)
    a, b = posterior.predict(x), posterior.predict(x, method="weights", samples=4000)
    torch.testing.assert_close(a.mean, b.mean, rtol=0, atol=0.02)
    torch.testing.assert_close(a.stddev, b.stddev, rtol=0.03, atol=0)


def test_arviz_takes_a_network():
    net, x, y = problem()
    assert laplace(net).fit(x, y).to_arviz(draws=40) is not None


# ---------------------------------------------------------------- loaders, and bad input


def loader(x, y, **settings):
    return DataLoader(TensorDataset(x, y), batch_size=7, **settings)


@pytest.mark.parametrize("curvature", ALL)
def test_a_loader_is_its_tensors(curvature):
    net, x, y = problem(hidden=0)
    a = laplace(net, curvature=curvature).fit(x, y).evidence
    b = laplace(net, curvature=curvature).fit(loader(x, y)).evidence
    torch.testing.assert_close(a.log_marginal_likelihood, b.log_marginal_likelihood)


def test_a_shuffling_loader_is_refused_where_the_curvature_passes_over_it_again(small):
    net, x, y = problem()
    small(5, 5)
    with pytest.raises(ValueError, match="same batches at every pass"):
        laplace(net).fit(loader(x, y, shuffle=True))
    steady = laplace(net).fit(loader(x, y)).evidence
    torch.testing.assert_close(
        steady.log_marginal_likelihood, laplace(net).fit(x, y).evidence.log_marginal_likelihood
    )


@pytest.mark.parametrize(
    ("act", "error", "message"),
    [
        (lambda n, x, y: bg.Laplace(nn.Flatten()), ValueError, "trainable parameters"),
        (lambda n, x, y: bg.Laplace(lambda v: v), TypeError, "torch.nn.Module"),
        (lambda n, x, y: bg.Laplace(n, curvature="full"), ValueError, "curvature must be one of"),
        (lambda n, x, y: bg.Laplace(n, prior_precision=-1.0), ValueError, "prior_precision must"),
        (lambda n, x, y: bg.Laplace(n, noise=1.0), ValueError, "noise must be None"),
        (lambda n, x, y: bg.Laplace(n, "bernoulli").fit(x, y), ValueError, "1 output"),
        (lambda n, x, y: bg.Laplace(n).fit(x, y + 1), ValueError, "0..2|labels"),
        (lambda n, x, y: bg.Laplace(n).fit(x[:-1], y), ValueError, "30|29"),
        (lambda n, x, y: bg.Laplace(n).fit(x * math.nan, y), ValueError, "x must be finite"),
        (lambda n, x, y: bg.Laplace(n).fit(x), TypeError, "loader"),
        (lambda n, x, y: bg.Laplace(n).fit(iter([(x, y)])), TypeError, "more than once"),
        (lambda n, x, y: bg.Laplace(n).fit([]), ValueError, "empty loader"),
        (
            lambda n, x, y: bg.Laplace(n, prior_precision=[1.0, 2.0, 3.0]).fit(x, y),
            ValueError,
            "one a layer",
        ),
        (
            lambda n, x, y: bg.Laplace(n, prior_precision="parameter").fit(x, y),
            ValueError,
            "each parameter",
        ),
        (
            lambda n, x, y: bg.Laplace(nn.Sequential(n, nn.Flatten(0))).fit(x, y),
            ValueError,
            r"scores of shape",
        ),
    ],
)
def test_bad_input_is_named(act, error, message):
    net, x, y = problem()
    with pytest.raises(error, match=message):
        act(net, x, y)


@pytest.mark.parametrize("case", ["learnt", "fixed", "layers"])
def test_float32_says_what_it_did_to_the_gram_matrix(case):
    torch.manual_seed(0)
    net = bg.networks.LeNet()
    x, y = torch.randn(24, 1, 28, 28), torch.arange(24) % 10
    bg.train(net, x, y, epochs=4, optimiser="adam", batch=8)
    alpha = torch.tensor([1.0, 1.5, 2.0, 2.5, 3.0]) if case == "layers" else 2.0
    learn = "evidence" if case == "learnt" else "fixed"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", bg.NotAtModeWarning)
        rough, exact = (
            bg.Laplace(net, prior_precision=alpha, hyperparameters=learn, dtype=dtype).fit(x, y)
            for dtype in (torch.float32, F64)
        )
    gap = rough.evidence.log_marginal_likelihood - exact.evidence.log_marginal_likelihood
    assert "Gram" in rough.evidence.method
    # The outputs, and with them the fit, are float32 too.
    assert abs(float(gap)) <= float(rough.evidence.error) + 1e-3
    assert rough.evidence.error < 0.24


def test_a_unit_at_its_kink_is_no_disaster():
    """In float32 it is off for one observation, in float64 on: a step in that one's Jacobian."""
    g = torch.Generator().manual_seed(3)
    x, y = torch.randn(32, 20, generator=g), torch.arange(32) % 4
    torch.manual_seed(3)
    net = bg.networks.MLP(20, (40,), 4)
    first = next(m for m in net.modules() if isinstance(m, nn.Linear))
    with torch.no_grad():
        for unit in range(40):
            first.bias[unit] = 0
            at = first(x[:1])[0, unit]
            if float((first.weight[unit].double() @ x[0].double()) - at.double()) > 1e-9:
                first.bias[unit] = -at
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", bg.NotAtModeWarning)
        rough, exact = (
            bg.Laplace(net, prior_precision=0.01, hyperparameters="fixed", dtype=dtype).fit(x, y)
            for dtype in (torch.float32, F64)
        )
    assert "Gram" in rough.evidence.method
    gap = abs(
        float(rough.evidence.log_marginal_likelihood - exact.evidence.log_marginal_likelihood)
    )
    assert gap < float(rough.evidence.error) < max(100 * gap, 0.05)


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize(
    "settings",
    [
        {"kernel_size": 3, "padding": 1},
        {"kernel_size": (3, 2), "stride": (2, 1), "padding": (1, 0)},
        {"kernel_size": 3, "dilation": (2, 1), "stride": 2},
        {"kernel_size": (4, 3), "dilation": (1, 2), "padding": "same"},
        {"kernel_size": 1, "padding": "valid"},
    ],
)
def test_windows_are_patches_in_another_order(settings):
    module = torch.nn.Conv2d(3, 2, **settings).double()
    x = torch.randn(2, 3, 9, 8, dtype=torch.float64)
    seen = jacobian_rows.patches(module, x)
    other = jacobian_rows.windows(module, x)
    kh, kw = module.kernel_size
    laid = other.reshape(2, -1, kh, kw, 3).permute(0, 4, 2, 3, 1).reshape(seen.shape)
    torch.testing.assert_close(laid, seen, rtol=0, atol=0)
    weight = module.weight.detach().reshape(2, -1)
    made = weight @ seen + module.bias.detach()[:, None]
    torch.testing.assert_close(made.reshape(module(x).shape), module(x).detach())
