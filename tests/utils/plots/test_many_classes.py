"""Pictures of thousands of classes have few artists and labels that do not overlap."""

import numpy as np
import pytest

from tests.helpers.pictures import check_labels
from utils.plots.bars import (
    MAX_SINGLE_BARS,
    class_counts,
    finding_errors,
    forgotten_destinations,
)
from utils.plots.confusion import MAX_NAMED_CLASSES, confusion_matrix
from utils.plots.figures import FORGET
from utils.plots.viewer import key_help

FEW, MANY = 1000, 3000


def pictures(count):
    names = [f"tissue {number}" for number in range(count)]
    values = np.arange(count) % 90
    return {
        "counts": class_counts({"train": values, "val": values, "test": values}, names, "data"),
        "confusion": confusion_matrix(np.eye(count, dtype=int), names, "model", forgotten=[7]),
        "destinations": forgotten_destinations(values, values, names, [7], "model"),
        "errors": finding_errors(np.ones((count, 2, 2), int), names, "model"),
    }


def test_the_number_of_artists_does_not_grow_with_the_classes():
    few, many = pictures(FEW), pictures(MANY)
    for name, figure in many.items():
        artists = len(figure.findobj())
        assert artists < 1000, name
        assert artists <= 1.2 * len(few[name].findobj()), name


@pytest.mark.parametrize("name", ["counts", "confusion", "destinations", "errors"])
def test_labels_do_not_overlap(name):
    check_labels(name, pictures(FEW)[name])


def test_bars_of_many_classes_have_the_values():
    values = np.arange(MAX_SINGLE_BARS + 1)
    names = [str(number) for number in values]
    axes = forgotten_destinations(values, values[::-1], names, [5], "model").axes[0]
    before, after, marked = (patch.get_data() for patch in axes.patches)
    assert before.values[::2].tolist() == values.tolist()
    assert set(before.values[1::2]) == {0}  # the gaps between bars
    np.testing.assert_allclose(np.diff(before.edges)[::2], 0.39)  # half of a group of 0.78
    expected = values[::-1].copy()
    expected[5] = 0
    assert after.values[::2].tolist() == expected.tolist()
    assert marked.values.tolist() == [MAX_SINGLE_BARS - 5]
    assert axes.patches[2].get_facecolor() == pytest.approx(_rgba(FORGET))


def _rgba(color):
    return (*(int(color[start : start + 2], 16) / 255 for start in (1, 3, 5)), 1)


def test_forgotten_classes_are_named_first():
    names = [f"tissue {number}" for number in range(FEW)]
    counts = np.eye(FEW, dtype=int)
    axes = confusion_matrix(counts, names, "model", forgotten=[3, 501]).axes[0]
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert len(labels) <= MAX_NAMED_CLASSES
    assert "3 tissue 3 (forgotten)" in labels and "501 tissue 501 (forgotten)" in labels
    assert "0 tissue 0" not in labels and "500 tissue 500" not in labels  # too close
    assert "25 tissue 25" not in labels and "50 tissue 50" in labels


def test_key_help_lists_the_classes_with_keys():
    lines = key_help([f"tissue {number}" for number in range(FEW)]).splitlines()
    assert len(lines) < 30
    assert any("classes 22 to 999" in line for line in lines)
