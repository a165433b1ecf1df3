"""Tests of `bayesgen.spectrum.derivatives`."""

import torch
from torch.autograd import gradcheck

from bayesgen import Spectrum
from tests.spectrum.problems import problem

F64 = torch.float64


def test_gradient_and_hessian_match_autograd():
    K, y = problem(10, 2, 7)
    spectrum = Spectrum.dense(K, y)

    def value(logs):
        return spectrum.log_marginal_likelihood(logs[0].exp(), logs[1].exp())

    logs = torch.tensor([0.3, -1.2], dtype=F64, requires_grad=True)
    assert gradcheck(value, (logs,))
    at = spectrum.derivatives(logs[0].detach().exp(), logs[1].detach().exp())
    torch.testing.assert_close(at.value, value(logs).detach())
    (gradient,) = torch.autograd.grad(value(logs), logs)
    torch.testing.assert_close(at.gradient, gradient, rtol=1e-10, atol=1e-10)
    hessian = torch.autograd.functional.hessian(value, logs.detach())
    torch.testing.assert_close(at.hessian, hessian, rtol=1e-9, atol=1e-9)


def test_a_batch_of_tasks_takes_one_scale_and_noise():
    x = torch.linspace(0, 1, 12, dtype=torch.float64)[:, None]
    K, y = torch.exp(-8 * (x - x.T) ** 2), torch.stack([torch.sin(k * x) for k in (1, 2, 3)])
    batch = Spectrum.dense(K, y).derivatives(0.7, 0.2)
    for b in range(3):
        one = Spectrum.dense(K, y[b]).derivatives(0.7, 0.2)
        for part, wanted in zip(batch, one, strict=True):
            torch.testing.assert_close(part[b], wanted)
