"""Tests of `bayesgen.spectrum.quadrature_bracket`."""

import pytest
import torch

from bayesgen.solvers import block_lanczos
from bayesgen.solvers.quadrature import Measure
from bayesgen.spectrum.evidence import quadratic
from bayesgen.spectrum.quadrature_bracket import Bracket
from bayesgen.spectrum.spectrum import Spectrum
from tests.helpers import noisy_waves, points, rbf_matrix

F64 = torch.float64


def test_estimate_is_closer_to_truth_than_bracket_middle():
    """It is closer on average, and never much farther away."""
    x, wide = points(400, 3), points(400, 6)
    kernels = [rbf_matrix(x, 0.15), rbf_matrix(wide, 0.5), torch.exp(-torch.cdist(wide, wide))]
    one, found, middles = torch.ones(1, dtype=F64), [], []
    for K in kernels:
        y = noisy_waves(wide)
        for steps in (4, 6):
            spectrum = Spectrum.krylov(K, y, probes=4, steps=steps)
            for noise in (1e-3, 1e-2, 0.1, 1.0):
                A = K + noise * torch.eye(len(K), dtype=F64)
                truth = float((y * torch.linalg.solve(A, y)).sum())
                low, high = (
                    float(rule.integrate(lambda v, r=noise: 1 / (v + r)))
                    for rule in (spectrum.targets_bracket.gauss, spectrum.upper)
                )
                assert low <= truth <= high
                value = float(quadratic(spectrum, one, noise * one))
                assert low <= value <= high
                e = spectrum.evidence(1.0, noise)
                assert float(spectrum.log_marginal_likelihood(1.0, noise)) == pytest.approx(
                    float(e.log_marginal_likelihood), rel=1e-9
                )
                found.append(abs(value - truth) / (high - low))
                middles.append(abs(0.5 * (low + high) - truth) / (high - low))
    assert max(found) < 0.3
    assert sum(found) < 0.5 * sum(middles)


def test_share_is_half_when_bracket_has_settled():
    x = points(60)
    space = block_lanczos(lambda v: rbf_matrix(x) @ v, noisy_waves(x, 2), 40)
    assert space.before().basis.shape[1] < space.basis.shape[1]
    first = block_lanczos(lambda v: rbf_matrix(x) @ v, noisy_waves(x, 2), 1)
    assert first.before() is None
    nodes, weights = torch.ones(3, dtype=F64), torch.ones(3, dtype=F64)
    same = Bracket(*[Measure(nodes, weights)] * 4)
    assert float(same.share(torch.log1p)) == 0.5
    gone = Bracket(*[Measure(nodes, w * weights) for w in (1.0, 3.0, 0.0, 6.0)])
    assert float(gone.share(torch.log1p)) == pytest.approx(0.25)


def test_share_is_half_when_the_last_block_closed_nothing():
    """Gauss and Gauss–Radau rules of one node, whose values of Σ λ are their weights."""
    node = torch.ones(1, dtype=F64)

    def share(*ends):
        return float(Bracket(*[Measure(node, e * node) for e in ends]).share(lambda v: v))

    # gauss, radau, gauss_before, radau_before; the lower end has moved by all there is to move.
    assert share(3.0, 6.0, 2.999, 6.0) == pytest.approx(0.5, abs=0.01)
    assert share(3.0, 6.0, -1e6, 6.0) == pytest.approx(1.0)
    assert share(3.0, 6.0, 3.0, 1e6) == pytest.approx(0.0)
    assert share(0.0, 0.0, 0.0, 0.0) == 0.5  # 0 has no rounding error
