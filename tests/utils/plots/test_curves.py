"""Training curves show the history."""

import pytest

from tests.utils.plots.plot_data import HISTORY
from utils.plots.curves import training_curves


def test_training_curves_are_the_history():
    figure = training_curves(HISTORY, "model")
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
        for line in training_curves(HISTORY, "model", best_epoch=3).axes[1].get_lines()
    ]
    assert "best: epoch 3, 60.00%" in labels
    axes = training_curves(HISTORY[:1], "model").axes[0]
    left, right = axes.get_xlim()
    assert [tick for tick in axes.get_xticks() if left <= tick <= right] == [1]
    with pytest.raises(ValueError, match="empty"):
        training_curves([], "model")
