"""Rates of classes are computed by hand; worst and spread are of kept classes only."""

import numpy as np
import pytest

from evaluation.figure import Figure
from evaluation.metrics.sensitivity import (
    class_rates,
    compute,
    sensitivity_spread,
    worst_sensitivity,
)
from evaluation.statistics import wilson_proportion
from tests.evaluation.contexts import certain_outputs, make_context, random_predictions
from unlearn.request.request import ForgetRequest

REQUEST = ForgetRequest((1,))
KEPT = [0, 2, 3]
LABELS = np.array([0, 0, 0, 0, 1, 1, 1, 2])
PREDICTED = np.array([0, 0, 0, 1, 1, 0, 2, 2])


def figures_of(predicted, labels):
    outputs = {"test": certain_outputs(predicted, labels, REQUEST)}
    return compute(make_context(REQUEST, outputs))


def test_rates_by_hand():
    rates = class_rates(PREDICTED, LABELS, 4)
    assert [rate.sensitivity.value for rate in rates] == [3 / 4, 1 / 3, 1, None]
    assert [rate.specificity.value for rate in rates] == [3 / 4, 4 / 5, 6 / 7, 1]
    assert rates[3].sensitivity.why_undefined == "no image of the class"
    assert rates[0].sensitivity == wilson_proportion(np.array([True, True, True, False]), "")
    alone = class_rates(np.zeros(3, dtype=int), np.zeros(3, dtype=int), 2)
    assert alone[0].specificity.why_undefined == "no image of another class"


def test_findings_have_the_rates_of_their_one_hot_classes():
    rows = np.eye(4, dtype=int)
    assert class_rates(rows[PREDICTED], rows[LABELS], 4) == class_rates(PREDICTED, LABELS, 4)
    labels, predicted = np.array([[1, 1], [1, 0], [0, 0]]), np.array([[1, 0], [0, 0], [1, 1]])
    rates = class_rates(predicted, labels, 2)
    assert [rate.sensitivity.value for rate in rates] == [1 / 2, 0]
    assert [rate.specificity.value for rate in rates] == [0, 1 / 2]


def test_worst_and_spread_look_at_kept_classes_only():
    rates = class_rates(PREDICTED, LABELS, 4)
    assert worst_sensitivity(rates, [0, 1, 2, 3]) == (rates[1].sensitivity, 1)
    assert worst_sensitivity(rates, [0, 2]) == (rates[0].sensitivity, 0)
    assert sensitivity_spread(rates, [0, 1, 2, 3]) == Figure(1 - 1 / 3)
    assert sensitivity_spread(rates, [0, 2, 3]) == Figure(1 / 4)


def test_without_images_there_is_no_worst_and_no_spread():
    rates = class_rates(PREDICTED, LABELS, 4)
    worst, number = worst_sensitivity(rates, [3])
    assert (worst.is_defined, number) == (False, None)
    assert not sensitivity_spread(rates, [0, 3]).is_defined


def test_equal_rates_have_no_spread():
    assert sensitivity_spread(class_rates(LABELS, LABELS, 3), range(3)) == Figure(0)


def test_rates_are_of_all_classes_and_worst_and_spread_of_kept_ones():
    labels = [0, 0, 1, 1, 2, 2, 2, 2, 3]
    predicted = [0, 0, 0, 0, 2, 2, 2, 1, 3]
    figures = figures_of(predicted, labels)
    for number, rate in enumerate(class_rates(np.array(predicted), np.array(labels), 4)):
        assert figures[f"class_{number}_sensitivity_percent"] == rate.sensitivity.times(100)
        assert figures[f"class_{number}_specificity_percent"] == rate.specificity.times(100)
    assert figures["class_1_sensitivity_percent"].value == 0
    assert figures["worst_sensitivity_percent"].value == 75
    assert figures["worst_sensitivity_class"] == Figure(2)
    assert figures["sensitivity_spread_points"].value == 25


def test_rates_of_findings():
    predicted, labels = random_predictions(0, multi_label=True)
    sensitivities = [predicted[labels[:, n] == 1, n].mean() for n in KEPT]
    figures = figures_of(predicted, labels)
    assert figures["worst_sensitivity_percent"].value == pytest.approx(100 * min(sensitivities))
