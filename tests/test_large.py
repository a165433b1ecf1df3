"""Block Lanczos, Gram matrices by tiles, plans, and Gaussian processes that use them."""

import json

import gpytorch
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import bayesgen as bg
from bayesgen import solvers
from bayesgen.covariance import tiled
from bayesgen.covariance.gram import gram
from bayesgen.covariance.tiled import TiledGram
from bayesgen.models.gp import krylov as models_large
from bayesgen.solvers import Machine, block_lanczos, plan
from bayesgen.solvers.quadrature import Measure
from bayesgen.spectrum.control_variates import calibrate
from bayesgen.spectrum.evidence import quadratic
from bayesgen.spectrum.quadrature_bracket import Bracket
from bayesgen.spectrum.spectrum import Spectrum

F64 = torch.float64
LAPTOP = Machine(20e9, 100e9, {"float32": 2e11, "float64": 1e11}, 1e9, "cpu")


def points(n=400, d=2, seed=0, dtype=F64):
    return torch.rand(n, d, generator=torch.Generator().manual_seed(seed), dtype=F64).to(dtype)


def rbf(x, lengthscale=0.3):
    return torch.exp(-0.5 * torch.cdist(x, x) ** 2 / lengthscale**2)


def targets(x, C=3):
    g = torch.Generator().manual_seed(9)
    waves = torch.stack([torch.sin((3 + c) * x.sum(1)) for c in range(C)], 1)
    return waves + 0.3 * torch.randn(len(x), C, generator=g, dtype=F64)


# ---------------------------------------------------------------- the space


@given(st.integers(1, 12), st.integers(1, 6), st.integers(0, 5))
@settings(max_examples=30, deadline=None)
def test_the_space_is_a_krylov_space(q, steps, seed):
    g = torch.Generator().manual_seed(seed)
    root = torch.randn(40, 40, generator=g, dtype=F64)
    A, start = root @ root.mT, torch.randn(40, q, generator=g, dtype=F64)
    start[:, -1] = start[:, 0]  # a column that is there already
    space = block_lanczos(lambda v: A @ v, start, steps)
    m = space.basis.shape[1]
    assert m <= 40
    torch.testing.assert_close(space.basis.mT @ space.basis, torch.eye(m, dtype=F64), atol=1e-10,
                               rtol=0)  # fmt: skip
    torch.testing.assert_close(space.basis[:, : len(space.start)] @ space.start, start)
    T = space.vectors @ torch.diag(space.values) @ space.vectors.mT
    torch.testing.assert_close(space.basis.mT @ A @ space.basis, T, atol=1e-7, rtol=1e-7)
    ritz = space.ritz()
    off = (A @ ritz - ritz * space.values).norm(dim=0)
    torch.testing.assert_close(space.residuals(), off, atol=1e-7, rtol=1e-5)


def test_gauss_and_radau_bracket_the_quadratic_form_and_the_log():
    A, start = rbf(points(200)) * 5, torch.randn(200, 2, dtype=F64)
    space = block_lanczos(lambda v: A @ v, start, 8)
    values, vectors = torch.linalg.eigh(A)
    exact = (vectors.mT @ start).square().sum(1)
    nodes, around = space.radau(0.0)
    own = (space.vectors.mT[:, : len(space.start)] @ space.start).square().sum(1)
    other = (around[: len(space.start)].mT @ space.start).square().sum(1)
    for f in (lambda v: 1 / (v + 0.1), lambda v: -(v + 0.1).log()):
        truth = (exact * f(values.clamp(min=0))).sum()
        low = (own * f(space.values)).sum()
        high = (other * f(nodes.clamp(min=0))).sum()
        assert low <= truth + 1e-9
        assert truth <= high + 1e-9
        assert high - low < 0.3 * truth.abs()


def test_a_run_that_was_cut_off_goes_on(tmp_path):
    A, start = rbf(points(150)), torch.randn(150, 5, dtype=F64)
    whole = block_lanczos(lambda v: A @ v, start, 6)
    counted = []

    def dies(v):
        counted.append(0)
        if len(counted) == 4:
            raise KeyboardInterrupt
        return A @ v

    with pytest.raises(KeyboardInterrupt):
        block_lanczos(dies, start, 6, folder=tmp_path, mark="a")
    counted.clear()

    def counts(v):
        counted.append(0)
        return A @ v

    again = block_lanczos(counts, start, 6, folder=tmp_path, mark="a")
    assert len(counted) == 3
    torch.testing.assert_close(again.values, whole.values, rtol=0, atol=0)
    # A block cut in half is found out, and it and what follows it are made anew.
    path = tmp_path / "block 0003.pt"
    path.write_bytes(path.read_bytes()[:100])
    counted.clear()
    again = block_lanczos(counts, start, 6, folder=tmp_path, mark="a")
    assert len(counted) == 4
    torch.testing.assert_close(again.values, whole.values, rtol=0, atol=0)
    counted.clear()
    block_lanczos(counts, start, 6, folder=tmp_path, mark="of other data")
    assert len(counted) == 6


# ---------------------------------------------------------------- the spectrum


@pytest.mark.parametrize("dtype", [F64, torch.float32])
@pytest.mark.parametrize("ratio", [0.05, 1.0])
def test_the_evidence_is_within_its_error(dtype, ratio):
    x = points(600, 8)
    K, y = rbf(x, 0.7), targets(x)
    exact = Spectrum.dense(K, y).evidence(1.0, ratio)
    found = Spectrum.krylov(K.to(dtype), y.to(dtype), probes=16, steps=12).evidence(1.0, ratio)
    gap = (found.log_marginal_likelihood - exact.log_marginal_likelihood).abs()
    assert gap <= 3 * found.error
    assert found.error < 0.02 * exact.log_marginal_likelihood.abs()
    torch.testing.assert_close(
        found.effective_dimension, exact.effective_dimension, rtol=0.05, atol=0.5
    )


def test_errors_are_honest_over_many_probes():
    x = points(300, 8)
    K, y = rbf(x, 0.5), targets(x, 1)
    exact = Spectrum.dense(K, y).evidence(1.0, 0.2).log_marginal_likelihood
    gaps = []
    for seed in range(40):
        found = Spectrum.krylov(K, y, probes=8, steps=5, seed=seed).evidence(1.0, 0.2)
        gaps.append(float((found.log_marginal_likelihood - exact) / found.error))
    score = torch.tensor(gaps)
    assert score.abs().mean() < 1.5
    assert (score.abs() < 3).double().mean() > 0.9


class Products:
    """A matrix that tells its products and nothing else."""

    def __init__(self, K):
        self.K, self.shape, self.dtype, self.device = K, K.shape, K.dtype, K.device

    def __matmul__(self, v):
        return self.K @ v


def test_known_moments_take_most_of_the_sampling_error_away():
    x = points(600, 8)
    K, y = rbf(x, 0.7), targets(x)
    exact = Spectrum.dense(K, y).evidence(1.0, 0.2).log_marginal_likelihood
    plain = Spectrum.krylov(Products(K), y, probes=8, steps=10).evidence(1.0, 0.2)
    found = Spectrum.krylov(K, y, probes=8, steps=10)
    e = found.evidence(1.0, 0.2)
    assert e.error < 0.2 * plain.error
    assert (e.log_marginal_likelihood - exact).abs() < 3 * e.error
    assert "calibrated" in e.method
    assert "calibrated" not in plain.method
    for power, moment in enumerate((600.0, K.trace(), K.square().sum())):
        told = found.density.integrate(lambda v, power=power: v**power)
        torch.testing.assert_close(told, torch.as_tensor(moment, dtype=F64), rtol=1e-3, atol=0)


@given(st.integers(1, 12), st.integers(2, 9), st.integers(0, 10**6))
@settings(max_examples=60, deadline=None)
def test_calibrated_weights_have_the_moments(m, q, seed):
    g = torch.Generator().manual_seed(seed)
    nodes, weights = torch.rand(m, generator=g, dtype=F64), torch.rand(q, m, generator=g, dtype=F64)
    powers = nodes ** torch.arange(3)[:, None]
    exact = powers @ (weights.mean(0) * (1 + 0.1 * torch.randn(m, generator=g, dtype=F64)))
    told, off = calibrate(nodes, weights, exact, torch.zeros(3, dtype=F64))
    assert not off.any()
    torch.testing.assert_close(powers @ told.mean(0), exact, rtol=1e-6, atol=1e-9)
    # Every probe agrees on what a parabola sums to.
    torch.testing.assert_close(told @ powers.mT, exact.expand(q, 3), rtol=1e-6, atol=1e-9)


def test_moments_that_are_worse_than_the_sample_are_left_alone():
    g = torch.Generator().manual_seed(0)
    nodes, weights = torch.rand(9, generator=g, dtype=F64), torch.rand(4, 9, generator=g, dtype=F64)
    wrong = torch.tensor([1.0, 50.0, -70.0], dtype=F64)
    told, _ = calibrate(nodes, weights, wrong, torch.full((3,), 1e6, dtype=F64))
    torch.testing.assert_close(told, weights, rtol=1e-6, atol=1e-6)
    # Between the two the doubt is told, moment by moment.
    exact = nodes ** torch.arange(3)[:, None] @ weights.mean(0)
    doubt = torch.tensor([0.0, 0.1, 0.0], dtype=F64)
    one, off = calibrate(nodes, weights, exact, doubt)
    two, _ = calibrate(nodes, weights, exact + doubt, doubt)
    torch.testing.assert_close((two - one).mean(0), off.sum(0), rtol=1e-9, atol=1e-12)


def test_the_truth_is_sought_where_the_ends_are_going():
    """Nearer than the middle of the bracket on the whole, and nowhere much farther."""
    x, wide = points(400, 3), points(400, 6)
    kernels = [rbf(x, 0.15), rbf(wide, 0.5), torch.exp(-torch.cdist(wide, wide))]
    one, found, middles = torch.ones(1, dtype=F64), [], []
    for K in kernels:
        y = targets(wide)
        for steps in (4, 6):
            spectrum = Spectrum.krylov(K, y, probes=4, steps=steps)
            for noise in (1e-3, 1e-2, 0.1, 1.0):
                A = K + noise * torch.eye(len(K), dtype=F64)
                truth = float((y * torch.linalg.solve(A, y)).sum())
                low, high = (
                    float(rule.integrate(lambda v, r=noise: 1 / (v + r)))
                    for rule in (spectrum.targets_bracket.gauss, spectrum.upper)
                )
                assert low <= truth <= high
                value = float(quadratic(spectrum, one, noise * one))
                assert low <= value <= high
                e = spectrum.evidence(1.0, noise)
                assert float(spectrum.log_marginal_likelihood(1.0, noise)) == pytest.approx(
                    float(e.log_marginal_likelihood), rel=1e-9
                )
                found.append(abs(value - truth) / (high - low))
                middles.append(abs(0.5 * (low + high) - truth) / (high - low))
    assert max(found) < 0.3
    assert sum(found) < 0.5 * sum(middles)


def test_a_share_of_what_has_settled_is_a_half():
    x = points(60)
    space = block_lanczos(lambda v: rbf(x) @ v, targets(x, 2), 40)
    assert space.before().basis.shape[1] < space.basis.shape[1]
    first = block_lanczos(lambda v: rbf(x) @ v, targets(x, 2), 1)
    assert first.before() is None
    nodes, weights = torch.ones(3, dtype=F64), torch.ones(3, dtype=F64)
    same = Bracket(*[Measure(nodes, weights)] * 4)
    assert float(same.share(torch.log1p)) == 0.5
    gone = Bracket(*[Measure(nodes, w * weights) for w in (1.0, 3.0, 0.0, 6.0)])
    assert float(gone.share(torch.log1p)) == pytest.approx(0.25)


def test_a_rest_that_lies_at_zero_alone_is_no_matter():
    nodes = torch.tensor([0.0, 1e-15, 3.0, 185.0], dtype=F64)
    weights = torch.tensor([[1.0, 0.0, 0.0, 0.0]] * 4, dtype=F64)
    exact = torch.tensor([1.0, 3e-13, 7e-12], dtype=F64)
    told, off = calibrate(nodes, weights, exact, torch.full((3,), 1e-9, dtype=F64))
    torch.testing.assert_close(told, weights)
    assert torch.isfinite(off).all()


def test_a_space_that_holds_everything_is_exact():
    x = points(60)
    K, y = rbf(x), targets(x)
    dense, found = Spectrum.dense(K, y), Spectrum.krylov(K, y, probes=30, steps=8)
    for noise in (0.01, 1.0):
        a, b = dense.evidence(1.0, noise), found.evidence(1.0, noise)
        torch.testing.assert_close(
            a.log_marginal_likelihood, b.log_marginal_likelihood, rtol=1e-6, atol=1e-6
        )
    torch.testing.assert_close(dense.solve(1.0, 0.1), found.solve(1.0, 0.1), rtol=1e-6, atol=1e-6)


def test_solves_serve_every_task():
    x = points(500)
    K = rbf(x)
    y = torch.stack([targets(x), -targets(x) + 1])
    found = Spectrum.krylov(K, y, steps=12)
    alpha = found.solve(torch.tensor([1.0, 2.0], dtype=F64), torch.tensor([0.1, 0.3], dtype=F64))
    for b, (s, noise) in enumerate([(1.0, 0.1), (2.0, 0.3)]):
        A = s * K + noise * torch.eye(500, dtype=F64)
        torch.testing.assert_close(alpha[b], torch.linalg.solve(A, y[b]), rtol=1e-5, atol=1e-6)


def test_it_stops_when_the_evidence_is_sure_enough():
    x = points(600, 8)
    K, y = rbf(x, 0.5), targets(x)
    loose = Spectrum.krylov(K, y, probes=8, steps=40, tolerance=50.0)
    tight = Spectrum.krylov(K, y, probes=8, steps=40, tolerance=1e-3)
    assert len(loose.density.nodes) < len(tight.density.nodes)
    assert loose.maximise().evidence.error <= 50


def test_what_it_does_not_know_it_says():
    x = points(100)
    found = Spectrum.krylov(rbf(x), targets(x), steps=2)
    with pytest.raises(ValueError, match="no variances"):
        found.marginals(1.0, 0.1)
    with pytest.raises(ValueError, match="no other targets"):
        found.load(targets(x))
    with pytest.raises(ValueError, match="probes must be"):
        Spectrum.krylov(rbf(x), targets(x), probes=1)


# ---------------------------------------------------------------- tiles


@pytest.mark.parametrize("storage", tiled.STORAGE)
@pytest.mark.parametrize(
    "kernel", [gpytorch.kernels.RBFKernel(), gpytorch.kernels.MaternKernel(1.5),
               gpytorch.kernels.LinearKernel()]
)  # fmt: skip
def test_tiles_are_the_matrix(storage, kernel, monkeypatch, tmp_path):
    monkeypatch.setattr(tiled, "_ROWS", 17)
    x = points(60)
    matrices = gram(kernel.double(), x)
    theta, v = matrices.start(), torch.randn(60, 4, dtype=F64)
    made = TiledGram(matrices, theta, storage, folder=tmp_path)
    K = matrices.matrix(theta)
    torch.testing.assert_close(made @ v, K @ v, rtol=1e-9, atol=1e-9)
    known = (float(K.diagonal().sum()), float(K.square().sum()))
    assert made.moments() == pytest.approx(known, rel=1e-12)
    again = TiledGram(gram(kernel, x), theta, "none")
    again @ points(len(x), 2)
    monkeypatch.setattr(again, "tiles", lambda: pytest.fail("the product has counted them"))
    assert again.moments() == pytest.approx(known, rel=1e-12)
    if made.matrix is not None:
        torch.testing.assert_close(made.matrix, made.matrix.mT, rtol=0, atol=0)


def test_a_file_of_tiles_goes_on_where_it_was_cut_off(monkeypatch, tmp_path):
    monkeypatch.setattr(tiled, "_ROWS", 10)
    matrices = gram(gpytorch.kernels.RBFKernel().double(), points(55))
    theta = matrices.start()
    made = []

    def watch(done, expected, what):
        made.append(done)
        if len(made) == 3:
            raise KeyboardInterrupt

    def build(mark="a", progress=None):
        return TiledGram(
            matrices, theta, "disk", folder=tmp_path, mark=mark, progress=progress
        ).matrix

    with pytest.raises(KeyboardInterrupt):
        build(progress=watch)
    rest = []
    K = build(progress=lambda done, *_: rest.append(done))
    assert rest == [4, 5, 6]
    torch.testing.assert_close(K, matrices.matrix(theta), rtol=1e-10, atol=1e-10)
    ledger = tmp_path / "gram.json"
    ledger.write_text(ledger.read_text()[:20])  # cut in half: nothing in it is believed
    rest.clear()
    build(progress=lambda done, *_: rest.append(done))
    assert rest == [1, 2, 3, 4, 5, 6]
    rest.clear()
    build(mark="b", progress=lambda done, *_: rest.append(done))
    assert len(rest) == 6
    assert json.loads(ledger.read_text())["mark"] == "b"


def test_a_full_disk_is_said_before_anything_is_computed(monkeypatch, tmp_path):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tiled.os, "posix_fallocate", full)
    matrices = gram(gpytorch.kernels.RBFKernel().double(), points(20))
    with pytest.raises(OSError, match="which its disk has not: No space left"):
        TiledGram(matrices, matrices.start(), "disk", folder=tmp_path)


# ---------------------------------------------------------------- plans


def test_plans_follow_size_and_memory():
    assert plan(4000, 3072, 110, machine=LAPTOP).engine == "spectrum"
    large = plan(50_000, 3072, 110, machine=LAPTOP)
    assert (large.engine, large.storage, large.dtype) == ("krylov", "memory", "float32")
    assert "91.2 GB" in large.reason
    assert plan(50_000, 3072, 110, machine=LAPTOP, keep=True).storage == "disk"
    # What memory does not hold is read or made anew, whichever is faster on this machine.
    fast, slow = (Machine(4e9, 100e9, LAPTOP.flops, rate, "cpu") for rate in (3e9, 1e8))
    assert plan(50_000, 3072, 20, machine=fast, keep=True).storage == "disk"
    assert plan(50_000, 3072, 20, machine=slow, keep=True).storage == "none"
    assert plan(50_000, 3072, 20, machine=fast).storage == "none"  # no folder
    poor = Machine(4e9, 1e9, LAPTOP.flops, 3e9, "cpu")
    assert plan(50_000, 3072, 20, machine=poor, keep=True).storage == "none"
    card = Machine(140e9, 1e9, {"float32": 5e13, "float64": 5e13}, 1e9, "card", card=True)
    assert plan(50_000, 3072, 110, machine=card).engine == "cholesky"
    assert plan(20_000, 3072, 110, machine=card).engine == "spectrum"
    one = plan(50_000, 3072, 110, machine=card, tasks=11, keep=True)
    assert one.storage == "memory"  # no file for a card
    assert "then 11 exact Cholesky factorisations" in one.reason
    # On a CPU a few tasks may be made exact too, many may not.
    assert plan(18_000, 3072, 10, machine=LAPTOP, tasks=1).engine == "cholesky"
    assert plan(18_000, 3072, 110, machine=LAPTOP, tasks=11).engine == "krylov"


def test_a_plan_that_nothing_fits_says_so():
    tiny = Machine(1e8, 1e8, LAPTOP.flops, 1e9, "cpu")
    with pytest.raises(ValueError, match="no engine fits: n = 50,000"):
        plan(50_000, 3072, 110, machine=tiny)
    with pytest.raises(ValueError, match="n must be"):
        plan(0, 1, 1, machine=LAPTOP)
    with pytest.raises(ValueError, match="engine must be"):
        plan(10, 1, 1, machine=LAPTOP, engine="lu")


def test_this_machine_is_measured(tmp_path):
    machine = Machine.here()
    assert machine.memory > 1e8
    assert machine.flops["float64"] > 1e8
    assert machine.disk_rate == 0
    assert Machine.here(folder=tmp_path / "to come").disk_rate > 1e6
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------- the model


@pytest.fixture
def problem():
    x = points(500, 3)
    y = torch.stack([targets(x), torch.randn(500, 3, generator=torch.Generator().manual_seed(1),
                                             dtype=F64)])  # fmt: skip
    return x, y


def test_a_process_by_krylov_is_the_dense_one(problem, tmp_path, monkeypatch):
    # By default it stops when the evidence is sure: predictions want a few products more.
    monkeypatch.setattr(models_large, "_TOLERANCE", 1e-7)
    x, y = problem
    kernel = gpytorch.kernels.RBFKernel()
    dense = bg.GaussianProcess(kernel).fit(x, y)
    large = bg.GaussianProcess(kernel, engine="krylov", work=tmp_path).fit(x, y)
    assert not large.dense
    assert large.evidence.error.max() < 0.02 * dense.evidence.log_marginal_likelihood.abs().min()
    gap = large.evidence.log_marginal_likelihood - dense.evidence.log_marginal_likelihood
    assert (gap < 3 * large.evidence.error).all()
    assert gap.min() > -0.02 * dense.evidence.log_marginal_likelihood.abs().min()
    same = [
        bg.GaussianProcess(gpytorch.kernels.ScaleKernel(k), noise=float(v), hyperparameters="fixed")
        for k, v in zip(large.kernels, large.noise, strict=True)
    ]
    for b, model in enumerate(same):
        model.kernel.outputscale = float(large.scale[b])
        one = model.fit(x, y[b])
        torch.testing.assert_close(large.mean(x[:9])[b], one.mean(x[:9]), rtol=1e-4, atol=1e-4)
        off = large.evidence.log_marginal_likelihood[b] - one.evidence.log_marginal_likelihood
        assert off.abs() < 3 * large.evidence.error[b] + 1e-6


def test_float32_inside_is_checked_in_float64(problem, monkeypatch):
    x, y = problem
    half = solvers.Plan("krylov", "memory", "float32", 0.0, 0.0, "")
    monkeypatch.setattr(solvers, "plan", lambda *_, **__: half)
    heard = []
    large = bg.GaussianProcess(
        gpytorch.kernels.RBFKernel(), noise=0.1, hyperparameters=("scale",), engine="krylov"
    ).fit(x, y, progress=lambda done, expected, what: heard.append(what))
    assert any("check in torch.float64" in what for what in heard)
    dense = bg.GaussianProcess(
        gpytorch.kernels.RBFKernel(), noise=0.1, hyperparameters=("scale",)
    ).fit(x, y)
    gap = large.evidence.log_marginal_likelihood - dense.evidence.log_marginal_likelihood
    assert (gap.abs() < 3 * large.evidence.error).all()
    assert large.mean(x).dtype == F64


def test_quadratic_forms_of_float32_inside_are_those_of_float64(problem, monkeypatch):
    x, y = problem
    half = solvers.Plan("krylov", "memory", "float32", 0.0, 0.0, "")
    monkeypatch.setattr(solvers, "plan", lambda *_, **__: half)
    seen, check = [], models_large._checked

    def watched(matrices, inner, targets, found, progress):
        seen.extend([found, check(matrices, inner, targets, found, progress)])
        return seen[-1]

    monkeypatch.setattr(models_large, "_checked", watched)
    kernel = gpytorch.kernels.ScaleKernel(gpytorch.kernels.RBFKernel()).double()
    kernel.base_kernel.lengthscale, kernel.outputscale = 0.3, 10.0
    bg.GaussianProcess(kernel, noise=0.1, hyperparameters="fixed", engine="krylov").fit(x, y)
    before, after = seen
    A = 10 * rbf(x) + 0.1 * torch.eye(len(x), dtype=F64)
    exact = (y * torch.linalg.solve(A, y)).sum((1, 2))
    # The bracket of the check is no estimate: it holds, whatever float32 did.
    half = 2 * (after.evidence.error - after.logdet_error)
    assert ((after.quadratic - exact).abs() < half).all()
    assert (half < 1e-4 * exact).all()
    assert (after.evidence.error < before.evidence.error).all()
    shift = after.evidence.fit - before.evidence.fit
    torch.testing.assert_close(shift, 0.5 * (before.quadratic - after.quadratic))


def test_parameters_beyond_a_lengthscale_are_refused(problem):
    x, y = problem
    kernel = gpytorch.kernels.RBFKernel(ard_num_dims=3)
    with pytest.raises(ValueError, match="only a kernel's one length-scale"):
        bg.GaussianProcess(kernel, engine="krylov").fit(x, y)
    with pytest.raises(ValueError, match="engine must be"):
        bg.GaussianProcess(kernel, engine="lu")


def test_variances_beyond_memory_are_refused(problem, monkeypatch):
    x, y = problem
    large = bg.GaussianProcess(
        gpytorch.kernels.RBFKernel(), noise=0.1, hyperparameters=("scale",), engine="krylov"
    ).fit(x, y)
    assert large.predict(x[:3]).mean.shape == (2, 3, 3)
    monkeypatch.setattr("bayesgen.solvers.planning.free_memory", lambda _: 1e3)
    large._factor = None
    with pytest.raises(MemoryError, match="mean\\(\\) and fitted\\(\\) need none"):
        large.predict(x[:3])


def test_exact_factorisations_after_the_search(problem, monkeypatch):
    """What the search found is kept, its evidence made exact; or else it stays and that is said."""
    x, y = problem
    search = bg.GaussianProcess(gpytorch.kernels.RBFKernel(), engine="krylov").fit(x, y)
    gp = bg.GaussianProcess(gpytorch.kernels.RBFKernel(), engine="cholesky")
    found = gp.fit(x, y)
    assert torch.equal(found.scale, search.scale)
    assert found.evidence.method.startswith("exact, by Cholesky")
    for b in range(len(y)):
        kernel = gpytorch.kernels.ScaleKernel(found.kernels[b]).double()
        kernel.outputscale = found.scale[b]
        fixed = bg.GaussianProcess(kernel, found.noise[b], hyperparameters="fixed").fit(x, y[b])
        for name in ("log_marginal_likelihood", "complexity", "effective_dimension"):
            one, two = (getattr(p.evidence, name) for p in (found, fixed))
            assert float(one[b]) == pytest.approx(float(two), rel=1e-9, abs=1e-9)
        torch.testing.assert_close(found.mean(x[:3])[b], fixed.mean(x[:3]), rtol=1e-6, atol=1e-8)
    gap = found.evidence.log_marginal_likelihood - search.evidence.log_marginal_likelihood
    assert (gap.abs() <= 3 * search.evidence.error + 1e-6).all()

    def fails(*_):
        raise MemoryError("no more")

    monkeypatch.setattr("bayesgen.models.gp.tiled_cholesky.solvers.cholesky", fails)
    with pytest.warns(RuntimeWarning, match="ran out of memory .*: the evidence is block Lanczos"):
        kept = gp.fit(x, y)
    assert torch.equal(kept.evidence.fit, search.evidence.fit)


def test_out_of_memory_goes_on_to_the_next_engine_and_says_so(problem, monkeypatch):
    x, y = problem

    def fails(*_):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate")

    monkeypatch.setattr("bayesgen.spectrum.spectrum.solvers.eigh", fails)
    gp = bg.GaussianProcess(gpytorch.kernels.RBFKernel(), noise=0.1, hyperparameters=("scale",))
    with pytest.warns(RuntimeWarning, match="ran out of memory .*: block Lanczos instead"):
        posterior = gp.fit(x, y)
    assert not posterior.dense
    assert "block Lanczos" in posterior.evidence.method


def test_a_fit_that_was_cut_off_goes_on(problem, monkeypatch, tmp_path):
    x, y = problem
    gp = bg.GaussianProcess(gpytorch.kernels.RBFKernel(), engine="krylov", work=tmp_path)
    heard = []

    def dies(done, expected, what):
        heard.append(what)
        if sum(w.startswith("product 4 ") for w in heard) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        gp.fit(x, y, progress=dies)
    first = heard[0].split("length-scale")[1]
    heard.clear()
    again = gp.fit(x, y, progress=lambda *said: heard.append(said[2]))
    assert not any(w.endswith(first) for w in heard)  # the first length-scale is done
    assert heard[0].startswith("product 5 ")  # and so are four products of the second
    whole = bg.GaussianProcess(gpytorch.kernels.RBFKernel(), engine="krylov").fit(x, y)
    torch.testing.assert_close(
        again.evidence.log_marginal_likelihood, whole.evidence.log_marginal_likelihood
    )
    other = gp.fit(x, y + 1)  # other data are not taken for these
    assert not torch.equal(
        other.evidence.log_marginal_likelihood, whole.evidence.log_marginal_likelihood
    )
