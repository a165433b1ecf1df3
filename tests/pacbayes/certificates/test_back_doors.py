"""Learnt values that return as constants, objects or files; tests of
`bayesgen.pacbayes.certificates.posterior` and `bayesgen.pacbayes.certificates.search`.
"""

import copy
import io
import math
import pickle
from types import SimpleNamespace

import gpytorch
import pytest
import torch
from torch import nn

import bayesgen as bg
from bayesgen import pacbayes
from bayesgen.provenance import record
from tests.helpers import rbf_kernel

GENERATOR = torch.Generator().manual_seed(11)
X = torch.randn(40, 2, generator=GENERATOR, dtype=torch.float64)
Y = torch.where(X[:, 0] + 0.3 * torch.randn(40, generator=GENERATOR) > 0, 1.0, -1.0).double()
X2 = torch.randn(40, 2, generator=GENERATOR, dtype=torch.float64)
Y2 = torch.where(X2[:, 0] > 0, 1.0, -1.0).double()
LABELS, FIXED = (Y > 0).long(), "fixed"
ONE_HOT = nn.functional.one_hot(LABELS, 2).double()


def gp(kernel, x=X, y=Y, **more):
    return bg.GaussianProcess(kernel, 0.3, hyperparameters=FIXED, **more).fit(x, y)


def kernel(lengthscale):
    made = rbf_kernel(1.0)
    made.lengthscale = torch.as_tensor(lengthscale, dtype=torch.float64)
    return made


def network(outputs=1):
    return bg.networks.MLP(2, (6,), outputs, activation="tanh").double()


class OfNet(gpytorch.kernels.Kernel):
    """A kernel on the features of a network."""

    def __init__(self, net):
        super().__init__()
        self.net = net.requires_grad_(False)

    def forward(self, a, b, diag=False, **_):
        left, right = self.net(a), self.net(b)
        return (left * right).sum(-1) if diag else left @ right.mT


@pytest.fixture(scope="module")
def made():
    p = bg.GaussianProcess(gpytorch.kernels.RBFKernel()).fit(X, Y)
    net = network()
    bg.train(net, X, Y[:, None], "gaussian", epochs=2, batch=None)
    deep = bg.DeepKernel(
        network(2), gpytorch.kernels.RBFKernel(), objective="conditional", steps=3
    ).fit(X, Y)
    linear = bg.Polynomial(
        4, bg.priors.geometric(2.0), hyperparameters=("scale", "decay", "noise", "order")
    ).fit(X, Y)
    both = torch.stack([Y, -Y])[..., None]
    batch = bg.GaussianProcess(gpytorch.kernels.RBFKernel()).fit(X, both)
    # Weights learnt by a fixed model: its mean is a function of the targets.
    return SimpleNamespace(
        p=p, l=float(p.lengthscale), net=net, deep=deep, linear=linear, batch=batch,
        stated=gp(kernel(1.0)),
    )  # fmt: skip


def through_file(module):
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


def state_of(module, fresh):
    fresh.load_state_dict(module.state_dict())
    return fresh


def polynomial(order, prior, **more):
    return bg.Polynomial(order, prior, 0.3, hyperparameters=FIXED, **more).fit(X, Y)


def laplace(made_kernel):
    model = bg.GaussianProcess(made_kernel, likelihood="bernoulli", hyperparameters=FIXED)
    return model.fit(X, LABELS)


ROUTES = {
    "at: tensor": lambda m: m.p.at(lengthscale=m.p.lengthscale),
    "at: float": lambda m: m.p.at(lengthscale=m.l),
    "at: clone": lambda m: m.p.at(lengthscale=m.p.lengthscale.clone()),
    "at: numpy": lambda m: m.p.at(lengthscale=m.p.lengthscale.numpy()),
    "at: float32": lambda m: m.p.at(lengthscale=m.p.lengthscale.float()),
    "at: four digits": lambda m: m.p.at(lengthscale=float(f"{m.l:.4g}")),
    "at: twice": lambda m: m.p.at(lengthscale=1.0).at(lengthscale=m.l),
    "at: another task": lambda m: m.batch.task(1).at(lengthscale=m.l),
    "kernel": lambda m: gp(m.p.kernels[0]),
    "kernel: scaled": lambda m: gp(gpytorch.kernels.ScaleKernel(m.p.kernels[0])),
    "kernel: copy": lambda m: gp(copy.deepcopy(m.p.kernels[0])),
    "kernel: pickle": lambda m: gp(pickle.loads(pickle.dumps(m.p.kernels[0]))),
    "kernel: file": lambda m: gp(through_file(m.p.kernels[0])),
    "kernel: state": lambda m: gp(state_of(m.p.kernels[0], kernel(1.0))),
    "kernel: number": lambda m: gp(kernel(m.l)),
    "kernel: function": lambda m: gp(lambda a, b: torch.exp(-torch.cdist(a / m.l, b / m.l))),
    "kernel: one-hot": lambda m: gp(kernel(m.l), y=ONE_HOT),
    "kernel: rows": lambda m: gp(kernel(m.l), X[:15].flip(0), Y[:15].flip(0)),
    "kernel: more rows": lambda m: gp(kernel(m.l), torch.cat([X, X2]), torch.cat([Y, Y2])),
    "kernel: float32": lambda m: gp(kernel(m.l).float(), X.float(), Y.float()),
    "kernel: net": lambda m: gp(OfNet(copy.deepcopy(m.net))),
    "kernel: net in a function": lambda m: gp(lambda a, b: m.net(a) @ m.net(b).mT),
    "mean: learnt posterior": lambda m: gp(kernel(1.0), mean=m.p.mean),
    "mean: stated posterior": lambda m: gp(kernel(1.0), mean=m.stated.mean),
    "mean: function": lambda m: gp(kernel(1.0), mean=lambda x: m.stated.mean(x)),
    "mean: net": lambda m: gp(kernel(1.0), mean=m.net),
    "mean: net state": lambda m: gp(kernel(1.0), mean=state_of(m.net, network())),
    "deep": lambda m: m.deep.gp,
    "deep: at": lambda m: m.deep.gp.at(lengthscale=1.0, scale=1.0, noise=0.3),
    "deep: task": lambda m: m.deep.gp.task(0),
    "deep: kernel": lambda m: gp(m.deep.kernel),
    "deep: features": lambda m: gp(kernel(1.0), m.deep.features(X)),
    "deep: some features": lambda m: gp(kernel(1.0), m.deep.features(X[:9]), Y[:9]),
    "deep: net": lambda m: gp(kernel(1.0), m.deep.net(X).detach()),
    "linear: decay": lambda m: polynomial(4, bg.priors.geometric(float(m.linear.decay))),
    "linear: order": lambda m: polynomial(int(m.linear.order), 1.0),
    "linear: variances": lambda m: polynomial(4, m.linear.prior_variance),
    "linear: at": lambda m: m.linear.at(order=2, decay=float(m.linear.decay)),
    "linear: basis": lambda m: bg.LinearModel(
        lambda x: m.net[0](x).detach(), 1.0, 0.3, hyperparameters=FIXED
    ).fit(X, Y),
    "linear: random features": lambda m: bg.RandomFeatures(
        9, 1.0, 0.3, lengthscale=m.l, hyperparameters=FIXED
    ).fit(X, Y),
    "laplace: kernel": lambda m: laplace(m.p.kernels[0]),
    "laplace: number": lambda m: laplace(kernel(m.l)),
    "many data sets": lambda m: gp(
        bg.GaussianProcess(gpytorch.kernels.RBFKernel()).fit_batch(X[None], Y[None]).kernels[0]
    ),
}


def fitted_elsewhere(of, m):
    """A posterior of other data whose prior comes from these data."""
    made = {"mean": {"mean": m.p.mean}, "kernel": {}}[of]
    return gp(m.p.kernels[0] if of == "kernel" else kernel(1.0), X2, Y2, **made)


def constant(values):
    return lambda x: values


def of_vector(vector):
    return lambda x: torch.tanh(x @ vector[:12].detach().reshape(2, 6)).sum(1)


def trained_further(m):
    net = copy.deepcopy(m.net)
    bg.train(net, X2, Y2[:, None], "gaussian", epochs=1, batch=None)
    return net


ROUTES |= {
    "mean: fitted values": lambda m: gp(kernel(1.0), mean=constant(m.p.fitted())),
    "mean: values": lambda m: gp(kernel(1.0), mean=constant(m.p.mean(X))),
    "mean: values of a linear model": lambda m: gp(kernel(1.0), mean=constant(m.linear.mean(X))),
    "mean: parameters as a vector": lambda m: gp(
        kernel(1.0), mean=of_vector(nn.utils.parameters_to_vector(m.net.parameters()))
    ),
    "elsewhere: mean": lambda m: gp(kernel(1.0), mean=fitted_elsewhere("mean", m).mean),
    "elsewhere: kernel": lambda m: gp(kernel(1.0), mean=fitted_elsewhere("kernel", m).mean),
    "elsewhere: length-scale under a mean": lambda m: gp(
        kernel(
            bg.GaussianProcess(gpytorch.kernels.RBFKernel(), mean=m.p.mean).fit(X2, Y2).lengthscale
        )
    ),
    "elsewhere: net": lambda m: gp(kernel(1.0), mean=trained_further(m)),
    "elsewhere: net in a kernel": lambda m: gp(OfNet(trained_further(m))),
    "basis: range": lambda m: polynomial(
        3, 1.0, kind="legendre", input_range=(X.amin(0), X.amax(0))
    ),
    "basis: period": lambda m: bg.Fourier(
        2, 1.0, 0.3, period=2 * (X.amax(0) - X.amin(0)), hyperparameters=FIXED
    ).fit(X, Y),
    "basis: range, labels": lambda m: bg.Polynomial(
        2, 1.0, kind="legendre", input_range=(X.amin(0), X.amax(0)), likelihood="bernoulli",
        hyperparameters=FIXED,
    ).fit(X, LABELS),
}  # fmt: skip


@pytest.mark.parametrize("route", ROUTES)
def test_learnt_values_have_no_unpaid_certificate(made, route):
    posterior = ROUTES[route](made)
    with pytest.raises(ValueError, match=r"w(as|ere) learnt from .*(fixed|stated)"):
        posterior.certificate()
    assert math.isnan(bg.compare({"model": posterior}).bound["model"])


def test_a_name_that_is_deleted_does_not_help():
    posterior = bg.GaussianProcess(gpytorch.kernels.RBFKernel()).fit(X, Y)
    posterior.learnt = frozenset()
    with pytest.raises(ValueError, match="kernel was learnt"):
        posterior.certificate()


def test_a_kernel_from_a_file_is_recognised_by_another_process(made, monkeypatch):
    kept = pickle.dumps(made.p.kernels[0])
    monkeypatch.setattr(record, "_RECORD", record._Record())
    with pytest.raises(ValueError, match=r"kernel was learnt from 40 observations"):
        gp(pickle.loads(kept)).certificate()
    assert gp(pickle.loads(kept), X2, Y2).certificate().n == 40


def test_a_certified_mean_is_no_prior_mean_for_the_rows_that_it_was_fitted_to():
    model = bg.GaussianProcess(gpytorch.kernels.RBFKernel())
    first = pacbayes.certify(model, X, Y, split=0.5).posterior
    free = pacbayes.certify(bg.GaussianProcess(kernel(1.0)), X, Y, mean="free").posterior
    rows = (X[:, None] == first.x).all(-1).any(1)
    for mean, keep in ((first.mean, rows), (first.mean, ~rows), (free.mean, rows)):
        with pytest.raises(ValueError, match="mean was learnt"):
            gp(kernel(1.0), X[keep], Y[keep], mean=mean).certificate()
    assert gp(kernel(1.0), X2, Y2, mean=first.mean).certificate().n == 40


@pytest.mark.parametrize("split", [None, 0.5])
def test_certify_refuses_learnt_values(made, split):
    for model in (
        bg.GaussianProcess(made.p.kernels[0]),
        bg.GaussianProcess(kernel(made.l)),
        bg.GaussianProcess(kernel(1.0), mean=made.stated.mean),
    ):
        with pytest.raises(ValueError, match=r"models\['1'\] must be stated .* learnt"):
            pacbayes.certify(model, X, Y, split=split)


def test_certify_refuses_a_covariance_that_was_learnt(made):
    for spectrum in (made.p.spectrum(), made.p.spectrum().load(Y)):
        with pytest.raises(ValueError, match=r"models\['K'\] must be stated"):
            pacbayes.certify({"K": spectrum}, None, Y)


def test_a_learnt_value_is_no_grid(made):
    with pytest.raises(ValueError, match="must hold values stated beforehand, got"):
        made.p.certificate(grid={"lengthscale": [made.l, 99.0]})
    with pytest.raises(ValueError, match="must hold values stated beforehand, got"):
        made.p.certificate(grid={"lengthscale": {made.l: 0.9, 1.0: 0.1}})
    with pytest.raises(ValueError, match="must hold values stated beforehand, got"):
        made.p.certificate(grid={"lengthscale": [float(f"{made.l:.4g}"), 99.0]})
    for single in ([float(f"{made.l:.3g}")], {float(f"{made.l:.3g}"): 1.0}):
        with pytest.raises(ValueError, match="at least two values, or the choice would cost noth"):
            made.p.certificate(grid={"lengthscale": single})


def test_payments_are_repeated(made):
    first = made.p.certificate(grid={"lengthscale": [0.5, 1.0, 2.0, 4.0]})
    paid = first.posterior
    for posterior in (
        paid,
        copy.deepcopy(paid),
        paid.at(lengthscale=paid.lengthscale),
        paid.at(noise=0.2),
        bg.GaussianProcess(paid.kernels[0], hyperparameters=("scale", "noise")).fit(X, Y),
    ):
        again = posterior.certificate(noise="tune")
        assert again.payments == first.payments
        assert again.bound == pytest.approx(first.bound, abs=1e-4)
    assert first.payments[0].nats == pytest.approx(math.log(4))
    # Another stated value needs no payment, and another grid has its own.
    assert paid.at(lengthscale=3.0).certificate().payments == ()
    other = paid.certificate(grid={"lengthscale": [0.25, 8.0]})
    assert [p.nats for p in other.payments] == [pytest.approx(math.log(2))]
    assert gp(paid.kernels[0], X2, Y2).certificate().payments == ()
    found = bg.compare({"paid": paid})
    assert math.isnan(found.bound["paid"])  # the outputscale was tuned to the 0–1 loss


def test_the_choice_of_certify_is_paid_again():
    models = [bg.GaussianProcess(kernel(v)) for v in (0.5, 1.0, 2.0)]
    for mean in ("posterior", "free"):
        best = pacbayes.certify(models, X, Y, mean=mean)
        posterior = best.posterior if mean == "posterior" else best.posterior.prior
        again = posterior.certificate()
        assert [p.nats for p in again.payments] == [pytest.approx(math.log(3))]
    chosen = bg.GaussianProcess(posterior.kernels[0])
    assert pacbayes.certify(chosen, X, Y).payments == again.payments


def test_two_choices_of_equal_price_are_both_paid():
    models = [bg.GaussianProcess(kernel(v)) for v in (0.5, 1.0, 2.0)]
    one, two = (pacbayes.certify(models, X, Y).posterior.kernels[0] for _ in range(2))
    both = gp(one + two)
    assert sum(p.nats for p in both.certificate().payments) == pytest.approx(2 * math.log(3))
    again = gp(one + copy.deepcopy(one))
    assert sum(p.nats for p in again.certificate().payments) == pytest.approx(math.log(3))


def test_a_choice_is_paid_with_a_split_and_as_a_covariance():
    models = [bg.GaussianProcess(kernel(v)) for v in (0.6, 1.1, 2.1)]
    chosen = pacbayes.certify(models, X, Y).posterior
    alone = bg.GaussianProcess(chosen.kernels[0])
    made = pacbayes.certify(alone, X, Y, split=0.5, cooling=(1.0,))
    assert [p.nats for p in made.payments] == [pytest.approx(math.log(3))]
    for spectrum in (chosen.spectrum(), chosen.spectrum().load(Y)):
        made = pacbayes.certify({"K": spectrum}, None, Y)
        assert [p.nats for p in made.payments] == [pytest.approx(math.log(3))]
    assert pacbayes.certify({"K": gp(kernel(1.7)).spectrum()}, None, Y).payments == ()


def test_values_tuned_to_a_bound_are_learnt():
    tuned = gp(kernel(1.0)).certificate(noise="tune").posterior
    assert {"scale", "noise"} <= tuned.provenance.unpaid
    for posterior in (tuned, gp(kernel(1.0)).at(scale=float(tuned.scale))):
        with pytest.raises(ValueError, match="scale was learnt"):
            posterior.certificate(loss="squared", clip=4.0)
    assert tuned.certificate().bound <= gp(kernel(1.0)).certificate().bound


def test_an_outputscale_is_free_for_the_0_1_loss_only(made):
    moved = gp(kernel(1.0)).at(scale=float(made.p.scale))
    assert moved.certificate().bound < 1
    with pytest.raises(ValueError, match="scale was learnt"):
        moved.certificate(loss="squared", clip=4.0)
    assert math.isnan(bg.compare({"moved": moved}).bound["moved"])
    with pytest.raises(ValueError, match="scale was learnt"):
        gp(kernel(1.0), mean=0.5).at(scale=float(made.p.scale)).certificate()


def test_subgamma_refuses_learnt_values(made):
    with pytest.raises(ValueError, match="kernel was learnt"):
        gp(kernel(made.l)).certificate(loss="nll", subgamma=(1.0, 0.5))
    assert gp(kernel(1.0)).certificate(loss="nll", subgamma=(1.0, 0.5)).n == 40


def test_a_setting_found_by_optimise_is_learnt():
    space = {"lengthscale": (0.3, 3.0)}
    found = bg.select.optimise(
        lambda lengthscale: gp(kernel(lengthscale)), space, trials=2, progress=False
    )
    with pytest.raises(ValueError, match=r"kernel was learnt .*by bayesgen\.select\.optimise"):
        gp(kernel(found.setting["lengthscale"])).certificate()


def test_stated_values_and_values_from_other_data_need_no_payment(made):
    plain = gp(kernel(1.0))
    for posterior in (
        plain,
        gp(kernel(0.5)),
        gp(made.p.kernels[0], X2, Y2),
        gp(kernel(made.l), X2, Y2),
        gp(kernel(1.0), X2, Y2, mean=made.net),
        gp(kernel(1.0), X2, Y2, mean=made.p.mean),
        gp(kernel(1.0), made.deep.features(X2), Y2),
        made.p.at(lengthscale=2.0),
        bg.GaussianProcess(rbf_kernel(2.0), hyperparameters=("scale", "noise")).fit(X, Y),
    ):
        certificate = posterior.certificate()
        assert certificate.payments == ()
        assert certificate.risk < certificate.bound
    assert plain.provenance.unpaid == frozenset()
    assert "Everything was stated" in str(plain.provenance)
    own = pacbayes.maurer(plain.gibbs_risk() and made_risk(plain), plain.evidence.complexity, 40)
    assert plain.certificate().bound == pytest.approx(float(own), rel=1e-9)


def made_risk(posterior):
    mean, variance = posterior.marginals()
    return pacbayes.expected_losses.zero_one(mean, variance, LABELS).mean()


def test_samples_of_few_different_points_do_not_hold_stated_values_for_learnt():
    generator = torch.Generator().manual_seed(0)
    points = torch.linspace(-1, 1, 6, dtype=torch.float64)
    model = bg.GaussianProcess(rbf_kernel(0.7), 0.5, hyperparameters=FIXED)
    for _ in range(5):
        which = torch.randint(6, (25,), generator=generator)
        y = 2.0 * torch.randint(2, (25,), generator=generator).double() - 1
        bg.GaussianProcess(gpytorch.kernels.RBFKernel()).fit(points[which], y)
        assert model.fit(points[which], y).certificate().payments == ()


def test_a_split_of_repeated_rows_keeps_working():
    x, y = X[:6].repeat(8, 1), Y[:6].repeat(8)
    made = pacbayes.certify(bg.GaussianProcess(gpytorch.kernels.RBFKernel()), x, y, split=0.5)
    assert made.n == 24


@pytest.mark.parametrize("signal", [0.0, 0.7])
def test_independent_data_sets_on_one_grid_are_certified(signal):
    generator = torch.Generator().manual_seed(5)
    x = torch.linspace(-1, 1, 60, dtype=torch.float64)[:, None]
    last = None
    for _ in range(20):
        noise = torch.randn(60, generator=generator, dtype=torch.float64)
        y = torch.where(signal * x[:, 0] + noise > 0, 1.0, -1.0).double()
        made = bg.GaussianProcess(gpytorch.kernels.RBFKernel()).fit(x, y)
        stated = gp(kernel(1.234), x, y).at(scale=1.05, noise=0.3142)
        assert stated.certificate().payments == ()
        if abs(float(made.lengthscale) - math.log(2)) < 1e-6:  # it was left as stated
            continue
        if last is not None and 0.02 < last < 19:  # not at an end of the range, as others are
            assert gp(kernel(last), x, y).certificate().payments == ()
        with pytest.raises(ValueError, match="kernel was learnt"):
            gp(kernel(made.lengthscale), x, y).certificate()
        last = made.lengthscale


ROUTES_OF_INPUTS = {
    "standardised": lambda x: (x - x.mean(0)) / x.std(0),
    "columns": lambda x: x.flip(1),
    "added": lambda x: torch.cat([x, x.square()], 1),
}


@pytest.mark.parametrize("route", ROUTES_OF_INPUTS)
def test_inputs_in_another_form_are_those_of_the_same_data(made, route):
    with pytest.raises(ValueError, match="kernel was learnt"):
        gp(kernel(made.l), ROUTES_OF_INPUTS[route](X), Y).certificate()
