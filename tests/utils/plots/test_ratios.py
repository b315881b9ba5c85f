"""The picture of relative distances: places of marks, intervals, the band of the Retrains."""

import numpy as np
import pytest

from tests.helpers.pictures import check_labels, check_png, legend_texts
from utils.plots.ratios import relative_distances


def row(name, value, low=None, high=None, role="method", **more):
    return {"name": name, "value": value, "low": low, "high": high, "role": role, **more}


FORGET = [
    row("Retrain", 1.0, 0.8, 1.3, "reference"),
    row("1 (1-2) FT", 1.5, 1.1, 2.2),
    row("2 (1-3) SCRUB_R", 2.6, 1.9, 3.5),
    row("GA", 8.7, 5.0, 14.0, "unranked"),
    row("base model", 21.0, 15.0, 30.0, "base"),
]
PANELS = {"forget set": FORGET, "test set": [row("1 (1-2) FT", 2.0), row("GA", None)]}


def marks(axes):
    """(x, y) of the mark of each row."""
    lines = [line for line in axes.lines if line.get_marker() in "o*"]
    return [(float(line.get_xdata()[0]), float(line.get_ydata()[0])) for line in lines]


def test_marks_and_intervals_have_the_places_of_the_values():
    forget, test = relative_distances(PANELS, "title").axes
    assert marks(forget) == [(each["value"], place) for place, each in enumerate(FORGET)]
    assert marks(test) == [(2.0, 1.0)]
    intervals = [
        line.get_xdata()
        for line in forget.lines
        if len(set(line.get_ydata())) == 1
        and len(line.get_xdata()) == 2
        and line.get_marker() == "None"
    ]
    np.testing.assert_allclose(intervals, [(each["low"], each["high"]) for each in FORGET])
    (band,) = forget.patches
    assert (band.get_x(), band.get_x() + band.get_width()) == pytest.approx((0.8, 1.3))
    assert not test.patches
    labels = [label.get_text() for label in forget.get_yticklabels()]
    assert labels == [each["name"] for each in FORGET]


def test_several_references_have_intervals_and_no_band():
    rows = [row(f"Retrain, seed {seed}", seed, 0.5, 4, "reference") for seed in (1, 2)]
    figure = relative_distances({"forget set": [*rows, row("FT", 3.0, 1.0, 5.0)]}, "title")
    (axes,) = figure.axes
    assert not axes.patches
    assert marks(axes) == [(1, 0), (2, 1), (3, 2)]
    assert legend_texts(figure) == ["Retrain", "method", "95% interval"]


def test_the_axis_is_logarithmic_and_contains_all_values_but_not_endless_intervals():
    rows = [row("A", 3.0, 0.9, 1e9), row("B", 0.0, 0.0, 1.0)]
    (axes,) = relative_distances({"forget set": rows}, "title").axes
    low, high = axes.get_xlim()
    assert axes.get_xscale() == "log"
    assert 0 < low < 1e-3 and 3 < high < 30
    assert marks(axes)[1][0] == pytest.approx(low)


def test_the_legend_explains_what_is_drawn():
    expected = ["Retrain", "base model", "method", "method without a rank"]
    assert legend_texts(relative_distances(PANELS, "title")) == [
        *expected,
        "range of the Retrains",
        "95% interval",
    ]
    alone = {"forget set": [row("FT", 2.0, marks=[1.5, 2.5])]}
    assert legend_texts(relative_distances(alone, "title")) == ["method", "one base model"]


@pytest.mark.parametrize("count", [0, 3, 46])
def test_any_number_of_rows_is_legible(count):
    rows = [row(f"{n} (1-46) SomeMethodName_with_SalUn", 1.1**n, 1.0, 1.2**n) for n in range(count)]
    figure = relative_distances({"forget set": rows, "test set": rows}, "model\nclass 3 forgotten")
    check_png("ratios", figure)
    check_labels("ratios", figure)
