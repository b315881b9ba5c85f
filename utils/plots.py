"""Every picture the scripts save, as functions that return a matplotlib Figure.

The figures are made without pyplot, so they need no display, are never shown by accident and are
freed like any other object. `png_bytes` turns one into the content of a file.

Colours are Okabe and Ito's, which stay apart for the common forms of colour blindness
(https://jfly.uni-koeln.de/color/). All accuracies and shares are percents, 0 to 100.
"""

import io
import math
import re

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator, PercentFormatter, StrMethodFormatter
from PIL import Image

BLUE, SKY_BLUE, ORANGE, REDDISH_PURPLE = "#0072B2", "#56B4E9", "#E69F00", "#CC79A7"
GREY = "#8C8C8C"
FAINT = "#B0B0B0"

FORGET = ORANGE
RETAIN = BLUE
TEST = SKY_BLUE
RIGHT = "#00614A"  # bluish green, darkened: red and green of one lightness look alike to many
WRONG = "#D03A00"  # vermillion, a little darker: thin letters of it look orange
BEFORE = GREY  # the base model, beside the unlearned one
SPLIT_COLORS = (BLUE, ORANGE, SKY_BLUE, REDDISH_PURPLE)  # train, val, test, one of the user's own

SCREEN_DPI = 150
LABEL_POINTS = 9
SMALL_POINTS = 7.5
TITLE_LINES = 3  # an unlearned model's id takes two
WIDTH_INCHES = 8
LABEL_CHARACTERS = 26  # of a line of a name that has several, beside its bars
ONE_LINE_CHARACTERS = 34
BAR_INCHES = 0.19  # thick enough for its value in SMALL_POINTS
THIN_BAR_INCHES = 0.15  # the same without air, for long lists
LONG_LIST = 20  # rows; a longer list is set tighter
MAX_NAMED_ROWS = 100  # a longer list would be taller than a page: only some rows keep their names
CELL_INCHES = 0.52  # of a confusion matrix: room for a count of five digits
FULL_SIZE_CLASSES = 12  # with more, the cells shrink so that the matrix keeps to a page
MAX_NUMBERED_CLASSES = 20  # with more, counts no longer fit the cells
MAX_MARKED_EPOCHS = 30  # with more, markers hide the curve


def png_bytes(figure, dpi=SCREEN_DPI, true_color=False):
    """The figure as the bytes of a PNG file.

    A chart needs few colours: a palette of 256 makes it a third as large. `true_color` keeps
    every colour, for a figure that holds photographs.
    """
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    picture = Image.open(buffer).convert("RGB")
    if not true_color:
        picture = picture.quantize(256)
    smaller = io.BytesIO()
    picture.save(smaller, format="PNG", optimize=True, dpi=(dpi, dpi))
    return smaller.getvalue()


def training_curves(history, title, best_epoch=None):
    """Loss and accuracy of training and validation, epoch by epoch, the best epoch marked.

    `history` is a list of one dict an epoch: train_loss, val_loss, train_accuracy_percent and
    val_accuracy_percent. `best_epoch` counts from 1; by default it is the first epoch with the
    highest validation accuracy. ValueError for an empty history.
    """
    if not history:
        raise ValueError("no epoch to plot: the history is empty")
    epochs = range(1, len(history) + 1)
    if best_epoch is None:
        best_epoch = 1 + max(
            range(len(history)), key=lambda index: history[index]["val_accuracy_percent"]
        )
    best = history[best_epoch - 1]
    figure = _new_figure(WIDTH_INCHES, 3.4, title)
    panels = figure.subplots(1, 2)
    for axes, quantity, label in zip(
        panels, ("loss", "accuracy_percent"), ("loss", "accuracy (%)"), strict=True
    ):
        marker = "o" if len(history) <= MAX_MARKED_EPOCHS else None
        for split, color, style in (("train", RETAIN, "-"), ("val", ORANGE, "--")):
            values = [epoch[f"{split}_{quantity}"] for epoch in history]
            axes.plot(
                epochs, values, color=color, ls=style, marker=marker, markersize=3.5, label=split
            )
        axes.axvline(best_epoch, color=FAINT, lw=1, zorder=0)
        axes.set_xlabel("epoch")
        axes.set_ylabel(label)
        axes.set_xlim(0.5, len(history) + 0.5)  # a lone epoch too gets an axis of whole numbers
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        _tidy(axes, grid="y")
    panels[1].plot(
        best_epoch,
        best["val_accuracy_percent"],
        ls="",
        marker="*",
        markersize=12,
        color="black",
        label=f"best: epoch {best_epoch}, {best['val_accuracy_percent']:.2f}%",
    )
    for axes in panels:
        axes.legend(fontsize=LABEL_POINTS, frameon=False)
    return figure


def confusion_matrix(counts, class_names, title, forgotten=None):
    """Which class the images of each class were taken for.

    `counts` is (K, K) ints, rows the true and columns the predicted classes. A cell is coloured
    by its share of its row and bears its count, unless there are too many classes for numbers.
    `forgotten` is the class to mark.
    """
    counts = np.asarray(counts)
    class_count = len(class_names)
    row_sums = counts.sum(axis=1, keepdims=True)
    percent = 100 * counts / np.maximum(row_sums, 1)  # a class with no image stays at 0

    side = max(3, CELL_INCHES * min(class_count, FULL_SIZE_CLASSES))
    cell_points = 72 * side / class_count
    name_points = min(LABEL_POINTS, 0.55 * cell_points)  # one line, and air around it
    count_points = min(LABEL_POINTS, 0.3 * cell_points)  # five digits are 3.2 times as wide as this
    names_and_scale, names_and_title = 3.4, 1.6  # inches beside and above the matrix
    figure = _new_figure(side + names_and_scale, side + names_and_title, title)
    axes = figure.subplots()
    image = axes.imshow(percent, cmap="Blues", vmin=0, vmax=100)
    bar = figure.colorbar(image, ax=axes, shrink=0.8, format=PercentFormatter(decimals=0))
    bar.set_label("share of the true class", fontsize=LABEL_POINTS)
    bar.ax.tick_params(labelsize=SMALL_POINTS)
    bar.outline.set_visible(False)

    names = _numbered(class_names)
    axes.set_xticks(
        range(class_count),
        [wrap_label(name, 20, 1) for name in names],
        rotation=45,
        ha="right",
        rotation_mode="anchor",
        fontsize=name_points,
        parse_math=False,
    )
    _name_rows(
        axes,
        names,
        max_lines=2 if class_count <= FULL_SIZE_CLASSES else 1,
        points=name_points,
        forgotten=forgotten,
    )
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    axes.tick_params(length=0)
    axes.spines[:].set_color(FAINT)
    if class_count <= MAX_NUMBERED_CLASSES:
        for (row, column), count in np.ndenumerate(counts):
            dark = percent[row, column] > 50  # where black on the blue is harder to read
            color = "white" if dark else ("black" if count else FAINT)
            axes.text(
                column,
                row,
                f"{count}",
                ha="center",
                va="center",
                color=color,
                fontsize=count_points,
            )
    if forgotten is not None:
        axes.add_patch(
            Rectangle(
                (-0.5, forgotten - 0.5),
                class_count,
                1,
                fill=False,
                edgecolor=FORGET,
                lw=2.5,
                clip_on=False,
                zorder=3,
            )
        )
    return figure


def finding_errors(counts, class_names, title):
    """How each finding of multi-label data is met and missed.

    `counts` is (K, 2, 2) ints: by finding, rows truth no / yes, columns prediction no / yes.
    """
    counts = np.asarray(counts)
    shares = 100 * counts[:, :, 1] / np.maximum(counts.sum(2), 1)
    values = {
        "found, of images with the finding": shares[:, 1],
        "false alarms, of images without it": shares[:, 0],
    }
    figure = _new_figure(WIDTH_INCHES, _rows_inches(len(class_names), len(values)), title)
    axes = figure.subplots()
    colors = dict(zip(values, (RIGHT, WRONG), strict=True))
    containers = _grouped_bars(axes, values, colors, "{:.1f}%".format)
    _name_rows(axes, _numbered(class_names), max_lines=len(values))
    _percent_axis(axes)
    axes.set_xlabel("images")
    axes.set_ylabel("finding")
    _legend_below(figure, containers, list(values))
    return figure


def forgotten_destinations(share_before, share_after, class_names, forgotten, title):
    """What the forgotten class's images are taken for now, and were before.

    `share_before` and `share_after` are (K,) percents of the forgotten class's images, one for
    each predicted class; `share_before` is None where there is only one model to show.
    """
    series = {} if share_before is None else {"base model": share_before}
    series["unlearned model"] = share_after
    colors = {"base model": BEFORE, "unlearned model": RETAIN}
    bars = len(series)
    figure = _new_figure(WIDTH_INCHES, _rows_inches(len(class_names), bars), title)
    axes = figure.subplots()
    containers = _grouped_bars(axes, series, colors, "{:.1f}%".format)
    _name_rows(axes, _numbered(class_names), max_lines=bars, forgotten=forgotten)
    containers[-1][forgotten].set_facecolor(FORGET)
    _percent_axis(axes)
    axes.set_xlabel(f"share of the images of class {forgotten} that each class receives")
    axes.set_ylabel("predicted class")
    if share_before is not None:
        handles = [Rectangle((0, 0), 1, 1, color=color) for color in (BEFORE, FORGET, RETAIN)]
        labels = ["base model", "unlearned model, still right", "unlearned model, elsewhere"]
        _legend_below(figure, handles, labels)
    return figure


def method_comparison(rows, title):
    """The three accuracies and the time of each model, side by side.

    `rows` is a list of dicts: name, unlearn_accuracy_percent, remaining_accuracy_percent,
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
    figure = _new_figure(WIDTH_INCHES + 2, _rows_inches(len(rows), len(series)), title)
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(2.6, 1))
    containers = _grouped_bars(left, series, colors, "{:.2f}%".format)
    _name_rows(left, names, max_lines=4)  # model ids are long, and three bars have room for them
    _percent_axis(left)
    left.set_xlabel("accuracy")
    _grouped_bars(right, {"time": [row["seconds"] for row in rows]}, {"time": GREY}, _seconds)
    right.set_xlim(right=1.35 * right.get_xlim()[1])  # a narrow panel, wide values
    right.xaxis.set_major_locator(MaxNLocator(nbins=3))
    right.xaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
    right.tick_params(axis="y", labelleft=False)
    right.set_xlabel("time to train or unlearn (s)")
    _legend_below(figure, containers, list(series))
    return figure


def saliency_by_layer(names, kept_percent, title):
    """How much of each layer's weights the mask lets change.

    `names` and `kept_percent` have one entry a layer, first layer first; `kept_percent` is the
    percent of that layer's weights inside the mask.
    """
    figure = _new_figure(WIDTH_INCHES, _rows_inches(len(names), 1), title)
    axes = figure.subplots()
    _grouped_bars(axes, {"kept": kept_percent}, {"kept": RETAIN}, "{:.1f}%".format)
    _name_rows(axes, names, max_lines=1)
    _percent_axis(axes)
    axes.set_xlabel("weights of the layer inside the mask")
    axes.set_ylabel("layer, input first")
    return figure


def class_counts(counts_per_split, class_names, title):
    """How many images of each class each split holds; `counts_per_split` is split -> (K,) ints."""
    colors = {
        split: SPLIT_COLORS[index % len(SPLIT_COLORS)]
        for index, split in enumerate(counts_per_split)
    }
    height = _rows_inches(len(class_names), len(counts_per_split))
    figure = _new_figure(WIDTH_INCHES, height, title)
    axes = figure.subplots()
    containers = _grouped_bars(axes, counts_per_split, colors, "{:,.0f}".format)
    _name_rows(axes, _numbered(class_names), max_lines=len(counts_per_split))
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.set_xlabel("images")
    axes.set_ylabel("class")
    _legend_below(figure, containers, list(counts_per_split))
    return figure


def wrap_label(text, characters, max_lines):
    """`text` over at most `max_lines` lines of at most `characters`, cut with an ellipsis.

    Lines break after spaces, underscores, slashes and hyphens and before an opening bracket; a
    longer run is broken where the line ends. A line break in `text` stays one.
    """
    lines = []
    for paragraph in str(text).split("\n"):
        line = ""
        for piece in re.split(r"(?<=[ _/-])|(?=\()", paragraph):
            if line and len((line + piece).rstrip()) > characters:
                lines.append(line.rstrip())
                line = ""
            line += piece
            while len(line.rstrip()) > characters:
                lines.append(line[:characters])
                line = line[characters:]
        lines.append(line.rstrip())
    if len(lines) > max_lines:
        lines = lines[:max_lines]
        lines[-1] = lines[-1][: characters - 1].rstrip(" ,(") + "…"
    return "\n".join(lines)


def _new_figure(width, height, title):
    """A figure with a title, its own Agg canvas and constrained layout; sizes in inches."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    title_characters = int(width * 10)  # ten to the inch in 12 points
    figure.suptitle(wrap_label(title, title_characters, TITLE_LINES), fontsize=12, parse_math=False)
    return figure


def _rows_inches(rows, bars):
    """The height of a figure of horizontal bars: `bars` bars and a gap for each of the rows."""
    row = (bars + 0.6) * BAR_INCHES if rows <= LONG_LIST else (bars + 0.2) * THIN_BAR_INCHES
    title_axis_and_legend = 1.6
    return title_axis_and_legend + min(rows, MAX_NAMED_ROWS) * row


def _grouped_bars(axes, series, colors, value_text):
    """Horizontal bars, rows from the top, one bar a row for each of the series.

    `series` maps a name to its values, `colors` to its colour; `value_text` turns a value into
    the text at the end of its bar. Returns the bar containers, one for each of the series.
    """
    group_share = 0.78  # of a row's height; the rest is the gap to the next group
    thickness = group_share / len(series)
    containers = []
    for index, (name, values) in enumerate(series.items()):
        known = [value is not None and math.isfinite(value) for value in values]
        widths = [value if is_known else 0 for value, is_known in zip(values, known, strict=True)]
        rows = np.arange(len(widths))
        offset = (index - (len(series) - 1) / 2) * thickness
        container = axes.barh(
            rows + offset, widths, height=0.94 * thickness, color=colors[name], label=name
        )
        if len(widths) <= MAX_NAMED_ROWS:
            texts = [
                value_text(value) if is_known else "n/a"
                for value, is_known in zip(values, known, strict=True)
            ]
            axes.bar_label(container, texts, padding=3, fontsize=SMALL_POINTS)
        containers.append(container)
    longest = max(bar.get_width() for container in containers for bar in container)
    axes.set_xlim(0, 1.2 * longest or 1)  # room for the longest bar's value
    axes.set_ylim(len(widths) - 0.5, -0.5)
    _tidy(axes, grid="x")
    axes.tick_params(axis="y", length=0)
    return containers


def _name_rows(axes, names, max_lines, points=None, forgotten=None):
    """Name the rows 0, 1, ... of `axes`, the forgotten one in bold and marked as such.

    Where there are more names than MAX_NAMED_ROWS, evenly spaced ones stand for all.
    """
    if points is None:
        points = LABEL_POINTS if len(names) <= LONG_LIST else SMALL_POINTS
    characters = LABEL_CHARACTERS if max_lines > 1 else ONE_LINE_CHARACTERS
    step = math.ceil(len(names) / MAX_NAMED_ROWS)
    rows = [row for row in range(len(names)) if row % step == 0 or row == forgotten]
    labels = []
    for row in rows:
        label = wrap_label(names[row], characters, max_lines)
        if row == forgotten:
            # The mark takes a line of its own only where the name leaves one.
            separator = "\n" if label.count("\n") + 1 < max_lines else " "
            label += f"{separator}(forgotten)"
        labels.append(label)
    axes.set_yticks(rows, labels, fontsize=points, parse_math=False)
    if forgotten is not None:
        axes.get_yticklabels()[rows.index(forgotten)].set_fontweight("bold")


def _seconds(seconds):
    return f"{seconds:,.0f} s" if seconds >= 100 else f"{seconds:.3g} s"


def _percent_axis(axes):
    axes.set_xlim(0, 112)  # room for the value beside a full bar
    axes.set_xticks(range(0, 101, 20))
    axes.xaxis.set_major_formatter(PercentFormatter(decimals=0))


def _tidy(axes, grid):
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis=grid, color="#E5E5E5", lw=0.8)
    axes.set_axisbelow(True)


def _legend_below(figure, handles, labels):
    figure.legend(
        handles,
        labels,
        loc="outside lower center",
        ncols=len(labels),
        frameon=False,
        fontsize=LABEL_POINTS,
    )


def _numbered(class_names):
    """Class names led by their numbers, which are what the commands take."""
    return [
        name if name == str(number) else f"{number} {name}"
        for number, name in enumerate(class_names)
    ]
