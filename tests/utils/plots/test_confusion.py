"""Confusion matrices show the counts."""

import numpy as np
import pytest
from matplotlib.colors import to_hex

from tests.utils.plots.plot_data import CLASS_NAMES
from utils.plots.confusion import MAX_NUMBERED_CLASSES, confusion_matrix
from utils.plots.figures import FORGET

COUNTS = np.array([[90, 10, 0], [5, 0, 1200], [0, 0, 0]])


def test_confusion_matrix_shows_counts_and_percentages_of_rows():
    figure = confusion_matrix(COUNTS, CLASS_NAMES, "model", forgotten=[1])
    axes = figure.axes[0]
    assert {
        (round(text.get_position()[1]), round(text.get_position()[0])): int(text.get_text())
        for text in axes.texts
    } == dict(np.ndenumerate(COUNTS))
    percent = axes.images[0].get_array()
    assert percent[0].tolist() == [90, 10, 0]
    assert percent[1].sum() == pytest.approx(100)
    assert percent[2].tolist() == [0, 0, 0]  # no image, no division by zero
    assert axes.images[0].get_clim() == (0, 100)


def test_confusion_matrix_marks_the_forgotten_class():
    axes = confusion_matrix(COUNTS, CLASS_NAMES, "model", forgotten=[0]).axes[0]
    (frame,) = axes.patches
    assert to_hex(frame.get_edgecolor()) == FORGET.lower()
    assert (frame.get_x(), frame.get_y(), frame.get_width()) == (-0.5, -0.5, 3)
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels[0] == "0 basophil\n(forgotten)" and "forgotten" not in labels[1]
    assert not confusion_matrix(COUNTS, CLASS_NAMES, "model").axes[0].patches


def test_confusion_matrix_of_many_classes_has_no_numbers():
    count = MAX_NUMBERED_CLASSES + 1
    counts, names = np.eye(count, dtype=int), [str(number) for number in range(count)]
    axes = confusion_matrix(counts, names, "model", forgotten=[2]).axes[0]
    assert not axes.texts
    assert [label.get_text() for label in axes.get_xticklabels()] == names
