"""Tests of `bayesgen.experiments.soft_bias`, `bayesgen.experiments.soft_bias_models` and
`bayesgen.experiments.soft_bias_tasks`.
"""

import numpy as np
import pytest
import torch

from bayesgen import experiments, networks
from bayesgen.experiments import soft_bias_models as models, soft_bias_tasks as tasks
from bayesgen.experiments.soft_bias import judge

F64 = torch.float64
TINY = {"repetitions": 1, "seeds": 1, "images": 40, "epochs": 1, "digits": 12, "nodes": 2}


def mean(cells, key):
    return np.mean([cell[key] for cell in cells], 0)


def values(name, *arguments):
    """Values of a cell in the shapes of the real ones, which follow from its arguments."""
    rng = np.random.default_rng(len(repr((name, *arguments))))
    if name in ("linear", "tied"):
        shapes = {"ratio": (4,), "rmse": (4, 3)}
        shapes |= {"evidence": (4, len(arguments[2]))} if name == "tied" else {}
        return {key: rng.uniform(0.1, 1, shape) for key, shape in shapes.items()}
    keys = {
        "pathway": ("error", "evidence"),
        "invariant_kernel": ("range", "evidence", "base_evidence", "error", "base_error"),
        "averaged_network": ("evidence", "error"),
    }[name]
    keys += ("share",) if arguments[0] == "residual pathway" else ()
    return {key: float(rng.uniform(0.1, 1)) for key in keys}


@pytest.fixture
def calls(monkeypatch):
    """Cells of random values in place of the study's models, and the list of calls."""
    found = []
    for name in ("linear", "tied", "pathway", "invariant_kernel", "averaged_network"):

        def run(*arguments, name=name):
            found.append(name)
            return values(name, *arguments)

        run.__name__ = name
        monkeypatch.setattr(models, name, run)
    return found


def test_ratio_of_a_quadratic_model_rises_with_the_asymmetry_and_soft_is_never_worse():
    cells = [models.linear(50, (0.0, 0.1, 0.5, 1.0), seed) for seed in range(4)]
    ratio = np.exp(np.mean([np.log(cell["ratio"]) for cell in cells], 0))
    assert (ratio[1:] > 3 * ratio[:-1]).all()
    hard, soft, free = mean(cells, "rmse").T
    assert (soft < 1.1 * np.minimum(hard, free)).all()
    assert hard[0] < 0.3 * free[0]
    assert free[-1] < 0.7 * hard[-1]


def test_tie_strength_of_maximum_evidence_follows_the_deviation():
    found = models.tied(8, (0.0, 0.3, 1.0), (1e-4, 1e-2, 1e2), 0)
    assert (found["ratio"][1:] > 3 * found["ratio"][:-1]).all()
    assert found["evidence"].argmax(1).tolist() == [0, 1, 2]
    hard, soft, free = found["rmse"].T
    assert (soft < 1.1 * np.minimum(hard, free)).all()


def test_tied_features_have_the_covariance_of_tied_and_free_weights():
    x = torch.randn(2, tasks.SIDE**2, generator=torch.Generator().manual_seed(0), dtype=F64)
    Phi, T = tasks.map_features(x), tasks.filter_maps()
    r = 0.3
    variances = torch.cat([torch.ones(9), torch.full((Phi.shape[1] - 9,), r)]).double()
    of_weights = torch.einsum("kab,kcd->abcd", T, T).reshape(tasks.SIDE**4, -1)
    of_weights = of_weights + r * torch.eye(tasks.SIDE**4, dtype=F64)
    rows = [torch.kron(torch.eye(tasks.SIDE**2, dtype=F64), image[None]) for image in x]
    dense = torch.cat(rows)
    torch.testing.assert_close((Phi * variances) @ Phi.mT, dense @ of_weights @ dense.mT)


def test_share_of_the_dense_map_is_that_of_the_prior_variances():
    layer = networks.ResidualPathway.of_convolution(torch.nn.Conv2d(1, 2, 3), (1, 6, 6))
    x = torch.randn(3, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    precision = torch.tensor([2.0, 5.0, 1.0])
    patches = torch.nn.functional.unfold(x, 3).square().sum(1).mean()
    conv, dense = float(patches) / 2, float(x.square().sum((1, 2, 3)).mean()) / 5
    share = models.dense_share(layer, x, precision)
    assert share == pytest.approx(dense / (conv + dense), rel=1e-5)


@pytest.mark.slow
def test_residual_pathway_follows_the_structure_of_the_images():
    cells = {
        (share, kind): models.pathway(kind, share, 360, 60, 0)
        for share in (0.0, 1.0)
        for kind in models.NETWORKS
    }
    soft = [cells[share, "residual pathway"] for share in (0.0, 1.0)]
    assert soft[0]["share"] < 0.3 < 0.7 < soft[1]["share"]
    for share, found in zip((0.0, 1.0), soft, strict=True):
        others = min(cells[share, kind]["error"] for kind in ("ConvNet", "MLP"))
        assert found["error"] < others + 0.05
    assert cells[1.0, "ConvNet"]["error"] > cells[1.0, "MLP"]["error"] + 0.1


def test_range_of_the_kernel_grows_with_the_rotation_and_vanishes_for_orientation():
    upright, turned, sense = (
        models.invariant_kernel(degrees, label, 60, 4, 0)
        for degrees, label in ((0.0, False), (180.0, False), (90.0, True))
    )
    assert turned["range"] > 1.3 * upright["range"]
    assert sense["range"] < 0.2 * upright["range"]
    assert turned["evidence"] > turned["base_evidence"] + 20
    assert turned["error"] < turned["base_error"]


@pytest.mark.slow
def test_evidence_of_averaged_networks_prefers_a_range_by_the_rotation():
    def gain(degrees, label):
        near, far = (
            models.averaged_network(degrees, label, span, 60, 6, 40, 0)["evidence"]
            for span in (0.0, 180.0)
        )
        return far - near

    assert gain(180.0, False) > 5
    assert gain(0.0, False) < -5
    assert gain(90.0, True) < -5


def test_shuffled_digits_have_the_same_pixels_in_another_order():
    plain, mixed = (tasks.displaced_digits(20, share, 0) for share in (0.0, 1.0))
    assert torch.equal(plain.y, mixed.y)
    assert len(plain.x_new) > 500
    a, b = plain.x.flatten(1), mixed.x.flatten(1)
    assert not torch.equal(a, b)
    torch.testing.assert_close(a.sort(1).values, b.sort(1).values)
    assert a.mean().abs() < 1e-5


def test_result_states_what_holds(calls):
    result = experiments.soft_bias(**TINY)
    parts = judge(result)
    assert len(parts) == 9
    share = sum(parts.values()) / len(parts)
    assert result.attrs["holds"] == ("yes" if share == 1 else "partly" if share >= 0.5 else "no")
    failed = [name for name, good in parts.items() if not good]
    assert all(name in result.attrs["found"] for name in failed)
    kernel = values("invariant_kernel", 90.0, True, 12, 2, 0)
    assert result.kernel_range[0, -1] == kernel["range"]
    assert result.kernel_evidence[0, -1, 1] == kernel["base_evidence"]
    pathway = values("pathway", "MLP", 0.25, 40, 1, 0)
    assert result.pathway_error.sel(seed=0, shuffled=0.25, network="MLP") == pathway["error"]


def test_a_resumed_run_equals_an_uninterrupted_one(calls, tmp_path):
    result = experiments.soft_bias(store=tmp_path, **TINY)
    files = sorted(tmp_path.glob("*.nc"))
    assert len(files) == len(calls) == 2 + 9 + 6 + 15
    calls.clear()
    for path in files[::3]:
        path.unlink()
    again = experiments.soft_bias(store=tmp_path, **TINY)
    assert len(calls) == len(files[::3])
    for name in result.data_vars:
        np.testing.assert_allclose(result[name], again[name], err_msg=str(name))


@pytest.mark.slow
def test_a_tiny_study_runs():
    result = experiments.soft_bias(**TINY)
    assert all(np.isfinite(result[name]).all() for name in result.data_vars)


def test_bad_numbers_are_named():
    with pytest.raises(ValueError, match="nodes must be an integer of at least 1"):
        experiments.soft_bias(nodes=0)
    with pytest.raises(ValueError, match="images must be below 720"):
        experiments.soft_bias(images=720)
