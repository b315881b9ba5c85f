"""Ranks with intervals: methods that cannot be distinguished share a rank.

Method A is surely better than B if the 95% interval of the difference of the logarithms of their
distances excludes 0. With K methods, the rank of one is 1 + the number of surely better ones, and
its interval reaches from there to K - the number of surely worse ones (Klein, Wright and Wieczorek,
"A joint confidence region for an overall ranking of populations", J. R. Stat. Soc. C 2020). Each
pair is compared at 5%; the interval of a rank is not simultaneous for all methods.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import t

from evaluation.statistics import TAIL, percentile_interval

SMALLEST = 1e-12  # in place of a distance of 0, which has no logarithm


@dataclass(frozen=True)
class Rank:
    """A rank from 1, and the lowest and the highest that it may be; None without an interval."""

    value: int
    low: int | None = None
    high: int | None = None

    def __str__(self):
        if self.low is None or self.low == self.high:
            return str(self.value)
        return f"{self.value} ({self.low}-{self.high})"


@dataclass(frozen=True)
class Estimate:
    """The mean distance of a method from the Retrains.

    value: observed. drawn: (B,), over bootstrap resamples of the images that are the same for all
    methods. low, high: interval by the method's models and the Retrains alone. ratio: to the
    distance of the Retrains from each other, or to the floor in its place.
    """

    value: float
    drawn: np.ndarray
    low: float
    high: float
    ratio: float


def interval_of_difference(first: Estimate, second: Estimate) -> tuple[float, float]:
    """Return the 95% interval of log(first) - log(second).

    Three sources add up as squares of half widths (Zou and Donner, Stat. Med. 2008): the images, by
    a paired bootstrap, and the models of either method. The distance of the Retrains from each
    other cancels out.
    """
    value = _log(first.value) - _log(second.value)
    drawn = _log(first.drawn) - _log(second.drawn)
    images = percentile_interval(drawn)
    first_low, first_high = _half_widths(first)
    second_low, second_high = _half_widths(second)
    low = math.hypot(max(0.0, value - images[0]), first_low, second_high)
    high = math.hypot(max(0.0, images[1] - value), first_high, second_low)
    return value - low, value + high


def better_by_images(estimates: Sequence[Estimate], floored: bool) -> np.ndarray:
    """Return the (K, K) bool matrix of which method is surely better than which.

    floored: whether the Retrains differ by less than the floor: then methods with a ratio of at
    most 1 are no distance from them, and none of these is better than another.
    """
    count = len(estimates)
    better = np.zeros((count, count), bool)
    for i, first in enumerate(estimates):
        for j, second in enumerate(estimates):
            alike = floored and max(first.ratio, second.ratio) <= 1
            better[i, j] = i != j and not alike and interval_of_difference(first, second)[1] < 0
    return better


def better_by_base_models(values: Sequence[Sequence[float | None]]) -> np.ndarray:
    """Return the (K, K) bool matrix of which method is surely better than which.

    values: for each of K methods its figure on each base model, None where it is missing; smaller
    is better. By Student's paired interval over the base models that both have, two at least.
    """
    table = np.array([[math.nan if v is None else v for v in each] for each in values], float)
    count = len(table)
    better = np.zeros((count, count), bool)
    for i in range(count):
        for j in range(count):
            differences = table[i] - table[j]
            differences = differences[np.isfinite(differences)]
            if i == j or len(differences) < 2:
                continue
            error = differences.std(ddof=1) / math.sqrt(len(differences))
            half = t.ppf(1 - TAIL, len(differences) - 1) * error
            better[i, j] = differences.mean() + half < 0
    return better


def ranks_of(better: np.ndarray) -> list[Rank]:
    """Return the rank of each of K methods. better: (K, K) bool, row surely better than column."""
    count = len(better)
    firsts = [1 + int(column.sum()) for column in better.T]
    lasts = [count - int(row.sum()) for row in better]
    return [Rank(low, low, high) for low, high in zip(firsts, lasts, strict=True)]


def ranks_by_value(values: Sequence[float]) -> list[Rank]:
    """Return ranks without intervals: 1 + the number of smaller values."""
    return [Rank(1 + sum(other < value for other in values)) for value in values]


def _log(value):
    return np.log(np.maximum(value, SMALLEST))


def _half_widths(estimate):
    """(below, above) the logarithm of the estimate."""
    value = _log(estimate.value)
    ends = value - _log(estimate.low), _log(estimate.high) - value
    return tuple(max(0.0, float(end)) for end in ends)
