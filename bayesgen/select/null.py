"""The null model, which ignores the inputs, as a baseline for comparisons."""

from __future__ import annotations

import math
from dataclasses import replace

import torch

from bayesgen.evidence import Evidence
from bayesgen.models.linear.model import LinearModel
from bayesgen.posterior.posterior import Observed


def null(observed: Observed) -> Evidence:
    """Evidence of the constant model, or of uniform guessing, on some data.

    For labels every class has the same probability, which gives −n ln C. For other targets the
    model is one constant for each output under the same likelihood, with scale and noise variance
    of maximum evidence.

    Args:
        observed: the data of one task.

    Raises:
        ValueError: the data are a batch of tasks.
    """
    if observed.batched:
        raise ValueError(
            f"observed must hold one task, got a batch of {len(observed.y)}: use observed[task]"
        )
    likelihood = observed.likelihood
    if likelihood.labels:
        classes = likelihood.num_guesses(observed.y.shape[-1])
        fit = observed.y.new_tensor(-observed.n * math.log(classes))
        zero = torch.zeros_like(fit)
        guess = Evidence(fit, zero, observed.n, zero, method="uniform guessing")
    else:
        y = observed.y[0]
        y = y[:, 0] if len(observed.shape) == 1 else y
        constant = torch.ones(observed.n, 1).to(observed.y)
        model = LinearModel(
            None, likelihood="gaussian" if likelihood.gaussian_noise else likelihood
        )
        guess = model.fit(constant, y).evidence
        guess = replace(guess, method=f"one constant; {guess.method}")
    return replace(guess, fingerprint=observed.fingerprint()[0])
