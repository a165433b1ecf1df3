import warnings

import gpytorch
import pytest
import torch
from torch import nn

import bayesgen as bg
from bayesgen.curvature.matrix_free import matrix
from bayesgen.curvature.parameters import Weights
from bayesgen.models.deep import weight_prior
from bayesgen.models.deep.features import Bounded, DeepFeatures
from bayesgen.models.deep.objective import Head, conditional, evidence, step
from bayesgen.models.deep.weight_prior import Fisher

F64 = torch.float64
RBF = gpytorch.kernels.RBFKernel


def wave(n=40, seed=3):
    g = torch.Generator().manual_seed(seed)
    x = torch.rand(n, 1, generator=g, dtype=F64) * 6 - 3
    return x, torch.sin(2 * x[:, 0]) + 0.3 * torch.randn(n, generator=g, dtype=F64)


def mlp(outputs=2, hidden=(12,)):
    torch.manual_seed(0)
    return bg.networks.MLP(1, hidden, outputs, activation="tanh").double()


def head(kernel=None):
    kernel = (RBF() if kernel is None else kernel).double()
    scale, noise = torch.tensor(1.3, dtype=F64), torch.tensor(0.2, dtype=F64)
    return Head(kernel, scale, noise, learn_noise=True, floor=0.0)


@pytest.mark.parametrize("name", ["evidence", "conditional"])
def test_gradients_are_the_slopes_of_gpytorchs_log_marginal(name):
    x, y = wave(15)
    y = torch.stack([y, y.square()], -1)
    net, own = mlp(), head()
    features = DeepFeatures(net, batch=4)
    generator = torch.Generator().manual_seed(0)
    objective = evidence if name == "evidence" else conditional(0.6)
    value, slope = step(own, features(x), y, objective, generator)
    features.pull(x, slope)

    def log_p(rows):
        A = own.covariance(features.net(x))[rows][:, rows]
        normal = torch.distributions.MultivariateNormal(torch.zeros(len(rows), dtype=F64), A)
        return normal.log_prob(y[rows].mT).sum()

    want = log_p(torch.arange(15))
    if name == "conditional":
        first = torch.randperm(15, generator=torch.Generator().manual_seed(0))[:9]
        want = want - log_p(first)
    assert value == pytest.approx(float(want.detach()), rel=1e-10)
    parameters = [*features.parameters(), *own.free()]
    for p, g in zip(parameters, torch.autograd.grad(-want, parameters), strict=True):
        torch.testing.assert_close(p.grad, g, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("kernel", [RBF, lambda: gpytorch.kernels.MaternKernel(nu=2.5)])
def test_fisher_information_is_that_of_its_definition(kernel):
    x, _ = wave(10)
    net, own = mlp(hidden=(3,)), head(kernel()).requires_grad_(False)
    weights = Weights(net, None)
    ours = matrix(Fisher(weights, own, x, 3, batch=4))

    def A(theta):
        phi = torch.func.functional_call(net, weights.unpacked(theta), (x,))
        return own.covariance(phi)

    J = torch.autograd.functional.jacobian(A, weights.theta.clone().requires_grad_())
    B = torch.einsum("ij,jkp->ikp", torch.linalg.inv(A(weights.theta)), J)
    torch.testing.assert_close(ours, 1.5 * torch.einsum("ijp,jiq->pq", B, B))


def test_without_a_step_it_is_a_gp_on_the_features():
    x, y = wave()
    net = mlp()
    ours = bg.DeepKernel(net, RBF(), steps=0).fit(x, y)
    want = bg.GaussianProcess(RBF()).fit(net(x).detach(), y)
    assert ours.evidence.log_marginal_likelihood >= want.evidence.log_marginal_likelihood - 1e-3
    assert ours.evidence.complexity_excludes == ()


def test_training_raises_the_evidence_and_says_what_it_leaves_out():
    x, y = wave()
    before, after = (bg.DeepKernel(mlp(), RBF(), steps=s, batch=7).fit(x, y) for s in (0, 60))
    assert after.evidence.per_observation > before.evidence.per_observation
    assert "features not paid for" in str(after.evidence)
    assert after.history.objective.iloc[-1] > after.history.objective.iloc[0]
    table = bg.compare({"deep": after, "GP": bg.GaussianProcess(RBF()).fit(x, y)})
    assert table.loc["deep", "excludes"] == "features"
    with pytest.raises(ValueError, match="features"):
        after.certificate()


def test_overfitting_of_ober_et_al_and_a_prior_that_pays():
    """More evidence than the GP that made the data, and worse predictions; paid for, less."""
    x, y = wave()
    new, truth = wave(400, seed=4)
    gp = bg.GaussianProcess(RBF()).fit(x, y)

    def loss(posterior):
        return -float(posterior.predict(new).log_prob(truth).mean())

    torch.manual_seed(0)
    net = bg.networks.MLP(1, (30, 30), 2).double()
    free = bg.DeepKernel(net, RBF(), steps=250, learning_rate=3e-3).fit(x, y)
    assert free.evidence.per_observation > gp.evidence.per_observation + 0.1
    assert loss(free) > loss(gp) + 0.2
    small = mlp(1, hidden=(6,))
    model = bg.DeepKernel(small, RBF(), steps=800, learning_rate=0.02, prior_precision=2.0)
    paid = quiet(model, x, y)
    assert paid.evidence.complexity_excludes == ()
    assert paid.evidence.per_observation < free.evidence.per_observation
    assert float(paid.weights_dimension) > 0


def quiet(model, x, y):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", bg.NotAtModeWarning)
        return model.fit(x, y)


def test_lanczos_pays_what_the_whole_matrix_does(monkeypatch):
    x, y = wave(25)
    model = bg.DeepKernel(
        mlp(hidden=(8,)), RBF(), steps=20, prior_precision=3.0, probes=40, lanczos_steps=30
    )
    exact = quiet(model, x, y)
    monkeypatch.setattr(weight_prior, "LARGEST", 5)
    ours = quiet(model, x, y)
    gap = ours.evidence.log_marginal_likelihood - exact.evidence.log_marginal_likelihood
    assert abs(float(gap)) < 4 * float(ours.evidence.error)
    assert "Lanczos" in ours.evidence.method


def test_outputs_share_features_and_predictions_follow_the_layout():
    x, y = wave()
    both = torch.stack([y, -y], -1)
    posterior = bg.DeepKernel(mlp(), RBF(), steps=5).fit(x, both)
    assert posterior.predict(x[:4]).mean.shape == (4, 2)
    assert posterior.fitted().shape == (40, 2)
    one = bg.DeepKernel(mlp(), RBF(), steps=5).fit(x, y)
    assert one.mean(x[:4]).shape == (4,)
    assert one.similarity(x[:3], x[:2]).shape == (3, 2)
    assert one.to_arviz(draws=40) is not None


def test_a_bounded_layer_stays_within_its_norm():
    net = mlp()
    with torch.no_grad():
        net[1].weight.mul_(50)
    posterior = bg.DeepKernel(net, RBF(), steps=5, lipschitz=0.9).fit(*wave())
    for layer in (posterior.net[1], posterior.net[3]):
        assert float(torch.linalg.matrix_norm(layer.weight.detach(), 2)) <= 0.9 + 1e-12
    loose = torch.eye(2, dtype=F64) * 0.5
    torch.testing.assert_close(Bounded(0.9)(loose), loose)
    assert float(net[1].weight.detach().norm()) > 10  # the user's own is as it was


def test_a_given_noise_is_kept_however_small():
    posterior = bg.DeepKernel(mlp(), RBF(), noise=1e-7, steps=2).fit(*wave())
    assert float(posterior.noise) == pytest.approx(1e-7)


def test_float32_networks_have_float64_evidence():
    x, y = wave()
    posterior = bg.DeepKernel(mlp().float(), RBF(), steps=3).fit(x.float(), y)
    assert posterior.evidence.fit.dtype == F64


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: bg.DeepKernel("net", RBF()), TypeError, "torch.nn.Module"),
        (lambda: bg.DeepKernel(nn.Flatten(), RBF()), ValueError, "trainable parameters"),
        (lambda: bg.DeepKernel(mlp(), "rbf"), TypeError, "kernel must be"),
        (lambda: bg.DeepKernel(mlp(), RBF(), objective="loo"), ValueError, "objective must be"),
        (lambda: bg.DeepKernel(mlp(), RBF(), conditioned=1.0), ValueError, "conditioned must"),
        (lambda: bg.DeepKernel(mlp(), RBF(), noise=-1.0), ValueError, "noise must"),
        (lambda: bg.DeepKernel(mlp(), RBF(), steps=-1), ValueError, "steps must"),
        (
            lambda: bg.DeepKernel(mlp(), RBF(), lipschitz=1.0, prior_precision=1.0),
            ValueError,
            "prior_precision must be None",
        ),
        (
            lambda: bg.DeepKernel(mlp(), RBF(), steps=1).fit(wave()[0], wave()[1][None, :, None]),
            ValueError,
            "y must have shape",
        ),
        (lambda: bg.DeepKernel(mlp(), RBF(), steps=1).fit(wave()[0], wave(5)[1]), ValueError, "40"),
    ],
)
def test_bad_input_is_named(make, error, message):
    with pytest.raises(error, match=message):
        make()
