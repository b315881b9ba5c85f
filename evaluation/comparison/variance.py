"""How much of a figure's variance lies between base models, and how much between unlearnings.

Model: y_ij = mu + a_i + e_ij, the figure of the unlearning j of the base model i. The a_i have the
variance *between* base models, the e_ij the variance *within* one (one-way random effects; Searle,
Casella and McCulloch, "Variance Components", 1992, chapter 3). The mean over I base models with J
unlearnings each has the variance between / I + within / (I J). More unlearnings of one base model
cannot make it smaller than *between*; only more base models can, and for a method without random
numbers, more unlearnings change nothing at all (Lanyon et al., arXiv:2510.26714). SUPREME (Andreou
et al., arXiv:2606.00380) therefore trains ten base models.
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from scipy.stats import f

from evaluation.figure import Figure, undefined
from evaluation.statistics import TAIL, mean_with_interval

ONE_BASE_MODEL = "one base model"
ONE_UNLEARNING = "one unlearning per base model"
NO_VARIANCE = "all values are equal"
NO_VALUES = "no base model has this figure"
TRUNCATED = (
    "the variance between base models was estimated below 0, and 0 is reported: the base models "
    "differ no more than the unlearnings of one base model let expect"
)


@dataclass(frozen=True)
class VarianceComponents:
    """The mean of a figure over base models, and the parts of its variance.

    counts: unlearnings per base model. mean: of the base models' means, with its 95% interval.
    between: variance between base models. within: variance between unlearnings of one base model.
    total: variance of one unlearning of a new base model. fraction_between: between / total, 0 to
    1, with its 95% interval. truncated: whether `between` was estimated below 0 and is set to 0
    (see TRUNCATED). Variances have the squared unit of the figure.
    """

    counts: tuple[int, ...]
    mean: Figure
    between: Figure
    within: Figure
    total: Figure
    fraction_between: Figure
    truncated: bool = False


def variance_components(values: Sequence[Sequence[float]]) -> VarianceComponents:
    """Return mean and variance components of a figure.

    values: for each base model the figures of its unlearnings, in any numbers; base models without
    a figure are left out. Estimates are those of the analysis of variance: the mean squares within
    and between base models are set equal to their expectations (Searle et al. 1992, chapter 3).
    They are unbiased until a negative estimate of `between` is set to 0.

    The interval of the mean is Student's, of the base models' means with I - 1 degrees of freedom:
    base models are the independent units, and unlearnings of one base model have its a_i in common.
    It is exact if a_i and e_ij are normal and all base models have equally many unlearnings, else
    approximate. The interval of the fraction is exact in the same case; with unequal numbers it is
    that of Thomas and Hultquist (Annals of Statistics 1978), with the harmonic mean of the numbers.
    """
    groups = [list(group) for group in values if len(group)]
    counts = tuple(map(len, groups))
    # statistics.mean is exact, so that equal values have a variance of exactly 0
    means = [float(statistics.mean(group)) for group in groups]
    within = _mean_square_within(groups, means)
    if len(groups) < 2:
        one = undefined(ONE_BASE_MODEL if groups else NO_VALUES)
        mean = Figure(means[0]) if groups else one
        return VarianceComponents(counts, mean, one, within if groups else one, one, one)
    mean = mean_with_interval(means)
    if not within.is_defined:
        total = Figure(statistics.variance(means))
        return VarianceComponents(counts, mean, within, within, total, within)
    estimate = _between(groups, means, within.value)
    between = max(0.0, estimate)
    total = between + within.value
    return VarianceComponents(
        counts,
        mean,
        Figure(between),
        within,
        Figure(total),
        _fraction(between, total, within.value, counts, means),
        truncated=estimate < 0,
    )


def _mean_square_within(groups, means):
    freedom = sum(map(len, groups)) - len(groups)
    if freedom == 0:
        return undefined(ONE_UNLEARNING)
    squares = ((y - mean) ** 2 for group, mean in zip(groups, means, strict=True) for y in group)
    return Figure(sum(squares) / freedom)


def _between(groups, means, within):
    """(mean square between - mean square within) / n0, which can be negative."""
    counts = list(map(len, groups))
    total, freedom = sum(counts), len(counts) - 1
    grand_mean = statistics.mean(y for group in groups for y in group)
    squares = sum(n * (mean - grand_mean) ** 2 for n, mean in zip(counts, means, strict=True))
    n0 = (total - sum(n**2 for n in counts) / total) / freedom
    return (squares / freedom - within) / n0


def _fraction(between, total, within, counts, means):
    """between / total with its interval: the ratio of the mean squares is a scaled F variable."""
    if total == 0:
        return undefined(NO_VARIANCE)
    value = between / total
    if within == 0:
        return Figure(value, 1.0, 1.0)
    harmonic = statistics.harmonic_mean(counts)
    ratio = harmonic * statistics.variance(means) / within
    freedom = len(counts) - 1, sum(counts) - len(counts)
    ends = []
    for quantile in (1 - TAIL, TAIL):
        variances = max(
            0.0, (ratio / float(f.ppf(quantile, *freedom)) - 1) / harmonic
        )  # between / within
        ends.append(variances / (1 + variances))
    # with unequal numbers the two estimates differ, and the value could miss the interval
    return Figure(value, min(value, ends[0]), max(value, ends[1]))
