"""The picture of a comparison: positions, sizes and labels of marks."""

import numpy as np
import pytest

from utils.plots.comparison import MAX_AREA, MIN_AREA, forgetting_against_utility, format_ranges
from utils.plots.figures import png_bytes


def row(name, forgetting, utility, seconds=None, role="method"):
    return {
        "name": name,
        "forgetting": forgetting,
        "utility": utility,
        "seconds": seconds,
        "role": role,
    }


ROWS = [
    row("Retrain", 100.0, 70.0, 40.0, "reference"),
    row("FT", 99.9, 70.1, 10.0),
    row("GA", 60.0, 50.0, 20.0),
    row("base model", 0.0, 71.0, None, "base"),
]


def marks(figure):
    collections = figure.axes[0].collections
    return [(*part.get_offsets()[0], part.get_sizes()[0]) for part in collections]


def test_marks_have_the_position_and_the_size_of_the_values():
    figure = forgetting_against_utility(ROWS, "title")
    areas = [MIN_AREA + share * (MAX_AREA - MIN_AREA) for share in (1, 0.25, 0.5, 0)]
    expected = [
        (*(r[key] for key in ("forgetting", "utility")), a)
        for r, a in zip(ROWS, areas, strict=True)
    ]
    np.testing.assert_allclose(marks(figure), expected)
    colors = [part.get_facecolor()[0][:3].tolist() for part in figure.axes[0].collections]
    assert colors[1] == colors[2] and len({tuple(color) for color in colors}) == 3


def test_marks_that_are_close_share_a_label():
    figure = forgetting_against_utility(ROWS, "title")
    assert [text.get_text() for text in figure.axes[0].texts] == ["1-2", "3", "4"]
    listed = figure.axes[1].texts[0].get_text()
    assert [f"{n:>2}  {r['name']}" in listed for n, r in enumerate(ROWS, 1)] == [True] * 4
    assert "40 s" in listed


def test_rows_without_values_are_left_out():
    figure = forgetting_against_utility([*ROWS, row("RL", None, 50.0), row("X", 1.0, None)], "t")
    assert len(marks(figure)) == len(ROWS)
    assert "RL" not in figure.axes[1].texts[0].get_text()


@pytest.mark.parametrize("rows", [[], ROWS[:1], [row(str(n), n, n, 1.0) for n in range(45)]])
def test_any_number_of_rows_can_be_drawn(rows):
    assert png_bytes(forgetting_against_utility(rows, "title")).startswith(b"\x89PNG")


@pytest.mark.parametrize("value", [0.0, 100.0])
def test_no_tick_is_outside_of_0_to_100_percent(value):
    rows = [row(name, value, other) for name, other in (("A", value), ("B", 50.0))]
    axes = forgetting_against_utility(rows, "title").axes[0]
    for axis in (axes.xaxis, axes.yaxis):
        ticks = axis.get_majorticklocs()
        assert len(ticks) > 1 and min(ticks) >= 0 and max(ticks) <= 100


def test_format_ranges():
    assert format_ranges([1, 2, 3, 5, 8, 9]) == "1-3, 5, 8-9"
    assert format_ranges([4]) == "4"
