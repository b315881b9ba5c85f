"""Paired test of memory: how far each model is from the Retrains, in nats."""

from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from utils.plots.figures import (
    BLUE,
    FORGET,
    GREY,
    LABEL_POINTS,
    legend_below,
    new_figure,
    style_axes,
)
from utils.plots.rows import label_rows

WIDTH, ROW_INCHES, FRAME_INCHES = 8.0, 0.34, 1.9  # inches; the last is title, axis and legend
COLORS = {"reference": BLUE, "base": GREY, "method": FORGET}
NAMES = {"base": "base model", "method": "tested model", "reference": "Retrain against the others"}


def memory_differences(rows: Sequence[dict], band: float, title: str) -> Figure:
    """Plot the difference in differences of margins of each model, in nats.

    rows: dicts with name, value and role ("method", "base" or "reference", which is a Retrain),
        drawn from the top. band: half width of the interval around 0 that holds 95% of Retrains.
    """
    figure = new_figure(WIDTH, FRAME_INCHES + len(rows) * ROW_INCHES, title)
    axes = figure.subplots()
    style_axes(axes, grid="x")
    axes.axvspan(-band, band, color=BLUE, alpha=0.12, linewidth=0, zorder=0)
    axes.axvline(0, color="black", linewidth=0.9, zorder=1)
    for place, row in enumerate(rows):
        axes.plot(row["value"], place, **_mark(row["role"]), zorder=3)
    label_rows(axes, [row["name"] for row in rows], max_lines=1)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel(
        "margin of the forgotten images beyond that of unseen ones, less Retrain's (nats)\n"
        "left of the band: conspicuously unknown; right of it: still known",
        fontsize=LABEL_POINTS,
    )
    roles = {row["role"] for row in rows}
    handles = [Line2D([], [], **_mark(role), label=NAMES[role]) for role in NAMES if role in roles]
    handles.append(Patch(color=BLUE, alpha=0.12, label="95% of further Retrains"))
    legend_below(figure, handles, [handle.get_label() for handle in handles], len(handles))
    return figure


def _mark(role: str) -> dict:
    return {
        "marker": "*" if role == "reference" else "o",
        "markersize": 11 if role == "reference" else 8,
        "color": COLORS[role],
        "markeredgecolor": "black",
        "markeredgewidth": 0.6,
        "linestyle": "none",
    }
