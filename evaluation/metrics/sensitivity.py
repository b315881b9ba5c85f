"""Sensitivity and specificity of each class on test images, and the worst of the kept classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from evaluation.figure import Figure, undefined
from evaluation.measure import Measure, Row
from evaluation.outputs import class_members
from evaluation.statistics import wilson_proportion

if TYPE_CHECKING:
    from evaluation.audit import Context


@dataclass(frozen=True)
class ClassRates:
    """sensitivity: fraction of the class's images that are recognised; specificity: of the other
    images, the fraction that is not assigned to the class. Both 0 to 1."""

    sensitivity: Figure
    specificity: Figure


def compute(context: Context) -> dict[str, Figure]:
    """Return the rates of each class and of the kept classes for any model, Figures by key."""
    test = context.outputs["test"]
    num_classes = test.logits.shape[1]
    kept = context.request.kept_classes(num_classes)
    rates = class_rates(test.predictions(), test.labels.numpy(), num_classes)
    figures = {}
    for number, rate in enumerate(rates):
        figures[f"class_{number}_sensitivity_percent"] = rate.sensitivity.times(100)
        figures[f"class_{number}_specificity_percent"] = rate.specificity.times(100)
    worst, number = worst_sensitivity(rates, kept)
    figures["worst_sensitivity_percent"] = worst.times(100)
    if number is not None:
        figures["worst_sensitivity_class"] = Figure(number)
    figures["sensitivity_spread_points"] = sensitivity_spread(rates, kept).times(100)
    return figures


def class_rates(predicted: np.ndarray, labels: np.ndarray, num_classes: int) -> list[ClassRates]:
    """Return the ClassRates of each class, one against the rest.

    Both: (N,) int, or (N, K) of 0 and 1 for multi-label data, where each finding is judged alone.
    """
    rates = []
    for number in range(num_classes):
        found, truth = class_members(predicted, number), class_members(labels, number)
        sensitivity = wilson_proportion(found[truth], "no image of the class")
        specificity = wilson_proportion(~found[~truth], "no image of another class")
        rates.append(ClassRates(sensitivity, specificity))
    return rates


def worst_sensitivity(
    rates: Sequence[ClassRates], kept: Sequence[int]
) -> tuple[Figure, int | None]:
    """Return (the lowest sensitivity of the classes `kept`, the class or None)."""
    defined = _defined_sensitivities(rates, kept)
    if not defined:
        return undefined("no image of a kept class"), None
    worst = min(defined, key=lambda number: defined[number].value)
    return defined[worst], worst


def sensitivity_spread(rates: Sequence[ClassRates], kept: Sequence[int]) -> Figure:
    """Return the highest minus the lowest sensitivity of the classes `kept`, 0 to 1."""
    values = [figure.value for figure in _defined_sensitivities(rates, kept).values()]
    if len(values) < 2:
        return undefined("fewer than two kept classes with images")
    return Figure(max(values) - min(values))


def _defined_sensitivities(rates, kept):
    figures = {number: rates[number].sensitivity for number in kept}
    return {number: figure for number, figure in figures.items() if figure.is_defined}


MEASURE = Measure(
    name="sensitivity and specificity",
    group="safety",
    explanation="The sensitivity is the percentage of a class's images that are recognised, the "
    "specificity that of the other images which are not assigned to it.",
    compute=compute,
    rows=(
        Row("class_{class}_sensitivity_percent", "{class}: sensitivity"),
        Row("class_{class}_specificity_percent", "  specificity"),
        Row("worst_sensitivity_percent", "worst sensitivity of a kept class"),
        Row("worst_sensitivity_class", "  which class"),
        Row("sensitivity_spread_points", "spread between kept classes, points"),
    ),
)
