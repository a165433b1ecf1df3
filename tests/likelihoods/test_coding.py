"""Tests of `bayesgen.likelihoods.coding`."""

import pytest
import torch

from bayesgen import likelihoods

F64 = torch.float64


def test_one_hot_is_centred():
    y = likelihoods.one_hot([[0, 2], [1, 1]], 3)
    assert y.shape == (2, 2, 3)
    torch.testing.assert_close(y.sum(-1), torch.zeros(2, 2, dtype=F64))
    assert y.argmax(-1).tolist() == [[0, 2], [1, 1]]
    with pytest.raises(ValueError, match=r"labels must lie in 0..2"):
        likelihoods.one_hot([3], 3)


def test_dirichlet_matches_gpytorch():
    import gpytorch

    labels = torch.tensor([0, 2, 1, 0])
    y, noise = likelihoods.dirichlet(labels, 3, concentration=0.05)
    peer = gpytorch.likelihoods.DirichletClassificationLikelihood(
        labels, alpha_epsilon=0.05, dtype=F64
    )
    torch.testing.assert_close(noise, peer.noise.mT.to(F64))
    want = peer.transformed_targets.mT
    torch.testing.assert_close(y - y.mean(-1, keepdim=True), want - want.mean(-1, keepdim=True))
    torch.testing.assert_close(y.mean(-1), torch.zeros(4, dtype=F64))
    with pytest.raises(ValueError, match="concentration must be positive"):
        likelihoods.dirichlet(labels, 3, concentration=0.0)
