"""Forgetting against utility, a mark a method: what a comparison comes to at a glance."""

import math

from utils.figures import BLUE, FORGET, GREY, LABEL_POINTS, SMALL_POINTS, new_figure, tidy

WIDTH, HEIGHT = 9.5, 5.5  # inches; higher where the list of methods is long
LINES_AN_INCH = 6.5  # of that list
SMALLEST, LARGEST = 25, 500  # areas of marks, in square points
YARDSTICK, NOTHING = BLUE, GREY


def forgetting_against_utility(rows, title):
    """`rows`: dicts with name, role ("yardstick", "base" or "method"), forgetting, utility (both in
    percent) and seconds, which may be None. A row that lacks forgetting or utility is left out.
    """
    rows = [row for row in rows if row["forgetting"] is not None and row["utility"] is not None]
    figure = new_figure(WIDTH, max(HEIGHT, 1.5 + len(rows) / LINES_AN_INCH), title)
    axes, names = figure.subplots(1, 2, width_ratios=(2.6, 1))
    longest = max((row["seconds"] or 0 for row in rows), default=0) or 1
    colors = {"yardstick": YARDSTICK, "base": NOTHING, "method": FORGET}
    for row in rows:
        area = SMALLEST + (LARGEST - SMALLEST) * (row["seconds"] or 0) / longest
        axes.scatter(
            row["forgetting"],
            row["utility"],
            s=area,
            color=colors[row["role"]],
            marker="*" if row["role"] == "yardstick" else "o",
            alpha=0.65,
            edgecolors="black",
            linewidths=0.6,
            zorder=3,
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


def _number(axes, rows):
    """A number beside each mark; numbers of marks that lie together share one place."""
    spans = (
        [
            max(1e-9, max(values) - min(values))
            for values in ([row[key] for row in rows] for key in ("forgetting", "utility"))
        ]
        if rows
        else []
    )
    placed = []  # (x, y, numbers)
    for number, row in enumerate(rows, 1):
        point = row["forgetting"], row["utility"]
        near = next(
            (
                place
                for place in placed
                if math.dist(*(((p[0]) / spans[0], p[1] / spans[1]) for p in (place, point))) < 0.02
            ),
            None,
        )
        if near:
            near[2].append(number)
        else:
            placed.append((*point, [number]))
    for x, y, numbers in placed:
        text = _runs(numbers)
        axes.annotate(
            text,
            (x, y),
            xytext=(7, 5),
            textcoords="offset points",
            fontsize=SMALL_POINTS,
            zorder=4,
        )


def _runs(numbers):
    """`1, 3-5, 9`; where there are many, the first of them and how many more."""
    runs = []
    for number in numbers:
        if runs and runs[-1][-1] == number - 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)


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
