"""Tests of `bayesgen.pacbayes.vote`."""

import torch

from bayesgen import pacbayes


def test_c_bound_is_above_brute_force_error(rng):
    for _ in range(200):
        W = torch.from_numpy(rng.beta(0.5, 2.0, 400))
        errs = float((W >= 0.5).double().mean())
        first, second = W.mean(), W.square().mean()
        assert float(pacbayes.c_bound(first, second)) >= errs - 1e-12
        assert float(pacbayes.c_bound(first + 0.05, second + 0.02)) >= errs - 1e-12
        assert (
            float(pacbayes.c_bound(first + 0.05, second))
            >= float(pacbayes.c_bound(first, second)) - 1e-12
        )
