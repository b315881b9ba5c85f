"""Paired test for memory of a few images: a difference in differences of margins.

How far the margin of each forgotten image lies from its mean under the Retrains, averaged over the
forgotten images, less the same of unseen images of the same kinds. What makes an image hard for
every model cancels out in the first difference, and what makes a model less sure of every image in
the second. The test is a t test of one model against several Retrains, whose own differences vary
with their seeds: it is valid for any number of images, and also if the images of a patient are
alike, because it takes no two images for independent. That costs power with few Retrains.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy.stats import hmean, nct
from scipy.stats import t as t_distribution

LEVEL = 0.05  # of false alarms
WANTED_POWER = 0.8
MAX_RETRAINS = 50  # more are not recommended


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
    where a model was trained on the image, so that it is no Retrain with respect to it. forgotten:
    (N,) bool. kinds: (N,) int, such as classes: unseen images are weighted so that each kind counts
    as much as among the forgotten images; a kind without unseen images is compared with all of
    them.

    With n complete Retrains the statistic of each model is one number T, and the test is
    (T - mean T_k) / (s sqrt(1 + 1/n)) with s the standard deviation of the T_k, which has the t
    distribution with n - 1 degrees of freedom for another Retrain. Images that fewer than two
    Retrains have not seen are left out. Raises ValueError with fewer than two Retrains, or if no
    forgotten or no unseen image is left.
    """
    counts = np.isfinite(retrains).sum(0)
    usable = counts >= 2
    forgotten, kinds, counts = forgotten[usable], kinds[usable], counts[usable]
    if not forgotten.any() or forgotten.all():
        raise ValueError("the paired test needs two Retrains, forgotten and unseen images")
    means = np.nanmean(retrains[:, usable], 0)
    difference = _difference(model[usable] - means, forgotten, kinds)
    others = [_difference(each[usable] - means, forgotten, kinds) for each in retrains]
    own = np.array([each for each in others if each is not None])
    compared = round(float(hmean(counts[forgotten])), 9)  # a whole number stays one
    variance = float(np.mean(own**2)) * compared / (compared - 1)
    if variance == 0:
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

    None if MAX_RETRAINS are too few. error, retrains: of a PairedTest.
    """
    for count in range(max(2, math.floor(retrains)), MAX_RETRAINS + 1):
        if power(effect, error, retrains, count) >= WANTED_POWER:
            return count
    return None


def _difference(deviations, forgotten, kinds):
    """The mean of the forgotten images less that of unseen ones of the same kinds, or None.

    deviations: (N,), NaN for images that do not count.
    """
    finite = np.isfinite(deviations)
    ours, theirs = finite & forgotten, finite & ~forgotten
    if not ours.any() or not theirs.any():
        return None
    expected = 0.0
    for kind, count in zip(*np.unique(kinds[ours], return_counts=True), strict=True):
        same = theirs & (kinds == kind)
        expected += count * deviations[same if same.any() else theirs].mean()
    return float(deviations[ours].mean() - expected / ours.sum())
