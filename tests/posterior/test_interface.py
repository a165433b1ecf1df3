"""One interface for all posteriors, and evidences that are plain values.

Tests of `bayesgen.posterior.posterior`.
"""

import gc
import pickle
import weakref

import gpytorch
import pytest
import torch

import bayesgen as bg
from bayesgen.posterior import ExactPosterior, Observed, Posterior

F64 = torch.float64


def inputs(n=40):
    x = torch.linspace(0, 1, n, dtype=F64)[:, None]
    return x, torch.sin(6 * x[:, 0]) + 0.1 * torch.cos(97 * x[:, 0])


def tasks(n=40):
    x, y = inputs(n)
    return x, torch.stack([y, -2 * y, y.square()])[..., None]


def rbf():
    return gpytorch.kernels.RBFKernel()


def fits():
    x, y = inputs()
    labels = (y > 0).long()
    net = bg.networks.MLP(1, (3,), 1).double()
    bg.fit_map(net, x, labels, "bernoulli", prior_precision=1.0)
    return {
        "gp": bg.GaussianProcess(rbf()).fit(x, y),
        "linear": bg.Polynomial(3).fit(x, y),
        "laplace gp": bg.GaussianProcess(rbf(), likelihood="bernoulli").fit(x, labels),
        "laplace linear": bg.Polynomial(2, likelihood="bernoulli").fit(x, labels),
        "network": bg.Laplace(net, "bernoulli", hyperparameters="fixed").fit(x, labels),
        "batch": bg.GaussianProcess(rbf()).fit_batch(x.expand(2, -1, -1), torch.stack([y, -y])),
    }


@pytest.fixture(scope="module")
def posteriors():
    return fits()


NAMES = ("gp", "linear", "laplace gp", "laplace linear", "network", "batch")


@pytest.mark.parametrize("name", NAMES)
def test_an_evidence_survives_pickling(posteriors, name):
    evidence = posteriors[name].evidence
    again = pickle.loads(pickle.dumps(evidence))
    for part in ("fit", "complexity", "effective_dimension", "error", "jitter", "fingerprint"):
        assert torch.equal(getattr(again, part), getattr(evidence, part))
    assert (again.n, again.method) == (evidence.n, evidence.method)


def test_a_kept_evidence_keeps_neither_posterior_nor_matrices_alive():
    x, y = inputs(300)
    model = bg.GaussianProcess(rbf(), noise=0.01, hyperparameters="fixed")
    model.fit(x, y)
    gc.collect()
    posterior = model.fit(x, y)
    alive, kept = weakref.ref(posterior), [posterior.evidence]
    del posterior
    gc.collect()
    assert alive() is None
    storage = sum(
        part.untyped_storage().nbytes()
        for part in (kept[0].fit, kept[0].complexity, kept[0].error, kept[0].fingerprint)
    )
    assert storage < 1000
    assert 100 * len(pickle.dumps(kept[0])) < 300 * 300 * 8


@pytest.mark.parametrize("name", NAMES)
def test_every_posterior_has_the_whole_interface(posteriors, name):
    posterior = posteriors[name]
    assert isinstance(posterior, Posterior)
    one = posterior.task(0)
    assert one.evidence.batch_shape == ()
    assert one.latent_samples(3).shape[:2] == (3, 40)
    assert one.marginals()[0].shape[0] == 40
    assert one.to_arviz(draws=8) is not None
    assert set(bg.compare({"model": one}).index) == {"model", "null"}
    with pytest.raises(ValueError, match="task must be an integer in 0"):
        posterior.task(len(posterior.observed.y))


def test_methods_are_absent_where_the_thing_is(posteriors):
    assert not hasattr(posteriors["network"], "certificate")
    assert not hasattr(posteriors["laplace gp"], "learning_curve")
    assert not hasattr(posteriors["laplace gp"], "weights")
    assert not hasattr(posteriors["laplace linear"], "kernels")
    assert isinstance(posteriors["gp"], ExactPosterior)
    assert hasattr(posteriors["batch"], "certificate")


@pytest.mark.parametrize(
    "model",
    [
        lambda: bg.GaussianProcess(rbf()),
        lambda: bg.GaussianProcess(rbf(), noise=0.01, hyperparameters="fixed"),
        lambda: bg.GaussianProcess(rbf(), mean=0.3),
        lambda: bg.Polynomial(3),
    ],
    ids=["learnt", "fixed", "mean", "linear"],
)
def test_a_task_of_a_batch_is_its_fit_alone(model):
    x, y = tasks()
    batch = model().fit(x, y)
    for b in range(len(y)):
        part, alone = batch.task(b), model().fit(x, y[b])
        gap = part.evidence.log_marginal_likelihood - alone.evidence.log_marginal_likelihood
        assert abs(float(gap)) < 0.02
        assert part.evidence.fingerprint == batch.evidence.fingerprint[b]
        assert part.observed.shape == alone.observed.shape
        assert part.predict(x[:3]).mean.shape == alone.predict(x[:3]).mean.shape
        torch.testing.assert_close(part.predict(x[:3]).mean, batch.predict(x[:3]).mean[b])
        part.evidence.log_bayes_factor(alone.evidence)  # of the same data


def test_models_with_different_prior_means_see_the_same_targets():
    x, y = inputs()
    table = bg.compare(
        {
            "zero": bg.GaussianProcess(rbf()).fit(x, y),
            "number": bg.GaussianProcess(rbf(), mean=0.3).fit(x, y),
            "function": bg.GaussianProcess(rbf(), mean=lambda x: 0.1 * x[:, 0]).fit(x, y),
            "linear": bg.Polynomial(3).fit(x, y),
            "student": bg.GaussianProcess(rbf(), likelihood="student-t").fit(x, y),
        }
    )
    assert len(table) == 6
    assert table.log_evidence.notna().all()


def test_the_same_numbers_read_as_labels_and_as_reals_are_different_data():
    x, y = inputs()
    labels = (y > 0).long()
    real = bg.GaussianProcess(rbf()).fit(x, labels.double())
    read = bg.GaussianProcess(rbf(), likelihood="bernoulli").fit(x, labels)
    with pytest.raises(ValueError, match="different targets"):
        bg.compare({"real": real, "labels": read})


def test_a_batch_of_data_sets_is_certified_one_by_one():
    x, y = inputs()
    labels = torch.where(torch.stack([y, -y]) > 0, 1.0, -1.0).double()
    model = bg.GaussianProcess(rbf(), hyperparameters=("scale", "noise"))
    batch = model.fit_batch(x.expand(2, -1, -1), labels)
    alone = model.fit(x, labels[1])
    got, wanted = batch.certificate(task=1), alone.certificate()
    assert got.bound == pytest.approx(wanted.bound, abs=0.02)
    with pytest.raises(ValueError, match="task must be given"):
        batch.certificate()


def test_a_batch_of_laplace_posteriors_is_certified_one_by_one():
    x, y = inputs()
    labels = torch.stack([(y > 0).long(), (y < 0.5).long()])
    model = bg.GaussianProcess(rbf(), likelihood="bernoulli", hyperparameters="fixed")
    batch = model.fit(x, labels)
    for b in range(2):
        assert batch.certificate(task=b).bound == model.fit(x, labels[b]).certificate().bound


def test_old_names_of_arguments_and_attributes_still_work():
    x, y = tasks()
    batch = bg.GaussianProcess(rbf(), noise=0.01, hyperparameters="fixed").fit(x, y)
    with pytest.warns(DeprecationWarning, match=r"latent_samples\(task=\)"):
        old = batch.latent_samples(2, labelling=1)
    assert torch.equal(old, batch.latent_samples(2, task=1))
    with pytest.warns(DeprecationWarning, match="data_dependent"):
        assert batch.looked == batch.data_dependent
    with pytest.warns(DeprecationWarning, match="fit_batch"):
        bg.GaussianProcess(rbf()).fit(x.expand(3, -1, -1), y)


def test_conditional_of_an_evidence_names_the_method_of_the_posterior():
    x, y = inputs()
    with pytest.raises(AttributeError, match=r"posterior\.conditional_evidence\(m\)"):
        bg.Polynomial(3).fit(x, y).evidence.conditional(10)


@pytest.mark.parametrize("name", ["marginals", "latent_samples", "spectrum", "at"])
def test_a_task_out_of_range_is_refused_everywhere(name):
    x, y = tasks()
    batch = bg.GaussianProcess(rbf(), noise=0.01, hyperparameters="fixed").fit(x, y)
    first = (2,) if name == "latent_samples" else ()
    for wrong in (3, -1, True, 0.5):
        with pytest.raises(ValueError, match=r"task must be an integer in 0\.\.2"):
            getattr(batch, name)(*first, task=wrong)
    getattr(batch, name)(*first, task=torch.tensor(1))
    with pytest.raises(TypeError, match="former name"):
        batch.latent_samples(2, task=0, labelling=1)


def test_a_posterior_written_with_the_former_argument_name_works():
    class Old(bg.models.Posterior):
        def __init__(self):
            self.observed = Observed(torch.zeros(1, 5, 1, dtype=F64), torch.Size([5]), False)

        def predict(self, x_new, *, latent=False):
            raise NotImplementedError

        def latent_samples(self, count, *, labelling=0, seed=0):
            return torch.zeros(count, 5, 1, dtype=F64)

        def observe(self, f, *, labelling=0):
            return torch.distributions.Normal(f, 1.0)

        def marginals(self, labelling=0):
            return torch.zeros(5, 1, dtype=F64), torch.ones(5, 1, dtype=F64)

    old = Old()
    assert old.log_likelihood(torch.zeros(5, 1, dtype=F64)).shape == (5,)
    assert old.parameters(3)["f"].shape == (3, 5, 1)
    assert old.task(0) is old
