"""Tests of `bayesgen.experiments.complexity_measures`."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.func import functional_call

import bayesgen as bg
from bayesgen.errors import NotAtModeWarning
from bayesgen.experiments import complexity_measures as measures
from bayesgen.experiments.complexity_measures import MeasureSettings, TrainingHessian
from tests.experiments.test_width_families import task

SMALL = MeasureSettings(probes=4, steps=12, draws=8, dimensions=(10, 20), compression_steps=8)


def case(name, width=2):
    one = task(name, width, seeds=(0,), epochs=1, train=30)
    net = one.family.network(width, one.data, 0)
    bg.train(net, one.family.inputs(one.data)[0], one.labels[0], epochs=3, learning_rate=0.05)
    x = one.family.inputs(one.data)[0]
    return one, net, x, one.family.targets(one.labels[0], 10)


def direct_hessian(net, family, x, y):
    """Hessian of the mean loss in all parameters, (P, P), by torch.func."""
    named = dict(net.named_parameters())
    shapes = [(name, p.shape, p.numel()) for name, p in named.items()]

    def loss(theta):
        parts = theta.split([n for _, _, n in shapes])
        own = {name: t.view(s) for (name, s, _), t in zip(shapes, parts, strict=True)}
        return family.loss(functional_call(net, own, (x,)), y)

    theta = torch.cat([p.detach().reshape(-1) for p in named.values()])
    return torch.func.hessian(loss)(theta)


@pytest.mark.parametrize("name", ["mlp", "convnet"])
def test_hessian_products_are_those_of_the_dense_matrix(name):
    one, net, x, y = case(name, 1)
    dense = direct_hessian(net, one.family, x, y)
    op = TrainingHessian(net, one.family, x, y, batch=7, only=False)
    v = torch.randn(len(dense), 2)
    assert torch.allclose(op @ v, dense @ v, atol=1e-3 * float((dense @ v).abs().max()))
    ritz = measures.ritz_values(op, 100, seed=0)
    values = torch.linalg.eigvalsh(dense.double())
    assert float(ritz.max()) == pytest.approx(float(values.max()), rel=1e-3)
    share = ritz.clamp(min=0) / (ritz.clamp(min=0) + 0.1)
    assert len(ritz) <= 100
    assert float(share.sum()) <= 100


def test_hessian_leaves_running_statistics_and_the_network_as_they_are():
    one, net, x, y = case("resnet18", 1)
    before = {k: v.clone() for k, v in net.state_dict().items()}
    op = TrainingHessian(net, one.family, x, y, batch=15, only=True)
    first = op @ torch.ones(op.shape[0])
    assert torch.allclose(first, op @ torch.ones(op.shape[0]), rtol=1e-3, atol=1e-4)
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert not net.training


@pytest.mark.parametrize("name", ["mlp", "convnet"])
def test_sampled_ggn_agrees_with_the_exact_one(name):
    one, net, x, y = case(name, 1 if name == "convnet" else 2)
    exact = measures.ggn_measures(net, one.family, x, y, SMALL)
    sampling = replace(SMALL, exact=0, probes=32, steps=60)
    sampled = measures.ggn_measures(net, one.family, x, y, sampling)
    assert exact["ggn_dimension_error"] == [0.0] * 3
    for a, b, e in zip(
        exact["ggn_dimension"],
        sampled["ggn_dimension"],
        sampled["ggn_dimension_error"],
        strict=True,
    ):
        assert abs(a - b) < 5 * e + 1e-3 * a
    assert sampled["top_eigenvalue"] == pytest.approx(exact["top_eigenvalue"], rel=1e-3)
    assert sampled["trace"] == pytest.approx(exact["trace"], rel=0.3)
    gap = sampled["log_marginal_likelihood"] - exact["log_marginal_likelihood"]
    assert abs(gap) < 5 * sampled["evidence_error"] + 0.1


def test_evidence_of_a_spectrum_is_that_of_laplace():
    one, net, x, _ = case("convnet", 1)
    with pytest.warns(NotAtModeWarning):
        posterior = bg.Laplace(net).fit(x, one.labels[0])
    with torch.no_grad():
        f = net.double()(x.double()).log_softmax(1)
    fitted = float(f[torch.arange(len(x)), one.labels[0]].sum())
    squares = sum(float(p.detach().square().sum()) for p in net.parameters())
    found = measures.laplace_evidence(posterior.curvature.spectrum, fitted, squares, 1.0)
    right = float(posterior.evidence.log_marginal_likelihood)
    assert found["log_marginal_likelihood"] == pytest.approx(right, abs=1e-2)


def test_certificate_is_the_bound_of_its_parts_and_absent_with_batchnorm():
    one, net, x, _ = case("mlp")
    start = one.family.network(2, one.data, 0)
    found = measures.certificate(net, start, x, one.labels[0], SMALL)
    pairs = zip(net.parameters(), start.parameters(), strict=True)
    squares = sum(float((p - q).detach().square().sum()) for p, q in pairs)
    assert found["kl"] == pytest.approx(squares / (2 * found["deviation"] ** 2), rel=1e-4)
    assert found["gibbs_risk"] <= found["bound"] <= 1
    one, net, x, _ = case("resnet18", 1)
    none = measures.certificate(net, net, x, one.labels[0], SMALL)
    assert all(math.isnan(value) for value in none.values())


def test_bytes_are_those_of_the_code_with_the_smallest_bound():
    one, _, x, _ = case("mlp")
    start = one.family.network(2, one.data, 0)
    found = measures.compressed(start, x, one.labels[0], SMALL)
    assert found["compressed_dimension"] in (10, 20)
    assert found["compressed_bytes"] > 5
    more = measures.correction_bits(round(found["compressed_risk"] * 30), 30, 10) / 8
    assert found["description_bytes"] == pytest.approx(found["compressed_bytes"] + more)


def test_correction_bits_count_the_corrections():
    assert measures.correction_bits(0, 7, 10) == pytest.approx(3.0)
    choices = math.comb(20, 3) * 9**3
    assert measures.correction_bits(3, 20, 10) == pytest.approx(math.log2(21 * choices))


def test_resumed_measures_equal_uninterrupted_ones(tmp_path):
    one = task("mlp", 2, epochs=3, train=30)
    pairs = [(one, cell) for cell in bg.experiments.width_families.train_all([one])]
    (first,) = measures.measure_all(pairs, 1, SMALL, store=tmp_path)
    (both,) = measures.measure_all(pairs, None, SMALL, store=tmp_path)
    assert len(list(tmp_path.iterdir())) == 2
    for name, value in first[0].items():
        np.testing.assert_array_equal(np.asarray(value), np.asarray(both[0][name]))
