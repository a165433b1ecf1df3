"""Tests of `bayesgen.models.deep.posterior`."""

import gpytorch
import torch

import bayesgen as bg
from tests.models.deep.problems import mlp, wave

RBF = gpytorch.kernels.RBFKernel


def test_predictions_follow_layout_of_targets():
    x, y = wave()
    both = torch.stack([y, -y], -1)
    posterior = bg.DeepKernel(mlp(), RBF(), steps=5).fit(x, both)
    assert posterior.predict(x[:4]).mean.shape == (4, 2)
    assert posterior.fitted().shape == (40, 2)
    one = bg.DeepKernel(mlp(), RBF(), steps=5).fit(x, y)
    assert one.mean(x[:4]).shape == (4,)
    assert one.similarity(x[:3], x[:2]).shape == (3, 2)
    assert one.to_arviz(draws=40) is not None
