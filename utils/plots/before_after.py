"""Pictures of an unlearned model next to its base model.

Each has one panel per model, titled "base model", "unlearned model" or "Retrain".
"""

import math
from collections.abc import Collection, Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import PercentFormatter

from utils.plots.confusion import confusion_matrices
from utils.plots.figures import (
    BLUE,
    BLUISH_GREEN,
    FORGET,
    GREY,
    LABEL_POINTS,
    PANEL_POINTS,
    REDDISH_PURPLE,
    RETAIN,
    SKY_BLUE,
    SMALL_POINTS,
    TEST,
    WIDTH_INCHES,
    YELLOW,
    legend_below,
    new_figure,
    numbered_names,
    style_axes,
    wrap_label,
)

SINGLE_PANEL_INCHES = 6  # width of a figure of one panel
PANEL_INCHES = 3.7  # width of each of several panels

BINS = 20  # of a probability
# Colour, line style and width. Sets often fill the same bin: wider lines are drawn first, so that
# each remains visible.
SET_STYLES = {
    "forget set": (FORGET, "-", 3),
    "retain set": (RETAIN, "--", 1.6),
    "test set": (TEST, ":", 2.2),
}

# Two cycles of lengths without a common divisor: 56 classes before a pair is repeated.
CLASS_COLORS = (BLUE, REDDISH_PURPLE, BLUISH_GREEN, GREY, SKY_BLUE, "#303030", YELLOW)
CLASS_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<")
MARK_STYLE = {"edgecolors": "black", "lw": 0.25, "alpha": 0.75}
MAX_DISTINCT_CLASSES = 20  # classes in a feature map; more cannot be distinguished
LEGEND_CHARACTERS = 34  # of a class name
LEGEND_LINE_INCHES = 0.19


def confusion_before_and_after(
    counts_before: np.ndarray | None,
    counts_after: np.ndarray,
    class_names: Sequence[str],
    title: str,
    forgotten: Collection[int] = (),
) -> Figure:
    """Plot the confusion matrices before and after unlearning.

    counts_before, counts_after: (K, K) ints, rows true and columns predicted classes; before is
        None where there is only one model to show.
    forgotten: the classes to mark.
    """
    panels = {} if counts_before is None else {"base model": counts_before}
    panels["this model" if counts_before is None else "unlearned model"] = counts_after
    return confusion_matrices(panels, class_names, title, forgotten)


def confidence_histograms(
    confidences: Mapping[str, Mapping[str, Sequence[float]]], title: str
) -> Figure:
    """Plot the distribution of each model's probability of the true class, by set of images.

    confidences: panel title -> set -> (N,) probabilities, 0 to 1; the sets are those of
        SET_STYLES. A set may be empty.

    Raises ValueError for a probability that is not a number.
    """
    figure = new_figure(_panels_inches(len(confidences)), 3.9, title)
    panels = figure.subplots(1, len(confidences), sharex=True, sharey=True, squeeze=False)[0]
    labels = {}
    for axes, (panel_title, sets) in zip(panels, confidences.items(), strict=True):
        for name, probabilities in sets.items():
            if len(probabilities):
                _draw_histogram(axes, name, np.asarray(probabilities, float))
                labels[name] = name
            else:
                labels.setdefault(name, f"{name} (no image)")
        axes.set_title(panel_title, fontsize=PANEL_POINTS, parse_math=False)
        axes.set_xlabel("probability given to the true class", fontsize=LABEL_POINTS)
        style_axes(axes, grid="y")
    # A linear scale, although most bins are nearly empty: the end bins distinguish a model that
    # has memorised the images from one that has not, and on a logarithmic scale a single image of
    # a small set is nearly as tall as a tenth of all.
    panels[0].set_ylim(bottom=0)
    panels[0].yaxis.set_major_formatter(PercentFormatter())
    panels[0].set_xlim(-0.03, 1.03)
    panels[0].set_ylabel("percentage of the set's images", fontsize=LABEL_POINTS)
    styles = [SET_STYLES[name] for name in labels]
    handles = [Line2D([], [], color=color, ls=ls, lw=width) for color, ls, width in styles]
    legend_below(figure, handles, list(labels.values()))
    return figure


def feature_map(
    points: Mapping[str, np.ndarray],
    labels: np.ndarray,
    class_names: Sequence[str],
    title: str,
    forgotten: np.ndarray,
    explained: Mapping[str, tuple[float, float]] | None = None,
) -> Figure:
    """Plot the images by the first two principal components of each model's features.

    Images are close together if their features are similar. Positions and scale cannot be compared
    between models.

    points: panel title -> (N, 2) floats.
    labels, forgotten: (N,) ints and (N,) bools, the class of each image and whether it is in the
        forget set, the same in all panels. The forget set is drawn on top, the other images by
        class if there are up to MAX_DISTINCT_CLASSES classes.
    explained: panel title -> the fractions of the variance of both components, 0 to 1.
    """
    labels, forgotten = np.asarray(labels), np.asarray(forgotten, bool)
    groups = [
        _forget_group(labels, forgotten, class_names),
        *_kept_groups(labels, forgotten, class_names),
    ]
    width = _panels_inches(len(points))
    names = [name for name, _, _ in groups]
    columns = _legend_columns(names, width)
    legend_inches = LEGEND_LINE_INCHES * math.ceil(len(groups) / columns)
    figure = new_figure(width, 4.3 + legend_inches, title)
    panels = figure.subplots(1, len(points), squeeze=False)[0]
    for axes, (panel_title, coordinates) in zip(panels, points.items(), strict=True):
        coordinates = np.asarray(coordinates)
        for name, which, style in groups:
            axes.scatter(*coordinates[which].T, label=name, **style)
        axes.set_title(panel_title, fontsize=PANEL_POINTS, parse_math=False)
        # The components share a unit: distances on the map are those of the projected features.
        axes.set_aspect("equal", adjustable="datalim")
        first, second = (explained or {}).get(panel_title, (None, None))
        axes.set_xlabel(_component("first", first), fontsize=LABEL_POINTS)
        axes.set_ylabel(_component("second", second), fontsize=LABEL_POINTS)
        axes.tick_params(labelsize=SMALL_POINTS)
        style_axes(axes, grid="both")
    handles = [
        Line2D([], [], ls="", marker=style["marker"], color=style["c"], mec="black", mew=0.4, ms=6)
        for _, _, style in groups
    ]
    handles[0].set_markersize(9)
    legend_below(figure, handles, names, columns)
    return figure


def _panels_inches(count):
    return SINGLE_PANEL_INCHES if count == 1 else max(WIDTH_INCHES, count * PANEL_INCHES)


def _draw_histogram(axes, name, probabilities):
    """Draw the percentage of the set in each bin: an outline, lightly filled."""
    if not np.isfinite(probabilities).all():
        raise ValueError(f"{name}: some probabilities are not numbers")
    color, line_style, width = SET_STYLES[name]
    # Rounding may give a probability above 1; the histogram would leave it out.
    counts, edges = np.histogram(np.clip(probabilities, 0, 1), BINS, (0, 1))
    percent = 100 * counts / len(probabilities)
    axes.stairs(percent, edges, fill=True, color=color, alpha=0.15)
    outline = np.where(counts, percent, np.nan)  # along the axis it would only hide other lines
    axes.stairs(outline, edges, label=name, color=color, ls=line_style, lw=width)


def _kept_groups(labels, forgotten, class_names):
    """Return (name, (N,) bools, style) of each class that has kept images, or of all together."""
    style = MARK_STYLE | {"s": _mark_size(labels)}
    if len(class_names) > MAX_DISTINCT_CLASSES:
        return [("kept", ~forgotten, style | {"c": RETAIN, "marker": "o"})]
    groups = []
    for number, name in enumerate(numbered_names(class_names)):
        which = (labels == number) & ~forgotten
        color = CLASS_COLORS[number % len(CLASS_COLORS)]
        marker = CLASS_MARKERS[number % len(CLASS_MARKERS)]
        if which.any():
            name = wrap_label(name, LEGEND_CHARACTERS, 1)
            groups.append((name, which, style | {"c": color, "marker": marker}))
    return groups


def _forget_group(labels, forgotten, class_names):
    """Return the same of the forget set, with the name of its class if it has only one."""
    found = np.unique(labels[forgotten])
    name = "forget set"
    if len(found) == 0:
        name += " (no image)"
    elif len(found) == 1:
        name += f": {wrap_label(numbered_names(class_names)[found[0]], LEGEND_CHARACTERS, 1)}"
    size = 2.5 * _mark_size(labels)  # a star fills less of its square than other marks
    return name, forgotten, MARK_STYLE | {"c": FORGET, "marker": "*", "s": size, "zorder": 2}


def _mark_size(labels):
    """Return the area of a mark in square points: the more images, the smaller."""
    return 15 * math.sqrt(1000 / max(250, len(labels)))


def _legend_columns(names, width):
    """Return how many columns of such names fit a legend of that width in inches."""
    mark_and_gap, character = 0.6, 0.08  # inches
    fitting = int(width / (mark_and_gap + character * max(map(len, names))))
    rows = math.ceil(len(names) / max(1, fitting))
    return math.ceil(len(names) / rows)


def _component(which, fraction):
    of_variance = "" if fraction is None else f"\n({100 * fraction:.0f}% of the variance)"
    return f"{which} principal component{of_variance}"
