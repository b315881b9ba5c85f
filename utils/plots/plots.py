"""Pictures of data, of training and of what a model does, as functions that return a Figure.

All accuracies and shares are percents, 0 to 100.
"""

import math

import numpy as np
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator, PercentFormatter, StrMethodFormatter

from utils.plots.figures import (
    BEFORE,
    BLUE,
    FAINT,
    FORGET,
    GREY,
    LABEL_POINTS,
    ORANGE,
    PANEL_POINTS,
    REDDISH_PURPLE,
    RETAIN,
    RIGHT,
    SKY_BLUE,
    SMALL_POINTS,
    TEST,
    WIDTH_INCHES,
    WRONG,
    legend_below,
    new_figure,
    numbered,
    tidy,
    wrap_label,
)

SPLIT_COLORS = (BLUE, ORANGE, SKY_BLUE, REDDISH_PURPLE)  # train, val, test, one of the user's own

LABEL_CHARACTERS = 26  # of a line of a name that has several, beside its bars
ONE_LINE_CHARACTERS = 34
BAR_INCHES = 0.19  # thick enough for its value in SMALL_POINTS
THIN_BAR_INCHES = 0.15  # the same without air, for long lists
LONG_LIST = 20  # rows; a longer list is set tighter
MAX_NAMED_ROWS = 100  # a longer list would be taller than a page: only some rows keep their names
CELL_INCHES = 0.52  # of a confusion matrix: room for a count of five digits
TIGHT_CELL_INCHES = 0.44  # the same without air, where several matrices share a picture
FULL_SIZE_CLASSES = 12  # with more, the cells shrink so that the matrix keeps to a page
MAX_NUMBERED_CLASSES = 20  # with more, counts no longer fit the cells
MAX_MARKED_EPOCHS = 30  # with more, markers hide the curve


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
    figure = new_figure(WIDTH_INCHES, 3.4, title)
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
        tidy(axes, grid="y")
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


def confusion_matrix(counts, class_names, title, forgotten=()):
    """Which class the images of each class were taken for.

    `counts` is (K, K) ints, rows the true and columns the predicted classes. A cell is coloured
    by its share of its row and bears its count, unless there are too many classes for numbers.
    `forgotten` are the classes to mark.
    """
    return confusion_matrices({"": counts}, class_names, title, forgotten)


def confusion_matrices(counts_by_panel, class_names, title, forgotten=()):
    """The confusion matrices of several models side by side: panel title -> (K, K) ints."""
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
        image = _draw_confusion(axes, np.asarray(counts), class_names, side, forgotten)
        if axes is not panels[0]:
            axes.tick_params(labelleft=False)
    panels[0].set_ylabel("true class")
    bar = figure.colorbar(image, ax=panels, shrink=0.8, format=PercentFormatter(decimals=0))
    bar.set_label("share of the true class", fontsize=LABEL_POINTS)
    bar.ax.tick_params(labelsize=SMALL_POINTS)
    bar.outline.set_visible(False)
    return figure


def _draw_confusion(axes, counts, class_names, side, forgotten):
    """Cells, counts, names and the marks of the forgotten classes, on axes `side` inches wide."""
    class_count = len(class_names)
    row_sums = counts.sum(axis=1, keepdims=True)
    percent = 100 * counts / np.maximum(row_sums, 1)  # a class with no image stays at 0
    cell_points = 72 * side / class_count
    name_points = min(LABEL_POINTS, 0.55 * cell_points)  # one line, and air around it
    count_points = min(LABEL_POINTS, 0.3 * cell_points)  # five digits are 3.2 times as wide as this
    image = axes.imshow(percent, cmap="Blues", vmin=0, vmax=100)

    names = numbered(class_names)
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
    figure = new_figure(WIDTH_INCHES, _rows_inches(len(class_names), len(values)), title)
    axes = figure.subplots()
    colors = dict(zip(values, (RIGHT, WRONG), strict=True))
    containers = _grouped_bars(axes, values, colors, "{:.1f}%".format)
    _name_rows(axes, numbered(class_names), max_lines=len(values))
    _percent_axis(axes)
    axes.set_xlabel("images")
    axes.set_ylabel("finding")
    legend_below(figure, containers, list(values))
    return figure


def forgotten_destinations(share_before, share_after, class_names, forgotten, title):
    """What the images to be forgotten are taken for now, and were before.

    `share_before` and `share_after` are (K,) percents of these images, one for each predicted
    class; `share_before` is None where there is only one model to show. `forgotten` are the classes
    to mark, none if single images of any class are to be forgotten.
    """
    series = {} if share_before is None else {"base model": share_before}
    series["unlearned model"] = share_after
    colors = {"base model": BEFORE, "unlearned model": RETAIN}
    bars = len(series)
    figure = new_figure(WIDTH_INCHES, _rows_inches(len(class_names), bars), title)
    axes = figure.subplots()
    containers = _grouped_bars(axes, series, colors, "{:.1f}%".format)
    _name_rows(axes, numbered(class_names), max_lines=bars, forgotten=forgotten)
    for number in forgotten:
        containers[-1][number].set_facecolor(FORGET)
    _percent_axis(axes)
    one = len(forgotten) == 1
    which = f"of class {forgotten[0]}" if one else "to be forgotten"
    axes.set_xlabel(f"share of the images {which} that each class receives")
    axes.set_ylabel("predicted class")
    if share_before is not None:
        marked = "still right" if one else "a forgotten class"
        bars = {"base model": BEFORE, f"unlearned model, {marked}": FORGET}
        bars |= {"unlearned model, elsewhere": RETAIN}
        if not forgotten:
            bars = colors
        handles = [Rectangle((0, 0), 1, 1, color=color) for color in bars.values()]
        legend_below(figure, handles, list(bars))
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
    figure = new_figure(WIDTH_INCHES + 2, _rows_inches(len(rows), len(series)), title)
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
    legend_below(figure, containers, list(series))
    return figure


def saliency_by_layer(names, kept_percent, title):
    """How much of each layer's weights the mask lets change.

    `names` and `kept_percent` have one entry a layer, first layer first; `kept_percent` is the
    percent of that layer's weights inside the mask.
    """
    figure = new_figure(WIDTH_INCHES, _rows_inches(len(names), 1), title)
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
    figure = new_figure(WIDTH_INCHES, height, title)
    axes = figure.subplots()
    containers = _grouped_bars(axes, counts_per_split, colors, "{:,.0f}".format)
    _name_rows(axes, numbered(class_names), max_lines=len(counts_per_split))
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.set_xlabel("images")
    axes.set_ylabel("class")
    legend_below(figure, containers, list(counts_per_split))
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
    tidy(axes, grid="x")
    axes.tick_params(axis="y", length=0)
    return containers


def _name_rows(axes, names, max_lines, points=None, forgotten=()):
    """Name the rows 0, 1, ... of `axes`, the forgotten ones in bold and marked as such.

    Where there are more names than MAX_NAMED_ROWS, evenly spaced ones stand for all.
    """
    if points is None:
        points = LABEL_POINTS if len(names) <= LONG_LIST else SMALL_POINTS
    characters = LABEL_CHARACTERS if max_lines > 1 else ONE_LINE_CHARACTERS
    step = math.ceil(len(names) / MAX_NAMED_ROWS)
    rows = [row for row in range(len(names)) if row % step == 0 or row in forgotten]
    labels = []
    for row in rows:
        label = wrap_label(names[row], characters, max_lines)
        if row in forgotten:
            # The mark takes a line of its own only where the name leaves one.
            separator = "\n" if label.count("\n") + 1 < max_lines else " "
            label += f"{separator}(forgotten)"
        labels.append(label)
    axes.set_yticks(rows, labels, fontsize=points, parse_math=False)
    for number in forgotten:
        axes.get_yticklabels()[rows.index(number)].set_fontweight("bold")


def _seconds(seconds):
    return f"{seconds:,.0f} s" if seconds >= 100 else f"{seconds:.3g} s"


def _percent_axis(axes):
    axes.set_xlim(0, 112)  # room for the value beside a full bar
    axes.set_xticks(range(0, 101, 20))
    axes.xaxis.set_major_formatter(PercentFormatter(decimals=0))
