"""Tests of `bayesgen.storage.file`: posteriors of every kind are the same after `bg.load`."""

import json
import pickle
import subprocess
import sys
import zipfile
from dataclasses import fields
from pathlib import Path

import gpytorch
import numpy as np
import pandas as pd
import pytest
import torch

import bayesgen as bg
from bayesgen import storage
from bayesgen._internal import archive
from bayesgen.data.columns import Columns
from bayesgen.data.scaled_columns import ScaledColumns
from tests.models import fitted
from tests.models.fitted import F64, MAKERS, RBF, data, posterior, predicted, same

STORED = Path(__file__).parent / "format1.bayesgen"


def kept(found, folder, **parts):
    path = folder / "kept.bayesgen"
    found.save(path)
    return bg.load(path, **parts)


def texts(path):
    return {name: archive.read_text(path, name) for name in ("about", "content")}


def rewrite(path, change):
    """Change the texts of a file in place."""
    held = texts(path)
    arrays = archive.read_arrays(path, held["about"]["arrays"])
    change(held)
    archive.write(path, archive.Archive(held, arrays))


@pytest.mark.parametrize("name", MAKERS)
def test_a_loaded_posterior_is_the_same_to_the_last_bit(name, tmp_path):
    found = posterior(name)
    other = kept(found, tmp_path)
    assert type(other) is type(found)
    assert same(predicted(other), predicted(found))
    assert repr(other) == repr(found)
    assert str(other.provenance) == str(found.provenance)
    for field in fields(found.evidence):
        one, two = getattr(found.evidence, field.name), getattr(other.evidence, field.name)
        assert torch.equal(one, two) if isinstance(one, torch.Tensor) else one == two
    for attribute in ("scale", "noise", "lengthscale", "decay", "order", "at_bound", "theta"):
        one = getattr(found, attribute, None)
        assert one is None or torch.equal(
            torch.as_tensor(one), torch.as_tensor(getattr(other, attribute))
        )
    if not found.observed.batched and hasattr(found, "hyperparameters"):
        assert repr(other.hyperparameters) == repr(found.hyperparameters)
        assert other.modes.equals(found.modes)
    if name != "batch of RQ":
        one, two = found.task(0), other.task(0)
        assert torch.equal(two.latent_samples(2), one.latent_samples(2))
        assert str(two.provenance) == str(one.provenance)


@pytest.mark.parametrize("name", ["gp", "gp of labels", "batch", "network by kron", "deep kernel"])
def test_a_loaded_posterior_can_be_saved_again(name, tmp_path):
    once = kept(posterior(name), tmp_path)
    assert same(predicted(kept(once, tmp_path)), predicted(posterior(name)))


def signs():
    x, y = data()
    kernel = RBF()
    kernel.lengthscale = 0.5
    return bg.GaussianProcess(kernel, hyperparameters=("scale", "noise")).fit(x, y.sign())


def test_certificates_are_the_same(tmp_path):
    found = signs()
    assert str(kept(found, tmp_path).certificate()) == str(found.certificate())
    with pytest.raises(ValueError, match="kernel was learnt from the data"):
        kept(posterior("gp of labels"), tmp_path).certificate()


def report(found, x, y):
    """Predictions to the last bit, and what is known of learnt numbers."""
    rbf = RBF()
    rbf.lengthscale = found.lengthscale.item()
    noise = found.noise.item()
    models = [
        bg.GaussianProcess(found.kernels[0], 0.1, hyperparameters="fixed"),
        bg.GaussianProcess(rbf, 0.1, hyperparameters="fixed"),
        bg.GaussianProcess(RBF(), noise, hyperparameters="fixed"),
        bg.GaussianProcess(RBF(), 0.1, hyperparameters="fixed"),
    ]
    fits = [found, found.at(noise=noise), found.task(0), *(model.fit(x, y) for model in models)]
    bits = found.predict(x).mean.numpy().tobytes().hex()
    return "\n".join([bits, *(str(sorted(fit.provenance.unpaid)) for fit in fits)])


def test_another_process_predicts_the_same_and_knows_what_was_learnt(tmp_path):
    g = torch.Generator().manual_seed(7)  # data that no other test fits
    x, y = torch.rand(20, 2, generator=g, dtype=F64), torch.rand(20, generator=g, dtype=F64)
    found = bg.GaussianProcess(RBF(), starts=1).fit(x, y)
    found.save(tmp_path / "kept.bayesgen")
    torch.save((x, y), tmp_path / "data.pt")
    code = (
        "import sys, torch, bayesgen as bg; from tests.storage.test_file import report; "
        "print(report(bg.load(sys.argv[1]), *torch.load(sys.argv[2])))"
    )
    out = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "kept.bayesgen"), str(tmp_path / "data.pt")],
        capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2],
    ).stdout  # fmt: skip
    assert out.strip() == report(found, x, y)
    whole = "['kernel', 'noise', 'scale']"
    assert out.split("\n")[1:8] == [whole] * 3 + ["['kernel']"] * 2 + ["['noise']", "[]"]


def test_a_file_says_what_it_holds(tmp_path):
    found = posterior("gp")
    found.save(tmp_path / "a.bayesgen")
    about = json.loads(zipfile.ZipFile(tmp_path / "a.bayesgen").read("about.json"))
    assert about["format"] == 1
    assert about["versions"]["bayesgen"] == bg.__version__
    assert about["posterior"] == "GPPosterior"
    assert about["data"] == found.provenance.data.fingerprint
    assert about["observations"] == 24


def test_a_file_of_format_1_is_still_read():
    """Where this fails, attributes have changed: raise FORMAT, or read the old ones too."""
    found = bg.load(STORED)
    y = torch.tensor([0.0, 1, 2, 2, 1, 0, -1, -1], dtype=F64)
    assert torch.equal(found.observed.y[0, :, 0], y)
    mean = found.predict(torch.tensor([0.1, 0.1 + 1 / 7, 0.1 + 2 / 7], dtype=F64)).mean
    wanted = torch.tensor([0.7113, 1.7396, 2.0715], dtype=F64)
    torch.testing.assert_close(mean, wanted, rtol=0, atol=1e-4)
    assert found.evidence.log_marginal_likelihood.item() == pytest.approx(-5.48341, abs=1e-5)
    assert found.hyperparameters["noise"] == pytest.approx(0.0128363, rel=1e-5)
    assert found.certificate  # methods are those of this version


# ---------------------------------------------------------------------- parts that are code


def plain_kernel(a, b):
    return (-torch.cdist(a, b)).exp()


class OwnKernel(gpytorch.kernels.RBFKernel):
    """A kernel of the user with a learnt length-scale."""


class OwnMean(gpytorch.means.ConstantMean):
    """A mean of the user with a learnt constant."""


class OwnNet(torch.nn.Module):
    """A network of the user."""

    def __init__(self, width=3):
        super().__init__()
        self.inner, self.outer = torch.nn.Linear(2, width), torch.nn.Linear(width, 1)

    def forward(self, x):
        return self.outer(torch.tanh(self.inner(x)))


class OwnBasis(bg.bases.Basis):
    """A basis of the user."""

    def on(self, x):
        return bg.bases.Polynomial(2).on(x)


def with_prior():
    return RBF(lengthscale_prior=gpytorch.priors.GammaPrior(2.0, 3.0))


def shifted(x, t):
    return x + t


def invariant():
    return bg.kernels.Invariant(RBF(), shifted, range=0.1)


PARTS = {
    "kernel function": (lambda: fitted.gp(plain_kernel), {"kernel": plain_kernel}),
    "kernel of a class": (lambda: fitted.gp(OwnKernel()), {"kernel": OwnKernel()}),
    "scaled kernel": (
        lambda: fitted.gp(gpytorch.kernels.ScaleKernel(OwnKernel())),
        {"kernel": gpytorch.kernels.ScaleKernel(OwnKernel())},
    ),
    "sum of kernels": (
        lambda: fitted.gp(RBF() + OwnKernel()), {"kernel": RBF() + OwnKernel()}
    ),
    "kernel with a prior": (lambda: fitted.gp(with_prior()), {"kernel": with_prior()}),
    "invariant": (lambda: fitted.gp(invariant()), {"kernel": invariant()}),
    "stationary": (
        lambda: fitted.gp(bg.kernels.stationary(plain_kernel)),
        {"kernel": bg.kernels.stationary(plain_kernel)},
    ),
    "mean function": (
        lambda: fitted.gp(RBF(), mean=lambda x: x[:, 0]), {"mean": lambda x: x[:, 0]}
    ),
    "mean of a class": (lambda: fitted.gp(RBF(), mean=OwnMean()), {"mean": OwnMean()}),
    "kernel and mean": (
        lambda: fitted.gp(OwnKernel(), mean=lambda x: x[:, 0]),
        {"kernel": OwnKernel(), "mean": lambda x: x[:, 0]},
    ),
    "basis function": (
        lambda: fitted.linear(lambda x: torch.cat([x, x**2], 1)),
        {"basis": lambda x: torch.cat([x, x**2], 1)},
    ),
    "basis of a class": (lambda: fitted.linear(OwnBasis()), {"basis": OwnBasis()}),
    "prior variance": (
        lambda: fitted.linear(prior_variance=lambda j: 1.0 / (1 + j) ** 2),
        {"prior_variance": lambda j: 1.0 / (1 + j) ** 2},
    ),
    "network": (lambda: fitted.network("kron", net=OwnNet()), {"net": OwnNet()}),
    "network in float64": (lambda: fitted.network(net=OwnNet()), {"net": OwnNet().double()}),
    "deep kernel": (lambda: fitted.deep(OwnNet()), {"net": OwnNet()}),
}  # fmt: skip


@pytest.mark.parametrize("name", PARTS)
def test_code_of_the_user_is_given_again(name, tmp_path):
    make, parts = PARTS[name]
    found, path = make(), tmp_path / "kept.bayesgen"
    found.save(path)
    first = sorted(parts)[0]
    with pytest.raises(ValueError, match=rf"{path.name} cannot be loaded.*{first}=\.\.\.") as err:
        bg.load(path, **{role: part for role, part in parts.items() if role != first})
    assert "\n" not in str(err.value)
    other = bg.load(path, **parts)
    assert same(predicted(other), predicted(found))
    assert str(other.provenance) == str(found.provenance)
    assert repr(other.evidence) == repr(found.evidence)


def test_several_functions_are_given_by_name(tmp_path):
    one, two = (lambda a, b: a @ b.mT), plain_kernel
    kernel = bg.kernels.stationary(two) + bg.kernels.stationary(one)
    found = fitted.gp(kernel)
    assert same(predicted(kept(found, tmp_path, kernel=kernel)), predicted(found))


def test_another_function_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"kept\.bayesgen cannot be loaded with this kernel, beca"):
        kept(fitted.gp(plain_kernel), tmp_path, kernel=lambda a, b: 2 * plain_kernel(a, b))
    with pytest.raises(ValueError, match=r"kept\.bayesgen cannot be loaded with this kernel: kern"):
        kept(fitted.gp(plain_kernel), tmp_path, kernel=lambda a, b: 3)
    with pytest.raises(ValueError, match=r"kept\.bayesgen cannot be loaded, because the net 'OwnN"):
        kept(fitted.network(net=OwnNet()), tmp_path, net=OwnNet(4))
    with pytest.raises(ValueError, match="the kernel 'OwnKernel' that was given has other parts"):
        kept(fitted.gp(OwnKernel()), tmp_path, kernel=RBF())


def test_a_part_that_is_not_needed_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"^kernel must not be given for .*kept\.bayesgen"):
        kept(posterior("gp"), tmp_path, kernel=RBF())


# ---------------------------------------------------------------------- files that are no files


def refused(path, words):
    with pytest.raises(ValueError, match=words) as err:
        bg.load(path)
    assert path.name in str(err.value)
    assert "\n" not in str(err.value)


def test_a_damaged_file_is_refused(tmp_path):
    path = tmp_path / "kept.bayesgen"
    posterior("gp").save(path)
    whole = path.read_bytes()
    for length in range(0, len(whole), 997):
        path.write_bytes(whole[:length])
        refused(path, "is not a file of posterior.save, or it is damaged")
    rng = np.random.default_rng(0)
    for place in rng.integers(200, len(whole), 40):
        wrong = bytearray(whole)
        wrong[place] ^= 255
        path.write_bytes(bytes(wrong))
        try:
            found = bg.load(path)
        except ValueError as err:
            assert "damaged" in str(err) and path.name in str(err)  # noqa: PT017, PT018
        else:  # a byte of the archive that means nothing
            assert same(predicted(found), predicted(posterior("gp")))


def test_a_foreign_file_is_refused(tmp_path):
    path = tmp_path / "other.bayesgen"
    path.write_bytes(pickle.dumps({"a": 1}))
    refused(path, "is not a file of posterior.save")
    torch.save({"a": torch.ones(3)}, path)
    refused(path, "is not a file of posterior.save")
    archive.write(path, archive.Archive({"about": {"kind": "other"}}, []))
    refused(path, "is not a file of posterior.save")
    archive.write(path, archive.Archive({"about": [1]}, []))
    refused(path, "is not a file of posterior.save")


def test_a_newer_file_is_refused(tmp_path):
    path = tmp_path / "kept.bayesgen"
    posterior("gp").save(path)

    def newer(held):
        held["about"]["format"] = 2
        held["about"]["versions"]["bayesgen"] = "9.9"

    rewrite(path, newer)
    refused(path, r"is in format 2 of bayesgen 9\.9, and bayesgen .* reads formats up to 1")


def test_other_data_are_refused(tmp_path):
    path = tmp_path / "kept.bayesgen"
    posterior("gp").save(path)
    rewrite(path, lambda held: held["about"].update(data="0" * 16))
    refused(path, "its data are not those that it was saved with")


@pytest.mark.parametrize(
    "change",
    [
        lambda held: held["content"]["nodes"].pop(),
        lambda held: held["content"]["root"].update(posterior={"@": 10**6}),
        lambda held: held["content"]["root"].update(posterior=3),
        lambda held: held["content"].update(nodes={}),
        lambda held: held["about"].update(arrays=10**6),
        lambda held: held["about"].update(given=3),
        lambda held: held.update(content=[]),
    ],
)
def test_a_file_with_other_contents_is_refused(change, tmp_path):
    path = tmp_path / "kept.bayesgen"
    posterior("gp").save(path)
    rewrite(path, change)
    refused(path, "is damaged: its contents cannot be read")


@pytest.mark.parametrize("name", [["os", "system"], ["builtins", "exec"], ["shutil", "rmtree"]])
def test_a_file_cannot_name_code(name, tmp_path):
    path = tmp_path / "kept.bayesgen"
    posterior("gp").save(path)
    for kind in ("object", "tuple", "function"):

        def change(held, kind=kind):
            node = {"is": kind, "class": name, "name": name, "of": []}
            held["content"]["nodes"][-1] = node
            held["content"]["root"]["more"] = {"@": len(held["content"]["nodes"]) - 1}

        rewrite(path, change)
        refused(path, "damaged")


def test_a_module_beside_the_list_is_not_imported(tmp_path, monkeypatch):
    (tmp_path / "evil.py").write_text("raise SystemExit('ran')", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    path = tmp_path / "kept.bayesgen"
    posterior("gp").save(path)
    rewrite(
        path,
        lambda held: [n.update({"class": ["evil", "Evil"]}) for n in held["content"]["nodes"]
                      if n["is"] == "object"],
    )  # fmt: skip
    refused(path, "damaged")
    assert "evil" not in sys.modules


def test_paths_are_checked(tmp_path):
    found = posterior("gp")
    with pytest.raises(FileNotFoundError, match=r"there is no .*nothing\.bayesgen"):
        bg.load(tmp_path / "nothing.bayesgen")
    with pytest.raises(TypeError, match="path must be a path of a file, got int"):
        bg.load(3)
    with pytest.raises(TypeError, match="path must be a path of a file, got NoneType"):
        found.save(None)
    with pytest.raises(IsADirectoryError, match="path must be a file, got the folder"):
        found.save(tmp_path)
    refused(tmp_path, "is not a file of posterior.save")
    found.save(str(tmp_path / "new" / "folder" / "a.bayesgen"))
    assert bg.load(str(tmp_path / "new" / "folder" / "a.bayesgen")).observed.n == 24


def test_an_interrupted_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "kept.bayesgen"
    posterior("gp").save(path)
    before = path.read_bytes()

    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(np.lib.format, "write_array", stop)
    with pytest.raises(KeyboardInterrupt):
        posterior("linear").save(path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["kept.bayesgen"]


def test_the_columns_of_a_table_are_kept_beside_a_posterior(tmp_path):
    frame = pd.DataFrame({"size": [1.0, 2.0, 4.0], "kind": ["a", "b", "a"]})
    one = torch.ones(3, dtype=F64)
    columns = ScaledColumns(Columns.of(frame), 2 * one, one, (0, 1, 2), "mass", (), 5.0, 2.0)
    found = posterior(next(iter(MAKERS)))
    storage.save(found, tmp_path / "a.bayesgen", columns=columns)
    again = storage.load_columns(tmp_path / "a.bayesgen")
    assert again.to_text() == columns.to_text()
    assert torch.equal(again.encode(frame), columns.encode(frame))
    found.save(tmp_path / "b.bayesgen")
    assert storage.load_columns(tmp_path / "b.bayesgen") is None
