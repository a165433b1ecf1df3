"""Tests of `bayesgen.features.convolutional`."""

import pytest
import torch

import bayesgen as bg
from bayesgen.features.convolutional import ConvolutionalMap


def by_loops(features, x):
    """The definition, patch by patch."""
    C, H, W = features.image
    p, G = features.patch, features.grid
    weights = features.weights()
    result = torch.zeros(len(x), features.filters, G, G, dtype=x.dtype)
    for n, image in enumerate(x.reshape(-1, C, H, W)):
        views = [image, image.flip(-1)] if features.mirror else [image]
        for view in views:
            rows, columns = H - p + 1, W - p + 1
            act = torch.zeros(features.filters, rows, columns, dtype=x.dtype)
            for i in range(rows):
                for j in range(columns):
                    u = view[:, i : i + p, j : j + p]
                    u = u - u.mean()
                    u = u / (u.square().sum() + features.epsilon).sqrt()
                    act[:, i, j] = ((weights * u).sum((1, 2, 3)) - features.threshold).relu()
            result[n] += torch.nn.functional.adaptive_avg_pool2d(act, G) / len(views)
    size = weights[0].numel()
    return (2 * size / features.d) ** 0.5 * result.flatten(1)


@pytest.mark.parametrize("settings", [{}, {"mirror": False, "grid": 3}, {"patch": 2, "grid": 4}])
@pytest.mark.parametrize("channels", [1, 3])
def test_features_match_patchwise_definition(settings, channels):
    features = ConvolutionalMap(
        7, image=(channels, 9, 8), **{"patch": 3, "grid": 2, "seed": 4, **settings}
    )
    x = torch.rand(3, channels * 72, dtype=torch.float64)
    torch.testing.assert_close(features(x), by_loops(features, x))


def test_mirror_images_have_the_same_features():
    features = ConvolutionalMap(5, image=(3, 10, 10), patch=3, grid=2)
    x = torch.rand(4, 3, 10, 10, dtype=torch.float64)
    torch.testing.assert_close(features(x.flatten(1)), features(x.flip(-1).flatten(1)))


def test_features_ignore_brightness():
    features = ConvolutionalMap(5, image=(1, 8, 8), patch=3)
    x = torch.rand(4, 64, dtype=torch.float64)
    torch.testing.assert_close(features(x), features(x + 0.3))


def test_features_do_not_depend_on_pass_size(monkeypatch):
    features = ConvolutionalMap(5, image=(1, 8, 8), patch=3)
    x = torch.rand(9, 64, dtype=torch.float64)
    whole = features(x)
    monkeypatch.setattr("bayesgen.features.convolutional._PASS", 1)
    torch.testing.assert_close(features(x), whole)


def test_basis_and_kernel_give_same_evidence():
    data = bg.data.load("digits", train=60)
    y = bg.likelihoods.one_hot(data.y_train, 10)
    settings = {"image": (1, 8, 8), "patch": 3, "grid": 2}
    fixed = {"noise": 0.1, "hyperparameters": "fixed"}
    linear = bg.LinearModel(bg.bases.Convolutional(20, **settings), **fixed)
    gp = bg.GaussianProcess(bg.kernels.ConvolutionalFeatures(20, **settings), **fixed)
    a, b = linear.fit(data.x_train, y), gp.fit(data.x_train, y)
    torch.testing.assert_close(
        a.evidence.log_marginal_likelihood, b.evidence.log_marginal_likelihood
    )
    torch.testing.assert_close(a.mean(data.x_test), b.mean(data.x_test))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"filters": 0}, "filters must be an integer of at least 1"),
        ({"patch": 9}, "patch must fit the image"),
        ({"patch": 7, "grid": 3}, "grid must be at most the 2 positions"),
        ({"epsilon": 0.0}, "epsilon must be positive"),
    ],
)
def test_invalid_settings_raise(settings, message):
    with pytest.raises(ValueError, match=message):
        ConvolutionalMap(**{"filters": 4, "image": (1, 8, 8), "patch": 3, **settings})
    with pytest.raises(ValueError, match=r"shape \(n, 64\), got \(2, 63\)"):
        ConvolutionalMap(4, image=(1, 8, 8), patch=3)(torch.rand(2, 63))
