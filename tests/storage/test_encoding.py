"""Tests of `bayesgen.storage.encoding` and `bayesgen.storage.decoding`: objects as plain nodes."""

import json
import math
from collections import OrderedDict
from functools import partial

import gpytorch
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings, strategies as st

import bayesgen as bg
from bayesgen.features import bases
from bayesgen.storage.decoding import PartError, decode
from bayesgen.storage.encoding import Encoder, encode


def again(thing, **parts):
    found = encode(thing)
    nodes = json.loads(json.dumps(found.nodes, allow_nan=False))
    return decode(nodes, found.root, found.arrays, parts)


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(st.text() | st.integers(), inner, max_size=4)
    ),
    max_leaves=12,
)


@settings(deadline=None, max_examples=50)
@given(PLAIN)
def test_plain_values_are_read_as_they_were_written(thing):
    assert repr(again(thing)) == repr(thing)


@pytest.mark.parametrize(
    "thing",
    [torch.Size([2, 3]), torch.float32, torch.device("cpu"), slice(1, None), range(1, 9, 2), 1j,
     OrderedDict(a=1), {1}, frozenset({b"a"}), math.nan, -math.inf, np.float64(0.1),
     np.bool_(True), np.int32(3)],
)  # fmt: skip
def test_values_of_other_kinds(thing):
    found = again(thing)
    assert type(found) is type(thing)
    assert repr(found) == repr(thing)


@pytest.mark.parametrize(
    "array",
    [np.arange(6.0)[::-1], np.arange(6, dtype=">f8"), np.zeros((0, 3)), np.array(["a", "bc"]),
     np.array([1, "a", None], dtype=object), np.arange(4, dtype=np.uint64), np.array(3.0),
     np.array([True, False]), np.arange(4.0).reshape(2, 2).T],
    ids=str,
)  # fmt: skip
def test_arrays(array):
    found = again(array)
    assert found.dtype == array.dtype
    assert found.shape == array.shape
    assert found.tolist() == array.tolist()


@pytest.mark.parametrize(
    "tensor",
    [torch.arange(6.0), torch.arange(6).reshape(2, 3).mT, torch.ones(3).expand(4, 3),
     torch.zeros(0, 3), torch.tensor(2.0), torch.ones(2, dtype=torch.bfloat16),
     torch.arange(40.0)[30:33], torch.eye(3, dtype=torch.bool), torch.ones(2).requires_grad_(),
     torch.ones(1, 2, 3, 3).to(memory_format=torch.channels_last), torch.arange(12.0)[1::3]],
    ids=str,
)  # fmt: skip
def test_tensors_keep_values_layout_and_dtype(tensor):
    found = again(tensor)
    assert torch.equal(found, tensor)
    assert found.stride() == tensor.stride()
    assert (found.dtype, found.requires_grad) == (tensor.dtype, tensor.requires_grad)


def test_views_share_their_memory_again():
    whole = torch.arange(10.0)
    one, two = again([whole, whole[3:5]])
    two += 100
    assert one[3:5].tolist() == [103, 104]


def test_only_the_used_part_of_a_block_of_memory_is_stored():
    found = encode(torch.zeros(10_000)[5000:5003])
    assert found.arrays[0].nbytes < 100


def test_an_object_that_is_referred_to_twice_is_one():
    part = [1]
    one, two = again([part, part])
    assert one is two


def test_a_loop_of_references():
    loop = {"own": []}
    loop["own"].append(loop)
    found = again(loop)
    assert found["own"][0] is found


def test_a_table():
    table = pd.DataFrame({"a": [1.5, 2.5], "b": [1, 2]})
    pd.testing.assert_frame_equal(again(table), table)


def test_functions_of_the_list_and_their_arguments():
    found = again(partial(bases._products, "legendre", 2, torch.tensor([[1]])))
    assert found.func is bases._products
    assert found.args[:2] == ("legendre", 2)


@pytest.mark.parametrize(
    "kernel",
    [
        gpytorch.kernels.ScaleKernel(gpytorch.kernels.RBFKernel(ard_num_dims=2)),
        gpytorch.kernels.MaternKernel(nu=0.5) + gpytorch.kernels.LinearKernel(),
        gpytorch.kernels.RBFKernel(
            lengthscale_constraint=gpytorch.constraints.Interval(0.1, 2.0), active_dims=[1]
        ),
        gpytorch.kernels.PeriodicKernel() * gpytorch.kernels.RQKernel(),
    ],
)
def test_kernels(kernel):
    found, x = again(kernel), torch.rand(5, 2)
    assert torch.equal(found(x).to_dense(), kernel(x).to_dense())
    assert found.state_dict().keys() == kernel.state_dict().keys()
    found.load_state_dict(kernel.state_dict())
    found.initialize(**dict(kernel.named_parameters()))


def test_networks():
    net, x = bg.networks.PreResNet20(num_classes=3, width=4).eval(), torch.rand(2, 3, 8, 8)
    assert torch.equal(again(net)(x), net(x))


class Own(torch.nn.Module):
    """A network of the user, with parameters that are shared."""

    def __init__(self):
        super().__init__()
        self.a, self.b = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
        self.b.weight = self.a.weight
        self.register_buffer("shift", torch.ones(2))

    def forward(self, x):
        return self.b(self.a(x)) + self.shift


def test_a_module_of_the_user_is_given_again_as_a_whole():
    net = torch.nn.Sequential(Own(), torch.nn.Linear(2, 1)).eval()
    held = {"net": net, "layer": net[1], "weight": net[0].a.weight}
    fresh, x = torch.nn.Sequential(Own(), torch.nn.Linear(2, 1)), torch.rand(3, 2)
    before = [p.clone() for p in fresh.parameters()]
    found = again(held, net=fresh)
    assert torch.equal(found["net"](x), net(x))
    assert found["layer"] is found["net"][1]
    assert found["weight"] is found["net"][0].a.weight is found["net"][0].b.weight
    assert not found["net"][0].training
    assert found["net"] is not fresh
    assert all(torch.equal(a, b) for a, b in zip(before, fresh.parameters(), strict=True))
    assert fresh.training


def test_another_module_is_refused():
    held = {"net": torch.nn.Sequential(Own())}
    with pytest.raises(PartError, match="the net 'Own' that was given has other parts"):
        again(held, net=torch.nn.Sequential(Own(), Own()))
    wide = Own()
    wide.shift, wide.a = torch.ones(2), torch.nn.Linear(3, 2)
    with pytest.raises(PartError, match=r"parameter 'weight' of shape \(2, 3\)"):
        again(held, net=torch.nn.Sequential(wide))
    with pytest.raises(PartError, match=r"it was fitted with the net 'Own', which is code and is"):
        again(held)


def test_functions_of_one_name_are_told_apart():
    one, two = (lambda: 1), (lambda: 2)
    found = encode({"kernel": [one, two, one]})
    assert [tuple(part) for part in found.given] == [
        ("kernel", "<lambda>"),
        ("kernel", "<lambda> (2)"),
    ]
    parts = {"kernel": {"<lambda>": one, "<lambda> (2)": two}}
    assert decode(found.nodes, found.root, [], parts)["kernel"] == [one, two, one]


def test_what_is_neither_data_nor_a_part_of_a_model_is_refused():
    with pytest.raises(TypeError, match="cannot be stored"):
        encode([lambda: 0])
    with pytest.raises(TypeError, match="layout"):
        encode(torch.eye(2).to_sparse())
    with pytest.raises(TypeError, match="Series of pandas"):
        encode(pd.Series([1.0]))


@pytest.mark.parametrize(
    "node",
    [
        {"is": "object", "class": ["os", "_Environ"], "of": []},
        {"is": "tuple", "class": ["subprocess", "Popen"], "of": []},
        {"is": "tuple", "class": ["bayesgen.evidence", "Evidence"], "of": []},
        {"is": "function", "name": ["os", "system"]},
        {"is": "method", "of": "text", "name": "upper"},
        {"is": "bytes of", "dtype": "|O", "shape": [1], "of": "AAAAAAAAAAA="},
        {"is": "given", "role": "__class__", "name": "x"},
        {"is": "unknown"},
        {"is": "dtype", "of": "load"},
    ],
)
def test_a_node_that_names_anything_else_is_refused(node):
    with pytest.raises((ValueError, KeyError)):
        decode([node], {"@": 0}, [], {})


@pytest.mark.parametrize(
    "change", [{"offset": 10}, {"stride": [-1]}, {"shape": [9]}, {"offset": -1}]
)
def test_a_tensor_outside_of_its_memory_is_refused(change):
    found = encode(torch.arange(3.0))
    node = {**found.nodes[0], **change}
    with pytest.raises(ValueError, match="outside of its memory"):
        decode([node], {"@": 0}, found.arrays, {})


def test_a_missing_device_is_named():
    found = encode(torch.arange(3.0))
    node = {**found.nodes[0], "device": "cuda:7"}
    if not torch.cuda.is_available():
        with pytest.raises(PartError, match="cuda:7, which is not available"):
            decode([node], {"@": 0}, found.arrays, {})


def test_an_encoder_numbers_objects_over_several_values():
    encoder, part = Encoder(), [1]
    assert encoder.value(part) == encoder.value(part)
