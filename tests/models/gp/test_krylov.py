"""Tests of `bayesgen.models.gp.krylov`."""

import gpytorch
import pytest
import torch

import bayesgen as bg
from bayesgen import solvers
from bayesgen.models.gp import krylov as models_large
from tests.helpers import rbf_matrix

F64 = torch.float64


def test_krylov_fit_equals_dense_fit(problem, tmp_path, monkeypatch):
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


def test_float32_search_is_checked_in_float64(problem, monkeypatch):
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


def test_quadratic_forms_after_check_match_float64(problem, monkeypatch):
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
    A = 10 * rbf_matrix(x) + 0.1 * torch.eye(len(x), dtype=F64)
    exact = (y * torch.linalg.solve(A, y)).sum((1, 2))
    # The bracket of the check is no estimate: it holds, whatever float32 did.
    half = 2 * (after.evidence.error - after.logdet_error)
    assert ((after.quadratic - exact).abs() < half).all()
    assert (half < 1e-4 * exact).all()
    assert (after.evidence.error < before.evidence.error).all()
    shift = after.evidence.fit - before.evidence.fit
    torch.testing.assert_close(shift, 0.5 * (before.quadratic - after.quadratic))


def test_several_parameters_are_searched_on_a_subset(problem, monkeypatch):
    x, y = problem
    monkeypatch.setattr("bayesgen.models.gp.krylov._FOR_SEVERAL", 300)
    kernel = gpytorch.kernels.RBFKernel(ard_num_dims=3)
    large = bg.GaussianProcess(kernel, engine="krylov").fit(x, y[0])
    dense = bg.GaussianProcess(kernel).fit(x, y[0])
    assert not large.dense
    gap = dense.evidence.log_marginal_likelihood - large.evidence.log_marginal_likelihood
    assert -float(large.evidence.error) - 1e-3 <= float(gap) < 2
    assert large.lengthscale.shape == (1, 3)
    with pytest.raises(ValueError, match="engine must be"):
        bg.GaussianProcess(kernel, engine="lu")


def test_variances_beyond_memory_raise(problem, monkeypatch):
    x, y = problem
    large = bg.GaussianProcess(
        gpytorch.kernels.RBFKernel(), noise=0.1, hyperparameters=("scale",), engine="krylov"
    ).fit(x, y)
    assert large.predict(x[:3]).mean.shape == (2, 3, 3)
    monkeypatch.setattr("bayesgen.solvers.planning.free_memory", lambda _: 1e3)
    large._factor = None
    with pytest.raises(MemoryError, match="mean\\(\\) and fitted\\(\\) need no factor"):
        large.predict(x[:3])


@pytest.mark.parametrize("planned", [False, True])
def test_out_of_memory_warns_and_uses_next_engine(problem, monkeypatch, planned):
    x, y = problem
    if planned:  # The plan of a large fit chooses the dense spectrum.
        monkeypatch.setattr("bayesgen.models.gp.model._LARGE", 10)

    def fails(*_):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate")

    monkeypatch.setattr("bayesgen.spectrum.spectrum.solvers.eigh", fails)
    gp = bg.GaussianProcess(gpytorch.kernels.RBFKernel(), noise=0.1, hyperparameters=("scale",))
    with pytest.warns(RuntimeWarning, match="ran out of memory .*: block Lanczos instead"):
        posterior = gp.fit(x, y)
    assert not posterior.dense
    assert "block Lanczos" in posterior.evidence.method


def test_interrupted_fit_resumes(problem, monkeypatch, tmp_path):
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
    assert not any(w.endswith(first) for w in heard)  # The first length-scale is done.
    assert heard[0].startswith("product 5 ")  # Four products of the second are done.
    whole = bg.GaussianProcess(gpytorch.kernels.RBFKernel(), engine="krylov").fit(x, y)
    gap = again.evidence.log_marginal_likelihood - whole.evidence.log_marginal_likelihood
    assert (gap.abs() <= again.evidence.error + whole.evidence.error + 1e-9).all()
    other = gp.fit(x, y + 1)  # Other data are not taken for these.
    assert not torch.equal(
        other.evidence.log_marginal_likelihood, whole.evidence.log_marginal_likelihood
    )
