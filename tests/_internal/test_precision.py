"""Tests of `bayesgen._internal.precision`.

Networks are run in the arithmetic of their dtype: no TF32 unless it is asked for.
"""

import copy
import subprocess
import sys

import gpytorch
import pytest
import torch
from torch import nn

import bayesgen as bg
from bayesgen._internal.precision import tf32


def switches():
    backends = torch.backends.cuda.matmul, torch.backends.cudnn.conv, torch.backends.cudnn.rnn
    return [backend.fp32_precision for backend in backends]


@pytest.fixture
def allowed():
    """Both switches are on, as a user may have set them."""
    with tf32(True):
        yield
        assert switches() == ["tf32"] * 3


class Witness(nn.Module):
    """A network that notes at each pass whether a card would use TF32."""

    def __init__(self, inner):
        super().__init__()
        self.inner, self.seen = inner, []

    def __deepcopy__(self, memo):
        other = Witness(copy.deepcopy(self.inner, memo))
        other.seen = self.seen
        return other

    def forward(self, x):
        self.seen.append("tf32" in switches())
        return self.inner(x)


@pytest.fixture
def net():
    torch.manual_seed(0)
    return Witness(nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2)))


@pytest.fixture
def data():
    g = torch.Generator().manual_seed(0)
    x = torch.randn(30, 3, generator=g)
    return x, (x[:, 0] > 0).long()


NEWER = """
import torch
from bayesgen._internal.precision import tf32
own = torch.backends.cuda.matmul, torch.backends.cudnn.conv, torch.backends.cudnn.rnn
own[0].fp32_precision, own[1].fp32_precision, own[2].fp32_precision = "tf32", "ieee", "tf32"
for allowed in (True, False):
    with tf32(allowed):
        assert [b.fp32_precision for b in own] == ["tf32" if allowed else "ieee"] * 3
    assert [b.fp32_precision for b in own] == ["tf32", "ieee", "tf32"]
"""


@pytest.mark.filterwarnings("ignore::bayesgen.errors.NotAtModeWarning")
@pytest.mark.parametrize("curvature", ["ggn", "hessian", "kron", "diag", "last_layer"])
def test_laplace_evaluates_network_without_tf32(allowed, net, data, curvature):
    x, y = data
    posterior = bg.Laplace(net, curvature=curvature).fit(x, y)
    assert posterior.gain >= 0
    posterior.predict(x[:4])
    posterior.predict(x[:4], method="weights", samples=2)
    posterior.mean(x[:4])
    posterior.sample_weights(2)
    posterior.latent_samples(2)
    posterior.marginals()
    assert net.seen
    assert not any(net.seen)


@pytest.mark.filterwarnings("ignore::bayesgen.errors.NotAtModeWarning")
@pytest.mark.parametrize("mode", ["linearised", "tangent"])
def test_linearised_laplace_evaluates_network_without_tf32(allowed, net, data, mode):
    x, y = data
    posterior = bg.Laplace(net, mode=mode, hyperparameters="fixed").fit(x, y)
    posterior.predict(x[:4])
    posterior.latent_samples(2)
    assert net.seen
    assert not any(net.seen)


def test_deep_kernel_evaluates_network_without_tf32(allowed, net, data):
    x, _ = data
    posterior = bg.DeepKernel(net, gpytorch.kernels.RBFKernel(), steps=2).fit(x, x[:, 0])
    posterior.predict(x[:4])
    posterior.features(x[:4])
    assert net.seen
    assert not any(net.seen)


def test_training_uses_tf32_only_when_asked(allowed, net, data):
    x, y = data
    bg.train(net, x, y, epochs=1)
    bg.fit_map(net, x, y, prior_precision=1.0, steps=2)
    assert net.seen
    assert not any(net.seen)
    net.seen.clear()
    bg.train(net, x, y, epochs=1, arithmetic="tf32")
    assert any(net.seen)


def test_legacy_switches_are_restored_and_readable():
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    for precision, convolutions in (("medium", False), ("highest", True), ("high", True)):
        torch.set_float32_matmul_precision(precision)
        torch.backends.cudnn.allow_tf32 = convolutions
        for allowed in (True, False):
            with tf32(allowed):
                assert torch.backends.cudnn.allow_tf32 == allowed
                assert torch.backends.cuda.matmul.allow_tf32 == allowed
            assert torch.get_float32_matmul_precision() == precision
            assert torch.backends.cudnn.allow_tf32 == convolutions
            assert torch.backends.cuda.matmul.allow_tf32 == (precision != "highest")
    torch.set_float32_matmul_precision(before[0])
    torch.backends.cudnn.allow_tf32 = before[1]


def test_fp32_precision_switches_are_restored():
    """This needs a process of its own, because torch does not go back from these switches."""
    subprocess.run([sys.executable, "-c", NEWER], check=True)
