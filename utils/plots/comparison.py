"""Forgetting against utility, a mark a method: what a comparison comes to at a glance."""

import math

from utils.plots.figures import BLUE, FORGET, GREY, LABEL_POINTS, SMALL_POINTS, new_figure, tidy

WIDTH, HEIGHT = 9.5, 5.5  # inches; higher where the list of methods is long
LINES_AN_INCH = 6.5  # of that list
SMALLEST, LARGEST = 25, 500  # areas of marks, in square points
YARDSTICK, NOTHING = BLUE, GREY
TOGETHER = 0.025  # of the axes: marks that are nearer share a number


def forgetting_against_utility(rows, title):
    """`rows`: dicts with name, role ("yardstick", "base" or "method"), forgetting, utility (both in
    percent) and seconds, which may be None; `spreads`, if there, the standard deviations of both
    over seeds. A row that lacks forgetting or utility is left out.
    """
    rows = [row for row in rows if row["forgetting"] is not None and row["utility"] is not None]
    figure = new_figure(WIDTH, max(HEIGHT, 1.5 + len(rows) / LINES_AN_INCH), title)
    axes, names = figure.subplots(1, 2, width_ratios=(2.6, 1))
    longest = max((row["seconds"] or 0 for row in rows), default=0) or 1
    colors = {"yardstick": YARDSTICK, "base": NOTHING, "method": FORGET}
    for row in rows:
        area = SMALLEST + (LARGEST - SMALLEST) * (row["seconds"] or 0) / longest
        _bars(axes, row)
        axes.scatter(
            row["forgetting"],
            row["utility"],
            s=area,
            color=colors[row["role"]],
            marker="*" if row["role"] == "yardstick" else "o",
            alpha=0.65 if row["role"] == "method" else 1,
            edgecolors="black",
            linewidths=0.6,
            zorder=5 if row["role"] == "yardstick" else 3,
        )
    _number(axes, rows)
    yardstick = next((row for row in rows if row["role"] == "yardstick"), None)
    if yardstick:
        axes.axvline(yardstick["forgetting"], color=YARDSTICK, linewidth=0.8, linestyle=":")
        axes.axhline(yardstick["utility"], color=YARDSTICK, linewidth=0.8, linestyle=":")
    axes.set_xlabel("unlearn accuracy (%): forgotten training images not recognised")
    axes.set_ylabel("test accuracy (%): what the model still does")
    axes.margins(0.08)
    tidy(axes, "both")
    _list_names(names, rows, longest)
    return figure


def _bars(axes, row):
    """The standard deviations over seeds as a cross behind the mark, where there are several."""
    across, upright = row.get("spreads") or (None, None)
    if across is not None or upright is not None:
        axes.errorbar(
            row["forgetting"],
            row["utility"],
            xerr=across,
            yerr=upright,
            color=GREY,
            linewidth=0.8,
            zorder=2,
        )


def _number(axes, rows):
    """A number beside each mark; marks that lie together share one place."""
    places = []  # [point, numbers], points as shares of the span
    for number, point in enumerate(_scaled(rows), 1):
        near = next((each for each in places if math.dist(each[0], point) < TOGETHER), None)
        if near:
            near[1].append(number)
        else:
            places.append([point, [number]])
    for _, numbers in places:
        row = rows[numbers[0] - 1]
        axes.annotate(
            runs(numbers),
            (row["forgetting"], row["utility"]),
            xytext=(7, 5),
            textcoords="offset points",
            fontsize=SMALL_POINTS,
            zorder=6,
        )


def _scaled(rows):
    """Points of the rows, 0 to 1 each way."""
    columns = []
    for key in ("forgetting", "utility"):
        values = [row[key] for row in rows]
        low, span = min(values, default=0), max(values, default=0) - min(values, default=0)
        columns.append([(value - low) / (span or 1) for value in values])
    return list(zip(*columns, strict=True))


def runs(numbers):
    """`1, 3-5, 9` of ascending whole numbers."""
    found = []
    for number in numbers:
        if found and found[-1][-1] == number - 1:
            found[-1].append(number)
        else:
            found.append([number])
    return ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in found)


def _list_names(axes, rows, longest):
    axes.set_axis_off()
    lines = [f"{number:>2}  {row['name']}" for number, row in enumerate(rows, 1)]
    lines += ["", "star: Retrain; grey: nothing done", f"largest mark: {longest:,.0f} s"]
    axes.text(
        0,
        1,
        "\n".join(lines),
        va="top",
        fontsize=LABEL_POINTS - 1,
        family="monospace",
        transform=axes.transAxes,
    )
