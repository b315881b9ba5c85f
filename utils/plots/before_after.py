"""Pictures of an unlearned model beside its base model, as functions that return a Figure.

Each has one panel a model; a panel's title says which: "base model", "unlearned model", "Retrain".
"""

import math

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.ticker import PercentFormatter

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
    numbered,
    tidy,
    wrap_label,
)
from utils.plots.plots import confusion_matrices

LONE_PANEL_INCHES = 6  # the width of a figure of one panel
PANEL_INCHES = 3.7  # of a panel beside others

BINS = 20  # of a probability
# Colour, line style and width. Sets often fill one and the same bin: the wider line lies below,
# so that each is seen beside or between the others.
SET_STYLES = {
    "forget set": (FORGET, "-", 3),
    "retain set": (RETAIN, "--", 1.6),
    "test set": (TEST, ":", 2.2),
}

# Two cycles of lengths without a common divisor: 56 classes before a pair comes again.
CLASS_COLORS = (BLUE, REDDISH_PURPLE, BLUISH_GREEN, GREY, SKY_BLUE, "#303030", YELLOW)
CLASS_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<")
MARK_STYLE = {"edgecolors": "black", "lw": 0.25, "alpha": 0.75}
MAX_DISTINCT_CLASSES = 20  # classes in a feature map; more marks than that nobody keeps apart
LEGEND_CHARACTERS = 34  # of a class name
LEGEND_LINE_INCHES = 0.19


def confusion_before_and_after(counts_before, counts_after, class_names, title, forgotten=()):
    """Which class the images of each class were taken for, and are now.

    The counts are (K, K) ints, rows the true and columns the predicted classes, as
    `plots.confusion_matrix` takes them; `counts_before` is None where there is only one model to
    show. `forgotten` are the classes to mark.
    """
    panels = {} if counts_before is None else {"base model": counts_before}
    panels["this model" if counts_before is None else "unlearned model"] = counts_after
    return confusion_matrices(panels, class_names, title, forgotten)


def confidence_histograms(confidences, title):
    """How probable each model finds the true class of the images it shall forget, and of others.

    `confidences` is panel title -> set -> (N,) probabilities, 0 to 1; the sets are those of
    SET_STYLES. A set may be empty. ValueError for what is not a number.
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
        tidy(axes, grid="y")
    # A linear scale, though most bins hold next to nothing: how much lies in the end bins is what
    # tells a model that knows the images from one that does not, and on a logarithmic scale a
    # single image of a small set stands nearly as tall as a tenth of all.
    panels[0].set_ylim(bottom=0)
    panels[0].yaxis.set_major_formatter(PercentFormatter())
    panels[0].set_xlim(-0.03, 1.03)
    panels[0].set_ylabel("share of the set's images", fontsize=LABEL_POINTS)
    styles = [SET_STYLES[name] for name in labels]
    handles = [Line2D([], [], color=color, ls=ls, lw=width) for color, ls, width in styles]
    legend_below(figure, handles, list(labels.values()))
    return figure


def feature_map(points, labels, class_names, title, forgotten, explained=None):
    """Where each model's features put the images, by their first two principal components.

    Two images lie close if their model sees them alike; where a group lies, and how large the map
    is, means nothing from one model to the next.

    `points` is panel title -> (N, 2); `labels` (N,) ints and `forgotten` (N,) bools say of which
    class an image is and whether it is in the forget set, the same in all panels. `explained` is
    panel title -> the two components' shares of the variance, 0 to 1. The forget set is marked as
    such and drawn on top, the other images by class if there are up to MAX_DISTINCT_CLASSES
    classes.
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
        tidy(axes, grid="both")
    handles = [
        Line2D([], [], ls="", marker=style["marker"], color=style["c"], mec="black", mew=0.4, ms=6)
        for _, _, style in groups
    ]
    handles[0].set_markersize(9)
    legend_below(figure, handles, names, columns)
    return figure


def _panels_inches(count):
    return LONE_PANEL_INCHES if count == 1 else max(WIDTH_INCHES, count * PANEL_INCHES)


def _draw_histogram(axes, name, probabilities):
    """The share of the set in each bin: an outline, lightly filled."""
    if not np.isfinite(probabilities).all():
        raise ValueError(f"{name}: there are probabilities that are not numbers")
    color, line_style, width = SET_STYLES[name]
    # Rounding takes a probability over 1 at times; the histogram would leave it out.
    counts, edges = np.histogram(np.clip(probabilities, 0, 1), BINS, (0, 1))
    percent = 100 * counts / len(probabilities)
    axes.stairs(percent, edges, fill=True, color=color, alpha=0.15)
    outline = np.where(counts, percent, np.nan)  # along the axis it would only hide other lines
    axes.stairs(outline, edges, label=name, color=color, ls=line_style, lw=width)


def _kept_groups(labels, forgotten, class_names):
    """(name, which images, style) of each class that has images to keep, or of all together."""
    style = MARK_STYLE | {"s": _mark_size(labels)}
    if len(class_names) > MAX_DISTINCT_CLASSES:
        return [("kept", ~forgotten, style | {"c": RETAIN, "marker": "o"})]
    groups = []
    for number, name in enumerate(numbered(class_names)):
        which = (labels == number) & ~forgotten
        color = CLASS_COLORS[number % len(CLASS_COLORS)]
        marker = CLASS_MARKERS[number % len(CLASS_MARKERS)]
        if which.any():
            name = wrap_label(name, LEGEND_CHARACTERS, 1)
            groups.append((name, which, style | {"c": color, "marker": marker}))
    return groups


def _forget_group(labels, forgotten, class_names):
    """The same of the forget set, by the name of its class if it has images of only one."""
    found = np.unique(labels[forgotten])
    name = "forget set"
    if len(found) == 0:
        name += " (no image)"
    elif len(found) == 1:
        name += f": {wrap_label(numbered(class_names)[found[0]], LEGEND_CHARACTERS, 1)}"
    size = 2.5 * _mark_size(labels)  # a star fills less of its square than other marks
    return name, forgotten, MARK_STYLE | {"c": FORGET, "marker": "*", "s": size, "zorder": 2}


def _mark_size(labels):
    """The area of a mark in square points: the more images, the smaller."""
    return 15 * math.sqrt(1000 / max(250, len(labels)))


def _legend_columns(names, width):
    """How many columns of such names fit a legend of that width in inches, all about as long."""
    mark_and_gap, character = 0.6, 0.08  # inches
    fitting = int(width / (mark_and_gap + character * max(map(len, names))))
    rows = math.ceil(len(names) / max(1, fitting))
    return math.ceil(len(names) / rows)


def _component(which, share):
    of_variance = "" if share is None else f"\n({100 * share:.0f}% of the variance)"
    return f"{which} principal component{of_variance}"
