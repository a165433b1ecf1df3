"""A covariance that is singular is factorised from its own values at each attempt.

Tests of `bayesgen.solvers.cholesky_factor`.
"""

import warnings

import gpytorch
import mpmath
import numpy as np
import pytest
import torch

import bayesgen as bg
from bayesgen import solvers
from bayesgen.curvature.function_space import DualGGN
from bayesgen.curvature.jacobian import jacobians

F64 = torch.float64


def singular(n=6):
    root = torch.linspace(1, 2, n, dtype=F64)[:, None]
    return root @ root.mT


def test_a_matrix_is_left_as_it_is():
    matrix = singular()
    with pytest.warns(RuntimeWarning, match="jitter"):
        factor = solvers.cholesky(matrix)
    assert torch.equal(matrix, singular())
    again = factor.lower @ factor.lower.mT
    again.diagonal().sub_(factor.jitter)
    torch.testing.assert_close(again, matrix, rtol=0, atol=1e-12)


def test_a_function_that_hands_out_one_matrix_twice_is_refused():
    matrix = singular()
    with pytest.raises(ValueError, match="covariance must be a function that returns a new"):
        solvers.cholesky(lambda: matrix)


def test_a_function_is_factorised_in_its_own_memory():
    made = []

    def build():
        made.append(torch.eye(3, dtype=F64))
        return made[-1]

    factor = solvers.cholesky(build)
    assert len(made) == 1
    assert factor.lower.data_ptr() == made[0].data_ptr()


def test_a_singular_network_gram_has_its_own_log_determinant(monkeypatch):
    """A vague prior makes I + Λ^½JSJᵀΛ^½ singular to rounding where inputs repeat."""
    monkeypatch.setattr("bayesgen.curvature.factory.LARGEST_PRIMAL", 3)
    torch.manual_seed(0)
    net = bg.networks.MLP(2, (4,), 1).double()
    x = torch.randn(4, 2, dtype=F64).repeat(3, 1)
    y = x[:, :1]
    tiny = torch.full((2,), 1e-17, dtype=F64)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = bg.Laplace(net, "gaussian", tiny, noise=1.0, hyperparameters="fixed")
        posterior = model.fit(x, y)
        terms = posterior.curvature.terms(posterior._fitted.setting.precision)
    assert isinstance(posterior.curvature, DualGGN)
    assert any("jitter" in str(w.message) for w in caught)
    J = next(iter(jacobians(posterior.curvature.weights, x, 1, 12)))[:, 0]
    wanted = (torch.linalg.svdvals(J)[:4].square() / 1e-17).log1p().sum()
    # Eight of the twelve eigenvalues are 1, which rounding of the others, up to 1e18, hides. The
    # stated error covers the jitter.
    gap = abs(float(terms.logdet - wanted))
    assert 1 < gap < float(terms.error), (gap, float(terms.error))
    assert float(posterior.evidence.error) > 0.5 * gap


def test_error_covers_the_effect_of_jitter_and_of_rounding_beyond_the_noise():
    # Right values by 60 digits on the float32 inputs and targets.
    x = np.linspace(0, 1, 30)[:, None].astype(np.float32).astype(float)
    y = np.sin(6 * x[:, 0]) + 0.1 * np.random.default_rng(0).normal(size=30)
    y = y.astype(np.float32).astype(float)
    for noise in (1e-12, 1e-9, 1e-7, 1e-5, 1e-3):
        kernel = gpytorch.kernels.RBFKernel()
        kernel.lengthscale = 0.3
        K = np.exp(-0.5 * ((x - x.T) / float(kernel.lengthscale.detach())) ** 2)
        with mpmath.workdps(60):
            A = mpmath.matrix((K + noise * np.eye(30)).tolist())
            L = mpmath.cholesky(A)
            half = mpmath.lu_solve(L, mpmath.matrix(y.tolist()))
            right = float(
                -0.5 * mpmath.fsum(h * h for h in half)
                - mpmath.fsum(mpmath.log(L[i, i]) for i in range(30))
                - 15 * mpmath.log(2 * mpmath.pi)
            )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # the jitter is announced
            gp = bg.GaussianProcess(kernel, noise, hyperparameters="fixed")
            found = gp.fit(x.astype(np.float32), y.astype(np.float32)).evidence
        gap = abs(float(found.log_marginal_likelihood) - right)
        assert gap <= 3 * float(found.error), noise
        assert noise < 1e-4 or float(found.error) < 0.5 * abs(right)
