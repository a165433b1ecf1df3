"""Tests of `bayesgen.experiments.claims.equivariance`."""

import importlib

import numpy as np
import pytest
import torch

from bayesgen.experiments import equivariance, soft_bias_tasks as tasks

module = importlib.import_module("bayesgen.experiments.claims.equivariance")


class Total(torch.nn.Module):
    """Sums of the pixels and of their squares above the background, which no shift changes."""

    def forward(self, x):
        above = (x - x.amin((1, 2, 3), keepdim=True)).flatten(1)
        return torch.stack([above.sum(1), above.square().sum(1)], 1)


def test_error_is_zero_for_an_invariant_function_and_that_of_numpy_for_another():
    x = tasks.displaced_digits(100, 0.0, 0).x.double()
    assert max(module.invariance_errors(Total(), x)) < 1e-20
    net = module.network("MLP").double()
    with torch.no_grad():
        found, _ = module.invariance_errors(net, x)
        f = net(x).numpy()
        gaps = []
        for image, old in zip(x.numpy()[:, 0], f, strict=True):
            low = image.min()
            for (down, right), edge in zip(
                module.SHIFTS, (image[:, -1], image[:, 0], image[-1], image[0]), strict=True
            ):
                if (edge == low).all():
                    moved = np.roll(image, (down, right), (0, 1))
                    new = net(torch.as_tensor(moved)[None, None]).numpy()[0]
                    gaps.append(((new - old) ** 2).sum())
    want = np.mean(gaps) / (2 * ((f - f.mean(0)) ** 2).sum(1).mean())
    np.testing.assert_allclose(found, want, rtol=1e-9)


def test_training_on_displaced_digits_reduces_the_error_of_invariance():
    found = module.trained("MLP", (50, 400), 12, 0)
    assert found["softmax_error"][2] < 0.8 * found["softmax_error"][:2].min()
    assert found["test_error"][2] < 0.7 * found["test_error"][1]


def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path):
    settings = {"sizes": [10, 20], "epochs": 1, "seeds": 1}
    result = equivariance(store=tmp_path, **settings)
    files = sorted(tmp_path.glob("*.nc"))
    assert len(files) == 3
    files[0].unlink()
    again = equivariance(store=tmp_path, **settings)
    for name in result.data_vars:
        np.testing.assert_allclose(result[name], again[name])
    assert len(equivariance.plot(result).axes) == 3
    assert result.attrs["holds"] in ("yes", "partly", "no")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"sizes": [50, 20]}, "sizes must be increasing numbers, two or more"),
        ({"sizes": [50, 719]}, "sizes must be at most 620"),
        ({"epochs": 0}, "epochs must be"),
        ({"seeds": 0}, "seeds must be"),
    ],
)
def test_bad_settings_are_named(settings, words):
    with pytest.raises(ValueError, match=words):
        equivariance(**settings)
