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
    ],
)
def test_help_version_and_wrong_options_need_no_torch(arguments, status, text):
    done, loaded, code = run(*arguments)
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
