"""The plan of the package, held against the imports that its source files really have."""

import importlib
import runpy
import subprocess
import sys
from pathlib import Path
from unittest import mock

import pytest

import bayesgen
from bayesgen._internal import moved

ROOT = Path(bayesgen.__file__).parent
GRAPH = runpy.run_path(str(ROOT.parent / "docs" / "draw_architecture.py"))
modules, imports, between_rooms = GRAPH["modules"], GRAPH["imports"], GRAPH["between_rooms"]
loops, upward = GRAPH["loops"], GRAPH["upward"]

# Rooms from the bottom up. A room imports rooms of lower floors only; rooms on one floor do not
# import each other.
FLOORS = (
    {"_internal", "errors"},
    {"evidence", "verify", "provenance"},
    {"solvers", "likelihoods", "data", "networks", "features", "plots", "pretrained"},
    {"kernels", "spectrum"},
    {"covariance", "curvature"},
    {"posterior"},
    {"storage"},
    {"pacbayes"},
    {"models"},
    {"select", "training", "adopt"},
    {"sampling"},
    {"experiments", "sklearn"},
    {"reports"},
    {"commands"},
    {"cli"},
    {"__main__"},
)
FAMILIES = ({"search"}, {"latent"}, {"gp", "linear", "network"}, {"deep"})


def test_imports_between_rooms_lead_downwards():
    assert upward(between_rooms(imports(modules())), FLOORS) == []


def test_imports_between_model_families_lead_downwards():
    known = modules()
    families = {
        importer.split(".")[1]: set()
        for importer in known
        if importer.startswith("models.") and importer.count(".") == 2
    }
    for importer, targets in imports(known).items():
        if importer.count(".") == 2 and importer.startswith("models."):
            own = importer.split(".")[1]
            inside = {t.split(".")[1] for t in targets if t.count(".") == 2}
            families[own] |= (inside & set(families)) - {own}
    assert upward(families, FAMILIES) == []


def test_no_modules_import_each_other_in_a_loop():
    assert loops(imports(modules())) == []


def test_an_upward_import_and_a_loop_are_found():
    arrows = {"solvers": {"models"}, "models": {"solvers"}}
    assert upward(arrows, FLOORS) == ["solvers -> models"]
    assert loops(arrows) == ["models", "solvers"]


def test_few_modules_lie_directly_in_the_package():
    loose = sorted(path.name for path in ROOT.glob("*.py"))
    assert len(loose) <= 12, loose


def test_the_picture_of_the_rooms_is_current():
    drawn = GRAPH["PICTURE"].read_text(encoding="utf-8")
    assert drawn == GRAPH["svg"](), "run: python docs/draw_architecture.py"


def test_every_room_is_described():
    text = (ROOT.parent / "docs" / "architecture.md").read_text(encoding="utf-8")
    rooms = {GRAPH["room"](name) for name in modules()} - {"__main__"}
    assert [name for name in sorted(rooms) if f"`{name}" not in text] == []


@pytest.mark.parametrize("old", sorted(moved.MOVED))
def test_an_old_module_path_imports_with_a_deprecation_warning(old):
    new = importlib.import_module(f"bayesgen.{moved.MOVED[old]}")
    sys.modules.pop(f"bayesgen.{old}", None)
    with pytest.warns(DeprecationWarning, match="has moved"):
        module = importlib.import_module(f"bayesgen.{old}")
    renamed = moved._NAMES.get(old, {})
    names = [name for name in vars(new) if not name.startswith("_") and name not in renamed]
    assert all(getattr(module, name) is getattr(new, name) for name in names)
    assert module is not new
    assert all(hasattr(module, name) for name in renamed)


@pytest.mark.parametrize(
    "path",
    [
        "models.gp:GaussianProcess",
        "models.linear:Polynomial",
        "models.linear:LinearModel",
        "pacbayes.certificates:certify_posterior",
        "pacbayes.compression:compress",
    ],
)
def test_a_name_of_a_module_that_became_a_package_works_with_a_deprecation_warning(path):
    package, name = path.split(":")
    module = importlib.import_module(f"bayesgen.{package}")
    with pytest.warns(DeprecationWarning, match="has moved to"):
        assert callable(getattr(module, name))
    with pytest.raises(AttributeError, match="nothing_of_the_kind"):
        _ = module.nothing_of_the_kind


@pytest.mark.parametrize("old", sorted(moved.RENAMED))
def test_an_old_public_name_works_with_a_deprecation_warning(old):
    with pytest.warns(DeprecationWarning, match=f"bayesgen.{old} is now"):
        value = getattr(bayesgen, old)
    assert value is getattr(bayesgen, moved.RENAMED[old])


def test_git_ignores_no_source_file():
    command = ["git", "status", "--porcelain", "--ignored", "--", "bayesgen", "tests", "docs"]
    try:
        done = subprocess.run(command, cwd=ROOT.parent, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    ignored = [line for line in done.stdout.splitlines() if line.startswith("!!")]
    assert [line for line in ignored if "__pycache__" not in line] == []


def test_every_folder_of_modules_is_a_package():
    folders = {path.parent for path in ROOT.rglob("*.py")}
    assert [str(folder) for folder in folders if not (folder / "__init__.py").exists()] == []


def test_an_old_path_gives_and_sets_the_names_of_the_module_that_holds_them(monkeypatch):
    sys.modules.pop("bayesgen.solvers.dense", None)
    with pytest.warns(DeprecationWarning, match="has moved"):
        old = importlib.import_module("bayesgen.solvers.dense")
    from bayesgen.solvers import eigen

    assert old.eigh is eigen.eigh
    monkeypatch.setattr(old, "_FEW", 3)
    assert eigen._FEW == 3
    with pytest.raises(AttributeError, match="nothing_of_the_kind"):
        _ = old.nothing_of_the_kind


def test_rooms_and_old_modules_are_attributes_of_the_package():
    code = (
        "import warnings\nwarnings.simplefilter('ignore')\nimport bayesgen as bg\n"
        "bg.errors.DivergedError, bg.models.GaussianProcess, bg.spectrum.Spectrum\n"
        "bg.gram.radial, bg.labels.corrupt_labels, bg.models.base.Posterior\n"
        "bg.solvers.dense.eigh, bg.pacbayes.certificate.Certificate, bg.plots.look\n"
        "from bayesgen.training import Climb, climb\n"
        "from bayesgen.solvers.product import product\nassert callable(bg.solvers.product)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_public_names_can_be_imported_from_many_threads_at_once():
    code = (
        "import threading, warnings\nimport bayesgen as bg\nfailed = []\n"
        "def get(name):\n"
        "    try:\n        getattr(bg, name)\n"
        "    except Exception as err:\n        failed.append((name, err))\n"
        "threads = [threading.Thread(target=get, args=(n,)) for n in bg.__all__ * 2]\n"
        "[t.start() for t in threads]; [t.join() for t in threads]\nassert not failed, failed\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_nested_changes_through_an_old_path_end_one_by_one():
    sys.modules.pop("bayesgen.lanczos", None)
    with pytest.warns(DeprecationWarning, match="has moved"):
        old = importlib.import_module("bayesgen.lanczos")
    first = old.probes
    with mock.patch.object(old, "probes") as outer:
        with mock.patch.object(old, "probes"):
            pass
        assert old.probes is outer
    assert old.probes is first


def test_an_import_in_one_thread_and_an_attribute_in_another_do_not_wait_for_each_other():
    code = (
        "import threading\nimport bayesgen as bg\n"
        "def a():\n    import bayesgen.experiments\n"
        "threads = [threading.Thread(target=f, daemon=True) for f in (a, lambda: bg.experiments)]\n"
        "[t.start() for t in threads]; [t.join(60) for t in threads]\n"
        "assert not any(t.is_alive() for t in threads)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
