"""Tests of `bayesgen.experiments.order_selection`."""

import numpy as np

from bayesgen import experiments


def test_isotropic_evidence_peaks_and_falls_order_dependent_levels_off():
    curves = experiments.order_selection(n=50, largest=80).log_marginal_likelihood
    for basis in curves.basis.values:
        isotropic = curves.sel(basis=basis, prior="isotropic").values
        ordered = curves.sel(basis=basis, prior="order-dependent").values
        assert isotropic.argmax() <= 6
        assert isotropic.max() - isotropic[80] > 10
        assert np.ptp(ordered[20:]) < 0.1
        assert ordered.max() - ordered[80] < 10
        assert ordered[80] > isotropic[80]
