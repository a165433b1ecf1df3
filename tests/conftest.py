import dataclasses
import functools
import hashlib
import http.server
import multiprocessing
import tarfile
import threading
import warnings

import numpy as np
import pytest
import torch
from hypothesis import settings

# arviz 0.23 announces its successor at import. It is imported here so that no test sees that.
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import arviz  # noqa: F401

from bayesgen.curvature import factory
from bayesgen.data import loading
from bayesgen.pretrained import efficientnet
from bayesgen.pretrained.weights import PUBLISHED
from bayesgen.provenance import record

settings.register_profile("default", deadline=None, max_examples=25, derandomize=True)
settings.load_profile("default")

# Tests draw the same numbers alone and together: what modules draw at collection, and what each
# test draws without a seed of its own.
torch.manual_seed(0)


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002


@pytest.fixture(autouse=True, scope="module")
def own_record():
    """What a module has learnt is unknown to the others, whose points may be the same."""
    before, record._RECORD = record._RECORD, record._Record()
    yield
    record._RECORD = before


def pytest_collection_modifyitems(items):
    skip = pytest.mark.skip(reason="no CUDA device")
    for item in items:
        if "cuda" in item.keywords and not torch.cuda.is_available():
            item.add_marker(skip)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def regression():
    """Inputs (40, 2) and targets (3, 40, 2) of three tasks."""
    generator = torch.Generator().manual_seed(1)
    x = torch.rand(40, 2, generator=generator, dtype=torch.float64)
    base = torch.stack([torch.sin(4 * x[:, 0]), torch.cos(3 * x[:, 1])], -1)
    noise = torch.randn(3, 40, 2, generator=generator, dtype=torch.float64)
    return x, base + torch.tensor([0.05, 0.2, 0.8], dtype=torch.float64)[:, None, None] * noise


@pytest.fixture
def cifar(tmp_path, rng, monkeypatch):
    """CIFAR-10's binary layout with 20 records a file instead of 10,000."""
    read = loading._cifar_records
    monkeypatch.setattr(loading, "_cifar_records", lambda f, n, b: read(f, n // 500, b))
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    for name in [*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"]:
        records = rng.integers(0, 256, (20, 3073), dtype=np.uint8)
        records[:, 0] %= 10
        records.tofile(folder / name)
    return tmp_path


@pytest.fixture
def server(tmp_path):
    folder = tmp_path / "www"
    folder.mkdir()
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    handler.log_message = lambda *_: None
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield folder, f"http://127.0.0.1:{running.server_port}/"
        running.shutdown()


@pytest.fixture
def cifar_online(cifar, server, tmp_path, monkeypatch):
    """The archive of `cifar` where the loader looks for it; its file on the server."""
    folder, address = server
    file = folder / "c.tar.gz"
    with tarfile.open(file, mode="w:gz") as archive:
        archive.add(cifar / "cifar-10-batches-bin", "cifar-10-batches-bin")
    checksum = "md5:" + hashlib.md5(file.read_bytes()).hexdigest()
    monkeypatch.setenv("BAYESGEN_DATA", str(tmp_path / "cache"))
    monkeypatch.setattr(loading, "CIFAR10", (address + "c.tar.gz", checksum))
    return file


@pytest.fixture
def largest_sizes(monkeypatch):
    """A function that sets the sizes beyond which curvatures are taken for too large."""

    def set_to(dual, primal):
        monkeypatch.setattr(factory, "LARGEST_DUAL", dual)
        monkeypatch.setattr(factory, "LARGEST_PRIMAL", primal)
        monkeypatch.setattr(factory, "LARGEST_HESSIAN", primal)

    return set_to


@pytest.fixture
def forked_workers(monkeypatch):
    """Local workers are forked from a server that has imported the packages once."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.experiments.test_executor"])
    monkeypatch.setattr("bayesgen.experiments.executor.get_context", lambda _: context)


@pytest.fixture(scope="session")
def random_weights():
    """Random weights of EfficientNet-Lite0 and random statistics of its normalisations."""
    torch.manual_seed(0)
    net = efficientnet.EfficientNetLite(efficientnet.LITE0)
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias, 0, 0.1)
    return net.state_dict()


@pytest.fixture
def published(tmp_path, monkeypatch, random_weights):
    """The file of random weights in a package, in place of the published ones, for small images."""
    folder = tmp_path / "made_for_the_test"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    file = folder / "weights.pth"
    torch.save(random_weights, file)
    source = dataclasses.replace(
        PUBLISHED["efficientnet-lite0"],
        package=("made_for_the_test", "made-for-the-test"),
        file="weights.pth",
        sha256=hashlib.sha256(file.read_bytes()).hexdigest(),
        size=32,
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(PUBLISHED, "efficientnet-lite0", source)
    return file
