"""The command line starts without torch where it needs none.

Tests of `bayesgen.cli`, `bayesgen._internal.lazy` and `bayesgen.commands.console`.
"""

import subprocess
import sys

import pytest

import bayesgen

_RUN = """
import sys
sys.argv = ["bayesgen", *{arguments!r}]
from bayesgen.cli import main
try:
    main()
except SystemExit as exit:
    code = exit.code
print("torch" in sys.modules, code, file=sys.stderr)
"""


def run(*arguments):
    code = _RUN.format(arguments=list(arguments))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded, status = done.stderr.strip().splitlines()[-1].split()
    return done, loaded == "True", int(status)


@pytest.mark.parametrize(
    ("arguments", "status", "text"),
    [
        (["--help"], 0, "corruption"),
        (["corruption", "--help"], 0, "--levels"),
        (["--version"], 0, f"bayesgen {bayesgen.__version__}"),
        (["--wrong"], 2, "No such option"),
        (["corruption", "--wrong"], 2, "No such option"),
        (["corruption", "--csv", "no.csv", "--target", "y"], 2, "--csv must be a file"),
        (["corruption", "--csv", "EMPTY", "--target", "y"], 2, "has a header and no rows"),
        (["certify", "--csv", "TABLE", "--target", "kindd"], 2, "did you mean 'kind'?"),
        (["select", "--csv", "TABLE", "--target", "z"], 2, "--target must be a column"),
        (["select", "--csv", "TABLE", "--target", "kind", "--models", "gq"], 2, "--models must"),
        (["predict", "--model", "TABLE", "--csv", "EMPTY"], 2, "has a header and no rows"),
        (["dkl", "--data", "cifar"], 2, "did you mean 'cifar10'?"),
        (["laplace", "--curvature", "ggn,dia"], 2, "did you mean 'diag'?"),
        (["laplace", "--prior-precision", "0"], 2, "--prior-precision must be positive"),
        (["corruption", "--levels", "2:1"], 2, "--levels must be"),
        (["certify", "--groups", "a/b"], 2, "--groups must be"),
        (["reproduce", "fig9"], 2, "NAME must be one of"),
        (["info", "n=3"], 2, "is read with --plan only"),
        (["corruption", "--config", "no.toml"], 2, "--config must be a file"),
    ],
)
def test_help_version_and_wrong_options_need_no_torch(tmp_path, arguments, status, text):
    for name, rows in (("EMPTY", ""), ("TABLE", "1,2,a\n3,4,b\n")):
        (tmp_path / f"{name}.csv").write_text("x,y,kind\n" + rows)
    words = {name: str(tmp_path / f"{name}.csv") for name in ("EMPTY", "TABLE")}
    done, loaded, code = run(*(words.get(word, word) for word in arguments))
    assert text in done.stdout + done.stderr
    assert code == status
    assert not loaded


def test_importing_the_package_loads_no_heavy_library():
    code = (
        "import sys, bayesgen\n"
        "heavy = ['torch', 'matplotlib', 'xarray', 'pandas', 'scipy', 'sklearn']\n"
        "assert not set(heavy) & set(sys.modules), set(heavy) & set(sys.modules)\n"
        "bayesgen.GaussianProcess\n"
        "heavy = ['matplotlib', 'xarray', 'pandas', 'sklearn', 'botorch', 'arviz', 'curvlinops']\n"
        "assert not set(heavy) & set(sys.modules), set(heavy) & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_public_name_can_be_imported_and_is_listed():
    for name in bayesgen.__all__:
        assert getattr(bayesgen, name) is not None
    assert set(bayesgen.__all__) <= set(dir(bayesgen))
    with pytest.raises(AttributeError, match="nothing_of_the_kind"):
        _ = bayesgen.nothing_of_the_kind
