"""Tests of `bayesgen.pretrained.features`, `bayesgen.pretrained.weights`,
`bayesgen.pretrained.network` and `bayesgen.pretrained.efficientnet`.

The weights here are random ones, in a package that is made for the test. Those that are published
are tested where their package is installed.
"""

import dataclasses
import io

import pytest
import torch

import bayesgen as bg
from bayesgen import pretrained
from bayesgen.pretrained import efficientnet
from bayesgen.pretrained.weights import PUBLISHED

REAL = PUBLISHED["efficientnet-lite0"]


def images(n=3, seed=0):
    return torch.rand(n, 3, 32, 32, generator=torch.Generator().manual_seed(seed))


def test_features_are_averages_of_the_layers_of_the_network(published):
    x = images()
    weights = torch.load(published, weights_only=True)
    net = efficientnet.EfficientNetLite(efficientnet.LITE0).eval()
    net.load_state_dict(weights)
    with torch.no_grad():
        expected = net.pooled(efficientnet.prepared(x, 32))
    for layer, width in pretrained.layers("efficientnet-lite0").items():
        found = pretrained.features("efficientnet-lite0", x, layer=layer, size=32)
        assert found.dtype == torch.float64
        assert found.shape == (3, width)
        assert torch.allclose(found.float(), expected[layer], rtol=1e-3, atol=1e-4)
    both = pretrained.features("efficientnet-lite0", x, layer=["stage1", "head"], size=32)
    assert torch.allclose(both[:, 16:].float(), expected["head"], rtol=1e-3, atol=1e-4)


def test_flat_images_and_the_mirror_image(published):
    x = images(2)
    once = pretrained.features("efficientnet-lite0", x, size=32, mirror=True)
    flat = pretrained.features("efficientnet-lite0", x.flatten(1), size=32, mirror=True)
    other = pretrained.features("efficientnet-lite0", x.flip(-1), size=32, mirror=True)
    assert torch.equal(once, flat)
    assert torch.allclose(once, other, rtol=1e-4, atol=1e-5)
    grey = torch.rand(2, 64)
    found = pretrained.features("efficientnet-lite0", grey, image=(1, 8, 8), size=32)
    assert found.shape == (2, 1280)


def test_kept_features_are_read_and_damaged_ones_computed_again(published, tmp_path):
    x, said = images(2), []
    settings = {"size": 32, "store": tmp_path / "kept", "progress": lambda *a: said.append(a)}
    first = pretrained.features("efficientnet-lite0", x, **settings)
    (file,) = (tmp_path / "kept").iterdir()
    written = file.stat().st_mtime_ns
    published.unlink()  # what is kept needs no weights
    assert torch.equal(pretrained.features("efficientnet-lite0", x, **settings), first)
    assert file.stat().st_mtime_ns == written
    assert [a[:2] for a in said] == [(1, 1), (1, 1)]
    whole = bytearray(file.read_bytes())
    flipped = whole.copy()
    flipped[len(whole) // 2] ^= 64
    file.write_bytes(flipped)
    with pytest.raises(ValueError, match="which is missing"):
        pretrained.features("efficientnet-lite0", x, **settings)
    kept = torch.load(io.BytesIO(whole), weights_only=True)
    kept["head"][0, 0] = torch.nan
    torch.save(kept, file)
    with pytest.raises(ValueError, match="which is missing"):
        pretrained.features("efficientnet-lite0", x, **settings)
    file.write_bytes(whole[:100])
    with pytest.raises(ValueError, match="which is missing"):
        pretrained.features("efficientnet-lite0", x, **settings)


def test_a_file_with_another_hash_is_refused(published):
    published.write_bytes(published.read_bytes() + b"\0")
    with pytest.raises(ValueError, match="must have the SHA-256 hash"):
        pretrained.features("efficientnet-lite0", images(1), size=32)


def test_a_package_that_is_not_installed_is_named(monkeypatch):
    missing = dataclasses.replace(REAL, package=("not_installed_at_all", "not-installed"))
    monkeypatch.setitem(PUBLISHED, "efficientnet-lite0", missing)
    with pytest.raises(ModuleNotFoundError, match=r"not-installed, which is not installed: pip"):
        pretrained.network("efficientnet-lite0", 10)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"name": "resnet"}, "name must be one of 'efficientnet-lite0'"),
        ({"layer": "stage9"}, "layer must be one of"),
        ({"x": torch.rand(2, 10)}, r"x must hold images \(3, 32, 32\) flattened"),
        ({"x": torch.rand(2, 2, 8, 8)}, "1 or 3 channels"),
        ({"x": 255 * torch.rand(2, 3072)}, r"pixels in \[0, 1\]"),
        ({"x": torch.full((2, 3072), torch.nan)}, "x must be finite|x must hold finite"),
        ({"size": 8}, "size must be an integer of at least 32"),
    ],
)
def test_bad_arguments_are_named(change, words):
    arguments = {"name": "efficientnet-lite0", "x": torch.rand(2, 3072)} | change
    with pytest.raises(ValueError, match=words):
        pretrained.features(arguments.pop("name"), arguments.pop("x"), **arguments)


def test_a_network_to_be_trained_has_a_new_last_layer(published):
    before = torch.get_rng_state()
    net = pretrained.network("efficientnet-lite0", 4, size=32)
    assert torch.equal(torch.get_rng_state(), before)
    assert net.training
    same = pretrained.network("efficientnet-lite0", 4, size=32)
    other = pretrained.network("efficientnet-lite0", 4, size=32, seed=1)
    x = images(4).flatten(1)
    assert torch.equal(net.eval()(x), same.eval()(x))
    assert not torch.equal(net(x), other.eval()(x))
    with pytest.raises(ValueError, match=r"pixels in \[0, 1\], got values from .* to 2"):
        net(255 * x)
    with pytest.raises(ValueError, match=r"x must hold images \(3, 32, 32\), .* got \(4, 10\)"):
        net(x[:, :10])
    bg.train(net, x, torch.arange(4), epochs=1, batch=2, learning_rate=1e-3)
    assert net(x).shape == (4, 4)


@pytest.mark.parametrize("size", [efficientnet.LITE0, efficientnet.LITE1, efficientnet.LITE2])
def test_each_size_has_the_widths_that_it_states(size):
    net = efficientnet.EfficientNetLite(size).eval()
    with torch.no_grad():
        found = net.pooled(2 * images(2) - 1)
        assert torch.equal(net(2 * images(2) - 1), found["logits"])
    assert {name: values.shape[1] for name, values in found.items()} == size.widths


@pytest.mark.parametrize("number", [0, 1, 2])
def test_the_published_weights_classify_as_another_implementation_does(number):
    theirs = pytest.importorskip("efficientnet_lite_pytorch")
    source = PUBLISHED[f"efficientnet-lite{number}"]
    pytest.importorskip(source.package[0])
    from bayesgen.pretrained.weights import weights

    held = weights(source)
    net, other = source.make(held), theirs.EfficientNet
    other = other.from_name(f"efficientnet-lite{number}").eval()
    other.load_state_dict(held)
    x = 2 * torch.rand(2, 3, source.size, source.size) - 1
    with torch.no_grad():
        assert torch.allclose(net(x), other(x), rtol=1e-4, atol=1e-4)
