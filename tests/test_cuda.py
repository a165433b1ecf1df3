"""Results on a GPU are those on the CPU; every test also runs on a pretended GPU."""

from contextlib import nullcontext

import gpytorch
import pytest
import torch
import torch.distributed as dist

import bayesgen as bg
from bayesgen import experiments, likelihoods, solvers
from bayesgen.covariance import distributed
from bayesgen.covariance.gram import gram
from bayesgen.covariance.tiled import TiledGram
from bayesgen.errors import NotAtModeWarning
from bayesgen.spectrum.spectrum import Spectrum
from tests import pretend

DEVICES = ["pretended", pytest.param("cuda", marks=pytest.mark.cuda)]


F64 = torch.float64


@pytest.fixture
def device(request):
    """The name of a device; a card that is pretended is called by a card's name."""
    if request.param != "pretended":
        yield request.param
        return
    with pretend.card():
        yield "cuda"


def problem(device):
    g = torch.Generator().manual_seed(0)
    x = torch.rand(400, 3, generator=g, dtype=F64)
    y = torch.sin(4 * x) + 0.2 * torch.randn(400, 3, generator=g, dtype=F64)
    return x.to(device), y.to(device)


def exact(x, y):
    K = torch.exp(-0.5 * torch.cdist(x, x).square() / 0.25)
    A = K + 0.1 * torch.eye(len(x), dtype=F64, device=x.device)
    normal = torch.distributions.MultivariateNormal(torch.zeros_like(x[:, 0]), A)
    return K, float(normal.log_prob(y.mT).sum())


def expectation(found):
    return found.probs if hasattr(found, "probs") else found.mean


def network(seed=0):
    torch.manual_seed(seed)
    return bg.networks.MLP(3, (16,), 3).double()


@pytest.mark.parametrize("device", DEVICES, indirect=True)
def test_every_engine_finds_evidence_on_device(device):
    x, y = problem(device)
    K, truth = exact(x, y)
    for spectrum in (Spectrum.dense(K, y), Spectrum.krylov(K, y, steps=16)):
        e = spectrum.evidence(1.0, 0.1)
        assert e.fit.device == x.device
        assert abs(float(e.log_marginal_likelihood) - truth) < 3 * float(e.error) + 1e-6
        assert spectrum.solve(1.0, 0.1).device == x.device
    A = K + 0.1 * torch.eye(len(x), dtype=F64, device=x.device)
    for dtype in (F64, torch.float32):
        found = solvers.batched_evidence(A[None], y[None], dtype=dtype)
        gap = abs(float(found.log_marginal_likelihood) - truth)
        assert gap < 3 * float(found.error) + 1e-6
    values, vectors = solvers.eigh(torch.stack([A, K]))  # These are several at once.
    assert values.device == x.device
    torch.testing.assert_close(vectors[0] @ (values[0, :, None] * vectors[0].mT), A)
    low = solvers.evidence_interval(K, y, 1.0, 0.1, rank=100)
    assert float(low.lower) <= truth + 1e-6
    assert truth <= float(low.upper) + 1e-6


@pytest.mark.parametrize("device", DEVICES, indirect=True)
@pytest.mark.parametrize("storage", ["memory", "none"])
def test_tiles_stay_on_device(device, storage):
    x, y = problem(device)
    matrices = gram(gpytorch.kernels.RBFKernel().double().to(device), x)
    theta = matrices.start()
    tiles = TiledGram(matrices, theta, storage)
    K = matrices.matrix(theta)
    assert (tiles @ y).device == x.device
    torch.testing.assert_close(tiles @ y, K @ y)
    assert tiles.moments() == pytest.approx((float(K.trace()), float(K.square().sum())))


@pytest.mark.parametrize("device", DEVICES, indirect=True)
def test_krylov_and_batched_processes_fit_on_device(device):
    x, y = problem(device)
    kernel = gpytorch.kernels.RBFKernel()
    large = bg.GaussianProcess(kernel, engine="krylov").fit(x, y)
    dense = bg.GaussianProcess(kernel).fit(x, y)
    assert large.mean(x[:5]).device == x.device
    gap = large.evidence.log_marginal_likelihood - dense.evidence.log_marginal_likelihood
    assert abs(float(gap)) < 0.02 * abs(float(dense.evidence.log_marginal_likelihood))
    many = bg.GaussianProcess(kernel).fit_batch(x.reshape(8, 50, 3), y.reshape(8, 50, 3))
    assert many.evidence.fit.shape == (8,)
    assert many.evidence.fit.device == x.device


@pytest.mark.parametrize("device", DEVICES, indirect=True)
def test_cholesky_after_search_is_exact_on_device(device, monkeypatch, tmp_path):
    monkeypatch.setattr("bayesgen.solvers.cholesky_factor._PANEL", 128)
    x, y = problem(device)
    tasks = torch.stack([y, y.flip(0)])
    gp = bg.GaussianProcess(gpytorch.kernels.RBFKernel(), engine="cholesky", work=tmp_path)
    found = gp.fit(x, tasks)
    again = gp.fit(x, tasks)  # This fit starts from what is kept.
    assert torch.equal(found.evidence.fit, again.evidence.fit)
    assert found.evidence.fit.device == x.device
    for b in range(2):
        K = torch.exp(-0.5 * torch.cdist(x, x).square() / found.lengthscale[b] ** 2)
        A = found.scale[b] * K + found.noise[b] * torch.eye(len(x)).to(K)
        normal = torch.distributions.MultivariateNormal(torch.zeros_like(x[:, 0]), A)
        truth = float(normal.log_prob(tasks[b].mT).sum())
        assert float(found.evidence.log_marginal_likelihood[b]) == pytest.approx(truth, abs=1e-6)
        freedom = float(torch.linalg.solve(A, found.scale[b] * K).trace()) * 3
        assert float(found.evidence.effective_dimension[b]) == pytest.approx(freedom, abs=1e-6)


@pytest.mark.parametrize("device", DEVICES, indirect=True)
def test_every_model_agrees_with_cpu(device):
    """The results on the device are those on the CPU."""
    x, y = problem("cpu")
    points, y = x[:80], y[:80]
    pixels = torch.rand(80, 64, generator=torch.Generator().manual_seed(1), dtype=F64)
    ard = gpytorch.kernels.ScaleKernel(gpytorch.kernels.MaternKernel(2.5, ard_num_dims=3))
    labels = (y[:, 0] > 0).long()
    softmax = likelihoods.Softmax(2)
    for gp, target in (
        (bg.GaussianProcess(ard), y),
        (bg.GaussianProcess(gpytorch.kernels.RBFKernel()), y),
        (bg.GaussianProcess(gpytorch.kernels.RBFKernel(), 0.1, hyperparameters="fixed"), y),
        (bg.GaussianProcess(gpytorch.kernels.RBFKernel(), likelihood="bernoulli"), labels),
        (bg.GaussianProcess(gpytorch.kernels.RBFKernel(), likelihood=softmax), labels),
        (bg.Polynomial(3), y),
        (bg.Fourier(2), y),
        (bg.RandomFeatures(20), y),
        (bg.LinearModel(bg.bases.Convolutional(4, image=(1, 8, 8), patch=3)), y),
    ):
        x, target = (pixels, target) if "Convolutional" in repr(gp) else (points, target)
        here, there = gp.fit(x, target), gp.fit(x.to(device), target.to(device))
        assert there.evidence.fit.device.type == device
        torch.testing.assert_close(
            there.evidence.log_marginal_likelihood.cpu(),
            here.evidence.log_marginal_likelihood,
            atol=1e-3,
            rtol=1e-4,
        )
        seen, expected = expectation(there.predict(x[:4].to(device))), here.predict(x[:4])
        torch.testing.assert_close(seen.cpu(), expectation(expected), atol=1e-2, rtol=1e-2)


@pytest.mark.parametrize("device", DEVICES, indirect=True)
def test_certificates_exist_on_device(device):
    x, y = problem(device)
    sign = torch.sign(y[:80, 0])
    gp = bg.GaussianProcess(gpytorch.kernels.RBFKernel(), hyperparameters=("scale", "noise"))
    for posterior in (gp.fit(x[:80], sign), bg.RandomFeatures(20).fit(x[:80], sign)):
        certificate = posterior.certificate()
        assert 0 < float(certificate.bound) <= 1


@pytest.mark.parametrize("device", DEVICES, indirect=True)
@pytest.mark.parametrize("curvature", ["ggn", "hessian", "kron", "diag", "last_layer"])
@pytest.mark.parametrize("precision", [1.0, "layer"])
@pytest.mark.filterwarnings("ignore::bayesgen.errors.NotAtModeWarning")
@pytest.mark.filterwarnings("ignore:.*negative eigenvalue")
def test_laplace_evidence_agrees_with_cpu(device, curvature, precision):
    x, y = problem("cpu")
    x, labels = x[:60], y[:60].argmax(1)
    net = network()
    bg.train(net, x, labels, epochs=20, optimiser="adam", learning_rate=1e-2)
    laplace = bg.Laplace(net, prior_precision=precision, curvature=curvature)
    here = laplace.fit(x, labels)
    laplace = bg.Laplace(net.to(device), prior_precision=precision, curvature=curvature)
    there = laplace.fit(x.to(device), labels.to(device))
    assert there.evidence.fit.device.type == device
    torch.testing.assert_close(
        there.evidence.log_marginal_likelihood.cpu(), here.evidence.log_marginal_likelihood,
        atol=1e-4, rtol=1e-5,
    )  # fmt: skip
    seen, expected = expectation(there.predict(x[:4].to(device))), here.predict(x[:4])
    torch.testing.assert_close(seen.cpu(), expectation(expected), atol=0.05, rtol=0.05)


@pytest.mark.parametrize("device", DEVICES, indirect=True)
@pytest.mark.parametrize("mode", ["linearised", "tangent"])
@pytest.mark.parametrize("likelihood", ["categorical", "gaussian"])
def test_linearised_laplace_stays_on_device(device, mode, likelihood):
    x, y = problem(device)
    x, y = x[:40], y[:40].argmax(1) if likelihood == "categorical" else y[:40]
    noise = 0.1 if likelihood == "gaussian" else None
    posterior = bg.Laplace(network().to(device), likelihood, noise=noise, mode=mode).fit(x, y)
    assert posterior.evidence.fit.device == x.device
    assert expectation(posterior.predict(x[:3])).device == x.device


@pytest.mark.parametrize("device", DEVICES, indirect=True)
@pytest.mark.filterwarnings("ignore::bayesgen.errors.NotAtModeWarning")
def test_matrix_free_curvature_runs_on_device(device, monkeypatch):
    monkeypatch.setattr("bayesgen.curvature.factory.LARGEST_PRIMAL", 10)
    monkeypatch.setattr("bayesgen.curvature.factory.LARGEST_DUAL", 10)
    x, y = problem(device)
    net = network().to(device)
    exact = bg.Laplace(net, curvature="kron", hyperparameters="fixed").fit(x, y.argmax(1))
    found = bg.Laplace(net, hyperparameters="fixed").fit(x, y.argmax(1))
    assert found.evidence.fit.device == x.device
    assert "Lanczos" in found.evidence.method
    assert float(found.evidence.error) < 0.1 * abs(float(exact.evidence.log_marginal_likelihood))


@pytest.mark.parametrize("device", DEVICES, indirect=True)
@pytest.mark.parametrize("arithmetic", ["native", "bf16", "tf32"])
def test_ensemble_trains_as_its_members_on_device(device, arithmetic):
    x, y = (part.float() for part in problem(device))
    labels = torch.stack([y.argmax(1), y.flip(0).argmax(1)])
    together = [network(seed).float().to(device) for seed in (0, 1)]
    alone = [network(seed).float().to(device) for seed in (0, 1)]
    settings = {"epochs": 3, "batch": 100, "arithmetic": arithmetic}
    losses = bg.train_ensemble(together, x, labels, **settings)
    for k, (net, own) in enumerate(zip(alone, labels, strict=True)):
        run = bg.train(net, x, own, **settings)
        loose = 1e-4 if arithmetic == "native" else 2e-2
        assert float(losses.iloc[-1, k]) == pytest.approx(run.history.loss.iloc[-1], abs=loose)


@pytest.mark.parametrize("device", DEVICES, indirect=True)
def test_convolutional_network_reaches_mode_on_device(device, tmp_path):
    g = torch.Generator().manual_seed(0)
    x = torch.randn(32, 3, 8, 8, generator=g).to(device)
    y = torch.randint(10, (32,), generator=g).to(device)
    torch.manual_seed(0)
    net = bg.networks.PreResNet20(2, norm="none").to(device)
    settings = {"epochs": 3, "batch": 16, "optimiser": "adam", "checkpoint": tmp_path / "c.pt"}
    bg.train(net, x, y, evidence_every=2, **settings)
    bg.train(net, x, y, evidence_every=2, **settings)  # Its checkpoint leaves nothing to do.
    first = bg.networks.PreResNet20(2, norm="none").to(device)
    climbed = bg.fit_map(net, x, y, prior_precision=1.0, prior_mean=first, steps=10)
    assert climbed.gained > 0
    for mode, mean in (("weights", None), ("weights", first), ("linearised", first)):
        with pytest.warns(NotAtModeWarning) if mode == "weights" else nullcontext():
            posterior = bg.Laplace(net, dtype=None, mode=mode, prior_mean=mean).fit(x, y)
        assert posterior.evidence.fit.device == x.device
        assert posterior.theta.device == x.device


@pytest.mark.parametrize("device", DEVICES, indirect=True)
@pytest.mark.parametrize("cure", [{}, {"objective": "conditional"}, {"lipschitz": 1.0}])
def test_deep_kernel_stays_on_device(device, cure):
    x, y = problem(device)
    net = bg.networks.MLP(3, (8,), 2).double().to(device)
    deep = bg.DeepKernel(net, gpytorch.kernels.RBFKernel(), steps=5, **cure)
    posterior = deep.fit(x, y)
    assert posterior.evidence.fit.device == x.device
    assert posterior.mean(x[:3]).device == x.device


@pytest.mark.parametrize("device", DEVICES, indirect=True)
@pytest.mark.filterwarnings("ignore::bayesgen.errors.NotAtModeWarning")
def test_studies_agree_with_cpu(device, tmp_path):
    settings = {"levels": [0.0, 1.0], "seeds": 1, "train": 60, "test": 40}
    here = experiments.corruption("digits", **settings)
    there = experiments.corruption("digits", device=device, **settings)
    for name in ("log_marginal_likelihood", "effective_dimension", "test_error"):
        assert there[name].values == pytest.approx(here[name].values, rel=1e-3, abs=1e-3)
    models = ["gp", "polynomial", "gp-laplace", "dkl", "mlp"]
    several = experiments.corruption_models(
        "digits", models, device=device, store=tmp_path, **settings
    )
    assert several.attrs["device"].startswith(device)
    assert several.log_marginal_likelihood.notnull().all()


@pytest.mark.parametrize("device", DEVICES, indirect=True)
def test_sharded_rows_match_matrix_in_one_process(device):
    cards = torch.cuda.device_count() if device == "cuda" else 0
    talk = distributed.backend(1, cards)
    store = dist.HashStore()
    dist.init_process_group(talk, store=store, rank=0, world_size=1)
    try:
        x, y = problem(device)
        matrices = gram(gpytorch.kernels.RBFKernel().double().to(device), x)
        rows = distributed.ShardedGram(matrices, matrices.start())
        K = matrices.matrix(matrices.start())
        torch.testing.assert_close(rows @ y, K @ y)
        expected = float(K.trace()), float(K.square().sum())
        assert rows.moments() == pytest.approx(expected)
    finally:
        dist.destroy_process_group()


@pytest.mark.parametrize("device", DEVICES, indirect=True)
@pytest.mark.parametrize("kind", ["deterministic", "last_layer", "tangent", "weights"])
def test_certificates_of_networks_agree_with_cpu(device, kind):
    x, _ = problem("cpu")
    y = (x[:, 0] > x[:, 0].median()).long()
    net = bg.networks.MLP(3, (8,), 2).double()
    more = {} if kind == "deterministic" else {"epochs": 2, "draws": 50, "scales": (0.1,)}
    here, there = (
        bg.pacbayes.certify_network(
            net.to(where), x.to(where), y.to(where), kind=kind, unseen=True, **more
        )
        for where in ("cpu", device)
    )
    assert there.bound == pytest.approx(here.bound, abs=1e-3)
    assert there.posterior.mean(x[:3].to(device)).device.type == torch.device(device).type
