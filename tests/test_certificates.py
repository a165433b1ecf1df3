import math

import gpytorch
import pytest
import torch

import bayesgen as bg
from bayesgen import pacbayes
from bayesgen.evidence import Evidence
from bayesgen.pacbayes import expected_losses
from bayesgen.pacbayes.certificates.assemble import sure_complexity
from bayesgen.pacbayes.certificates.free_mean import _Family
from bayesgen.pacbayes.certificates.losses import zero_one
from bayesgen.pacbayes.certificates.predictors import Updated
from bayesgen.pacbayes.certificates.request import THEOREMS
from bayesgen.pacbayes.certificates.tuning import TunedSetting, TuningProblem
from bayesgen.spectrum.spectrum import Spectrum


def rbf(lengthscale):
    kernel = gpytorch.kernels.RBFKernel().double()
    kernel.lengthscale = torch.tensor(lengthscale, dtype=torch.float64)
    return kernel


@pytest.fixture(scope="module")
def digits():
    return bg.data.load("digits", train=200, test=100)


@pytest.fixture(scope="module")
def one_hot(digits):
    return bg.likelihoods.one_hot(digits.y_train, 10)


@pytest.fixture(scope="module")
def parity(digits):
    return 2 * (digits.y_train % 2).double() - 1


def test_a_kept_posterior_pays_the_complexity_of_its_evidence(digits, one_hot):
    gp = bg.GaussianProcess(rbf(2.0), 0.3, hyperparameters="fixed").fit(digits.x_train, one_hot)
    made = gp.certificate(delta=0.1)
    mean, variance = gp.marginals()
    risk = float(expected_losses.zero_one(mean, variance, digits.y_train).mean())
    kl = float(gp.evidence.complexity)
    assert made.risk == pytest.approx(risk)
    assert made.complexity == pytest.approx(kl)
    assert made.bound == pytest.approx(float(pacbayes.maurer(risk, kl, 200, 0.1)))
    assert made.posterior is gp
    draws = gp.latent_samples(500)
    assert made.risk == pytest.approx(
        float((draws.argmax(-1) != digits.y_train).double().mean()), abs=5e-3
    )


@pytest.mark.parametrize("bound", list(THEOREMS))
def test_every_bound_lies_between_risk_and_one(digits, parity, bound):
    gp = bg.GaussianProcess(rbf(2.0), hyperparameters=("scale", "noise"))
    made = gp.fit(digits.x_train, parity).certificate(bound=bound)
    assert made.risk < made.bound <= 1
    assert made.guessing == 0.5


def test_tuning_finds_the_minimum_over_scale_and_noise(digits, parity):
    posterior = bg.GaussianProcess(rbf(2.0), hyperparameters=("scale", "noise")).fit(
        digits.x_train, parity
    )
    made = posterior.certificate()
    assert made.bound < posterior.certificate(noise="keep").bound
    s, noise = made.settings["scale"], made.settings["noise"]
    for scale in (0.8, 1.0, 1.25):
        for ratio in (0.8, 1.25):
            other = posterior.at(scale=s * scale, noise=noise * ratio * scale)
            assert other.certificate(noise="keep").bound >= made.bound - 1e-6
    assert made.posterior.certificate(noise="keep").bound == pytest.approx(made.bound, abs=1e-9)


def test_scaling_prior_and_posterior_alike_changes_nothing(digits, parity):
    """What makes the outputscale free: f and 3f have the same signs, and the same KL."""
    posterior = bg.GaussianProcess(rbf(2.0), 0.3, hyperparameters="fixed").fit(
        digits.x_train, parity
    )
    tripled = bg.GaussianProcess(
        gpytorch.kernels.ScaleKernel(rbf(2.0)), 0.3 * 9, hyperparameters="fixed"
    )
    tripled.kernel.double().outputscale = torch.tensor(9.0, dtype=torch.float64)
    other = tripled.fit(digits.x_train, 3 * parity)
    assert other.certificate().bound == pytest.approx(posterior.certificate().bound, abs=1e-9)


def test_two_classes_one_hot_cost_what_their_sign_costs(digits, parity):
    labels = (parity > 0).long()
    model = bg.GaussianProcess(rbf(2.0), hyperparameters=("scale", "noise"))
    sign = model.fit(digits.x_train, parity).certificate()
    coded = model.fit(digits.x_train, bg.likelihoods.one_hot(labels, 2)).certificate()
    assert coded.bound == pytest.approx(sign.bound, abs=1e-6)


def test_dropping_the_sum_of_outputs_changes_no_risk_and_lowers_the_kl(digits, one_hot):
    gp = bg.GaussianProcess(rbf(2.0), hyperparameters=("scale", "noise"))
    made = gp.fit(digits.x_train, one_hot).certificate()
    kept = made.posterior.certificate(noise="keep")
    assert made.risk == pytest.approx(kept.risk, abs=1e-10)
    # The sum has targets 0: what it costs is the covariance's share of one output.
    zero = Spectrum.dense(made.posterior._gram.matrix(made.posterior._theta[0]), one_hot.sum(1))
    at = (made.settings["scale"], made.settings["noise"])
    dropped = float(zero.evidence(*at).complexity)
    assert made.complexity == pytest.approx(kept.complexity - dropped, rel=1e-8)


def test_learnt_priors_are_refused_or_rounded_and_paid(digits, parity):
    posterior = bg.GaussianProcess(rbf(2.0)).fit(digits.x_train, parity)
    with pytest.raises(ValueError, match=r"kernel had been learnt.*grid=\{\"lengthscale\""):
        posterior.certificate()
    made = posterior.certificate(grid={"lengthscale": [1.0, 2.0, 4.0, 8.0]})
    assert made.settings["lengthscale"] in (1.0, 2.0, 4.0, 8.0)
    assert made.payments[0].nats == pytest.approx(math.log(4))
    prior = {1.0: 0.7, 2.0: 0.1, 4.0: 0.1, 8.0: 0.1}
    skewed = posterior.certificate(grid={"lengthscale": prior})
    assert skewed.payments[0].nats == pytest.approx(-math.log(prior[made.settings["lengthscale"]]))
    with pytest.raises(ValueError, match="sum to at most 1"):
        posterior.certificate(grid={"lengthscale": {1.0: 0.7, 2.0: 0.7}})
    any_power = posterior.certificate(grid="geometric")
    k = round(2 * math.log2(float(posterior.lengthscale)))
    assert any_power.settings["lengthscale"] == pytest.approx(2 ** (k / 2))
    assert any_power.payments[0].nats == pytest.approx(
        2 * math.log(1 + abs(k)) + math.log(math.pi**2 / 3 - 1)
    )
    chances = [1 / (math.pi**2 / 3 - 1) / (1 + abs(j)) ** 2 for j in range(-10_000, 10_001)]
    assert 0.999 < sum(chances) < 1
    nearest = min((1.0, 2.0, 4.0, 8.0), key=lambda v: abs(math.log(v / posterior.lengthscale)))
    assert made.settings["lengthscale"] == nearest
    fixed = bg.GaussianProcess(rbf(nearest), hyperparameters=("scale", "noise"))
    assert fixed.fit(digits.x_train, parity).certificate().bound < made.bound


def test_linear_models_owe_their_decay_and_order():
    x = torch.linspace(-1, 1, 60, dtype=torch.float64)
    y = torch.where(torch.sin(4 * x) > 0, 1.0, -1.0).double()
    legendre = {"kind": "legendre", "input_range": (-1.0, 1.0)}
    posterior = bg.Polynomial(12, bg.priors.geometric(2.0), **legendre).fit(x, y)
    with pytest.raises(ValueError, match="decay had been learnt"):
        posterior.certificate()
    made = posterior.certificate(grid={"decay": [1.5, 2.0, 4.0]})
    assert made.settings["decay"] == pytest.approx(
        min((1.5, 2.0, 4.0), key=lambda v: abs(math.log(v / float(posterior.decay))))
    )
    posterior = bg.Polynomial(12, **legendre, hyperparameters=("order", "noise")).fit(x, y)
    made = posterior.certificate(grid={"order": list(range(13))})
    assert made.payments[0].nats == pytest.approx(math.log(13))
    fixed = bg.Polynomial(6, 1.0, 0.3, **legendre, hyperparameters="fixed").fit(x, y)
    kept = fixed.certificate()
    assert kept.complexity == pytest.approx(float(fixed.evidence.complexity))


@pytest.mark.parametrize(
    ("model", "wanted"),
    [
        (bg.Polynomial(3, 1.0, 0.3, kind="legendre", hyperparameters="fixed"), "input_range"),
        (bg.Fourier(3, 1.0, 0.3, hyperparameters="fixed"), "period"),
        (
            bg.Polynomial(3, kind="chebyshev", likelihood="bernoulli", hyperparameters="fixed"),
            "input_range",
        ),
    ],
)
def test_a_basis_that_looked_at_the_inputs_is_refused(model, wanted):
    x = torch.linspace(-1, 1, 30, dtype=torch.float64)
    y = x > 0 if model.likelihood is not None else torch.where(x > 0, 1.0, -1.0).double()
    posterior = model.fit(x, y)
    with pytest.raises(ValueError, match=rf"took from them.*pass {wanted}"):
        posterior.certificate()
    assert math.isnan(bg.compare({"a": posterior}).bound["a"])
    if model.likelihood is None:
        with pytest.raises(ValueError, match="took from them"):
            pacbayes.certify(model, x, y)
        assert pacbayes.certify(model, x, y, split=0.5).n == 15


def test_with_a_prior_mean_the_outputscale_is_part_of_the_prior(digits, parity):
    """What the data would make of it must not reach the bound."""
    gp = bg.GaussianProcess(rbf(2.0), mean=0.5)
    made = pacbayes.certify(gp, digits.x_train, parity)
    assert made.settings["scale"] == 1.0
    with pytest.raises(ValueError, match="scale had been learnt"):
        gp.fit(digits.x_train, parity, hyperparameters=("scale", "noise")).certificate()


def test_real_targets_want_a_range_and_a_paid_scale(regression):
    x, y = regression
    learnt = bg.GaussianProcess(rbf(0.5), hyperparameters=("scale", "noise")).fit(x, y[0])
    with pytest.raises(ValueError, match='take loss="squared"|wants class labels'):
        bg.GaussianProcess(rbf(0.5), 0.1, hyperparameters="fixed").fit(x, y[0, :, 0]).certificate()
    with pytest.raises(ValueError, match="pass clip=c"):
        learnt.certificate(loss="squared")
    with pytest.raises(ValueError, match="scale had been learnt"):
        learnt.certificate(loss="squared", clip=4.0)
    made = learnt.certificate(loss="squared", clip=4.0, grid={"scale": [0.1, 1.0, 10.0]})
    assert 0 < made.risk < made.bound < 4
    assert made.guessing is None
    assert made.vacuous is None
    fixed = bg.GaussianProcess(rbf(0.5), 0.05, hyperparameters="fixed").fit(x, y[0])
    mean, variance = fixed.marginals()
    risk = expected_losses.clipped_squared(mean, variance, y[0], 4.0).mean()
    got = fixed.certificate(loss="squared", clip=4.0)
    assert got.risk == pytest.approx(float(risk))
    tuned = fixed.certificate(loss="squared", clip=4.0, noise="tune")
    assert tuned.bound <= got.bound + 1e-9
    assert tuned.settings["scale"] == pytest.approx(1.0)


def test_the_nll_of_a_gaussian_is_explained(regression):
    x, y = regression
    learnt = bg.GaussianProcess(rbf(0.5), hyperparameters=("noise",)).fit(x, y[0])
    with pytest.raises(ValueError, match="clipped likelihood's evidence is not the Gaussian"):
        learnt.certificate(loss="nll")
    with pytest.raises(ValueError, match="noise had been learnt"):
        learnt.certificate(loss="nll", clip=(-1.0, 5.0))
    fixed = bg.GaussianProcess(rbf(0.5), 0.2, hyperparameters="fixed").fit(x, y[0])
    made = fixed.certificate(loss="nll", clip=(0.0, 5.0))
    assert isinstance(made, pacbayes.Certificate)
    assert 0 < made.risk < made.bound < 5
    oracle = fixed.certificate(loss="nll", subgamma=(0.5, 0.1))
    assert isinstance(oracle, pacbayes.OracleBound)
    assert not isinstance(oracle, pacbayes.Certificate)
    assert "not a certificate" in str(oracle)
    want = pacbayes.subgamma(
        -float(fixed.evidence.fit) / 40, float(fixed.evidence.complexity), 40, 0.5, 0.1
    )
    assert oracle.bound == pytest.approx(float(want))


def test_the_vote_says_which_bound_it_gives(digits, parity):
    gp = bg.GaussianProcess(rbf(2.0), hyperparameters=("scale", "noise")).fit(
        digits.x_train, parity
    )
    gibbs, vote = gp.certificate(), gp.certificate(predictor="vote")
    assert vote.predictor == "vote"
    assert vote.bound == pytest.approx(gibbs.vote)
    with pytest.raises(ValueError, match="is for class labels"):
        gp.certificate(loss="squared", clip=1.0, predictor="vote", grid={"scale": [1.0]})
    assert "Twice the Gibbs" in vote.theorem or "C-bound" in vote.theorem
    assert vote.bound <= 2 * gibbs.bound + 0.05
    assert "majority vote" in str(vote)


def test_c_bound_against_brute_force(rng):
    for _ in range(200):
        W = torch.from_numpy(rng.beta(0.5, 2.0, 400))
        errs = float((W >= 0.5).double().mean())
        first, second = W.mean(), W.square().mean()
        assert float(pacbayes.c_bound(first, second)) >= errs - 1e-12
        assert float(pacbayes.c_bound(first + 0.05, second + 0.02)) >= errs - 1e-12
        assert (
            float(pacbayes.c_bound(first + 0.05, second))
            >= float(pacbayes.c_bound(first, second)) - 1e-12
        )


def test_laplace_posteriors_have_certificates(digits):
    labels = digits.y_train % 2
    fixed = bg.GaussianProcess(rbf(2.0), likelihood="bernoulli", hyperparameters=("scale",))
    posterior = fixed.fit(digits.x_train, labels)
    made = posterior.certificate()
    assert made.risk == pytest.approx(posterior.gibbs_risk())
    assert made.complexity == pytest.approx(float(posterior.evidence.complexity), rel=1e-6)
    with pytest.raises(ValueError, match="kernel had been learnt|but kernel"):
        bg.GaussianProcess(rbf(2.0), likelihood="bernoulli").fit(
            digits.x_train, labels
        ).certificate()
    soft = bg.GaussianProcess(rbf(2.0), likelihood="softmax", hyperparameters="fixed")
    made = soft.fit(digits.x_train[:60], digits.y_train[:60]).certificate()
    assert "half of δ" in str(made)
    assert made.risk < made.bound


def test_certify_pays_for_the_choice_and_takes_the_best(digits, parity):
    models = {f"{v}": bg.GaussianProcess(rbf(v)) for v in (1.0, 2.0, 4.0)}
    best = pacbayes.certify(models, digits.x_train, parity)
    assert best.payments[0].nats == pytest.approx(math.log(3))
    for value in (1.0, 2.0, 4.0):
        one = bg.GaussianProcess(rbf(value), hyperparameters=("scale", "noise"))
        free = one.fit(digits.x_train, parity).certificate()
        paid = pacbayes.maurer(free.risk, free.complexity + math.log(3), 200)
        assert best.bound <= float(paid) + 1e-4
    skewed = pacbayes.certify(
        models,
        digits.x_train,
        parity,
        log_prior={"1.0": math.log(0.9), "2.0": math.log(0.05), "4.0": math.log(0.05)},
    )
    assert sum(p.nats for p in skewed.payments) == pytest.approx(
        -math.log(0.9 if skewed.settings["lengthscale"] == 1.0 else 0.05)
    )


def test_certify_serves_a_batch_of_tasks(digits):
    labels = [bg.corrupt_labels(digits.y_train, v, num_classes=10)[0] for v in (0.0, 1.0)]
    y = bg.likelihoods.one_hot(torch.stack(labels), 10)
    models = [bg.GaussianProcess(rbf(v)) for v in (2.0, 3.0)]
    both = pacbayes.certify(models, digits.x_train, y)
    alone = pacbayes.certify(models, digits.x_train, y[0])
    assert both[0].bound == pytest.approx(alone.bound, abs=1e-6)
    assert both[1].vacuous
    assert not both[0].vacuous


@pytest.mark.parametrize("kind", ["gp", "linear"])
def test_a_free_mean_is_lower_and_pays_its_kl(digits, one_hot, kind):
    if kind == "gp":
        model = bg.GaussianProcess(rbf(2.0))
    else:
        model = bg.LinearModel(bg.bases.Convolutional(40, image=(1, 8, 8), patch=3, grid=2))
    plain = pacbayes.certify(model, digits.x_train, one_hot)
    made = pacbayes.certify(model, digits.x_train, one_hot, mean="free")
    assert made.bound < plain.bound - 0.005
    # KL by brute force: both are Gaussians over contrasts of f at the sample.
    K = plain.posterior._prior()[0].matrix(plain.posterior._prior()[1])
    values, vectors = torch.linalg.eigh(K)
    keep = values > 1e-9 * values.max()
    mean = K @ made.posterior.weights
    whitened = (vectors[:, keep].mT @ mean) / values[keep].sqrt()[:, None]
    s = made.settings["scale"]
    from_mean = 0.5 * float(whitened.square().sum()) / s
    assert 0 < from_mean < made.complexity
    torch.testing.assert_close(made.posterior.mean(digits.x_train), mean, rtol=1e-6, atol=1e-8)
    assert float((mean.argmax(-1) != digits.y_train).double().mean()) < made.risk
    guesses = made.posterior.mean(digits.x_test).argmax(-1)
    assert float((guesses != digits.y_test).double().mean()) < made.bound
    with pytest.raises(ValueError, match="not with split"):
        pacbayes.certify(model, digits.x_train, one_hot, mean="free", split=0.5)


def test_the_kl_of_a_free_mean_is_that_of_two_gaussians():
    generator = torch.Generator().manual_seed(0)
    root = torch.randn(6, 6, generator=generator, dtype=torch.float64)
    K, y = root @ root.mT, bg.likelihoods.one_hot([0, 1, 2, 0, 1, 2], 3)
    loss, theorem = zero_one(y), lambda risk, kl: pacbayes.maurer(risk, kl, 6)
    problem = TuningProblem.of(Spectrum.dense(K, y), torch.zeros_like(y), loss, theorem, None)
    scale, ratio = 1.7, 0.4
    family = _Family(problem, scale)
    A = torch.randn(6, 2, generator=generator, dtype=torch.float64)
    mean, variance, kl = family.at(A, torch.tensor(ratio).double().log())
    P = torch.distributions.MultivariateNormal(torch.zeros(6).double(), scale * K)
    eye = torch.eye(6, dtype=torch.float64)
    cov = scale * (K - K @ torch.linalg.solve(K + ratio * eye, K))
    torch.testing.assert_close(variance[:, 0], cov.diagonal())
    contrasts = mean @ problem.contrasts
    want = sum(
        torch.distributions.kl_divergence(
            torch.distributions.MultivariateNormal(contrasts[:, c], cov), P
        )
        for c in range(2)
    )
    torch.testing.assert_close(kl, want)
    start = family.start(TunedSetting(scale, scale * ratio, 1.0))
    at_posterior, _, same = family.at(start, torch.tensor(ratio).double().log())
    setting = torch.tensor(scale).double(), torch.tensor(scale * ratio).double()
    torch.testing.assert_close(at_posterior, problem.marginals(*setting)[0])
    torch.testing.assert_close(same, problem.evidence(*setting).complexity)


def test_a_spectrum_is_a_prior_too(digits, parity):
    gp = bg.GaussianProcess(rbf(2.0), hyperparameters=("scale", "noise"))
    posterior = gp.fit(digits.x_train, parity)
    K = posterior._gram.matrix(posterior._theta[0])
    made = pacbayes.certify({"K": Spectrum.dense(K)}, None, parity)
    assert made.bound == pytest.approx(posterior.certificate().bound, abs=1e-6)
    assert made.posterior is None


@pytest.mark.parametrize("kind", ["gp", "linear"])
def test_a_split_prior_is_the_conditional_evidence(kind):
    x = torch.linspace(-1, 1, 50, dtype=torch.float64)[torch.randperm(50)]
    y = torch.where(torch.sin(4 * x) > 0, 1.0, -1.0).double()
    if kind == "gp":
        model = bg.GaussianProcess(rbf(0.4), 0.3, hyperparameters="fixed")
    else:
        model = bg.Polynomial(
            6, 1.0, 0.3, kind="chebyshev", input_range=None, hyperparameters="fixed"
        )
    m = 20
    spectrum, offset = model.fit(x[:m], y[:m]).as_prior(x[m:, None], y[m:, None])
    after = spectrum.evidence(1.0, 0.3)
    whole = model.fit(x, y).evidence.conditional(m, orderings=1)
    torch.testing.assert_close(after.complexity.squeeze(), whole.complexity, rtol=1e-7, atol=1e-8)
    torch.testing.assert_close(after.fit.squeeze(), whole.fit, rtol=1e-7, atol=1e-8)
    mean, variance = spectrum.marginals(1.0, 0.3)
    full = model.fit(x, y)
    later = Updated(model.fit(x[:m], y[:m]), x[m:, None], spectrum.solve(1.0, 0.3)[0])
    new = torch.linspace(-1, 1, 7, dtype=torch.float64)[:, None]
    torch.testing.assert_close(later.mean(new)[:, 0], full.mean(new), rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(
        (offset + mean[0])[:, 0], full.predict(x[m:], latent=True).mean, rtol=1e-6, atol=1e-8
    )
    torch.testing.assert_close(
        variance[0, :, 0], full.predict(x[m:], latent=True).variance, rtol=1e-5, atol=1e-8
    )


def test_a_split_learns_what_it_likes_on_its_share(digits, parity):
    free = bg.GaussianProcess(gpytorch.kernels.RBFKernel())
    made = pacbayes.certify(free, digits.x_train, parity, split=0.5)
    assert made.n == 100
    assert "100 other observations" in str(made)
    whole = pacbayes.certify(bg.GaussianProcess(rbf(2.0)), digits.x_train, parity)
    assert made.bound < whole.bound
    signs = torch.where(made.posterior.mean(digits.x_test)[:, 0] > 0, 1, 0)
    assert (signs != digits.y_test % 2).double().mean() < 0.15
    random = 2 * torch.randint(2, (200,), generator=torch.Generator().manual_seed(0)).double() - 1
    assert pacbayes.certify(free, digits.x_train, random, split=0.5).vacuous


def test_an_uncertain_evidence_enters_at_its_upper_end_or_not_at_all():
    exact = Evidence(-10.0, 5.0, 100, 1.0, error=1e-9)
    assert sure_complexity(exact, 0.05) == (5.0 + 1e-9, 0.05, ())
    rough = Evidence(-10.0, 5.0, 100, 1.0, error=0.2)
    kl, delta, notes = sure_complexity(rough, 0.05)
    assert kl == pytest.approx(5.0 + 0.2 * 2.5758, abs=1e-3)
    assert delta == pytest.approx(0.045)
    assert "upper end" in notes[0]
    with pytest.raises(ValueError, match="evidence must be surer"):
        sure_complexity(Evidence(-10.0, 5.0, 100, 1.0, error=1.0), 0.05)


def test_the_story_says_what_is_bounded_and_what_is_paid(digits, parity):
    models = [bg.GaussianProcess(rbf(v)) for v in (1.0, 2.0)]
    story = str(pacbayes.certify(models, digits.x_train, parity, delta=0.01))
    for part in (
        "at least 0.99",
        "200 observations",
        "KL(Q‖P)",
        "2 priors stated beforehand",
        "free of charge",
        "Maurer",
        "guessing has a risk of 0.5",
    ):
        assert part in story


def test_the_bound_holds_in_simulation():
    """1,000 draws of a known problem: six inputs, noisy labels, a fixed GP."""
    generator = torch.Generator().manual_seed(0)
    points = torch.linspace(-1, 1, 6, dtype=torch.float64)
    positive = torch.tensor([0.1, 0.2, 0.4, 0.7, 0.9, 0.6], dtype=torch.float64)
    model = bg.GaussianProcess(rbf(0.7), 0.5, hyperparameters="fixed")
    delta, failures = 0.1, 0
    for _ in range(1000):
        which = torch.randint(6, (25,), generator=generator)
        chance = torch.rand(25, generator=generator, dtype=torch.float64)
        y = torch.where(chance < positive[which], 1.0, -1.0).double()
        posterior = model.fit(points[which], y)
        made = posterior.certificate(delta)
        latent = posterior.predict(points, latent=True)
        negative = torch.special.ndtr(-latent.mean / latent.stddev)
        truth = float((positive * negative + (1 - positive) * (1 - negative)).mean())
        failures += truth > made.bound
    assert failures <= delta * 1000


def test_a_prior_chosen_by_the_data_and_not_paid_for_fails_more_often():
    """Random labels, 5,000 point-mass priors: the best looks good, unless it is paid for."""
    generator = torch.Generator().manual_seed(0)
    n, M, delta = 20, 5000, 0.05
    free, paid = 0, 0
    for _ in range(200):
        wrong = torch.rand(M, n, generator=generator) < 0.5
        risk = float(wrong.double().mean(1).min())
        free += float(pacbayes.maurer(risk, 0.0, n, delta)) < 0.5
        paid += float(pacbayes.maurer(risk, math.log(M), n, delta)) < 0.5
    assert free > 2 * delta * 200
    assert paid <= delta * 200


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda p: p.certificate(delta=0.0), r"delta must lie in \(0, 1\)"),
        (lambda p: p.certificate(loss="hinge"), "loss must be one of"),
        (lambda p: p.certificate(bound="pinsker"), "bound must be one of"),
        (lambda p: p.certificate(predictor="best"), "predictor must be one of"),
        (lambda p: p.certificate(noise="learn"), "noise must be one of"),
        (lambda p: p.certificate(grid={"period": [1.0]}), "grid must be one of"),
        (lambda p: p.certificate(grid={"lengthscale": []}), "must hold positive numbers"),
        (lambda p: p.certificate(clip=2.0), "clip is for the losses"),
        (lambda p: p.certificate(subgamma=(1.0, 0.1)), "subgamma is for"),
        (lambda p: p.certificate(loss="nll", clip=3.0), r"clip must be a range \(a, b\)"),
        (lambda p: p.certificate(loss="squared", clip=-3.0), "clip must be positive"),
    ],
)
def test_bad_input_is_named(digits, parity, call, message):
    posterior = bg.GaussianProcess(rbf(2.0), 0.1, hyperparameters="fixed").fit(
        digits.x_train, parity
    )
    with pytest.raises(ValueError, match=message):
        call(posterior)


def test_bad_input_to_certify_is_named(digits, parity):
    gp, x = bg.GaussianProcess(rbf(2.0)), digits.x_train
    for arguments, more, message in (
        (({}, x, parity), {}, "at least one model"),
        ((gp, x, parity), {"split": 1.0}, r"split must lie in \(0, 1\)"),
        ((gp, x, parity), {"log_prior": {"1": 0.5}}, "sum to at most 1"),
        ((gp, x, parity), {"log_prior": {"a": 0.0}}, "log_prior must name the models"),
        ((gp, None, parity), {}, "x must be given"),
        ((gp, x, parity), {"split": 0.5, "cooling": []}, "at least one share"),
    ):
        with pytest.raises(ValueError, match=message):
            pacbayes.certify(*arguments, **more)
    with pytest.raises(TypeError, match="must be a GaussianProcess"):
        pacbayes.certify({"a": 3.0}, x, parity)
    with pytest.raises(TypeError, match="must have Gaussian noise, got a bernoulli"):
        pacbayes.certify(bg.GaussianProcess(rbf(2.0), likelihood="bernoulli"), x, parity)


def test_a_batch_wants_its_task_named(regression):
    x, y = regression
    posterior = bg.GaussianProcess(rbf(0.5), 0.1, hyperparameters="fixed").fit(x, y)
    with pytest.raises(ValueError, match=r"task must be given, 0\.\.2"):
        posterior.certificate(loss="squared", clip=1.0)
    assert posterior.certificate(loss="squared", clip=1.0, task=2).n == 40
