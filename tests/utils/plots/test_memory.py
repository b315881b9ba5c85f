"""The picture of the paired test: places of marks, the band of the Retrains."""

from tests.helpers.pictures import check_labels, check_png, legend_texts
from utils.plots.memory import memory_differences

ROWS = [
    {"name": "base model", "value": 1.7, "role": "base"},
    {"name": "this model", "value": -0.4, "role": "method"},
    {"name": "Retrain, seed 1", "value": 0.1, "role": "reference"},
    {"name": "Retrain, seed 2", "value": -0.1, "role": "reference"},
]


def test_marks_have_the_places_of_the_values():
    figure = memory_differences(ROWS, 0.5, "title")
    (axes,) = figure.axes
    lines = [line for line in axes.lines if line.get_marker() in ("o", "*")]
    places = [(float(line.get_xdata()[0]), float(line.get_ydata()[0])) for line in lines]
    assert places == [(row["value"], place) for place, row in enumerate(ROWS)]
    (band,) = axes.patches
    assert (band.get_x(), band.get_x() + band.get_width()) == (-0.5, 0.5)
    assert [text.get_text() for text in axes.get_yticklabels()] == [row["name"] for row in ROWS]
    assert "95% of further Retrains" in legend_texts(figure)


def test_it_is_legible():
    figure = memory_differences(ROWS, 0.5, "model\n12 listed images forgotten: paired test")
    check_png("memory", figure)
    check_labels("memory", figure)
