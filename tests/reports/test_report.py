"""Tests of `bayesgen.reports.report`, also in a browser."""

import json
import re
import shutil
import subprocess
from html import escape, unescape

import gpytorch
import pytest
import torch
import xarray as xr

import bayesgen as bg
from bayesgen.experiments.experiment import claim
from bayesgen.reports.report import of_page

EVIL = "<script>alert(1)</script>"
NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
BROWSER = next(filter(None, map(shutil.which, NAMES)), None)
WIDTHS = (390, 1280)


def data(n=40):
    x = torch.linspace(-1, 1, n, dtype=torch.float64)
    return x, torch.sin(3 * x) + 0.1 * torch.cos(50 * x)


def written(subject, tmp_path, **settings):
    path = tmp_path / "report.html"
    bg.report(subject, path, **settings)
    return path.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def study():
    return bg.experiments.corruption("digits", train=60, test=50, levels=[0.0, 1.0], seeds=1)


def test_report_of_a_posterior_has_its_summary_and_plot(tmp_path):
    posterior = bg.GaussianProcess(gpytorch.kernels.RBFKernel()).fit(*data())
    page = written(posterior, tmp_path, title="Sine & noise")
    assert "<h1>Sine &amp; noise</h1>" in page
    assert f"{float(posterior.evidence.log_marginal_likelihood):,.6g}" in page
    assert "lengthscale" in page
    assert page.count("<svg") == 1
    assert escape(str(posterior.provenance)) in page


def test_report_of_labels_escapes_the_names_of_classes(tmp_path):
    x = [[-2.0, 1.0], [-1.5, 2.0], [-1.0, 1.0], [1.0, 2.0], [1.5, 1.0], [2.0, 2.0]]
    model = bg.LinearModel(likelihood="bernoulli")
    page = written(model.fit(x, [EVIL] * 3 + ["a$b$c"] * 3), tmp_path)
    assert EVIL not in page
    assert escape(EVIL) in page
    assert "a$b$c" in page
    assert "Laplace&#x27;s approximation" in page


def test_report_without_a_plot_leaves_the_figure_out(tmp_path):
    x = torch.randn(30, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    page = written(bg.LinearModel().fit(x, x.sum(1)), tmp_path)
    assert "<svg" not in page
    assert "inputs d" in page


def test_report_of_a_comparison_ranks_the_models(tmp_path):
    x, y = data()
    models = {"cubic": bg.Polynomial(3).fit(x, y), EVIL: bg.Polynomial(1).fit(x, y)}
    page = written(bg.compare(models), tmp_path)
    assert page.index('<th scope="row">cubic') < page.index(f'<th scope="row">{escape(EVIL)}')
    assert EVIL not in page
    assert "<svg" in page


def test_report_of_a_study_finds_the_figure_of_its_experiment(study, tmp_path):
    page = written(study, tmp_path)
    assert page.count("<svg") == 1
    assert "There is one seed only" in page
    assert "bayesgen.experiments.corruption" in unescape(page)
    unknown = study.assign_attrs(experiment="another")
    assert "<svg" not in written(unknown, tmp_path)


def test_page_of_several_results_has_a_section_for_each(study):
    figure = bg.experiments.corruption.plot(study)
    one = study.assign_attrs(claim("It falls.", "It fell.", "yes"))
    page = of_page("Two results", {"first": one, "second": study}, figure)
    headings = re.findall("<h2>(.*?)</h2>", page)
    assert [h.partition(":")[0] for h in headings] == ["Figure", "first", "second"]
    assert "It fell." in page


def test_other_subjects_raise(tmp_path):
    with pytest.raises(TypeError, match="subject must be a posterior, the table of compare"):
        bg.report("result", tmp_path / "a.html")
    with pytest.raises(ValueError, match="table must be what compare returns"):
        bg.report(bg.compare({"a": bg.Polynomial(1).fit(*data())})[["fit"]], tmp_path / "a.html")
    assert not list(tmp_path.iterdir())


def browse(path, tmp_path, *options):
    """The document that a browser makes of a file, and what it logs on the console."""
    command = [
        BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr",
        f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=10000", *options,
        "--dump-dom", path.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


def measured(page, tmp_path):
    """(width of the window, width of the contents, whether tables scroll) at each width."""
    frames = "".join(
        f'<iframe style="width:{width}px;height:900px;border:0" srcdoc="{escape(page)}"></iframe>'
        for width in WIDTHS
    )
    script = """
    addEventListener("load", () => {
      const rows = [...document.querySelectorAll("iframe")].map(frame => {
        const page = frame.contentDocument, root = page.documentElement;
        const boxes = [...page.querySelectorAll(".scroll, .picture")];
        return [frame.contentWindow.innerWidth, root.scrollWidth,
                boxes.filter(box => box.scrollWidth > box.clientWidth).length];
      });
      document.body.innerHTML = "<pre>" + JSON.stringify(rows) + "</pre>";
    });
    """
    harness = tmp_path / "harness.html"
    harness.write_text(f"<!DOCTYPE html><body>{frames}<script>{script}</script>", encoding="utf-8")
    document, _ = browse(harness, tmp_path)
    return json.loads(re.search("<pre>(.*)</pre>", document)[1])


@pytest.mark.skipif(BROWSER is None, reason="there is no Chromium")
def test_a_browser_shows_the_page_without_errors_or_overflow(study, tmp_path):
    long = study.assign_attrs(data="x" * 300, kernel=EVIL, command="bayesgen " + "a" * 400)
    page = written(long, tmp_path)
    _, console = browse(tmp_path / "report.html", tmp_path)
    assert console == []
    narrow, wide = measured(page, tmp_path)
    assert (narrow[0], wide[0]) == WIDTHS
    assert narrow[1] <= 390
    assert wide[1] <= 1280
    assert narrow[2] > 0  # Wide tables scroll inside their own box.
    # The checks see what they look for: a script that is forbidden, and a box that is too wide.
    bad = page.replace("<main>", '<main><script>1</script><div style="width:2000px">.</div>')
    (tmp_path / "bad.html").write_text(bad, encoding="utf-8")
    assert browse(tmp_path / "bad.html", tmp_path)[1]
    assert all(width < contents for width, contents, _ in measured(bad, tmp_path))


@pytest.mark.skipif(BROWSER is None, reason="there is no Chromium")
@pytest.mark.parametrize(("scheme", "dark"), [(0, True), (1, False)])
def test_a_browser_shows_the_page_in_both_schemes(study, tmp_path, scheme, dark):
    written(study, tmp_path)
    image = tmp_path / "page.png"
    browse(
        tmp_path / "report.html", tmp_path, f"--blink-settings=preferredColorScheme={scheme}",
        "--window-size=1280,900", f"--screenshot={image}",
    )  # fmt: skip
    from matplotlib.image import imread

    corner = imread(image)[5, 5, :3].mean()
    assert (corner < 0.2) == dark


def test_a_dataset_of_no_experiment_is_shown_as_it_is(tmp_path):
    result = xr.Dataset({"a": ("k", [1.0, 2.0])}, {"k": [0, 1]}, {"title": EVIL})
    page = written(result, tmp_path)
    assert f"<h1>{escape(EVIL)}</h1>" in page
    assert "By k" in page
