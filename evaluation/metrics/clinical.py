"""Clinical safety: what each class's patients lose, what mistakes cost, and what got worse.

Predictions and labels are (N,) int, or (N, K) of 0 and 1 for multi-label data, where each finding
is judged by itself. Shares are 0 to 1.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest, norm

from evaluation.figure import Figure, undefined

SIGNIFICANCE = 0.05  # chance of any warning at all when nothing got worse
DEVIATIONS_95 = norm.ppf(0.975)  # of a normal variable, on either side


@dataclass(frozen=True)
class ClassRates:
    """sensitivity: share of the class's images that are recognised; specificity: of the others."""

    sensitivity: Figure
    specificity: Figure


@dataclass(frozen=True)
class Worsening:
    """lost, gained: images of the class that only the model before, or only the one after, knew.

    negatives: it is the images without the finding, of multi-label data. p_value: McNemar's,
    one-sided, after Holm's correction over all that was tested with it.
    """

    class_index: int
    lost: int
    gained: int
    p_value: float
    negatives: bool = False

    @property
    def is_significant(self):
        return self.p_value <= SIGNIFICANCE


def members(classes, number):
    """(N,) bool: which images are of class `number`, or have that finding."""
    return classes == number if classes.ndim == 1 else classes[:, number] == 1


def wilson_proportion(right, why_if_empty):
    """Share of True in `right`, (n,) or (n, K), with its 95% score interval (Wilson 1927).

    The interval counts images, not findings: those of one image are not independent. A share of an
    image's findings varies no more than a yes or no of the same mean, so the interval of (n, K) is
    on the wide side.
    """
    count = len(right)
    if count == 0:
        return undefined(why_if_empty)
    value = float(np.mean(right))
    weight = DEVIATIONS_95**2 / count
    middle = (value + weight / 2) / (1 + weight)
    half = math.sqrt(weight * (value * (1 - value) + weight / 4)) / (1 + weight)
    # by rounding alone an end could miss a value of 0 or 1
    return Figure(value, max(0.0, min(value, middle - half)), min(1.0, max(value, middle + half)))


def class_rates(predicted, labels, num_classes):
    """A list of ClassRates, one a class, each class against the rest."""
    rates = []
    for number in range(num_classes):
        found, truth = members(predicted, number), members(labels, number)
        sensitivity = wilson_proportion(found[truth], "no image of the class")
        specificity = wilson_proportion(~found[~truth], "no image of another class")
        rates.append(ClassRates(sensitivity, specificity))
    return rates


def worst_sensitivity(rates, kept):
    """(lowest sensitivity of the classes `kept`, a list of class indices; its class or None)."""
    defined = _defined_sensitivities(rates, kept)
    if not defined:
        return undefined("no image of a kept class"), None
    worst = min(defined, key=lambda number: defined[number].value)
    return defined[worst], worst


def sensitivity_spread(rates, kept):
    """Highest less lowest sensitivity of the classes `kept`, a list of class indices."""
    values = [figure.value for figure in _defined_sensitivities(rates, kept).values()]
    if len(values) < 2:
        return undefined("fewer than two kept classes with images")
    return Figure(max(values) - min(values))


def expected_cost(predicted, labels, costs):
    """Mean over images of costs[truth, predicted]; costs: (K, K) float. Single-label only."""
    if len(labels) == 0:
        return undefined("no images")
    return Figure(float(costs[labels, predicted].mean()))


def significantly_worse(right_before, right_after, labels, kept):
    """A list of Worsening, one for each class of `kept` that has an image.

    right_before, right_after: (N,) bool, or (N, K) for multi-label data: what two models got right
    of the same images. A class is tested on its own images; a finding on the images that have it,
    and on those that don't, because a model that sees it everywhere loses none of the former.

    McNemar's exact test (McNemar 1947): of the images that only one of the models knew, as many
    should be lost as gained if nothing changed. It is one-sided because the question is "worse?":
    a class that improved deserves no warning, and all of the error that is allowed goes into
    finding losses. Holm's correction (Holm 1979) then holds for the warnings together: when
    nothing changed, the chance that any class is significant is at most SIGNIFICANCE.
    """
    tested = []
    for number in kept:
        own = members(labels, number)
        sides = {False: own} if labels.ndim == 1 else {False: own, True: ~own}
        for negatives, images in sides.items():
            if images.any():
                before, after = (
                    right[images] if labels.ndim == 1 else right[images, number]
                    for right in (right_before, right_after)
                )
                lost, gained = int((before & ~after).sum()), int((~before & after).sum())
                tested.append((number, lost, gained, negatives))
    p_values = holm([_mcnemar(lost, gained) for _, lost, gained, _ in tested])
    return [
        Worsening(number, lost, gained, p_value, negatives)
        for (number, lost, gained, negatives), p_value in zip(tested, p_values, strict=True)
    ]


def holm(p_values):
    """The p-values, in their order, after the step-down correction of Holm (1979); at most 1."""
    p_values = np.asarray(p_values, dtype=float)
    order = np.argsort(p_values)
    steps = p_values[order] * np.arange(len(p_values), 0, -1)
    adjusted = np.empty_like(p_values)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1)
    return adjusted.tolist()


def _mcnemar(lost, gained):
    if lost + gained == 0:
        return 1.0
    return binomtest(lost, lost + gained, 0.5, alternative="greater").pvalue


def _defined_sensitivities(rates, kept):
    figures = {number: rates[number].sensitivity for number in kept}
    return {number: figure for number, figure in figures.items() if figure.is_defined}
