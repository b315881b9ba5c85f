"""Relative distances of models from Retrain: a row per model, a panel per set of images."""

from collections.abc import Iterable, Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

from utils.plots.figures import (
    BLUE,
    FORGET,
    GREY,
    LABEL_POINTS,
    PANEL_POINTS,
    SMALL_POINTS,
    legend_below,
    new_figure,
    style_axes,
)
from utils.plots.rows import LONG_LIST, MAX_NAMED_ROWS, label_rows

WIDTH = 9.5  # inches
ROW_INCHES, LONG_ROW_INCHES = 0.3, 0.21  # the second in a long list
FRAME_INCHES = 1.9  # title, axis and legend
NAME_CHARACTERS = 44  # a rank and the longest id of a method
LEGEND_COLUMNS = 4
COLORS = {"reference": BLUE, "base": GREY, "method": FORGET, "unranked": FORGET}
ROLE_NAMES = {
    "reference": "Retrain",
    "base": "base model",
    "method": "method",
    "unranked": "method without a rank",
}
LOWEST = 1e-3  # a ratio of 0 has no place on a logarithmic axis
MAX_EXCESS = 4.0  # factor by which the axis goes beyond the values to contain their intervals
MARGIN = 1.25  # factor
MAX_FINE_SPAN = 300.0  # of the axis: up to it the ticks are 1, 2, 5, 10, beyond it powers of ten


def relative_distances(panels: Mapping[str, Sequence[dict]], title: str) -> Figure:
    """Plot distances from Retrain relative to Retrain's own spread, on a logarithmic axis.

    panels: name of a set of images -> rows, dicts with name, value, low and high (its interval,
        None where there is none), role ("method", "unranked", "base" or "reference", which is
        Retrain), and optionally `marks`, further values of the row such as one per base model. A
        row whose value is None has no mark in this panel. Rows are drawn from the top, in the order
        in which the names first appear. The interval of a single reference is drawn as a band over
        all rows.
    """
    names = list(dict.fromkeys(row["name"] for rows in panels.values() for row in rows))
    row_inches = ROW_INCHES if len(names) <= LONG_LIST else LONG_ROW_INCHES
    height = FRAME_INCHES + min(len(names), MAX_NAMED_ROWS) * row_inches
    figure = new_figure(WIDTH, height, title)
    grid = figure.subplots(1, max(1, len(panels)), sharey=True, squeeze=False)[0]
    for axes, (panel, rows) in zip(grid, panels.items(), strict=False):
        _draw_panel(axes, rows, {name: place for place, name in enumerate(names)})
        axes.set_title(panel, fontsize=PANEL_POINTS, parse_math=False)
        axes.set_xlabel("1: as near as another Retrain", fontsize=LABEL_POINTS)
        axes.tick_params(axis="y", length=0)
    label_rows(grid[0], names, max_lines=1, characters=NAME_CHARACTERS)
    grid[0].set_ylim(max(1, len(names)) - 0.5, -0.5)
    handles = _legend(row for rows in panels.values() for row in rows)
    if handles:
        labels = [handle.get_label() for handle in handles]
        legend_below(figure, handles, labels, min(len(handles), LEGEND_COLUMNS))
    return figure


def _draw_panel(axes: Axes, rows: Sequence[dict], places: Mapping[str, int]) -> None:
    low, high = _limits(rows)
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    _set_ticks(axes, low, high)
    has_band = _is_single_reference(rows)
    style_axes(axes, grid="x")
    axes.axvline(1, color="black", linewidth=0.9, zorder=1)
    for row in rows:
        if row["value"] is None:
            continue
        place, color = places[row["name"]], COLORS[row["role"]]
        ends = [None if end is None else max(end, low) for end in (row["low"], row["high"])]
        if None not in ends:
            if row["role"] == "reference" and has_band:
                axes.axvspan(*ends, color=color, alpha=0.12, linewidth=0, zorder=0)
            axes.plot(ends, [place, place], color=color, linewidth=1.6, zorder=2)
        if row.get("marks"):
            others = [max(value, low) for value in row["marks"]]
            axes.plot(others, [place] * len(others), "|", color="black", markersize=6, zorder=3)
        axes.plot(max(row["value"], low), place, **_mark_style(row["role"]), zorder=4)


def _mark_style(role: str) -> dict:
    """A row without a rank has a hollow mark."""
    return {
        "marker": "*" if role == "reference" else "o",
        "markersize": 10 if role == "reference" else 6,
        "color": COLORS[role],
        "markerfacecolor": "white" if role == "unranked" else COLORS[role],
        "markeredgecolor": COLORS[role] if role == "unranked" else "black",
        "markeredgewidth": 1.2 if role == "unranked" else 0.6,
        "linestyle": "none",
    }


def _is_single_reference(rows: Iterable[dict]) -> bool:
    return len({row["name"] for row in rows if row["role"] == "reference"}) == 1


def _limits(rows: Sequence[dict]) -> tuple[float, float]:
    """Return ends of the axis that contain 1, all values, and intervals that are not too long."""
    known = [row for row in rows if row["value"] is not None]
    values = [1.0, *(row["value"] for row in known)]
    values += [value for row in known for value in row.get("marks") or ()]
    ends = [end for row in known for end in (row["low"], row["high"]) if end is not None]
    low, high = max(min(values), LOWEST), max(values)
    low = max(min([low, *ends]), low / MAX_EXCESS)
    high = min(max([high, *ends]), high * MAX_EXCESS)
    return max(low, LOWEST) / MARGIN, high * MARGIN


def _set_ticks(axes: Axes, low: float, high: float) -> None:
    steps = (1.0, 2.0, 5.0) if high / low <= MAX_FINE_SPAN else (1.0,)
    axes.xaxis.set_major_locator(LogLocator(subs=steps, numticks=20))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.tick_params(axis="x", labelsize=SMALL_POINTS)


def _legend(rows: Iterable[dict]) -> list:
    rows = [row for row in rows if row["value"] is not None]
    roles = {row["role"] for row in rows}
    handles = [
        Line2D([], [], **_mark_style(role), label=name)
        for role, name in ROLE_NAMES.items()
        if role in roles
    ]
    with_interval = {row["role"] for row in rows if row["low"] is not None}
    if "reference" in with_interval and _is_single_reference(rows):
        handles.append(Patch(color=BLUE, alpha=0.12, label="range of the Retrains"))
    if with_interval - {"reference"}:
        handles.append(Line2D([], [], color=FORGET, linewidth=1.6, label="95% interval"))
    if any(row.get("marks") for row in rows):
        handles.append(
            Line2D([], [], color="black", marker="|", linestyle="none", label="one base model")
        )
    return handles
