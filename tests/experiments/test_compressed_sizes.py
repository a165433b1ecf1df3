"""Tests of `bayesgen.experiments.compressed_sizes`."""

import numpy as np
import pytest
import torch

import bayesgen as bg
from bayesgen.data.corruption import corrupt_labels
from bayesgen.experiments.compressed_sizes import (
    CodeGrid,
    SizeTask,
    on_noisy_labels,
    select_all,
)
from bayesgen.pacbayes.compression.compressed_network import zero_one_risk

FEW = CodeGrid(dimensions=(20, 40), levels=(3,), seeds=2, epochs=2, quantised_epochs=1)


@pytest.fixture(scope="module")
def data():
    return bg.data.load("digits", train=80, test=60, dtype=torch.float32)


@pytest.mark.parametrize("name", ["mlp", "convnet"])
def test_selection_pays_for_the_grid_and_for_what_is_chosen_beside_it(data, name):
    task = SizeTask(name, 2, data, data.y_train)
    (one,) = select_all([task], FEW, 5)
    assert one.best.candidates == 4 * 5
    assert len(one.codes) == 4
    bounds = [code.certificate(candidates=20).bound for code in one.codes]
    assert one.best.certificate().bound == min(bounds)
    place = int(np.argmin(bounds))
    settings = one.best.settings
    assert one.tried[place] == (settings["dimension"], settings["levels"], settings["seed"])
    x, new = task.inputs()
    assert zero_one_risk(one.best.decoded(), x, data.y_train) == one.best.risk
    assert zero_one_risk(one.best.decoded(), new, data.y_test) == one.test_error


def test_dimensions_above_the_number_of_weights_are_left_out_and_paid_for(data):
    settings = CodeGrid(dimensions=(20, 10**4), levels=(3,), epochs=1, quantised_epochs=1)
    (one,) = select_all([SizeTask("mlp", 2, data, data.y_train)], settings, 1)
    assert one.tried == [(20, 3, 0)]
    assert one.best.candidates == 2
    with pytest.raises(ValueError, match="dimensions must have a value from 3 to 160"):
        settings.fitting(160) and CodeGrid(dimensions=(200,), levels=(3,)).fitting(160)


def test_an_interrupted_selection_continues(data, tmp_path):
    tasks = [SizeTask("mlp", w, data, data.y_train) for w in (2, 3)]
    select_all(tasks[:1], FEW, 2, store=tmp_path)
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    resumed = select_all(tasks, FEW, 2, store=tmp_path)
    fresh = select_all(tasks, FEW, 2)
    assert [one.best.code for one in resumed] == [one.best.code for one in fresh]
    assert all(path.stat().st_mtime_ns == made for path, made in kept.items())
    assert len(list(tmp_path.iterdir())) == 8


def test_tasks_with_equal_labels_share_their_cells(data, tmp_path):
    other = (data.y_train + 1) % 10
    tasks = [
        SizeTask("mlp", 2, data, labels, f"labels {i}")
        for i, labels in enumerate((data.y_train, other, data.y_train.clone()))
    ]
    a, b, c = select_all(tasks, FEW, 2, store=tmp_path)
    assert len(list(tmp_path.iterdir())) == 8
    assert a.best.code == c.best.code
    assert a.best.code != b.best.code


def test_inputs_contain_no_statistics_of_the_training_data(data):
    task = SizeTask("convnet", 2, data, data.y_train)
    x, new = task.inputs()
    assert torch.equal(x.reshape(len(x), -1), data.x_train)
    assert torch.equal(new.reshape(len(new), -1), data.x_test)


def test_error_on_noisy_labels_is_that_of_redrawn_ones():
    y = torch.arange(20_000) % 10
    predicted = y.clone()
    predicted[:6000] = (predicted[:6000] + 1) % 10
    noisy, _ = corrupt_labels(y, 0.3, num_classes=10, seed=0)
    found = float((predicted != noisy).double().mean())
    assert on_noisy_labels(0.3, 0.3, 10) == pytest.approx(found, abs=0.01)


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"dimensions": ()}, "dimensions must be increasing"),
        ({"levels": (1,)}, "levels must be an integer of at least 2"),
        ({"seeds": (1, 0)}, "seeds must be increasing"),
        ({"seeds": 0}, "seeds must be"),
        ({"epochs": 0}, "epochs must be"),
    ],
)
def test_bad_settings_are_named(settings, match):
    with pytest.raises(ValueError, match=match):
        CodeGrid(**settings)
