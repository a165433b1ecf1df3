"""Legends that cover nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, get_args

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import Collection
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.path import Path
from matplotlib.transforms import Bbox

Place = Literal["upper right", "upper left", "lower right", "lower left", "center right",
                "center left", "upper center", "lower center"]  # fmt: skip
# Places of a legend inside its axes, in the order in which they are tried.
_PLACES: tuple[Place, ...] = get_args(Place)
# Room between a legend and what is drawn, as a share of the height of the axes.
_GAP = 0.03


def finish(figure: Figure, only: Sequence[Axes] | None = None) -> Figure:
    """Move each legend inside axes to a place where it covers nothing that is drawn.

    Where there is no such place, the y-axis is extended above, and the legend stands there.

    Args:
        figure: a figure that is complete.
        only: axes whose legends are moved; None for all.

    Returns:
        The figure.
    """
    figure.draw_without_rendering()
    for axes in figure.axes if only is None else only:
        legend = axes.get_legend()
        if legend is None or _outside(legend, axes) or not covered(legend, axes):
            continue
        if not _moved(legend, axes):
            _raise(legend, axes)
    return figure


def covered(legend: Legend, axes: Axes) -> list[str]:
    """What a legend covers: lines, bands, points, bars and texts of the axes and their twin.

    Args:
        legend: a legend in a figure that was drawn.
        axes: its axes.
    """
    box = legend.get_window_extent()
    return [name for each in _twins(axes) for name in _within(each, box)]


def _twins(axes: Axes) -> list[Axes]:
    """The axes and those that lie on the same place."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    place = axes.get_position().bounds
    same = [a for a in figure.axes if a.figure is axes.figure]
    return [a for a in same if a is axes or np.allclose(a.get_position().bounds, place)]


def _within(axes: Axes, box: Bbox) -> Iterator[str]:
    for line in axes.lines:
        if _meets(line, box):
            yield str(line.get_label())
    for band in axes.collections:
        if _touches(band, box):
            yield str(band.get_label())
    for bar in axes.patches:
        if isinstance(bar, Rectangle) and bar.get_window_extent().overlaps(box):
            yield str(bar.get_label())
    for text in axes.texts:
        if text.get_text() and text.get_window_extent().overlaps(box):
            yield text.get_text()


def _meets(line: Line2D, box: Bbox) -> bool:
    path = line.get_path()
    x = np.asarray(path.vertices)[:, 0]
    if len(x) == 0:
        return False
    if len(x) == 2 and x[0] == x[1] and line.get_linestyle() in (":", "--"):
        return False  # a vertical line through all of the axes, which no legend can avoid
    shown = line.get_transform().transform_path(path)
    if line.get_linestyle() in ("None", "", " "):
        return bool(_inside(np.asarray(shown.vertices), box))
    return bool(_finite(shown).intersects_bbox(box, filled=False))


def _finite(path: Path) -> Path:
    """The path without points that are not finite, at which a line is broken."""
    points = np.asarray(path.vertices)
    good = np.isfinite(points).all(1)
    codes = np.where(np.append(False, good[:-1]), Path.LINETO, Path.MOVETO)
    return Path(points[good], codes[good])


def _touches(band: Collection, box: Bbox) -> bool:
    offsets = np.ma.getdata(band.get_offsets())
    if len(offsets) and (len(offsets) > 1 or np.any(offsets)):  # points
        shown = band.get_offset_transform().transform(offsets)
        return bool(_inside(shown, box))
    transform = band.get_transform()
    paths = [transform.transform_path(p) for p in band.get_paths() if np.size(p.vertices)]
    filled = len(band.get_facecolor()) > 0
    return any(p.intersects_bbox(box, filled=filled) for p in paths)


def _inside(points: np.ndarray, box: Bbox) -> np.bool_:
    """Whether any of the points lies in a box."""
    x, y = points[:, 0], points[:, 1]
    return np.any((x > box.x0) & (x < box.x1) & (y > box.y0) & (y < box.y1))


def _outside(legend: Legend, axes: Axes) -> bool:
    """Whether a legend stands beside, above or below its axes."""
    box, frame = legend.get_window_extent(), axes.get_window_extent()
    return not box.overlaps(frame)


def _moved(legend: Legend, axes: Axes) -> bool:
    """Move a legend to a free place inside its axes, if there is one."""
    legend.set_bbox_to_anchor(None)
    for place in _PLACES:
        legend.set_loc(place)
        if not covered(legend, axes):
            return True
    return False


def _raise(legend: Legend, axes: Axes) -> None:
    """Extend the axes above by the height of their legend, which is put there."""
    height = legend.get_window_extent().height / axes.get_window_extent().height
    for each in _twins(axes):
        room_above(each, min(height + _GAP, 0.6))
    legend.set_loc("upper left")


def room_above(axes: Axes, share: float) -> None:
    """Extend a y-axis above what is drawn, without ticks there.

    Args:
        axes: axes with a linear, logarithmic or symmetrically logarithmic y-axis.
        share: the new room, as a share of the new height of the axes.
    """
    low, high = axes.get_ylim()
    scale = axes.yaxis.get_transform()
    start, end = scale.transform(np.array([low, high]))
    top = scale.inverted().transform(np.array([start + (end - start) / (1 - share)]))[0]
    ticks = [t for t in axes.get_yticks() if min(low, high) <= t <= max(low, high)]
    if axes.get_yscale() == "linear":
        axes.set_yticks(ticks)
    axes.set_ylim(low, float(top))
