"""Tests of `bayesgen.reports.cautions`."""

import numpy as np
import xarray as xr

from bayesgen.reports.cautions import cautions


def study(seeds=2, **attrs):
    rng = np.random.default_rng(0)
    values = {
        "log_marginal_likelihood": (("level", "seed"), -rng.uniform(1, 2, (3, seeds))),
        "evidence_error": (("level", "seed"), np.full((3, seeds), 1e-9)),
        "at_bound": (("level", "seed"), np.zeros((3, seeds), bool)),
        "jitter": (("level", "seed"), np.zeros((3, seeds))),
    }
    known = {"n": 500, "n_test": 5000, "classes": 4, "method": "exact"}
    return xr.Dataset(values, {"level": [0, 0.5, 1], "seed": range(seeds)}, known | attrs)


def said(result):
    return " ".join(cautions(result))


def test_a_sound_result_needs_no_caution():
    assert cautions(study()) == []
    assert cautions(xr.Dataset()) == []


def test_one_seed_few_test_points_and_approximations_are_named():
    assert "one seed only" in said(study(seeds=1))
    assert "standard error is up to 0.05" in said(study(n_test=100))
    assert "Laplace's approximation" in said(study(method="Laplace, dense GGN"))
    network = xr.Dataset(attrs={"network": "mlp"})
    assert "one seed only" in said(network)


def test_bounds_jitter_and_errors_are_named():
    result = study()
    result["at_bound"][0, 0] = True
    result["jitter"][1, 1] = 1e-8
    result["evidence_error"][2, 0] = 0.5
    found = cautions(result)
    assert found[0].startswith("1 of 6 fits is at the edge")
    assert "uncertain by up to" in found[1]
    assert found[2] == "A jitter of up to 1e-08 was added to the diagonal of covariances."


def test_what_is_unpaid_and_far_from_a_mode_is_named():
    values = {"excludes": ("curvature", ["", "features", "features"]),
              "gain": ("curvature", [0.0, 40.0, 1.0])}  # fmt: skip
    result = xr.Dataset(values, {"curvature": ["ggn", "last_layer", "other"]}, {"n": 100})
    unpaid, mode = cautions(result)
    assert unpaid.startswith("last_layer and other: the complexity excludes the features")
    assert "gain up to 0.4 nats per observation" in mode
    assert len(cautions(result.assign(gain=result.gain * 0))) == 1


def test_vacuous_certificates_are_counted_against_guessing():
    result = xr.Dataset(
        {"bound": (("level", "seed"), [[0.2, 0.4], [0.5, 1.3]])},
        {"seed": [0, 1]},
        {"delta": 0.05, "classes": 2},
    )
    (found,) = cautions(result)
    assert found.startswith("2 of 4 certificates are vacuous")
    assert "guessing, 0.5" in found


def test_densities_and_probabilities_are_not_compared():
    result = xr.Dataset({"kind": ("model", ["labels", "density"]), "says": ("model", ["a", "b"])})
    assert "must not be compared" in said(result)
    assert cautions(result.isel(model=[0, 0])) == []
