"""Horizontal bar charts: images per class, errors, destinations, accuracies, saliency.

All accuracies, rates and percentages are given in percent, 0 to 100.
"""

import math
from collections.abc import Callable, Collection, Mapping, Sequence

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator, PercentFormatter, StrMethodFormatter

from utils.plots.figures import (
    BEFORE,
    BLUE,
    CORRECT,
    FORGET,
    GREY,
    INCORRECT,
    ORANGE,
    REDDISH_PURPLE,
    RETAIN,
    SKY_BLUE,
    SMALL_POINTS,
    TEST,
    WIDTH_INCHES,
    legend_below,
    new_figure,
    numbered_names,
    style_axes,
)
from utils.plots.rows import LONG_LIST, MAX_NAMED_ROWS, label_rows

SPLIT_COLORS = (BLUE, ORANGE, SKY_BLUE, REDDISH_PURPLE)  # train, val, test, one of the user's own
BAR_INCHES = 0.19  # thick enough for its value in SMALL_POINTS
THIN_BAR_INCHES = 0.15  # the same without a margin, for long lists
GROUP_FRACTION = 0.78  # of a row's height; the rest is the gap to the next group
MAX_SINGLE_BARS = 400  # rows; more are drawn as one outline for each series


def class_counts(
    counts_by_split: Mapping[str, Sequence[int]], class_names: Sequence[str], title: str
) -> Figure:
    """Plot how many images of each class each split holds: split -> (K,) ints."""
    colors = {
        split: SPLIT_COLORS[index % len(SPLIT_COLORS)]
        for index, split in enumerate(counts_by_split)
    }
    height = _rows_inches(len(class_names), len(counts_by_split))
    figure = new_figure(WIDTH_INCHES, height, title)
    axes = figure.subplots()
    bars = _draw_bars(axes, counts_by_split, colors, "{:,.0f}".format)
    label_rows(axes, numbered_names(class_names), max_lines=len(counts_by_split))
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.set_xlabel("images")
    axes.set_ylabel("class")
    legend_below(figure, bars, list(counts_by_split))
    return figure


def finding_errors(counts: np.ndarray, class_names: Sequence[str], title: str) -> Figure:
    """Plot the true and false positive rate of each finding of multi-label data.

    counts: (K, 2, 2) ints by finding: rows truth no / yes, columns prediction no / yes.
    """
    counts = np.asarray(counts)
    rates = 100 * counts[:, :, 1] / np.maximum(counts.sum(2), 1)
    values = {
        "true positive rate": rates[:, 1],
        "false positive rate": rates[:, 0],
    }
    figure = new_figure(WIDTH_INCHES, _rows_inches(len(class_names), len(values)), title)
    axes = figure.subplots()
    colors = dict(zip(values, (CORRECT, INCORRECT), strict=True))
    bars = _draw_bars(axes, values, colors, "{:.1f}%".format)
    label_rows(axes, numbered_names(class_names), max_lines=len(values))
    _use_percent_axis(axes)
    axes.set_xlabel("images with (true) or without (false) the finding")
    axes.set_ylabel("finding")
    legend_below(figure, bars, list(values))
    return figure


def forgotten_destinations(
    percent_before: Sequence[float] | None,
    percent_after: Sequence[float],
    class_names: Sequence[str],
    forgotten: Collection[int],
    title: str,
) -> Figure:
    """Plot which classes the images to be forgotten are predicted as, before and after.

    percent_before, percent_after: (K,) percentages of these images by predicted class; before is
        None where there is only one model to show.
    forgotten: the classes to mark, none if single images of any class are to be forgotten.
    """
    series = {} if percent_before is None else {"base model": percent_before}
    series["unlearned model"] = percent_after
    colors = {"base model": BEFORE, "unlearned model": RETAIN}
    bar_count = len(series)
    figure = new_figure(WIDTH_INCHES, _rows_inches(len(class_names), bar_count), title)
    axes = figure.subplots()
    _draw_bars(axes, series, colors, "{:.1f}%".format, forgotten)
    label_rows(axes, numbered_names(class_names), max_lines=bar_count, forgotten=forgotten)
    _use_percent_axis(axes)
    one = len(forgotten) == 1
    which = f"of class {next(iter(forgotten))}" if one else "to be forgotten"
    axes.set_xlabel(f"percentage of the images {which} that are predicted as each class")
    axes.set_ylabel("predicted class")
    if percent_before is not None:
        marked = "still correct" if one else "a forgotten class"
        entries = {"base model": BEFORE, f"unlearned model, {marked}": FORGET}
        entries |= {"unlearned model, other classes": RETAIN}
        if not forgotten:
            entries = colors
        handles = [Rectangle((0, 0), 1, 1, color=color) for color in entries.values()]
        legend_below(figure, handles, list(entries))
    return figure


def method_comparison(rows: Sequence[dict], title: str) -> Figure:
    """Plot the three accuracies and the time of each model.

    rows: dicts with name, unlearn_accuracy_percent, remaining_accuracy_percent,
        test_accuracy_percent and seconds. A value that is None or not a number is shown as "n/a",
        such as the unlearning time of a base model.
    """
    names = [row["name"] for row in rows]
    series = {
        "Unlearn Accuracy": [row["unlearn_accuracy_percent"] for row in rows],
        "Remaining Accuracy": [row["remaining_accuracy_percent"] for row in rows],
        "Test Accuracy": [row["test_accuracy_percent"] for row in rows],
    }
    colors = dict(zip(series, (FORGET, RETAIN, TEST), strict=True))
    figure = new_figure(WIDTH_INCHES + 2, _rows_inches(len(rows), len(series)), title)
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(2.6, 1))
    bars = _draw_bars(left, series, colors, "{:.2f}%".format)
    label_rows(left, names, max_lines=4)  # model ids are long, and three bars have room for them
    _use_percent_axis(left)
    left.set_xlabel("accuracy")
    _draw_bars(right, {"time": [row["seconds"] for row in rows]}, {"time": GREY}, _format_seconds)
    right.set_xlim(right=1.35 * right.get_xlim()[1])  # a narrow panel, wide values
    right.xaxis.set_major_locator(MaxNLocator(nbins=3))
    right.xaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
    right.tick_params(axis="y", labelleft=False)
    right.set_xlabel("time to train or unlearn (s)")
    legend_below(figure, bars, list(series))
    return figure


def saliency_by_layer(
    names: Sequence[str],
    inside_percent: Sequence[float],
    zero_percent: Sequence[float] | None,
    title: str,
) -> Figure:
    """Plot the percentage of each layer's weights inside the mask, first layer first.

    zero_percent: of each layer's weights, those with a saliency of exactly 0; None if unknown.
    """
    series = {"inside the mask": inside_percent}
    if zero_percent is not None:
        series["no gradient (saliency 0)"] = zero_percent
    figure = new_figure(WIDTH_INCHES, _rows_inches(len(names), len(series)), title)
    axes = figure.subplots()
    colors = dict(zip(series, (RETAIN, GREY), strict=False))
    bars = _draw_bars(axes, series, colors, "{:.1f}%".format)
    label_rows(axes, names, max_lines=1)
    _use_percent_axis(axes)
    axes.set_xlabel("percentage of the weights of the layer")
    axes.set_ylabel("layer, input first")
    legend_below(figure, bars, list(series))
    return figure


def _rows_inches(rows: int, bars: int) -> float:
    """Return the height of a figure of horizontal bars: `bars` bars and a gap per row."""
    row = (bars + 0.6) * BAR_INCHES if rows <= LONG_LIST else (bars + 0.2) * THIN_BAR_INCHES
    title_axis_and_legend = 1.6
    return title_axis_and_legend + min(rows, MAX_NAMED_ROWS) * row


def _draw_bars(
    axes: Axes,
    series: Mapping[str, Sequence[float | None]],
    colors: Mapping[str, str],
    value_text: Callable[[float], str],
    forgotten: Collection[int] = (),
) -> list[Artist]:
    """Draw horizontal bars, rows from the top, one bar per row for each of the series.

    series: name -> values. value_text: turns a value into the text at the end of its bar.
    forgotten: rows whose bar of the last series has the colour of the forget set. Returns an
    artist of each of the series for the legend.
    """
    thickness = GROUP_FRACTION / len(series)
    artists = []
    longest = 0.0
    for index, (name, values) in enumerate(series.items()):
        known = np.array([value is not None and math.isfinite(value) for value in values], bool)
        widths = np.array([v if ok else 0 for v, ok in zip(values, known, strict=True)], float)
        longest = max(longest, widths.max(initial=0))
        offset = (index - (len(series) - 1) / 2) * thickness
        marked = sorted(forgotten) if index == len(series) - 1 else []
        centres = np.arange(len(widths)) + offset
        if len(widths) > MAX_SINGLE_BARS:
            kept = widths.copy()
            kept[marked] = 0
            artists.append(_draw_outline(axes, centres, kept, thickness, colors[name], name))
            if marked:
                _draw_outline(axes, centres[marked], widths[marked], thickness, FORGET)
            continue
        container = axes.barh(
            centres, widths, height=0.94 * thickness, color=colors[name], label=name
        )
        for row in marked:
            container[row].set_facecolor(FORGET)
        if len(widths) <= MAX_NAMED_ROWS:
            texts = [value_text(v) if ok else "n/a" for v, ok in zip(values, known, strict=True)]
            axes.bar_label(container, texts, padding=3, fontsize=SMALL_POINTS)
        artists.append(container)
    axes.set_xlim(0, 1.2 * longest or 1)  # room for the longest bar's value
    axes.set_ylim(len(widths) - 0.5, -0.5)
    style_axes(axes, grid="x")
    axes.tick_params(axis="y", length=0)
    return artists


def _draw_outline(
    axes: Axes,
    centres: np.ndarray,
    widths: np.ndarray,
    thickness: float,
    color: str,
    name: str | None = None,
) -> Artist:
    """Draw all bars of a series as one filled artist: thousands of them are slow to draw."""
    edges = np.stack([centres - thickness / 2, centres + thickness / 2], 1).ravel()
    values = np.stack([widths, np.zeros_like(widths)], 1).ravel()[:-1]  # no bar in the gaps
    return axes.stairs(values, edges, orientation="horizontal", fill=True, color=color, label=name)


def _format_seconds(seconds: float) -> str:
    return f"{seconds:,.0f} s" if seconds >= 100 else f"{seconds:.3g} s"


def _use_percent_axis(axes: Axes) -> None:
    axes.set_xlim(0, 112)  # room for the value beside a full bar
    axes.set_xticks(range(0, 101, 20))
    axes.xaxis.set_major_formatter(PercentFormatter(decimals=0))
