"""What the figures of all experiments have in common.

Tests of `bayesgen.plots.legends` on the figures of `bayesgen.plots.bounds`,
`bayesgen.plots.certified_descent`, `bayesgen.plots.claims` and the others.
"""

import inspect

import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from bayesgen import experiments, plots
from bayesgen.plots import style
from bayesgen.plots.legends import covered, finish, room_above
from tests.plots.results import EXPERIMENTS, results

RESULTS = results()
PAGES = experiments.PAGES
# What a label says that it shows → the colour of it. Lines of other figures stand for models.
MEANINGS = {
    "test error": style.TEST,
    "test loss": style.TEST,
    "training error": style.TRAINING,
    "training loss": style.TRAINING,
    "fit": style.FIT,
    "complexity": style.COMPLEXITY,
    "evidence": style.EVIDENCE,
    "bound": style.BOUND,
}
# Lines whose colours tell models or paths from each other, and the fit of a curve.
OTHERS = {"fig1abc", "fig1", "fig6", "flatness"}


@pytest.fixture(scope="module")
def figures():
    """Figure of each experiment and page by name."""
    made = {name: one.plot(RESULTS[name]) for name, one in EXPERIMENTS.items()}
    for name, page in PAGES.items():
        made[name] = page.plot({part: RESULTS[part] for part in page.parts})
    for figure in made.values():
        figure.draw_without_rendering()
    return made


def panels(figure):
    return [axes for axes in figure.axes if axes.axison and axes.get_label() != "<colorbar>"]


def in_grid(axes, place):
    spec = axes.get_subplotspec()
    return spec is None or getattr(spec, place)()


@pytest.mark.parametrize("name", [*EXPERIMENTS, *PAGES])
class TestFigure:
    def test_axes_have_labels(self, figures, name):
        """Panels of one row may share the label of their y-axis, and of one column their x-axis."""
        for axes in panels(figures[name]):
            twin = any(
                a is not axes and a.bbox.bounds == axes.bbox.bounds for a in panels(figures[name])
            )
            assert axes.get_xlabel() or twin or not in_grid(axes, "is_last_row"), axes.get_title()
            assert axes.get_ylabel() or not in_grid(axes, "is_first_col"), axes.get_title()

    def test_legends_cover_nothing(self, figures, name):
        for axes in figures[name].axes:
            legend = axes.get_legend()
            if legend is not None:
                assert covered(legend, axes) == []

    def test_words_are_in_the_singular_or_plural(self, figures, name):
        texts = [t.get_text() for t in figures[name].findobj(lambda a: hasattr(a, "set_text"))]
        assert not [text for text in texts if "(s)" in text or text.startswith("1 seeds")]

    def test_titles_and_labels_lie_inside_the_figure(self, figures, name):
        figure = figures[name]
        for axes in panels(figure):
            for text in (axes.title, axes.xaxis.label, axes.yaxis.label, *axes.texts):
                if text.get_text():
                    box = text.get_window_extent()
                    assert figure.bbox.x0 - 1 < box.x0 < box.x1 < figure.bbox.x1 + 1, text
                    assert figure.bbox.y0 - 1 < box.y0 < box.y1 < figure.bbox.y1 + 1, text

    def test_colours_are_those_of_the_style(self, figures, name):
        known = {to_hex(colour) for colour in style.COLOURS} | {"#ffffff"}
        for axes in panels(figures[name]):
            used = {to_hex(line.get_color()) for line in axes.lines}
            used |= {to_hex(bar.get_facecolor()) for bar in axes.patches}
            assert used <= known, axes.get_title()

    def test_a_quantity_has_its_own_colour(self, figures, name):
        if name in OTHERS:
            pytest.skip("its lines stand for other things")
        for axes in panels(figures[name]):
            for line in axes.lines:
                label = str(line.get_label())
                if label in MEANINGS:
                    assert to_hex(line.get_color()) == to_hex(MEANINGS[label]), label


def test_figures_of_one_panel_draw_on_given_axes():
    single = [
        name for name in plots.__all__ if "ax" in inspect.signature(getattr(plots, name)).parameters
    ]
    assert set(single) == {"evidence_estimates", "frameworks", "label_noise"}
    for plot, name in ((plots.frameworks, "table1"), (plots.label_noise, "fig1d")):
        figure = Figure(layout="constrained")
        _, ax = figure.subplots(1, 2)
        assert plot(RESULTS[name], ax=ax) is figure
        assert ax.lines
        assert not figure.axes[0].lines
        assert len(plot(RESULTS[name]).axes) == len(figure.axes) - 1


def full():
    figure = Figure()
    axes = figure.subplots()
    for height in range(11):
        axes.plot([0, 1], [height, height], label=f"line {height}" if height < 3 else None)
    axes.legend()
    return figure, axes


def test_a_legend_without_a_free_place_gets_room_above():
    figure, axes = full()
    figure.draw_without_rendering()
    assert covered(axes.get_legend(), axes)
    assert finish(figure) is figure
    assert covered(axes.get_legend(), axes) == []
    assert max(axes.get_yticks()) <= 10.5  # There are no ticks in the room.


def test_a_legend_moves_to_a_free_place_before_the_axes_grow():
    figure = Figure()
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], label="rising")
    axes.legend(loc="upper right")
    before = axes.get_ylim()
    finish(figure)
    assert covered(axes.get_legend(), axes) == []
    assert axes.get_ylim() == before


@pytest.mark.parametrize("draw", ["plot", "scatter", "bar", "fill_between", "text"])
def test_what_a_legend_covers_is_found(draw):
    figure = Figure()
    axes = figure.subplots()
    axes.set(xlim=(0, 1), ylim=(0, 1))
    if draw == "text":
        axes.text(0.9, 0.95, "words")
    else:
        getattr(axes, draw)([0.9, 0.97], [0.96, 0.96], label="shown")
    axes.plot([], [], label="only in the legend")
    axes.legend(loc="upper right")
    figure.draw_without_rendering()
    assert covered(axes.get_legend(), axes)
    axes.get_legend().set_loc("lower left")
    assert covered(axes.get_legend(), axes) == []


def test_lines_of_a_twin_axis_count():
    figure = Figure()
    axes = figure.subplots()
    axes.plot([0, 1], [0, 0.1], label="low")
    other = axes.twinx()
    other.plot([0.8, 1], [1, 1])
    axes.legend(loc="upper right")
    figure.draw_without_rendering()
    assert covered(axes.get_legend(), axes)


@pytest.mark.parametrize("scale", ["linear", "log", "symlog"])
def test_room_above_is_a_share_of_the_axes(scale):
    axes = Figure().subplots()
    axes.set_yscale(scale)
    axes.set_ylim(1, 100)
    room_above(axes, 0.25)
    low, old, top = axes.yaxis.get_transform().transform([1.0, 100.0, axes.get_ylim()[1]])
    assert (top - old) / (top - low) == pytest.approx(0.25)
