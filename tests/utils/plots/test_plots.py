"""Every picture shows the numbers that it was given."""

import math

import numpy as np
import pytest
from matplotlib.colors import to_hex

from tests.helpers.pictures import check_labels, check_png, legend_texts
from utils.plots import plots

CLASS_NAMES = ["basophil", "immature granulocytes(myelocytes, metamyelocytes)", "a$b$"]
COUNTS = np.array([[90, 10, 0], [5, 0, 1200], [0, 0, 0]])
HISTORY = [
    {
        "train_loss": 2.0 / epoch,
        "val_loss": 2.5 / epoch,
        "train_accuracy_percent": 50.0 + epoch,
        "val_accuracy_percent": accuracy,
    }
    for epoch, accuracy in enumerate([40.0, 70.0, 60.0, 70.0], start=1)
]
ROWS = [
    {
        "name": "base",
        "unlearn_accuracy_percent": 0.25,
        "remaining_accuracy_percent": 99.93,
        "test_accuracy_percent": 98.42,
        "seconds": None,
    },
    {
        "name": "blood_best_FORGOTTEN_3_RL_WITH_SALUN_mask5_unlearnEpochs5_unlearnlr001",
        "unlearn_accuracy_percent": 66.04,
        "remaining_accuracy_percent": 99.82,
        "test_accuracy_percent": math.nan,
        "seconds": 10436.2,
    },
]


def all_figures(class_names):
    """One of each picture, for as many classes as there are names."""
    count = len(class_names)
    confusion = np.eye(count, dtype=int) * 12345
    percent = np.full(count, 100 / count)
    layers = [f"layer{index}.0.downsample.0.weight" for index in range(count)]
    return {
        "training_curves": plots.training_curves(HISTORY * count, "model"),
        "confusion_matrix": plots.confusion_matrix(confusion, class_names, "model", forgotten=[1]),
        "destinations": plots.forgotten_destinations(percent, percent, class_names, [1], "model"),
        "destinations_of_one": plots.forgotten_destinations(
            None, percent, class_names, [1], "model"
        ),
        "method_comparison": plots.method_comparison(ROWS * count, "models"),
        "saliency_by_layer": plots.saliency_by_layer(layers, percent, "mask"),
        "class_counts": plots.class_counts(
            {"train": percent, "val": percent, "test": percent}, class_names, "data"
        ),
    }


def bar_widths(container):
    return [bar.get_width() for bar in container]


def texts_of(axes):
    return [text.get_text() for text in axes.texts]


def test_training_curves_are_the_history():
    figure = plots.training_curves(HISTORY, "model")
    loss, accuracy = figure.axes
    for axes, quantity in ((loss, "loss"), (accuracy, "accuracy_percent")):
        curves = {line.get_label(): line for line in axes.get_lines()}
        for split in ("train", "val"):
            assert list(curves[split].get_xdata()) == [1, 2, 3, 4]
            assert list(curves[split].get_ydata()) == [
                row[f"{split}_{quantity}"] for row in HISTORY
            ]
    best = next(line for line in accuracy.get_lines() if line.get_label().startswith("best"))
    assert best.get_label() == "best: epoch 2, 70.00%"  # the first of the two equal ones
    assert (best.get_xdata()[0], best.get_ydata()[0]) == (2, 70.0)


def test_training_curves_take_the_best_epoch_and_a_lone_epoch():
    labels = [
        line.get_label()
        for line in plots.training_curves(HISTORY, "model", best_epoch=3).axes[1].get_lines()
    ]
    assert "best: epoch 3, 60.00%" in labels
    axes = plots.training_curves(HISTORY[:1], "model").axes[0]
    left, right = axes.get_xlim()
    assert [tick for tick in axes.get_xticks() if left <= tick <= right] == [1]
    with pytest.raises(ValueError, match="empty"):
        plots.training_curves([], "model")


def test_confusion_matrix_shows_counts_and_shares_of_rows():
    figure = plots.confusion_matrix(COUNTS, CLASS_NAMES, "model", forgotten=[1])
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
    axes = plots.confusion_matrix(COUNTS, CLASS_NAMES, "model", forgotten=[0]).axes[0]
    (frame,) = axes.patches
    assert to_hex(frame.get_edgecolor()) == plots.FORGET.lower()
    assert (frame.get_x(), frame.get_y(), frame.get_width()) == (-0.5, -0.5, 3)
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels[0] == "0 basophil\n(forgotten)" and "forgotten" not in labels[1]
    assert not plots.confusion_matrix(COUNTS, CLASS_NAMES, "model").axes[0].patches


def test_confusion_matrix_of_many_classes_has_no_numbers():
    count = plots.MAX_NUMBERED_CLASSES + 1
    counts, names = np.eye(count, dtype=int), [str(number) for number in range(count)]
    axes = plots.confusion_matrix(counts, names, "model", forgotten=[2]).axes[0]
    assert not axes.texts
    assert [label.get_text() for label in axes.get_xticklabels()] == names


def test_destinations_before_and_after():
    before, after = [1.0, 98.0, 1.0], [60.5, 28.2, 11.3]
    figure = plots.forgotten_destinations(before, after, CLASS_NAMES, [1], "where class 1 went")
    axes = figure.axes[0]
    base, unlearned = axes.containers
    assert bar_widths(base) == before and bar_widths(unlearned) == after
    assert texts_of(axes) == ["1.0%", "98.0%", "1.0%", "60.5%", "28.2%", "11.3%"]
    colors = [to_hex(bar.get_facecolor()).upper() for bar in unlearned]
    assert colors == [plots.RETAIN, plots.FORGET, plots.RETAIN]
    assert len(figure.legends) == 1


def test_destinations_of_one_model():
    figure = plots.forgotten_destinations(None, [60, 30, 10], CLASS_NAMES, [1], "title")
    (bars,) = figure.axes[0].containers
    assert bar_widths(bars) == [60, 30, 10]
    assert figure.axes[0].get_yticklabels()[1].get_text().endswith("(forgotten)")


def test_method_comparison_shows_accuracies_and_seconds():
    figure = plots.method_comparison(ROWS, "models")
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
    axes = plots.method_comparison(ROWS, "models").axes[0]
    bottom, top = axes.get_ylim()
    assert bottom > top
    tops = [container[0].get_y() for container in axes.containers]
    assert tops == sorted(tops)


def test_saliency_by_layer():
    axes = plots.saliency_by_layer(["conv1", "layer1.0.conv1", "fc"], [10, 50, 100], "mask").axes[0]
    assert bar_widths(axes.containers[0]) == [10, 50, 100]
    assert texts_of(axes) == ["10.0%", "50.0%", "100.0%"]
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        "conv1",
        "layer1.0.conv1",
        "fc",
    ]


def test_very_many_layers_keep_every_bar_and_some_names():
    names = [f"layer {index}" for index in range(3 * plots.MAX_NAMED_ROWS)]
    figure = plots.saliency_by_layer(names, np.arange(len(names)) / 10, "mask")
    axes = figure.axes[0]
    assert bar_widths(axes.containers[0]) == list(np.arange(len(names)) / 10)
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == names[::3] and not axes.texts


def test_class_counts():
    counts = {"train": [1200, 0, 7], "val": [10, 20, 30], "test": [4, 5, 6]}
    figure = plots.class_counts(counts, CLASS_NAMES, "data")
    axes = figure.axes[0]
    assert [bar_widths(container) for container in axes.containers] == list(counts.values())
    assert texts_of(axes)[:3] == ["1,200", "0", "7"]
    assert legend_texts(figure) == list(counts)
    assert len({to_hex(container[0].get_facecolor()) for container in axes.containers}) == 3


def test_splits_without_an_image():
    axes = plots.class_counts({"train": [0, 0, 0]}, CLASS_NAMES, "data").axes[0]
    assert bar_widths(axes.containers[0]) == [0, 0, 0]


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
