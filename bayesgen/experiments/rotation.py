"""Experiment: predict the rotation angle of digits with a fixed and with a learnt kernel."""

from __future__ import annotations

import torch
import xarray as xr
from gpytorch.kernels import RBFKernel
from scipy import ndimage
from torch import Tensor, nn

from bayesgen import data as datasets, plots
from bayesgen._internal import checks
from bayesgen._internal.progress import ProgressOption
from bayesgen._internal.progress_bar import shows_progress
from bayesgen.experiments.experiment import claim, experiment, provenance
from bayesgen.models import DeepKernel, GaussianProcess

# Side of an enlarged digit and of the canvas, in pixels.
SIZE, CANVAS = 16, 24
# Number of test images whose prior correlations are shown.
_SHOWN = 100


def rotated(images: Tensor, angles: Tensor, generator: torch.Generator) -> Tensor:
    """Enlarge images (n, 64), rotate them by degrees (n,), place them at random: (n, 1, 24, 24)."""
    large = [ndimage.zoom(image, SIZE / 8, order=1) for image in images.reshape(-1, 8, 8).numpy()]
    turned = [
        ndimage.rotate(image, float(angle), reshape=False, order=1)
        for image, angle in zip(large, angles, strict=True)
    ]
    canvas = torch.zeros(len(turned), 1, CANVAS, CANVAS, dtype=torch.float64)
    corners = torch.randint(CANVAS - SIZE + 1, (len(turned), 2), generator=generator)
    for place, image, (row, column) in zip(canvas, turned, corners.tolist(), strict=True):
        place[0, row : row + SIZE, column : column + SIZE] = torch.from_numpy(image)
    return canvas


@experiment(plot=plots.rotation)
@shows_progress
def rotation(
    *,
    train: int = 600,
    test: int = 400,
    steps: int = 60,
    widest: float = 60.0,
    seed: int = 0,
    progress: ProgressOption = None,
    command: str | None = None,
) -> xr.Dataset:
    """Predict by how much a digit was rotated, with an RBF kernel and with a deep kernel.

    The digits are placed anywhere on a larger canvas. Under an RBF kernel on pixels, two digits at
    the same angle but at different places are as dissimilar as any two images, so it generalises
    poorly. A deep kernel trained on the evidence learns that images of the same angle are similar.

    Args:
        train, test: numbers of digits, all different.
        steps: number of training steps of the deep kernel.
        widest: angles are uniform on ±widest, in degrees.
        seed: seed of angles and weights.
        progress: called as progress(done, expected, what); True shows a progress bar.
        command: command to record in the result; None records this call.

    Returns:
        Dataset with `angle` (row), `predicted` and `sd` (model, row) of the test digits in degrees;
        `correlation` (model, shown, other) of f under each prior, by increasing angle; and, for
        each model, `test_rmse`, `log_marginal_likelihood` and what the latter excludes in
        `excludes`.

    Source: Wilson et al. (2016), section 5.2, on faces; Wilson (2025), section 6.

    Example:
        >>> result = rotation(train=40, test=20, steps=2)
        >>> dict(result.predicted.sizes)
        {'model': 2, 'row': 20}
    """
    data = datasets.load("digits", train=train, test=None)
    generator = torch.Generator().manual_seed(checks.seed(seed))
    chosen = data.x_test[torch.randperm(len(data.x_test), generator=generator)[:test]]
    angle, new_angle = (
        widest * (2 * torch.rand(len(x), generator=generator, dtype=torch.float64) - 1)
        for x in (data.x_train, chosen)
    )
    order = new_angle.argsort()
    x = rotated(data.x_train, angle, generator)
    new_angle = new_angle[order]
    x_new = rotated(chosen[order], new_angle, generator)
    y = angle / widest
    flat, flat_new = x.flatten(1), x_new.flatten(1)
    fixed = GaussianProcess(RBFKernel()).fit(flat, y)
    deep = DeepKernel(network(seed), RBFKernel(), steps=steps, learning_rate=0.01).fit(
        x.float(), y, progress=progress
    )
    shown = torch.linspace(0, len(x_new) - 1, min(_SHOWN, len(x_new))).long()
    kernel = fixed.kernels[0]
    with torch.no_grad():
        correlations = [
            kernel(flat_new[shown]).to_dense(),
            deep.similarity(x_new[shown].float(), x_new[shown].float()) / deep.scale,
        ]
    found = [fixed.predict(flat_new), deep.predict(x_new.float())]
    predicted = widest * torch.stack([each.mean for each in found])
    evidence = [fixed.evidence, deep.evidence]
    degrees = {"units": "degrees"}
    result = xr.Dataset(
        {
            "angle": ("row", new_angle.numpy(), degrees),
            "predicted": (("model", "row"), predicted.numpy(), degrees),
            "sd": (
                ("model", "row"),
                (widest * torch.stack([each.stddev for each in found])).numpy(),
                degrees,
            ),
            "correlation": (
                ("model", "shown", "other"),
                torch.stack(correlations).numpy(),
                {"long_name": "prior correlation of f"},
            ),
            "test_rmse": (
                "model",
                (predicted - new_angle).square().mean(1).sqrt().numpy(),
                degrees,
            ),
            "log_marginal_likelihood": (
                "model",
                [float(e.log_marginal_likelihood) for e in evidence],
                {"units": "nats", "long_name": "of angles in units of the widest"},
            ),
            "excludes": ("model", [", ".join(e.complexity_excludes) for e in evidence]),
        },
        coords={
            "model": ["RBF on pixels", "deep kernel"],
            "shown": ("shown", new_angle[shown].numpy(), degrees),
        },
        attrs={
            "title": "The angle of rotated digits: a fixed and a learned similarity",
            "n": train,
            "widest": widest,
            **provenance(command or f"rotation(train={train}, test={test}, seed={seed})"),
        },
    )
    result.attrs |= _claim(result)
    return result


def _claim(result: xr.Dataset) -> dict[str, str]:
    """Attributes with the paper's claim and this result."""
    fixed, deep = (float(value) for value in result.test_rmse)
    return claim(
        "Representation learning is what a fixed kernel lacks: a deep kernel learns a similarity "
        "that suits the task.",
        f"The test RMSE of the rotation angle is {fixed:.1f} degrees with an RBF kernel on pixels "
        f"and {deep:.1f} degrees with the deep kernel.",
        "yes" if deep < 0.8 * fixed else "no",
    )


def network(seed: int) -> nn.Module:
    """Network with three convolutions, average pooling over places, and two features."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(1, 16, 5, padding=2),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(32, 32, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(32, 2),
        )
