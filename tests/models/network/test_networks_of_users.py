"""Laplace evidences of networks as users build them, against brute force.

The references are rows of the Jacobian by one reverse pass for each observation and output
(tests/models/network/networks.py), and dense determinants.
"""

import copy
import pickle
import random

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader, SubsetRandomSampler, TensorDataset

import bayesgen as bg
from tests.models.network.networks import (
    F64,
    NETWORKS,
    Tied,
    Transformer,
    brute_force,
    categorical_curvature,
    evidence,
    make,
)

# Heads that end these networks are followed by an average.
AVERAGED = ("positions", "reshaped to rows", "time first")


pytestmark = pytest.mark.filterwarnings("ignore::bayesgen.errors.NotAtModeWarning")


def fit(net, x, y, **options):
    options = {"prior_precision": 1.0, "hyperparameters": "fixed", **options}
    return bg.Laplace(net, **options).fit(x, y)


@pytest.mark.parametrize("kind", ["ggn", "diag", "last_layer"])
@pytest.mark.parametrize("name", NETWORKS)
def test_evidence_is_that_of_brute_force(name, kind):
    net, x, y = make(name)
    inner = getattr(net, "module", net)
    head = [own for own, m in inner.named_modules() if type(m) is nn.Linear]
    options = {}
    if kind == "last_layer":
        if not head:
            pytest.skip("the network has no linear layer")
        options = {"last_layer": head[-1]} if name in AVERAGED else {}
    posterior = fit(net, x, y, curvature=kind, **options)
    only = head[-1] if kind == "last_layer" else ""
    want = evidence(net, x, y, kind, spread=name != "dict whole", only=only)
    assert float(posterior.evidence.log_marginal_likelihood) == pytest.approx(want, abs=1e-9)
    assert float(posterior.evidence.error) < 1e-9
    assert all(check.passed for check in posterior.checks)
    assert len(posterior.checks) == 2


@pytest.mark.parametrize(
    "name", ["tied", "TransformerEncoderLayer", "GRU", "tied tokens", "sorted"]
)
@pytest.mark.parametrize("batch", [1, 5, 12])
def test_evidence_does_not_depend_on_the_batch(name, batch):
    net, x, y = make(name)
    one, other = fit(net, x, y), fit(net, x, y, batch=batch)
    assert float(one.evidence.log_marginal_likelihood) == pytest.approx(
        float(other.evidence.log_marginal_likelihood), abs=1e-9
    )


@pytest.mark.parametrize("kind", ["ggn", "diag"])
@pytest.mark.parametrize(
    "name", ["tied", "TransformerEncoderLayer", "dict whole", "spectral_norm hook", "positions"]
)
def test_predictive_covariances_and_draws_are_those_of_brute_force(name, kind):
    net, x, y = make(name)
    f, theta, J = brute_force(net, x, y, spread=name != "dict whole")
    H = torch.einsum("ncp,nce,neq->pq", J, categorical_curvature(f), J)
    H = torch.diag(H.diagonal()) if kind == "diag" else H
    S = torch.linalg.inv(H + torch.eye(len(theta), dtype=F64))
    want = torch.einsum("ncp,pq,neq->nce", J, S, J)
    posterior = fit(net, x, y, curvature=kind)
    torch.testing.assert_close(posterior.marginals()[1], want, atol=1e-10, rtol=1e-8)
    torch.testing.assert_close(posterior.mean(x), f)
    draws = posterior.sample_weights(2000)
    assert float((draws.var(0) / S.diagonal() - 1).abs().max()) < 0.2
    latent = posterior.latent_samples(200).var(0)
    assert float((latent / want.diagonal(dim1=-2, dim2=-1) - 1).abs().max()) < 0.6


@pytest.mark.parametrize("mode", ["linearised", "tangent"])
@pytest.mark.parametrize("name", ["tied", "TransformerEncoderLayer", "tied tokens"])
def test_linear_modes_are_those_of_brute_force(name, mode):
    net, x, y = make(name)
    f, theta, J = brute_force(net, x, y)
    start = f - J @ theta if mode == "linearised" else torch.zeros_like(f)
    w = theta.clone()
    eye = torch.eye(len(theta), dtype=F64)
    for _ in range(30):  # Newton
        g = start + J @ w
        H = torch.einsum("ncp,nce,neq->pq", J, categorical_curvature(g), J) + eye
        slope = torch.einsum("ncp,nc->p", J, F.one_hot(y, f.shape[1]) - g.softmax(-1)) - w
        w = w + torch.linalg.solve(H, slope)
    value = (start + J @ w).log_softmax(-1)[torch.arange(len(y)), y].sum() - 0.5 * w @ w
    want = float(value - 0.5 * torch.linalg.slogdet(H).logabsdet)
    found = fit(net, x, y, mode=mode).evidence.log_marginal_likelihood
    assert float(found) == pytest.approx(want, abs=1e-6)


def exact_hessian(net, x, y):
    """The Hessian of −log p(D | θ), by reverse passes through the gradient."""
    own = [p for p in net.parameters() if p.requires_grad]
    loss = -sum(net(x[i : i + 1])[0].log_softmax(-1)[y[i]] for i in range(len(y)))
    slopes = torch.autograd.grad(loss, own, create_graph=True)
    rows = []
    for value in torch.cat([g.reshape(-1) for g in slopes]):
        row = torch.autograd.grad(value, own, retain_graph=True, allow_unused=True)
        pairs = zip(row, own, strict=True)
        rows.append(torch.cat([(torch.zeros_like(p) if g is None else g).reshape(-1)
                               for g, p in pairs]))  # fmt: skip
    return float(loss.detach()), torch.stack(rows), torch.cat([p.detach().reshape(-1) for p in own])


@pytest.mark.parametrize("name", ["LayerNorm", "GroupNorm", "SiLU", "tied", "GRU", "BatchNorm"])
def test_hessian_is_symmetric_and_that_of_brute_force(name):
    net, x, y = make(name)
    loss, H, theta = exact_hessian(net.eval(), x, y)
    assert float((H - H.mT).abs().max()) < 1e-10
    values = torch.linalg.eigvalsh(H).clamp(min=0)
    want = float(-loss - 0.5 * theta @ theta - 0.5 * values.log1p().sum())
    found = fit(net, x, y, curvature="hessian").evidence
    assert float(found.log_marginal_likelihood) == pytest.approx(want, abs=1e-8)


def test_a_hessian_that_torch_computes_asymmetrically_is_refused():
    net, x, y = make("weight_norm")
    with pytest.raises(ValueError, match="symmetric Hessian"):
        fit(net, x, y, curvature="hessian")


@pytest.mark.parametrize("name", ["tied", "functional use", "weights used again"])
def test_kronecker_factors_of_shared_weights_are_refused(name):
    net, x, y = make(name)
    with pytest.raises(ValueError, match='curvature "kron" needs'):
        fit(net, x, y, curvature="kron")


@pytest.mark.parametrize("name", ["time first", "sorted", "routed"])
def test_kronecker_factors_do_not_depend_on_the_order_of_a_layers_inputs(name):
    net, x, y = make(name)
    assert fit(net, x, y, curvature="kron").evidence.log_marginal_likelihood < 0


def test_kronecker_factors_of_an_embedding_alone_are_exact():
    net, x, y = make("positions")
    net.c.requires_grad_(False)
    values = [
        float(fit(net, x, y, curvature=kind).evidence.log_marginal_likelihood)
        for kind in ("ggn", "kron")
    ]
    assert values[0] == pytest.approx(evidence(net, x, y, "ggn"), abs=1e-9)
    assert values[1] == pytest.approx(values[0], abs=1e-9)


def test_the_method_says_that_rows_are_computed_directly():
    direct, layered = (fit(*make(name)).evidence.method for name in ("tied", "SiLU"))
    assert "reverse passes for each observation" in direct
    assert "reverse passes" not in layered


class Plain(nn.Module):
    """A small network with a given forward."""

    def __init__(self, forward, prepare=None):
        super().__init__()
        self.a, self.c = nn.Linear(4, 4), nn.Linear(4, 3)
        self.given = forward
        if prepare is not None:
            prepare(self)

    def forward(self, x):
        return self.given(self, x)


def body(net, x):
    return net.c(torch.tanh(net.a(x)))


def plain():
    return Plain(body).double()


def problem(n=12):
    torch.manual_seed(1)
    return torch.randn(n, 4, dtype=F64), torch.randint(3, (n,))


def counting(net, x):
    net.n.add_(1)
    return body(net, x) * net.n


def centred(net, x):
    h = torch.tanh(net.a(x))
    return net.c(h - h.mean(0))


def overwriting(net, x):
    h = x * 1.0
    first = net.a(h)
    h.mul_(2.0)
    return net.c(first + h)


def dropping(p):
    return lambda net, x: net.c(F.dropout(torch.tanh(net.a(x)), p, True))


REFUSED = {
    "dropout": (dropping(0.5), "deterministic function"),
    "little dropout": (dropping(0.02), "deterministic function"),
    "numpy's generator": (lambda net, x: body(net, x) + np.random.randn(),  # noqa: NPY002
                          "deterministic function"),
    "Python's generator": (lambda net, x: body(net, x) * random.random(), "deterministic function"),
    "mean over the batch": (centred, "independently of the others"),
    "tuple": (lambda net, x: (body(net, x), x), "one tensor of shape"),
    "dict": (lambda net, x: {"logits": body(net, x)}, "got a dict"),
    "three axes": (lambda net, x: body(net, x)[..., None], "scores of shape"),
    "float32 inside": (lambda net, x: net.c(net.a(x).float()), "pass that dtype"),
    "float32 at the end": (lambda net, x: body(net, x).float(), "pass dtype=torch.float32"),
    "NaN": (lambda net, x: body(net, x) / 0 * 0, "finite"),
    "saved tensor overwritten": (overwriting, "differentiable in its weights"),
    "whole batch squeezed": (lambda net, x: body(net, x).reshape(-1), "scores of shape"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_networks_without_a_laplace_evidence_are_refused(name):
    forward, message = REFUSED[name]
    x, y = problem()
    with pytest.raises((ValueError, TypeError), match=message):
        fit(Plain(forward).double(), x, y)


def test_a_network_with_a_counter_is_refused():
    x, y = problem()
    net = Plain(counting, lambda net: net.register_buffer("n", torch.ones(()))).double()
    with pytest.raises(ValueError, match="deterministic function"):
        fit(net, x, y)


def test_batch_norm_without_running_statistics_is_refused():
    x, y = problem()
    for norm in (nn.BatchNorm1d(4, track_running_stats=False),):
        net = nn.Sequential(nn.Linear(4, 4), norm, nn.Linear(4, 3)).double()
        with pytest.raises(ValueError, match="track_running_stats=True"):
            fit(net, x, y)


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda net, x, y: fit(net, DataLoader(TensorDataset(x, x, y), 5), None), "pairs"),
        (lambda net, x, y: fit(net, [{"x": x, "y": y}], None), "pairs"),
        (lambda net, x, y: fit(net, [(x, y[:5])], None), "one entry for each input"),
        (lambda net, x, y: fit(net, x, y[:5]), "12"),
        (lambda net, x, y: fit(net, x, torch.cat([y, y])), "12"),
        (lambda net, x, y: fit(net, x, x, likelihood="gaussian", noise=[0.1, 0.2, 0.3]),
         "noise must be one variance"),
        (lambda net, x, y: fit(net, x.long(), y), "integer inputs"),
        (lambda net, x, y: fit(net, x[:, :3], y), "net fails on inputs"),
        (lambda net, x, y: fit(net, {}, y), "at least one array"),
        (lambda net, x, y: fit(net, {"a": x, "b": x[:3]}, y), "one number of rows"),
        (lambda net, x, y: fit(net, x[:0], y[:0]), "n ≥ 1"),
        (lambda net, x, y: fit(torch.jit.script(nn.Linear(4, 3).double()), x, y), "TorchScript"),
        (lambda net, x, y: fit(nn.Sequential(torch.jit.script(nn.Linear(4, 3).double())), x, y),
         "TorchScript"),
        (lambda net, x, y: fit(nn.Sequential(nn.LazyLinear(3)), x, y), "lazy"),
        (lambda net, x, y: fit(net, x, y, curvature="last_layer", last_layer="head"),
         "one of 'a', 'c'"),
        (lambda net, x, y: fit(net, x, y, curvature="diag", last_layer="c"),
         "last_layer must be None"),
        (lambda net, x, y: fit(Plain(lambda n, v: body(n, v).mul_(2.0)).double(), x, y,
                               curvature="last_layer"), "last_layer="),
        (lambda net, x, y: fit(nn.Embedding(5, 3).double(), x, y), "tokens"),
    ],
    ids=range(18),
)  # fmt: skip
def test_mistakes_are_named_in_one_sentence(act, message):
    x, y = problem()
    with pytest.raises((ValueError, TypeError), match=message):
        act(plain(), x, y)


def test_a_frozen_head_is_named():
    x, y = problem()
    net = plain()
    net.c.requires_grad_(False)
    with pytest.raises(ValueError, match="layer 'c', but all are frozen"):
        fit(net, x, y, curvature="last_layer")


def test_outputs_without_an_axis_for_columns_are_one_column():
    x, _ = problem()
    y = x[:, 0]
    options = {"likelihood": "gaussian", "noise": 0.1}
    torch.manual_seed(0)
    column = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 1)).double()
    flat = nn.Sequential(*copy.deepcopy(column), nn.Flatten(0))
    want = fit(column, x, y, **options).evidence.log_marginal_likelihood
    for batch in (1, 5, 12):
        found = fit(flat, x, y, batch=batch, **options).evidence.log_marginal_likelihood
        assert float(found) == pytest.approx(float(want), abs=1e-9)


@pytest.mark.parametrize("curvature", ["ggn", "kron", "diag", "hessian", "last_layer"])
def test_a_network_that_ignores_its_weights_has_no_complexity(curvature):
    x, y = problem()
    head = {"last_layer": "c"} if curvature == "last_layer" else {}
    net = Plain(lambda net, x: body(net, x) * 0.0).double()
    posterior = fit(net, x, y, curvature=curvature, **head)
    theta = posterior.theta
    want = -12 * np.log(3) - 0.5 * float(theta @ theta)
    assert float(posterior.evidence.log_marginal_likelihood) == pytest.approx(want, abs=1e-12)


def test_a_network_under_a_checkpoint_without_gradients_of_its_input_is_right():
    x, y = problem()

    def whole(net, x):
        return checkpoint(lambda u: body(net, u), x, use_reentrant=True)

    torch.manual_seed(0)
    one = fit(Plain(whole).double(), x, y).evidence.log_marginal_likelihood
    torch.manual_seed(0)
    other = fit(plain(), x, y).evidence.log_marginal_likelihood
    assert float(one) == pytest.approx(float(other), abs=1e-9)


@pytest.mark.parametrize("convert", [False, True])
def test_a_network_that_computes_in_float32_itself_works_in_float32(convert):
    x, y = problem()
    torch.manual_seed(0)
    net = Plain(lambda net, x: net.c(torch.tanh(net.a(x)).float()))
    found = fit(net, x.float() if convert else x, y, dtype=torch.float32).evidence
    net.given = body
    want = fit(net, x, y).evidence
    gap = abs(float(found.log_marginal_likelihood - want.log_marginal_likelihood))
    assert gap <= 3 * float(found.error)


def test_a_named_head_may_be_followed_by_other_layers():
    x, y = problem()
    net = Plain(lambda net, x: 2 * body(net, x)).double()
    found = fit(net, x, y, curvature="last_layer", last_layer="c").evidence
    want = evidence(net, x, y, "ggn", only="c")
    assert float(found.log_marginal_likelihood) == pytest.approx(want, abs=1e-9)
    assert found.complexity_excludes == ("features",)


def test_sparse_gradients_of_an_embedding_are_accepted():
    net = nn.Sequential(nn.Embedding(5, 4, sparse=True), nn.Flatten(), nn.Linear(12, 3)).double()
    torch.manual_seed(0)
    x, y = torch.randint(5, (12, 3)), torch.randint(3, (12,))
    found = fit(net, x, y).evidence.log_marginal_likelihood
    net[0].sparse = False
    assert float(found) == pytest.approx(evidence(net, x, y, "ggn"), abs=1e-9)


def test_a_loader_with_a_sampler_is_read_by_its_own_number_of_observations():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 5000), nn.Tanh(), nn.Linear(5000, 3)).double()  # P > 20,000
    x, y = torch.randn(30_000, 4, dtype=F64), torch.randint(3, (30_000,))
    some = SubsetRandomSampler(range(40), generator=torch.Generator().manual_seed(0))
    loader = list(DataLoader(TensorDataset(x, y), 20, sampler=some))

    class Loader(list):
        dataset = TensorDataset(x, y)

    found = fit(net, Loader(loader), None).evidence
    want = fit(net, torch.cat([b[0] for b in loader]), torch.cat([b[1] for b in loader])).evidence
    assert float(found.log_marginal_likelihood) == pytest.approx(
        float(want.log_marginal_likelihood), abs=1e-8
    )


def state(net):
    modes = {name: m.training for name, m in net.named_modules()}
    hooks = {name: list(m._forward_hooks) for name, m in net.named_modules()}
    flags = {name: (p.requires_grad, p.grad) for name, p in net.named_parameters()}
    values = {name: value.clone() for name, value in net.state_dict().items()}
    return modes, hooks, flags, values


def generators():
    return random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()  # noqa: NPY002


@pytest.mark.parametrize("curvature", ["ggn", "kron", "hessian", "last_layer"])
def test_everything_of_the_user_is_as_before(curvature):
    net, x, y = make("in place")
    net.train()
    net.a.eval()
    seen = []
    net.c.register_forward_hook(lambda module, given, output: seen.append(module))
    before, copies, drawn = state(net), (x.clone(), y.clone()), generators()
    posterior = fit(net, x, y, curvature=curvature)
    posterior.mean(x)
    posterior.predict(x, seed=3)
    posterior.sample_weights(2)
    after = state(net)
    assert after[:3] == before[:3]
    assert all(torch.equal(after[3][name], value) for name, value in before[3].items())
    assert torch.equal(x, copies[0])
    assert torch.equal(y, copies[1])
    assert generators() == drawn
    assert torch.backends.mha.get_fastpath_enabled()
    assert all(module is not net.c for module in seen)  # hooks see the copy


@pytest.mark.parametrize("name", ["dropout", "mean over the batch", "saved tensor overwritten"])
def test_everything_of_the_user_is_as_before_after_an_exception(name):
    x, y = problem()
    net = Plain(REFUSED[name][0]).double().train()
    before, copies, drawn = state(net), x.clone(), generators()
    with pytest.raises(ValueError):  # noqa: PT011
        fit(net, x, y)
    assert state(net)[:3] == before[:3]
    assert torch.equal(x, copies)
    assert generators() == drawn


def test_inputs_that_are_overwritten_later_do_not_change_predictions():
    x, y = problem()
    posterior = fit(plain(), x, y)
    want = posterior.marginals()
    x.zero_()
    for before, after in zip(want, posterior.marginals(), strict=True):
        assert torch.equal(before, after)


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_a_fit_works_in_a_context_without_gradients(context):
    x, y = problem()
    net = plain()
    want = fit(net, x, y)
    with context():
        found = fit(net, x, y)
        found.predict(x)
    assert torch.equal(
        found.evidence.log_marginal_likelihood, want.evidence.log_marginal_likelihood
    )


@pytest.mark.parametrize("curvature", ["ggn", "kron", "diag", "last_layer"])
def test_posteriors_are_pickled_and_copied(curvature):
    net, x, y = make("SiLU")
    posterior = fit(net, x, y, curvature=curvature)
    want = posterior.predict(x).probs
    for other in (pickle.loads(pickle.dumps(posterior)), copy.deepcopy(posterior)):
        torch.testing.assert_close(other.predict(x).probs, want)


@pytest.mark.parametrize("name", ["spectral_norm hook", "pruned", "weight_norm"])
def test_posteriors_of_networks_with_hooks_are_copied(name):
    net, x, y = make(name)
    posterior = fit(net, x, y)
    want = posterior.predict(x).probs
    torch.testing.assert_close(copy.deepcopy(posterior).predict(x).probs, want)


def test_complex_parameters_are_refused():
    x, y = problem()

    def prepare(net):
        net.w = nn.Parameter(torch.randn(4, 4, dtype=torch.complex128))

    with pytest.raises(TypeError, match="'w' is complex"):
        fit(Plain(lambda net, x: body(net, (x + 0j @ net.w).real), prepare).double(), x, y)


def test_new_inputs_of_another_shape_are_refused():
    x, y = problem()
    posterior = fit(plain(), x, y)
    with pytest.raises(ValueError, match=r"net fails on inputs of shape \(2, 3\)"):
        posterior.predict(x[:, :3])


@pytest.mark.parametrize("build", [Tied, Transformer])
def test_a_prior_mean_may_be_a_copy_of_the_network(build):
    torch.manual_seed(0)
    net = build().double()
    x = torch.randn(10, 5, 4, dtype=F64) if build is Transformer else torch.randn(10, 4, dtype=F64)
    y = torch.randint(3, (10,))
    plain_fit = fit(net, x, y).evidence
    centred_fit = fit(net, x, y, prior_mean=copy.deepcopy(net)).evidence
    theta = torch.cat([p.detach().reshape(-1) for p in net.parameters()])
    gap = float(centred_fit.log_marginal_likelihood - plain_fit.log_marginal_likelihood)
    assert gap == pytest.approx(float(0.5 * theta @ theta), abs=1e-9)


class Repeated(nn.Module):
    """One module that is listed three times, or once and used three times."""

    def __init__(self, listed):
        super().__init__()
        torch.manual_seed(1)
        layer = nn.Linear(4, 4)
        self.layers, self.listed = nn.ModuleList([layer] * 3) if listed else layer, listed
        self.c = nn.Linear(4, 3)

    def forward(self, x):
        for layer in self.layers if self.listed else [self.layers] * 3:
            x = torch.tanh(layer(x))
        return self.c(x)


@pytest.mark.parametrize("options", [{"curvature": "hessian"}, {"curvature": "ggn"},
                                     {"curvature": "kron"}, {"mode": "linearised"}])  # fmt: skip
def test_a_module_that_is_listed_several_times_is_one(options):
    x, y = problem()
    posteriors = [fit(Repeated(listed).double(), x, y, **options) for listed in (True, False)]
    listed, once = (float(p.evidence.log_marginal_likelihood) for p in posteriors)
    assert listed == pytest.approx(once, abs=1e-9)
    before = posteriors[0].mean(x)
    if "mode" not in options:
        list(posteriors[0].network_samples(x, 2))
    assert torch.equal(posteriors[0].mean(x), before)
    own = posteriors[0].curvature.weights
    assert all(isinstance(p, nn.Parameter) for p in own.net.parameters())


def test_training_many_networks_leaves_modules_that_are_listed_several_times():
    x, y = problem()
    nets = [[Repeated(listed).double() for _ in range(2)] for listed in (True, False)]
    losses = [bg.train_ensemble(each, x, torch.stack([y, y]), epochs=3) for each in nets]
    np.testing.assert_allclose(losses[0], losses[1])
    assert isinstance(nets[0][0].layers[0].weight, nn.Parameter)
    torch.testing.assert_close(nets[0][0](x), nets[1][0](x))


def closure(net):
    net.given = lambda _, x: net.c(torch.tanh(net.a(x)))
    return net


def hooked_by_closure(net):
    net.scale = nn.Parameter(torch.tensor(2.0, dtype=F64))
    net.a.register_forward_hook(lambda module, given, output: output * net.scale)
    return net


@pytest.mark.parametrize("refer", [closure, hooked_by_closure])
def test_functions_that_refer_to_the_original_network_are_refused(refer):
    x, y = problem()
    net = refer(plain())
    acts = [
        lambda: fit(net, x, y),
        lambda: bg.fit_map(net, x, y, prior_precision=1.0),
        lambda: bg.Laplace(net, remode=True).fit(x, y),
    ]
    for act in acts:
        with pytest.raises(ValueError, match="refer to its parameters through self"):
            act()
    assert all(p.grad is None for p in net.parameters())


def test_a_network_that_changes_its_weights_is_refused():
    net = nn.Sequential(nn.Embedding(5, 4, max_norm=0.5), nn.Flatten(), nn.Linear(8, 3)).double()
    x, y = torch.randint(5, (12, 2)), torch.randint(3, (12,))
    with pytest.raises(ValueError, match="change its parameters in forward"):
        fit(net, x, y)


@pytest.mark.parametrize("curvature", ["ggn", "diag", "kron", "hessian"])
def test_derivatives_that_are_not_finite_are_named(curvature):
    x, y = problem()
    x[3] = 0
    net = Plain(lambda net, x: net.c(net.a(x - 0 * x) * 0 + (x @ net.a.weight.T).square()
                                     .sum(-1, keepdim=True).sqrt())).double()  # fmt: skip
    with pytest.raises(ValueError, match="finite derivatives, but those of 'a.weight'"):
        fit(net, x, y, curvature=curvature)


def test_derivatives_that_are_not_finite_at_new_inputs_are_named():
    x, y = problem()
    net = Plain(lambda net, x: net.c((x @ net.a.weight.T).square().sum(-1, keepdim=True).sqrt()
                                     .expand(-1, 4))).double()  # fmt: skip
    posterior = fit(net, x, y)
    with pytest.raises(ValueError, match="not finite at these inputs"):
        posterior.predict(torch.zeros(1, 4, dtype=F64))


def test_a_tiny_prior_precision_has_a_hessian():
    x, y = problem(60)
    found = fit(plain(), x, y, curvature="hessian", prior_precision=1e-15)
    assert torch.isfinite(found.evidence.log_marginal_likelihood)


@pytest.mark.parametrize("noise", [1e-2, 1e-6, 1e-8])
def test_the_error_in_float32_covers_the_rounding_of_the_outputs(noise):
    x, _ = problem(60)
    torch.manual_seed(0)
    net, y = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1)), x[:, :1].sin()
    options = {"likelihood": "gaussian", "noise": noise, "prior_precision": 1e6}
    rough = fit(net, x.float(), y.float(), dtype=torch.float32, **options).evidence
    exact = fit(net, x.float().double(), y.float().double(), **options).evidence
    gap = abs(float(rough.log_marginal_likelihood - exact.log_marginal_likelihood))
    assert gap <= float(rough.error)


def test_arguments_of_other_kinds_are_named():
    x, y = problem()
    with pytest.raises(TypeError, match=r"dtype must be torch.float64"):
        bg.Laplace(plain(), dtype="float64")
    with pytest.raises(ValueError, match="count must be an integer"):
        fit(plain(), x, y).latent_samples(0)
    with pytest.raises(ValueError, match="x has the keys 'z' and forward takes"):
        fit(plain(), {"z": x}, y)
    mixed = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 3).half())
    with pytest.raises(ValueError, match="parameters of one dtype"):
        fit(mixed, x.float(), y, dtype=None)
    stacked = Plain(lambda net, x: torch.stack([body(net, row) for row in x])).double()
    with pytest.raises(ValueError, match='curvature "kron" needs'):
        fit(stacked, x, y, curvature="kron")
    same = fit(plain(), x, y.to(torch.uint16)).evidence
    assert torch.isfinite(same.log_marginal_likelihood)


def test_a_likelihood_that_is_not_log_concave_has_a_hessian():
    x, _ = problem(30)
    torch.manual_seed(0)
    net, y = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 1)).double(), 5 * x[:, 1]
    with pytest.raises(ValueError, match='curvature="hessian" needs none'):
        fit(net, x, y, likelihood="student-t")
    posterior = fit(net, x, y, likelihood="student-t", curvature="hessian")
    own, inner = posterior.likelihood, posterior.observed.y[0]

    def negative(theta):
        named, at = {}, 0
        for name, p in net.named_parameters():
            named[name] = theta[at : at + p.numel()].reshape(p.shape)
            at += p.numel()
        return -own.log_density(inner, torch.func.functional_call(net, named, (x,))).sum()

    theta = torch.cat([p.detach().reshape(-1) for p in net.parameters()])
    H = torch.func.hessian(negative)(theta)
    values = torch.linalg.eigvalsh(H).clamp(min=0)
    want = float(-negative(theta) - 0.5 * theta @ theta - 0.5 * values.log1p().sum())
    assert float(posterior.evidence.log_marginal_likelihood) == pytest.approx(want, abs=1e-8)


def test_real_targets_take_the_dtype_of_the_curvature():
    x, _ = problem()
    torch.manual_seed(0)
    net, y = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 1)), x[:, :1].float()
    options = {"likelihood": "gaussian", "noise": 0.5}
    found = fit(net, x.float(), y, **options).evidence
    want = fit(net.double(), x.float().double(), y.double(), **options).evidence
    assert float(found.log_marginal_likelihood) == pytest.approx(
        float(want.log_marginal_likelihood), abs=1e-9
    )


@pytest.mark.parametrize("curvature", ["ggn", "diag", "kron", "hessian"])
def test_a_parameter_without_elements_changes_nothing(curvature):
    x, y = problem()
    net = plain()
    want = fit(net, x, y, curvature=curvature).evidence
    net.empty = nn.ParameterList([torch.zeros(0, 3, dtype=F64)])
    net.given = lambda net, x: body(net, x) + x[:, :0] @ net.empty[0]
    found = fit(net, x, y, curvature=curvature).evidence
    assert float(found.log_marginal_likelihood) == pytest.approx(
        float(want.log_marginal_likelihood), abs=1e-12
    )


def test_a_named_head_asks_for_its_curvature():
    x, y = problem()
    net = plain()
    named = fit(net, x, y, last_layer="c").evidence
    asked = fit(net, x, y, curvature="last_layer").evidence
    assert torch.equal(named.log_marginal_likelihood, asked.log_marginal_likelihood)
    assert named.complexity_excludes == ("features",)
