"""Confidence intervals and tests that several measures use."""

import math
import statistics
from collections.abc import Sequence

import numpy as np
from scipy.stats import binomtest, norm
from scipy.stats import t as t_distribution

from evaluation.figure import Figure, undefined

TAIL = 0.025  # on either side of a 95% interval
DEVIATIONS_95 = norm.ppf(1 - TAIL)  # standard deviations on either side of a 95% interval


def percentile_interval(drawn: np.ndarray) -> tuple[float, float]:
    """Return the 95% interval of a bootstrap: the percentiles of (B,) resampled figures."""
    low, high = np.percentile(drawn, [100 * TAIL, 100 * (1 - TAIL)])
    return float(low), float(high)


def mean_with_interval(values: Sequence[float]) -> Figure:
    """Return the mean of independent values, two at least, with Student's 95% interval."""
    count, mean = len(values), statistics.mean(values)
    half = float(t_distribution.ppf(1 - TAIL, count - 1)) * statistics.stdev(values) / count**0.5
    return Figure(mean, mean - half, mean + half)


def wilson_proportion(correct: np.ndarray, why_if_empty: str) -> Figure:
    """Return the proportion of True, 0 to 1, with its 95% score interval (Wilson 1927).

    correct: (n,) or (n, K) bool. The interval counts images, not findings, because the findings of
    one image are not independent. The proportion of an image's findings varies no more than a
    single finding of the same mean, so the interval of (n, K) is conservative.
    """
    count = len(correct)
    if count == 0:
        return undefined(why_if_empty)
    value = float(np.mean(correct))
    weight = DEVIATIONS_95**2 / count
    middle = (value + weight / 2) / (1 + weight)
    half = math.sqrt(weight * (value * (1 - value) + weight / 4)) / (1 + weight)
    # by rounding alone an end could miss a value of 0 or 1
    return Figure(value, max(0.0, min(value, middle - half)), min(1.0, max(value, middle + half)))


def mcnemar(lost: int, gained: int) -> float:
    """Return the one-sided p-value of McNemar's exact test (McNemar 1947).

    lost, gained: images that only the first, or only the second, of two models predicts correctly.
    If nothing changed, an image is as likely to be lost as to be gained.
    """
    if lost + gained == 0:
        return 1.0
    return binomtest(lost, lost + gained, 0.5, alternative="greater").pvalue


def holm(p_values: list[float]) -> list[float]:
    """Return the p-values, in their order, after the step-down correction of Holm (1979)."""
    p_values = np.asarray(p_values, dtype=float)
    order = np.argsort(p_values)
    steps = p_values[order] * np.arange(len(p_values), 0, -1)
    adjusted = np.empty_like(p_values)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1)
    return adjusted.tolist()
