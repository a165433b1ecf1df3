"""Models that are compared on a table: those by default, and those of a list in words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from bayesgen import kernels
from bayesgen.features import priors
from bayesgen.models import Fourier, GaussianProcess, Polynomial

# Largest number of features of a polynomial with products of different inputs.
_FEATURES = 2000


def candidates(x: Tensor, likelihood: Any = "gaussian") -> dict[str, Any]:
    """Candidate models by name: polynomials, Fourier series, Gaussian processes.

    Args:
        x: inputs, (n, D).
        likelihood: likelihood of all of them.
    """
    models = {
        "linear": model("linear", "", "", x, likelihood),
        "polynomial, best degree": model("polynomial", 10, "best", x, likelihood),
        "polynomial 30, decaying": model("polynomial", 30, "decaying", x, likelihood),
        "Fourier 30, decaying": model("fourier", 30, "decaying", x, likelihood),
        "GP RBF": model("gp", "rbf", "", x, likelihood),
        "GP Matérn 5/2": model("gp", "matern52", "", x, likelihood),
    }
    if x.shape[1] > 1:
        models["GP RBF, ARD"] = model("gp", "rbf", "ard", x, likelihood)
    return models


def small_candidates(x: Tensor, likelihood: Any) -> dict[str, Any]:
    """Candidates for class labels by Laplace's approximation, whose fits take longer."""
    return {
        "linear": model("linear", "", "", x, likelihood),
        "polynomial 3, decaying": model("polynomial", 3, "decaying", x, likelihood),
        "GP RBF": model("gp", "rbf", "", x, likelihood),
        "GP Matérn 5/2": model("gp", "matern52", "", x, likelihood),
    }


def listed(
    parts: Sequence[tuple[str, int | str, str]], x: Tensor, likelihood: Any = "gaussian"
) -> dict[str, Any]:
    """Models of a list, by their name in it.

    Args:
        parts: for each model the arguments of `model` before x.
        x: inputs, (n, D).
        likelihood: likelihood of all of them.
    """
    return {
        ":".join(str(word) for word in part if word != ""): model(*part, x, likelihood)
        for part in parts
    }


def model(kind: str, setting: int | str, form: str, x: Tensor, likelihood: Any) -> Any:
    """A model of one kind.

    Args:
        kind: "linear", "polynomial" (of Legendre), "fourier" or "gp".
        setting: degree or order of a polynomial or Fourier series, or name of a kernel.
        form: of a polynomial or Fourier series, "decaying" for a prior variance that falls with the
            order, "best" for the best order up to the given one, or "" for the same prior variance
            of all orders; of a Gaussian process, "ard" for one length-scale for each input, or "".
        x: inputs, (n, D).
        likelihood: the likelihood.
    """
    D = x.shape[1]
    if kind == "gp":
        kernel = kernels.named(str(setting))
        if form == "ard" and D > 1:
            kernel = type(kernel)(
                ard_num_dims=D, **({"nu": kernel.nu} if hasattr(kernel, "nu") else {})
            )
        return GaussianProcess(kernel, likelihood=likelihood)
    if kind == "linear":
        kind, setting = "polynomial", 1
    order = int(setting)
    decay = priors.geometric(2.0) if kind == "polynomial" else priors.power(2.0)
    prior = decay if form == "decaying" else 1.0
    more: dict[str, Any] = {}
    if form == "best":
        noise = ("noise",) if likelihood == "gaussian" else ()
        more = {"hyperparameters": ("scale", *noise, "order")}
    if kind == "fourier":
        return Fourier(order, prior, likelihood=likelihood, **more)
    products = math.comb(D + order, D) <= _FEATURES
    return Polynomial(
        order, prior, kind="legendre", interactions=products, likelihood=likelihood, **more
    )
