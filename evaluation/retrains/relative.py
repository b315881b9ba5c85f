"""Distances of models from several Retrains, relative to the distances of these from each other.

The Jensen-Shannon divergence and the disagreement of predictions are squared distances: each is
|f - g|^2 of two models in some Euclidean space (Endres and Schindelin, IEEE Trans. Inf. Theory
2003; Fuglede and Topsoe, ISIT 2004). So a model and n Retrains can be compared as vectors are in an
analysis of variance. With S^2 the sample variance of the Retrains r_i and r their mean,

    mean distance of the Retrains from each other = 2 S^2
    mean distance of a model m from the Retrains  = |m - r|^2 + (n - 1) / n S^2

and for another Retrain |m - r|^2 / ((1 + 1/n) S^2) has the F distribution with v and v (n - 1)
degrees of freedom, where v is the number of independent directions in which Retrains differ. So the
mean ratio of a further Retrain is 1 + (1 + 1/n) / (v (n - 1) - 2): above 1 where n and v are small.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from scipy.optimize import brentq
from scipy.stats import chi2
from scipy.stats import f as f_distribution

from evaluation.figure import Figure
from evaluation.settings import MIN_RETRAINS
from evaluation.statistics import TAIL, percentile_interval

RESAMPLES = 1000  # of the bootstrap over images
CHUNK_VALUES = 2_000_000  # image weights held in memory together
# Two Retrains do not show their degrees of freedom. Those of SynthBloodMNIST are 10 to 60, see
# docs/evaluation.md; a smaller value makes the interval wider.
USUAL_DEGREES = 6.0
USUAL_WEIGHT = 2.0  # of USUAL_DEGREES against the estimate
MIN_MULTIPLE, MAX_DEGREES = 1e-9, 1e9  # beyond them the distributions no longer change

Measurement = Callable[[np.ndarray], np.ndarray]  # (B, N) weights of images -> (B, M, M) distances


class Distances(NamedTuple):
    """Mean squared distances of M models from each other, over the images of a set.

    observed: (M, M), symmetric. resampled: (B, M, M), over bootstrap resamples of the images.
    """

    observed: np.ndarray
    resampled: np.ndarray


def measure_distances(
    measurements: Sequence[Measurement], images: int, seed: int = 1
) -> list[Distances]:
    """Return the Distances by each of several measurements, which have the same resamples.

    Each weight is the fraction of a resample that an image has; the weights sum to 1.
    """
    observed = [measure(np.full((1, images), 1 / images))[0] for measure in measurements]
    rng = np.random.default_rng(seed)
    chunks = [[measure(each) for measure in measurements] for each in _image_weights(images, rng)]
    resampled = map(np.concatenate, zip(*chunks, strict=True))
    return [Distances(*pair) for pair in zip(observed, resampled, strict=True)]


def relative_distance(
    distances: Distances,
    models: Sequence[int],
    retrains: Sequence[int],
    floor: float,
    power: float = 1.0,
) -> Figure:
    """Return the `distance_ratio` of models and Retrains by their places in `distances`.

    The models are of one method.
    """
    return distance_ratio(*select(distances, models, retrains), len(models), floor, power)


def select(
    distances: Distances, models: Sequence[int], retrains: Sequence[int]
) -> tuple[Distances, Distances]:
    """Return (mean distance of models from Retrains, distances of the Retrains from each other).

    models, retrains: their places in `distances`. The first has observed (), resampled (B,).
    """
    models, retrains = np.asarray(models, int), np.asarray(retrains, int)
    to_retrains = (part[..., models[:, None], retrains].mean((-2, -1)) for part in distances)
    among = (part[..., retrains[:, None], retrains] for part in distances)
    return Distances(*to_retrains), Distances(*among)


def distance_ratio(
    to_retrains: Distances, among: Distances, models: int, floor: float, power: float = 1.0
) -> Figure:
    """Return the mean distance of models from Retrains over that of the Retrains from each other.

    1 is the distance of another Retrain. `floor` takes the denominator's place if it is larger.

    to_retrains, among: as `select` returns them. models: number of the models, which are of one
    method. power: exponent of the ratio, 0.5 if the figure is a ratio of plain distances.

    The 95% interval combines two sources in the logarithm of the ratio (squares of the half widths
    add up; Zou and Donner, Stat. Med. 2008): which images there are (percentile bootstrap), and
    which Retrains and models (from the F distribution: up to the distance of another Retrain the
    model is taken for a sample of them with another variance, beyond it for a Retrain plus a fixed
    difference, by Patnaik's approximation of the noncentral F distribution, Biometrika 1949). A
    bootstrap over two to five models would be far too narrow.

    Two Retrains do not show in how many directions Retrains differ, and USUAL_DEGREES is assumed.
    If it is one alone, their interval is far too narrow: it contains 1 for half of all further
    Retrains; that of three Retrains for 84%, of five for 92% (simulated). From about eight
    directions on it is 94% or more.

    Raises ValueError with fewer than MIN_RETRAINS Retrains.
    """
    retrains = len(among.observed)
    if retrains < MIN_RETRAINS:
        raise ValueError(f"{retrains} Retrains cannot give a relative distance")
    between = mean_between(among.observed)
    denominator = max(between, floor)
    ratio = float(to_retrains.observed / denominator)
    drawn = to_retrains.resampled / np.maximum(mean_between(among.resampled), floor)
    freedom = degrees_of_freedom(among.observed) * (retrains - 1)
    if between * freedom / chi2.ppf(TAIL, freedom) < floor:
        freedom = MAX_DEGREES  # the floor is the denominator, and does not vary
    ends = distance_interval(float(to_retrains.observed), among.observed, models, freedom)
    by_models = (end / denominator for end in ends)
    low, high = (
        _combine(ratio, ends, sign)
        for sign, *ends in zip((-1, 1), percentile_interval(drawn), by_models, strict=True)
    )
    return Figure(*(float(number**power) for number in (ratio, low, high)))


def distance_interval(
    distance: float, between: np.ndarray, models: int, freedom: float = MAX_DEGREES
) -> tuple[float, float]:
    """Return the 95% interval of the mean distance of models from Retrains, by the F distribution.

    It is by which models and Retrains there are, not by the images; see `distance_ratio`. between:
    (R, R), of the Retrains. models: their number. freedom: degrees of freedom of the distance of
    the Retrains from each other, if the interval is divided by it; otherwise it does not count.
    """
    retrains, spread = len(between), 1 + 1 / len(between)
    inside = (retrains - 1) / retrains
    variance = mean_between(between) / 2
    if variance == 0:
        return distance, distance
    deviation = max(0.0, distance / variance - inside) / spread
    degrees = degrees_of_freedom(between)
    # relative variances, of which each direction has twice: of the mean over the models of their
    # squared deviations from the Retrains' mean, and of their mean deviation
    of_squares = (1 / models + 2 / (models * retrains) + 1 / retrains**2) / spread**2
    of_mean = (1 / models + 1 / retrains) / spread

    def multiple(probability):
        """The expected multiple at which the observed one has this lower tail probability."""

        def excess(log_multiple):
            expected = math.exp(log_multiple)
            above = degrees / of_squares
            if expected > 1:
                above = degrees * expected**2 / (of_squares + 2 * (expected - 1) * of_mean)
            above = min(above, MAX_DEGREES)
            return f_distribution.cdf(deviation / expected, above, freedom) - probability

        ends = math.log(MIN_MULTIPLE), math.log(max(1.0, deviation) / MIN_MULTIPLE)
        return math.exp(brentq(excess, *ends, xtol=1e-6)) if excess(ends[0]) > 0 else 0.0

    low, high = (variance * (spread * multiple(tail) + inside) for tail in (1 - TAIL, TAIL))
    return low, high


def mean_between(between: np.ndarray) -> np.ndarray:
    """Return the mean over the pairs of Retrains: (...,), from symmetric (..., R, R)."""
    count = between.shape[-1]
    return between.sum((-2, -1)) / (count * (count - 1))


def degrees_of_freedom(between: np.ndarray) -> float:
    """Return in how many independent directions Retrains differ, from their (R, R) distances.

    The scatter matrix of R models has R - 1 eigenvalues. The more directions, the more alike the
    eigenvalues are: E tr(W^2) / E (tr W)^2 = (v + p + 1) / (p v + 2) for p = R - 1 (moments of the
    Wishart distribution). With two Retrains there is no estimate, with three a poor one: 1 / v is
    the mean of the estimate and of 1 / USUAL_DEGREES, weighted by the (p - 1)(p + 2) / 2 degrees of
    freedom of the estimate (Mauchly, Ann. Math. Stat. 1940) and by USUAL_WEIGHT.
    """
    count = len(between)
    p = count - 1
    weight = (p - 1) * (p + 2) / 2
    centring = np.eye(count) - 1 / count
    scatter = -0.5 * centring @ between @ centring
    total = np.trace(scatter)
    inverse = 0.0
    if p > 1 and total > 0:
        concentration = float((scatter**2).sum() / total**2)
        inverse = (p * concentration - 1) / (p + 1 - 2 * concentration)
    inverse = min(max(inverse, 0.0), 1.0)
    return (weight + USUAL_WEIGHT) / (weight * inverse + USUAL_WEIGHT / USUAL_DEGREES)


def _combine(value, ends, sign):
    """The lower (sign -1) or upper (1) end of the interval from the ends by two sources."""
    if value == 0:
        return 0.0 if sign < 0 else max(ends)
    logarithms = [math.log(end / value) if end > 0 else -math.inf for end in ends]
    half = math.hypot(*(max(0.0, sign * each) for each in logarithms))
    return value * math.exp(sign * half)


def _image_weights(images, rng):
    """Yield (B, images) weights of bootstrap resamples, RESAMPLES altogether."""
    chunk = max(1, min(RESAMPLES, CHUNK_VALUES // images))
    for start in range(0, RESAMPLES, chunk):
        drawn = rng.integers(images, size=(min(chunk, RESAMPLES - start), images))
        yield np.array([np.bincount(each, minlength=images) for each in drawn]) / images
