"""Tests of `bayesgen.kernels.parameters` and `bayesgen.kernels.structure`."""

import copy

import pytest
import torch
from gpytorch import kernels as gk
from gpytorch.constraints import GreaterThan, Interval, LessThan

from bayesgen.kernels.parameters import SHAPE, Coordinates, register_role
from bayesgen.kernels.structure import label, parts

F64 = torch.float64


class Own(gk.Kernel):
    """A user's kernel with a positive parameter, one of any sign, and a network's weights."""

    def __init__(self):
        super().__init__()
        self.register_parameter("raw_width", torch.nn.Parameter(torch.zeros(2)))
        self.register_constraint("raw_width", GreaterThan(0.1))
        self.register_parameter("tilt", torch.nn.Parameter(torch.tensor(-0.5)))
        self.net = torch.nn.Linear(2, 1)

    def forward(self, x1, x2, diag=False, **_):
        width = self.raw_width_constraint.transform(self.raw_width)
        a, b = (self.net(x) * width.sum() + self.tilt for x in (x1, x2))
        return (a * b).sum(-1) if diag else a @ b.mT


KERNELS = [
    gk.ScaleKernel(gk.RBFKernel(ard_num_dims=2)) + gk.LinearKernel(),
    gk.RBFKernel(lengthscale_constraint=Interval(0.2, 3.0)),
    gk.RBFKernel(lengthscale_constraint=Interval(0.2, 3.0, transform=None)),
    gk.RBFKernel(lengthscale_constraint=GreaterThan(0.3)) * gk.PeriodicKernel(),
    Own(),
]


@pytest.mark.parametrize("kernel", KERNELS)
def test_coordinates_survive_a_round_trip(kernel):
    kernel = copy.deepcopy(kernel).double()
    coordinates = Coordinates(kernel, 2)
    theta = coordinates.read(kernel)
    assert len(theta) == len(coordinates) == sum(p.numel() for p in kernel.parameters())
    moved = torch.minimum(torch.maximum(theta + 0.1, coordinates.low), coordinates.high)
    other = copy.deepcopy(kernel)
    coordinates.write(other, moved)
    torch.testing.assert_close(coordinates.read(other), moved)


@pytest.mark.parametrize("kernel", KERNELS)
def test_raw_parameters_are_differentiable_in_theta(kernel):
    kernel = copy.deepcopy(kernel).double()
    coordinates = Coordinates(kernel, 2)
    theta = coordinates.read(kernel)
    for p in coordinates.parameters:
        assert torch.autograd.gradcheck(
            lambda t, p=p: coordinates.raw(p, t), theta.clone().requires_grad_()
        )


def test_positive_parameters_are_logarithms_within_their_constraint():
    kernel = Own().double()
    coordinates = Coordinates(kernel, 2)
    width, tilt = coordinates.parameters[:2]
    assert (width.log, tilt.log) == (True, False)
    assert coordinates.low[width.where].exp().tolist() == pytest.approx([0.1, 0.1])
    assert coordinates.low[tilt.where].item() == -torch.inf
    below = gk.RBFKernel().double()
    below.register_constraint("raw_lengthscale", LessThan(5.0))
    assert Coordinates(below, 1).parameters[0].log  # a length-scale is positive all the same


def test_kept_and_tied_parameters_occur_at_most_once():
    shared = gk.RBFKernel()
    kernel = shared + gk.ScaleKernel(shared)
    assert [p.name for p in Coordinates(kernel, 1).parameters] == [
        "RBF.lengthscale", "RBF.outputscale"]  # fmt: skip
    shared.raw_lengthscale.requires_grad_(False)
    assert [p.name for p in Coordinates(kernel, 1).parameters] == ["RBF.outputscale"]


@pytest.mark.parametrize(
    ("kernel", "names"),
    [
        (gk.ScaleKernel(gk.RBFKernel()) + gk.ScaleKernel(gk.PeriodicKernel()), 2),
        (gk.ScaleKernel(gk.RBFKernel()) + gk.PeriodicKernel(), None),
        (gk.ScaleKernel(gk.RBFKernel() * gk.LinearKernel()), 1),
        (gk.RBFKernel() * gk.LinearKernel(), 1),
        (gk.SpectralMixtureKernel(3), 3),
        (gk.RBFKernel(), None),
    ],
)
def test_entries_that_rescale_the_whole_kernel(kernel, names):
    kernel = kernel.double()
    coordinates = Coordinates(kernel, 1)
    entries = coordinates.rescaled()
    assert (None if entries is None else len(entries)) == names
    if entries is not None:
        x = torch.linspace(0.1, 1, 5, dtype=F64)[:, None]
        before = kernel(x, x.clone()).to_dense()
        theta = coordinates.read(kernel)
        theta[entries] += 0.7
        coordinates.write(kernel, theta)
        torch.testing.assert_close(
            kernel(x, x.clone()).to_dense(), before * torch.tensor(0.7).exp()
        )


def test_parts_know_their_columns_and_labels():
    kernel = gk.ScaleKernel(gk.RBFKernel(active_dims=(2, 0), ard_num_dims=2)) + (
        gk.RBFKernel() * gk.MaternKernel(nu=1.5, active_dims=(1,))
    )
    found = {part.label: part.columns for part in parts(kernel, 3)}
    assert found["RBF"] == (2, 0)
    assert found["RBF 2"] == (0, 1, 2)
    assert found["Matérn 3/2"] == (1,)
    assert label(kernel) == "RBF + RBF × Matérn 3/2"


def test_columns_that_do_not_match_are_refused():
    with pytest.raises(ValueError, match="ard_num_dims=3, but it is used on 2 column"):
        parts(gk.RBFKernel(ard_num_dims=3), 2)
    with pytest.raises(ValueError, match=r"active_dims \(5,\), but its inputs have 2 column"):
        parts(gk.RBFKernel(active_dims=(5,)), 2)


def test_role_is_registered():
    register_role(Own, "raw_width", SHAPE)
    with pytest.raises(ValueError, match="role must be one of"):
        register_role(Own, "raw_width", "colour")
