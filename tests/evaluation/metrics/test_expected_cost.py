"""The expected cost is that of a loop over images."""

import numpy as np
import pytest

from evaluation.metrics.expected_cost import compute, expected_cost
from tests.evaluation.contexts import certain_outputs, make_context, random_predictions
from unlearn.request.request import ForgetRequest

REQUEST = ForgetRequest((1,))
COSTS = np.array([[0.0, 1, 2, 3], [9, 0, 9, 9], [4, 5, 0, 6], [7, 8, 9, 0]])


def figures_of(predicted, labels, costs=COSTS):
    outputs = {"test": certain_outputs(predicted, labels, REQUEST)}
    return compute(make_context(REQUEST, outputs, costs=costs))


def test_expected_cost_by_a_loop():
    rng = np.random.default_rng(0)
    costs, labels, predicted = rng.random((5, 5)), *rng.integers(5, size=(2, 100))
    total = 0
    for truth, guess in zip(labels, predicted, strict=True):
        total += costs[truth, guess]
    assert expected_cost(predicted, labels, costs).value == pytest.approx(total / 100)
    misses_cost_ten = np.array([[0, 1], [10, 0]])
    assert expected_cost(np.array([1, 0]), np.array([0, 1]), misses_cost_ten).value == 5.5


def test_no_images_have_no_cost():
    nothing = np.zeros(0, dtype=int)
    assert expected_cost(nothing, nothing, COSTS).why_undefined == "no images"


@pytest.mark.parametrize("seed", range(3))
def test_costs_are_of_all_images_and_of_those_of_kept_classes(seed):
    predicted, labels = random_predictions(seed)
    kept = labels != 1
    figures = figures_of(predicted, labels)
    assert figures["expected_cost"] == expected_cost(predicted[kept], labels[kept], COSTS)
    assert figures["expected_cost_all_classes"] == expected_cost(predicted, labels, COSTS)
    # predictions for images of the forgotten class cost nothing for the kept ones
    changed = np.where(kept, predicted, 3)
    again = figures_of(changed, labels)
    assert again["expected_cost"] == figures["expected_cost"]
    assert again["expected_cost_all_classes"] == expected_cost(changed, labels, COSTS)
    assert again["expected_cost_all_classes"] != figures["expected_cost_all_classes"]


def test_without_a_cost_matrix_there_are_no_figures():
    assert figures_of(*random_predictions(0), costs=None) == {}
