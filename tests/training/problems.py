"""Networks that the tests of training share."""

import torch

import bayesgen as bg


def mlp(seed=0, outputs=10):
    torch.manual_seed(seed)
    return bg.networks.MLP(64, (16,), outputs)


def same(a, b):
    for name, value in a.state_dict().items():
        torch.testing.assert_close(value, b.state_dict()[name], rtol=0, atol=0)
