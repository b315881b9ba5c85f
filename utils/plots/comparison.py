"""Forgetting against utility: one mark per method."""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import AutoLocator

from utils.plots.figures import (
    BLUE,
    FORGET,
    GREY,
    LABEL_POINTS,
    SMALL_POINTS,
    new_figure,
    style_axes,
)
from utils.plots.fonts import drawable

WIDTH, HEIGHT = 9.5, 5.5  # inches; higher where the list of methods is long
LINES_PER_INCH = 6.5  # of that list
MIN_AREA, MAX_AREA = 25, 500  # of marks, in square points
RETRAIN_COLOR, BASE_COLOR = BLUE, GREY
MIN_DISTANCE = 0.025  # of the axes: closer marks share one label


class PercentLocator(AutoLocator):
    """Matplotlib's usual ticks, without those that no percentage can have in the margins."""

    def tick_values(self, vmin: float, vmax: float) -> np.ndarray:
        """Return the places of the ticks for these ends of the axis."""
        ticks = super().tick_values(vmin, vmax)
        return ticks[(ticks >= 0) & (ticks <= 100)]


def forgetting_against_utility(rows: Sequence[dict], title: str) -> Figure:
    """Plot the utility of each method against how well it forgot; the area of a mark is its time.

    rows: dicts with name, role ("reference", "base" or "method"), forgetting and utility (both in
        percent), seconds, which may be None, and optionally `spreads`, the standard deviations of
        forgetting and utility over seeds. A row without forgetting or utility is left out.
    """
    rows = [row for row in rows if row["forgetting"] is not None and row["utility"] is not None]
    figure = new_figure(WIDTH, max(HEIGHT, 1.5 + len(rows) / LINES_PER_INCH), title)
    axes, names = figure.subplots(1, 2, width_ratios=(2.6, 1))
    longest = max((row["seconds"] or 0 for row in rows), default=0) or 1
    colors = {"reference": RETRAIN_COLOR, "base": BASE_COLOR, "method": FORGET}
    for row in rows:
        area = MIN_AREA + (MAX_AREA - MIN_AREA) * (row["seconds"] or 0) / longest
        _draw_error_bars(axes, row)
        axes.scatter(
            row["forgetting"],
            row["utility"],
            s=area,
            color=colors[row["role"]],
            marker="*" if row["role"] == "reference" else "o",
            alpha=0.65 if row["role"] == "method" else 1,
            edgecolors="black",
            linewidths=0.6,
            zorder=5 if row["role"] == "reference" else 3,
        )
    _write_numbers(axes, rows)
    retrain = next((row for row in rows if row["role"] == "reference"), None)
    if retrain:
        axes.axvline(retrain["forgetting"], color=RETRAIN_COLOR, linewidth=0.8, linestyle=":")
        axes.axhline(retrain["utility"], color=RETRAIN_COLOR, linewidth=0.8, linestyle=":")
    axes.set_xlabel("unlearn accuracy (%): forgotten training images not recognised")
    axes.set_ylabel("test accuracy (%)")
    axes.margins(0.08)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(PercentLocator())
    axes.ticklabel_format(useOffset=False)
    style_axes(axes, "both")
    _list_names(names, rows, longest)
    return figure


def _draw_error_bars(axes: Axes, row: dict) -> None:
    """Draw the standard deviations over seeds behind the mark, where there are several seeds."""
    horizontal, vertical = row.get("spreads") or (None, None)
    if horizontal is not None or vertical is not None:
        axes.errorbar(
            row["forgetting"],
            row["utility"],
            xerr=horizontal,
            yerr=vertical,
            color=GREY,
            linewidth=0.8,
            zorder=2,
        )


def _write_numbers(axes: Axes, rows: Sequence[dict]) -> None:
    """Write each row's number next to its mark; marks that are close together share one label."""
    labels: list[tuple] = []  # (point scaled to 0 .. 1, numbers)
    for number, point in enumerate(_scaled_points(rows), 1):
        close = next((each for each in labels if math.dist(each[0], point) < MIN_DISTANCE), None)
        if close:
            close[1].append(number)
        else:
            labels.append((point, [number]))
    for _, numbers in labels:
        row = rows[numbers[0] - 1]
        axes.annotate(
            format_ranges(numbers),
            (row["forgetting"], row["utility"]),
            xytext=(7, 5),
            textcoords="offset points",
            fontsize=SMALL_POINTS,
            zorder=6,
        )


def _scaled_points(rows: Sequence[dict]) -> list[tuple[float, float]]:
    columns = []
    for key in ("forgetting", "utility"):
        values = [row[key] for row in rows]
        low, span = min(values, default=0), max(values, default=0) - min(values, default=0)
        columns.append([(value - low) / (span or 1) for value in values])
    return list(zip(*columns, strict=True))


def format_ranges(numbers: Sequence[int]) -> str:
    """Return ascending whole numbers as text such as `1, 3-5, 9`."""
    ranges: list[list[int]] = []
    for number in numbers:
        if ranges and ranges[-1][-1] == number - 1:
            ranges[-1].append(number)
        else:
            ranges.append([number])
    return ", ".join(f"{each[0]}-{each[-1]}" if len(each) > 1 else str(each[0]) for each in ranges)


def _list_names(axes: Axes, rows: Sequence[dict], longest: float) -> None:
    axes.set_axis_off()
    lines = [f"{number:>2}  {drawable(row['name'])}" for number, row in enumerate(rows, 1)]
    lines += ["", "star: Retrain; grey: base model", f"largest mark: {longest:,.0f} s"]
    axes.text(
        0,
        1,
        "\n".join(lines),
        va="top",
        fontsize=LABEL_POINTS - 1,
        family="monospace",
        transform=axes.transAxes,
    )
