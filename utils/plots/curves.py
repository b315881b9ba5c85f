"""Loss and accuracy over the epochs of a training run."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from utils.plots.figures import (
    LIGHT_GREY,
    ORANGE,
    RETAIN,
    SMALL_POINTS,
    WIDTH_INCHES,
    legend_below,
    new_figure,
    style_axes,
)

SPLIT_STYLES = {"train": (RETAIN, "-", "o"), "val": (ORANGE, "--", "s")}  # color, line, marker
MAX_MARKED_EPOCHS = 30  # with more, markers hide the curve
MARKER_POINTS, SINGLE_MARKER_POINTS = 3.5, 7  # the latter where there is no line


def training_curves(
    history: Sequence[dict[str, float]], title: str, best_epoch: int | None = None
) -> Figure:
    """Plot training and validation loss and accuracy by epoch, and mark the best epoch.

    history: one dict per epoch: train_loss, val_loss, train_accuracy_percent and
        val_accuracy_percent. The points of a single epoch are labelled with their values.
    best_epoch: counted from 1; by default the first with the highest validation accuracy.

    Raises ValueError for an empty history.
    """
    if not history:
        raise ValueError("no epoch to plot: the history is empty")
    if best_epoch is None:
        best_epoch = 1 + max(
            range(len(history)), key=lambda index: history[index]["val_accuracy_percent"]
        )
    best_accuracy = history[best_epoch - 1]["val_accuracy_percent"]
    figure = new_figure(WIDTH_INCHES, 3.6, title)
    loss_axes, accuracy_axes = figure.subplots(1, 2)
    curves = _draw_splits(loss_axes, history, "loss", "{:.3f}")
    _draw_splits(accuracy_axes, history, "accuracy_percent", "{:.2f}%")
    loss_axes.set_ylabel("loss")
    accuracy_axes.set_ylabel("accuracy (%)")
    for axes in (loss_axes, accuracy_axes):
        axes.axvline(best_epoch, color=LIGHT_GREY, lw=1, zorder=0)
        axes.set_xlabel("epoch")
        axes.set_xlim(0.5, len(history) + 0.5)  # a single epoch too gets an axis of whole numbers
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        style_axes(axes, grid="y")
    curves += accuracy_axes.plot(
        best_epoch,
        best_accuracy,
        ls="",
        marker="*",
        markersize=18 if len(history) == 1 else 12,  # around the marker of a single epoch
        color="black",
        zorder=1 if len(history) == 1 else 3,
        label=f"best: epoch {best_epoch}, {best_accuracy:.2f}%",
    )
    legend_below(figure, curves, [curve.get_label() for curve in curves])
    return figure


def _draw_splits(axes: Axes, history: Sequence[dict], quantity: str, value_format: str) -> list:
    single = len(history) == 1
    curves = []
    for split, (color, line_style, marker) in SPLIT_STYLES.items():
        values = [epoch[f"{split}_{quantity}"] for epoch in history]
        curves += axes.plot(
            range(1, len(history) + 1),
            values,
            color=color,
            ls="" if single else line_style,
            marker=marker if len(history) <= MAX_MARKED_EPOCHS else None,
            markersize=SINGLE_MARKER_POINTS if single else MARKER_POINTS,
            label=split,
        )
        if single:
            axes.annotate(
                f"{split} {value_format.format(values[0])}",
                (1, values[0]),
                xytext=(9, 0) if split == "train" else (-9, 0),  # close values stay apart
                textcoords="offset points",
                ha="left" if split == "train" else "right",
                va="center",
                fontsize=SMALL_POINTS,
            )
    return curves
