"""All pictures are small files with legible labels."""

import numpy as np
import pytest

from tests.helpers.pictures import check_labels, check_png
from tests.utils.plots.plot_data import CLASS_NAMES, HISTORY, ROWS
from utils.plots.bars import (
    class_counts,
    forgotten_destinations,
    method_comparison,
    saliency_by_layer,
)
from utils.plots.confusion import confusion_matrix
from utils.plots.curves import training_curves


def all_figures(class_names):
    """One of each picture, for as many classes as there are names."""
    count = len(class_names)
    confusion = np.eye(count, dtype=int) * 12345
    percent = np.full(count, 100 / count)
    layers = [f"layer{index}.0.downsample.0.weight" for index in range(count)]
    return {
        "training_curves": training_curves(HISTORY * count, "model"),
        "confusion_matrix": confusion_matrix(confusion, class_names, "model", forgotten=[1]),
        "destinations": forgotten_destinations(percent, percent, class_names, [1], "model"),
        "destinations_of_one": forgotten_destinations(None, percent, class_names, [1], "model"),
        "method_comparison": method_comparison(ROWS * count, "models"),
        "saliency_by_layer": saliency_by_layer(layers, percent, percent, "mask"),
        "class_counts": class_counts(
            {"train": percent, "val": percent, "test": percent}, class_names, "data"
        ),
    }


@pytest.mark.parametrize("count", [2, 14])  # in between they are no larger
def test_pictures_are_small_and_drawn_without_warnings(count):
    for name, figure in all_figures((CLASS_NAMES * count)[:count]).items():
        check_png(name, figure)


@pytest.mark.parametrize("count", [2, 8, 14])
def test_labels_do_not_overlap_and_stay_inside(count):
    for name, figure in all_figures((CLASS_NAMES * count)[:count]).items():
        check_labels(name, figure)


def test_figures_stay_out_of_pyplot():
    import matplotlib.pyplot as plt

    before = plt.get_fignums()
    all_figures(CLASS_NAMES)
    assert plt.get_fignums() == before
