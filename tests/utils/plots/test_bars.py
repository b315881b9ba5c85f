"""Bar charts show the values."""

import numpy as np
from matplotlib.colors import to_hex

from tests.helpers.pictures import legend_texts
from tests.utils.plots.plot_data import CLASS_NAMES, ROWS
from utils.plots.bars import (
    class_counts,
    forgotten_destinations,
    method_comparison,
    saliency_by_layer,
)
from utils.plots.figures import FORGET, RETAIN
from utils.plots.rows import MAX_NAMED_ROWS


def bar_widths(container):
    return [bar.get_width() for bar in container]


def texts_of(axes):
    return [text.get_text() for text in axes.texts]


def test_destinations_before_and_after():
    before, after = [1.0, 98.0, 1.0], [60.5, 28.2, 11.3]
    figure = forgotten_destinations(before, after, CLASS_NAMES, [1], "where class 1 went")
    axes = figure.axes[0]
    base, unlearned = axes.containers
    assert bar_widths(base) == before and bar_widths(unlearned) == after
    assert texts_of(axes) == ["1.0%", "98.0%", "1.0%", "60.5%", "28.2%", "11.3%"]
    colors = [to_hex(bar.get_facecolor()).upper() for bar in unlearned]
    assert colors == [RETAIN, FORGET, RETAIN]
    assert len(figure.legends) == 1


def test_destinations_of_one_model():
    figure = forgotten_destinations(None, [60, 30, 10], CLASS_NAMES, [1], "title")
    (bars,) = figure.axes[0].containers
    assert bar_widths(bars) == [60, 30, 10]
    assert figure.axes[0].get_yticklabels()[1].get_text().endswith("(forgotten)")


def test_method_comparison_shows_accuracies_and_seconds():
    figure = method_comparison(ROWS, "models")
    left, right = figure.axes
    unlearn, remaining, test = left.containers
    assert bar_widths(unlearn) == [0.25, 66.04]
    assert bar_widths(remaining) == [99.93, 99.82]
    assert bar_widths(test) == [98.42, 0]
    assert texts_of(left) == ["0.25%", "66.04%", "99.93%", "99.82%", "98.42%", "n/a"]
    assert bar_widths(right.containers[0]) == [0, 10436.2]
    assert texts_of(right) == ["n/a", "10,436 s"]
    names = [label.get_text().replace("\n", "") for label in left.get_yticklabels()]
    assert names == [row["name"] for row in ROWS]  # wrapped, not cut
    assert legend_texts(figure) == ["Unlearn Accuracy", "Remaining Accuracy", "Test Accuracy"]


def test_bars_run_from_the_top_in_the_order_given():
    axes = method_comparison(ROWS, "models").axes[0]
    bottom, top = axes.get_ylim()
    assert bottom > top
    tops = [container[0].get_y() for container in axes.containers]
    assert tops == sorted(tops)


def test_saliency_by_layer():
    names = ["conv1", "layer1.0.conv1", "fc"]
    figure = saliency_by_layer(names, [10, 50, 100], [0, 88.9, 2], "mask")
    axes = figure.axes[0]
    assert [bar_widths(each) for each in axes.containers] == [[10, 50, 100], [0, 88.9, 2]]
    assert texts_of(axes) == ["10.0%", "50.0%", "100.0%", "0.0%", "88.9%", "2.0%"]
    assert [label.get_text() for label in axes.get_yticklabels()] == names
    assert legend_texts(figure) == ["inside the mask", "no gradient (saliency 0)"]


def test_a_mask_whose_zeros_are_unknown_has_one_bar_per_layer():
    figure = saliency_by_layer(["conv1", "fc"], [10, 50], None, "mask")
    assert [bar_widths(each) for each in figure.axes[0].containers] == [[10, 50]]
    assert legend_texts(figure) == ["inside the mask"]


def test_very_many_layers_keep_every_bar_and_some_names():
    names = [f"layer {index}" for index in range(3 * MAX_NAMED_ROWS)]
    percent = np.arange(len(names)) / 10
    figure = saliency_by_layer(names, percent, percent, "mask")
    axes = figure.axes[0]
    assert [bar_widths(each) for each in axes.containers] == [list(percent)] * 2
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == names[::3] and not axes.texts


def test_class_counts():
    counts = {"train": [1200, 0, 7], "val": [10, 20, 30], "test": [4, 5, 6]}
    figure = class_counts(counts, CLASS_NAMES, "data")
    axes = figure.axes[0]
    assert [bar_widths(container) for container in axes.containers] == list(counts.values())
    assert texts_of(axes)[:3] == ["1,200", "0", "7"]
    assert legend_texts(figure) == list(counts)
    assert len({to_hex(container[0].get_facecolor()) for container in axes.containers}) == 3


def test_splits_without_an_image():
    axes = class_counts({"train": [0, 0, 0]}, CLASS_NAMES, "data").axes[0]
    assert bar_widths(axes.containers[0]) == [0, 0, 0]
