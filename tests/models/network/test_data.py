"""Tests of `bayesgen.models.network.data`."""

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from tests.helpers import fixed_laplace, network_problem

ALL = ["ggn", "hessian", "kron", "diag", "last_layer"]


def loader(x, y, **settings):
    return DataLoader(TensorDataset(x, y), batch_size=7, **settings)


@pytest.mark.parametrize("curvature", ALL)
def test_loader_equals_its_tensors(curvature):
    net, x, y = network_problem(hidden=0)
    a = fixed_laplace(net, curvature=curvature).fit(x, y).evidence
    b = fixed_laplace(net, curvature=curvature).fit(loader(x, y)).evidence
    torch.testing.assert_close(a.log_marginal_likelihood, b.log_marginal_likelihood)


def test_shuffling_loader_raises_when_read_again(largest_sizes):
    net, x, y = network_problem()
    largest_sizes(5, 5)
    with pytest.raises(ValueError, match="same batches in every pass"):
        fixed_laplace(net).fit(loader(x, y, shuffle=True))
    steady = fixed_laplace(net).fit(loader(x, y)).evidence
    torch.testing.assert_close(
        steady.log_marginal_likelihood,
        fixed_laplace(net).fit(x, y).evidence.log_marginal_likelihood,
    )
