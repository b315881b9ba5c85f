"""Paired test for memory of a few images: a difference in differences of margins.

How far the margin of each forgotten image lies above the model's level on unseen images of the same
kind, less the mean of this under the Retrains, averaged over the forgotten images. What makes a
model less sure of every image cancels out in the first difference, and what makes an image hard for
every model in the second. The test is a t test of one model against several Retrains, whose own
differences vary with their seeds: it is valid for any number of images, and also if the images of a
patient are alike, because it takes no two images for independent. That costs power with few
Retrains.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy.stats import hmean, nct
from scipy.stats import t as t_distribution

LEVEL = 0.05  # of false alarms
WANTED_POWER = 0.8
MAX_RETRAINS = 50  # more are not recommended
MIN_SPREAD = 1e-6  # nats; smaller differences of Retrains are rounding


@dataclass(frozen=True)
class PairedTest:
    """The result of the test of one model.

    difference: in nats, positive if the forgotten images are known better than Retrain knows them.
    low, high: its 95% interval. p_value: two-sided. error: the standard error of the difference of
    another Retrain. retrains: the mean number of Retrains that an image is compared with.
    """

    difference: float
    low: float
    high: float
    p_value: float
    error: float
    retrains: float

    @property
    def is_found(self) -> bool:
        """Whether the model is distinguished from a Retrain."""
        return self.p_value < LEVEL


def paired_test(
    model: np.ndarray, retrains: np.ndarray, forgotten: np.ndarray, kinds: np.ndarray
) -> PairedTest | None:
    """Return the test of a model against Retrains; None if the Retrains do not differ at all.

    model: (N,) margins log(p_y / (1 - p_y)) of forgotten and unseen images. retrains: (R, N), NaN
    where a model was trained on the image, so that it is no Retrain with respect to it, or has no
    output. forgotten: (N,) bool. kinds: (N,) int, such as classes: a forgotten image is compared
    with the unseen images of its kind, or with all of them if its kind has none.

    With n complete Retrains the statistic of each model is one number T, and the test is
    (T - mean T_k) / (s sqrt(1 + 1/n)) with s the standard deviation of the T_k, which has the t
    distribution with n - 1 degrees of freedom for another Retrain. Images that fewer than two
    Retrains have not seen are left out, and n is the harmonic mean over the forgotten images. A
    model that has not seen half of them has a difference of fewer images, which varies more: the
    test then has fewer false alarms than LEVEL, and less power than as many Retrains would give.
    Raises ValueError if no forgotten or no unseen image is left.
    """
    found = np.vstack([model, retrains])
    excess = found[:, forgotten] - _unseen_levels(found, forgotten, kinds)
    counts = np.isfinite(excess[1:]).sum(0)
    excess, counts = excess[:, counts >= 2], counts[counts >= 2]
    if len(counts) == 0:
        raise ValueError("the paired test needs two Retrains, forgotten and unseen images")
    differences = _mean(excess - _mean(excess[1:], 0), 1)
    difference, own = float(differences[0]), differences[1:]
    compared = round(float(hmean(counts)), 9)  # a whole number stays one
    variance = float(np.nanmean(own**2)) * compared / (compared - 1)
    if variance < MIN_SPREAD**2:
        return None
    error = math.sqrt(variance * (1 + 1 / compared))
    t_values = t_distribution(compared - 1)
    half = float(error * t_values.ppf(1 - LEVEL / 2))
    return PairedTest(
        difference,
        difference - half,
        difference + half,
        float(2 * t_values.sf(abs(difference) / error)),
        error,
        compared,
    )


def power(effect: float, error: float, retrains: float, others: float | None = None) -> float:
    """Return the probability, 0 to 1, that the test finds a difference of `effect`.

    error, retrains: of a PairedTest. others: another number of Retrains to plan for.
    """
    count = retrains if others is None else others
    noncentrality = abs(effect) / error * math.sqrt((1 + 1 / retrains) / (1 + 1 / count))
    critical = t_distribution.ppf(1 - LEVEL / 2, count - 1)
    tails = nct(count - 1, noncentrality)
    return float(tails.sf(critical) + tails.cdf(-critical))


def retrains_needed(effect: float, error: float, retrains: float) -> int | None:
    """Return how many Retrains find a difference of `effect` with a power of WANTED_POWER.

    More than there are; None if MAX_RETRAINS are too few. error, retrains: of a PairedTest.
    """
    for count in range(math.floor(retrains) + 1, MAX_RETRAINS + 1):
        if power(effect, error, retrains, count) >= WANTED_POWER:
            return count
    return None


def _unseen_levels(found, forgotten, kinds):
    """(M, F): the level of each model on unseen images of the kind of each forgotten image."""
    levels = np.full((len(found), forgotten.sum()), np.nan)
    for kind in np.unique(kinds[forgotten]):
        same = ~forgotten & (kinds == kind)
        unseen = found[:, same if same.any() else ~forgotten]
        enough = np.isfinite(unseen[1:]).sum(0) >= 2
        levels[:, kinds[forgotten] == kind] = _levels(unseen[:, enough])[:, None]
    return levels


def _levels(found):
    """The levels a of the least-squares fit found[m, i] = a[m] + b[i]; b is that of the Retrains.

    For complete Retrains a is the mean over the images, up to a number that all models share. If
    each has other images, a mean would depend on which ones. found: (M, N), the tested model first.
    """
    retrains = found[1:]
    seen = np.isfinite(retrains).astype(float)
    excess = np.where(seen, retrains - _mean(retrains, 0), 0).sum(1)
    normal = np.diag(seen.sum(1)) - seen / seen.sum(0) @ seen.T  # equations of a without b
    levels = np.linalg.lstsq(normal, excess, rcond=None)[0]
    return _mean(found - _mean(retrains - levels[:, None], 0), 1)


def _mean(values, axis):
    """The mean of the finite values, NaN where there is none."""
    finite = np.isfinite(values)
    with np.errstate(invalid="ignore"):
        return np.where(finite, values, 0).sum(axis) / finite.sum(axis)
