"""Confusion matrices of one model or of several."""

import math
from collections.abc import Collection, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle
from matplotlib.ticker import PercentFormatter

from utils.plots.figures import (
    FORGET,
    LABEL_POINTS,
    LIGHT_GREY,
    PANEL_POINTS,
    SMALL_POINTS,
    new_figure,
    numbered_names,
    wrap_label,
)
from utils.plots.rows import label_rows

CELL_INCHES = 0.52  # room for a count of five digits
TIGHT_CELL_INCHES = 0.44  # the same without a margin, where several matrices share a picture
FULL_SIZE_CLASSES = 12  # with more, the cells shrink so that the matrix fits a page
MAX_NUMBERED_CLASSES = 20  # with more, counts no longer fit the cells
MAX_NAMED_CLASSES = 40  # with more, names would be too small to read: only some classes are named
NAME_CHARACTERS = 20  # of a predicted class


def confusion_matrix(
    counts: np.ndarray, class_names: Sequence[str], title: str, forgotten: Collection[int] = ()
) -> Figure:
    """Plot the confusion matrix of one model.

    counts: (K, K) ints, rows true and columns predicted classes. A cell is coloured by its
        percentage of its row and shows its count, unless there are too many classes.
    forgotten: the classes to mark.
    """
    return confusion_matrices({"": counts}, class_names, title, forgotten)


def confusion_matrices(
    counts_by_panel: Mapping[str, np.ndarray],
    class_names: Sequence[str],
    title: str,
    forgotten: Collection[int] = (),
) -> Figure:
    """Plot the confusion matrices of several models side by side: panel title -> (K, K) ints."""
    panel_count = len(counts_by_panel)
    cell_inches = CELL_INCHES if panel_count == 1 else TIGHT_CELL_INCHES
    side = max(3, cell_inches * min(len(class_names), FULL_SIZE_CLASSES))
    # Inches: names that share a line with their mark are longer than those over two lines.
    names_and_scale = 3.4 if len(class_names) <= FULL_SIZE_CLASSES else 4.3
    names_and_title = 1.6
    gaps = 0.9 * (panel_count - 1)
    width = panel_count * side + gaps + names_and_scale
    figure = new_figure(width, side + names_and_title, title)
    # The constrained layout for square cells; the plain one cuts off long names at times.
    figure.set_layout_engine("compressed", w_pad=0.1)
    panels = figure.subplots(1, panel_count, squeeze=False)[0]
    for axes, (panel_title, counts) in zip(panels, counts_by_panel.items(), strict=True):
        axes.set_title(panel_title, fontsize=PANEL_POINTS, parse_math=False)
        image = _draw_matrix(axes, np.asarray(counts), class_names, side, forgotten)
        if axes is not panels[0]:
            axes.tick_params(labelleft=False)
    panels[0].set_ylabel("true class")
    bar = figure.colorbar(image, ax=panels, shrink=0.8, format=PercentFormatter(decimals=0))
    bar.set_label("percentage of the true class", fontsize=LABEL_POINTS)
    bar.ax.tick_params(labelsize=SMALL_POINTS)
    bar.outline.set_visible(False)
    return figure


def _draw_matrix(
    axes: Axes,
    counts: np.ndarray,
    class_names: Sequence[str],
    side: float,
    forgotten: Collection[int],
) -> AxesImage:
    """Draw cells, counts, names and the marks of forgotten classes, on axes `side` inches wide."""
    class_count = len(class_names)
    row_sums = counts.sum(axis=1, keepdims=True)
    percent = 100 * counts / np.maximum(row_sums, 1)  # a class with no image stays at 0
    cell_points = 72 * side / class_count
    named_points = 72 * side / min(class_count, MAX_NAMED_CLASSES)
    name_points = min(LABEL_POINTS, 0.55 * named_points)  # one line, and space around it
    image = axes.imshow(percent, cmap="Blues", vmin=0, vmax=100)

    names = numbered_names(class_names)
    columns = range(0, class_count, math.ceil(class_count / MAX_NAMED_CLASSES))
    axes.set_xticks(
        columns,
        [wrap_label(names[column], NAME_CHARACTERS, 1) for column in columns],
        rotation=45,
        ha="right",
        rotation_mode="anchor",
        fontsize=name_points,
        parse_math=False,
    )
    label_rows(
        axes,
        names,
        max_lines=2 if class_count <= FULL_SIZE_CLASSES else 1,
        points=name_points,
        forgotten=forgotten,
        max_named=MAX_NAMED_CLASSES,
    )
    axes.set_xlabel("predicted class")
    axes.tick_params(length=0)
    axes.spines[:].set_color(LIGHT_GREY)
    if class_count <= MAX_NUMBERED_CLASSES:
        _write_counts(axes, counts, percent, cell_points)
    for number in forgotten:
        axes.add_patch(
            Rectangle(
                (-0.5, number - 0.5),
                class_count,
                1,
                fill=False,
                edgecolor=FORGET,
                lw=2.5,
                clip_on=False,
                zorder=3,
            )
        )
    return image


def _write_counts(axes: Axes, counts: np.ndarray, percent: np.ndarray, cell_points: float) -> None:
    points = min(LABEL_POINTS, 0.3 * cell_points)  # five digits are 3.2 times as wide as this
    for (row, column), count in np.ndenumerate(counts):
        dark = percent[row, column] > 50  # where black on the blue is harder to read
        color = "white" if dark else ("black" if count else LIGHT_GREY)
        axes.text(column, row, f"{count}", ha="center", va="center", color=color, fontsize=points)
