"""Tests of `bayesgen._internal.user_warning`: warnings point at the user's line."""

import contextlib
import inspect
import warnings

import gpytorch
import numpy as np
import pytest
import torch

import bayesgen as bg
from bayesgen._internal.user_warning import warn
from bayesgen.errors import NotAtModeWarning


def here():
    """The number of the line that calls this function."""
    return inspect.currentframe().f_back.f_lineno


def test_a_warning_points_at_the_line_of_the_caller():
    with pytest.warns(UserWarning, match="so it is") as caught:
        warn("so it is", UserWarning)
    line = here() - 1
    assert (caught[0].filename, caught[0].lineno) == (__file__, line)


def test_frames_of_libraries_are_passed_over():
    @contextlib.contextmanager
    def inside():
        warn("in a context", UserWarning)
        yield

    with pytest.warns(UserWarning, match="in a context") as caught, inside():
        pass
    assert caught[0].filename == __file__


def test_warnings_of_fits_point_at_the_fit():
    x = torch.linspace(0, 1, 40, dtype=torch.float64)
    y = torch.randn(40, dtype=torch.float64)
    wave = gpytorch.kernels.SpectralMixtureKernel(num_mixtures=2)
    with pytest.warns(RuntimeWarning, match="jitter") as caught:
        bg.GaussianProcess(gpytorch.kernels.RBFKernel(), 1e-30, hyperparameters="fixed").fit(x, y)
    line = here() - 1
    assert {(w.filename, w.lineno) for w in caught} == {(__file__, line)}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        bg.GaussianProcess(wave, starts=1).fit(x, np.zeros(40) + y.numpy())
    assert {w.filename for w in caught} <= {__file__}
    net = bg.networks.MLP(1, (4,), 1).double()
    with pytest.warns(NotAtModeWarning, match="fit_map") as caught:
        bg.Laplace(net, "gaussian", noise=0.1).fit(x[:, None], 3 * x)
    line = here() - 1
    assert {(w.filename, w.lineno) for w in caught} == {(__file__, line)}
