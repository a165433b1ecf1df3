"""Tests of `bayesgen.experiments.mode_connectivity` and `bayesgen.experiments.landscapes`."""

import copy
import importlib

import numpy as np
import pytest
import torch
import xarray as xr

import bayesgen as bg
from bayesgen import experiments
from bayesgen.experiments.landscapes import LossLandscape, PointEvidence, evidence_at
from bayesgen.experiments.mode_connectivity import _Augment, barriers
from bayesgen.training.curves import flat

# The package exports the experiment under the name of its module.
module = importlib.import_module("bayesgen.experiments.mode_connectivity")
TINY = {"data": "digits", "train": 60, "test": 50, "epochs": 2, "curve_epochs": 2,
        "swa_epochs": 1, "points": 3, "cells": 2, "evidence_points": 2, "evidence_images": 6,
        "augment": False, "batch": 20}  # fmt: skip


@pytest.fixture
def no_evidence(monkeypatch):
    """Evidences that take no time: sums of the weights."""

    def found(net, x, y, prior_precision=None):
        total = float(flat(net).sum())
        return PointEvidence(total, total, total, total, prior_precision or 1.0)

    monkeypatch.setattr(module, "evidence_at", found)


@pytest.mark.usefixtures("no_evidence")
def test_loss_is_low_on_the_curves_and_high_on_the_line():
    settings = {"data": "digits", "train": 300, "epochs": 40, "curve_epochs": 120, "batch": 50,
                "curve_learning_rate": 0.1, "swa_epochs": 2, "points": 9, "cells": 2,
                "evidence_points": 2, "evidence_images": 10, "augment": False}  # fmt: skip
    result = experiments.mode_connectivity(["mlp"], **settings)
    height = barriers(result).isel(network=0)
    line = float(height.sel(path="line"))
    assert line > 0.3
    assert float(height.sel(path="Bézier curve")) < line / 20
    assert float(height.sel(path="polygonal chain")) < line / 20
    assert float(height.sel(path="line to matched units")) < line / 3
    curves = result.test_error.sel(path=["Bézier curve", "polygonal chain"])
    ends = result.test_error.sel(path="line").isel(point=[0, -1])
    assert float(curves.max() - ends.max()) < 0.02
    assert result.attrs["holds"] == "yes"


@pytest.mark.usefixtures("no_evidence")
def test_resumed_run_equals_an_uninterrupted_one_and_its_figure_draws(tmp_path):
    folder = tmp_path / "cells"
    whole = experiments.mode_connectivity(["convnet"], **TINY)

    def stop(done, expected, what):
        assert expected == 14
        if done == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        experiments.mode_connectivity(["convnet"], **TINY, store=folder, progress=stop)
    assert len(list(folder.iterdir())) == 7
    resumed = experiments.mode_connectivity(["convnet"], **TINY, store=folder)
    xr.testing.assert_allclose(whole, resumed)
    corners = resumed.corners.isel(network=0).sel(corner="third").values
    third = resumed.plane_train_loss.isel(network=0)
    assert corners.shape == (3, 2)
    assert np.isfinite(third).all()
    figure = experiments.mode_connectivity.plot(resumed)
    assert len(figure.axes) == 8
    # The ends of every path are the solutions, also that with permuted units.
    one = resumed.isel(network=0)
    for point, solution in ((0, "solution 1"), (-1, "solution 2")):
        want = float(one.solution_train_loss.sel(solution=solution))
        np.testing.assert_allclose(one.train_loss.isel(point=point), want, rtol=1e-4)


def test_paths_to_permuted_units_are_left_out_for_networks_that_are_no_chains():
    setup = module.Setup("preresnet20", bg.data.load("digits", train=20, test=10), {"seed": 0})
    theta = flat(setup.net(0))
    assert module._match(setup, theta, theta, setup.inputs()[0]) is None


def test_scores_use_statistics_of_the_weights_and_leave_the_network():
    torch.manual_seed(0)
    net = bg.networks.VGG(((4, 1),), 3, channels=1)
    before = copy.deepcopy(net.state_dict())
    x, y = torch.randn(40, 1, 4, 4), torch.arange(40) % 3
    theta = flat(net) * 1.5
    found = LossLandscape(net, x, y, x, y, batch=40).at(theta)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    direct = copy.deepcopy(net)
    torch.nn.utils.vector_to_parameters(theta, direct.parameters())
    direct[1].momentum = 1.0
    direct.train()(x)
    f = direct.eval()(x).detach()
    want = torch.nn.functional.cross_entropy(f, y)
    assert found.train_loss == pytest.approx(float(want), rel=1e-5)
    assert found.test_error == pytest.approx(float((f.argmax(1) != y).double().mean()))


def test_evidence_of_a_linear_network_does_not_depend_on_where_it_is_linearised():
    torch.manual_seed(0)
    x, y = torch.randn(15, 2), torch.arange(15) % 2
    net = bg.networks.MLP(2, (), 2)
    found = [evidence_at(net, x, y, 1.0)]
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(10)
    found.append(evidence_at(net, x, y, 1.0))
    np.testing.assert_allclose(*(each.log_marginal_likelihood for each in found), rtol=1e-6)
    np.testing.assert_allclose(*(each.effective_dimension for each in found), rtol=1e-4)
    assert found[1].gain > found[0].gain > 0


def test_augmented_images_are_shifts_and_flips():
    x = torch.rand(50, 3, 8, 8)
    found = _Augment(0)(x)
    assert found.shape == x.shape
    assert torch.equal(found, _Augment(0)(x))
    padded = torch.nn.functional.pad(x[0], (4, 4, 4, 4))
    windows = [
        window
        for image in (padded, padded.flip(-1))
        for window in image.unfold(1, 8, 1).unfold(2, 8, 1).flatten(1, 2).transpose(0, 1)
    ]
    assert any(torch.equal(found[0], window) for window in windows)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"networks": ["cnn"]}, "networks must be one of"),
        ({"networks": []}, "networks must be one or more"),
        ({"points": 1}, "points must be an integer of at least 2"),
        ({"margin": -1.0}, "margin must be positive"),
        ({"augment": True}, "augment must be False"),
        ({"evidence_points": 4}, "evidence_points must be at most 3"),
    ],
)
def test_bad_settings_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        experiments.mode_connectivity(**({"networks": ["mlp"]} | TINY | change))


def test_statistics_of_batches_are_those_of_all_images():
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.ReLU(), torch.nn.Linear(4, 2)
    )
    x, y = torch.randn(101, 3), torch.arange(101) % 2
    theta = flat(net)
    parts, whole = (LossLandscape(net, x, y, x, y, batch=b).at(theta) for b in (50, 1000))
    assert abs(parts.train_loss - whole.train_loss) < 0.02 * whole.train_loss
