"""Distances of a model from several Retrains, relative to the distances of these from each other.

The Jensen-Shannon divergence and the disagreement of predictions are squared distances: each is
|f - g|^2 of two models in some Euclidean space (Endres and Schindelin, IEEE Trans. Inf. Theory
2003; Fuglede and Topsoe, ISIT 2004). So a model and n Retrains can be compared as vectors are in an
analysis of variance. With S^2 the sample variance of the Retrains r_i and r their mean,

    mean distance of the Retrains from each other = 2 S^2
    mean distance of a model m from the Retrains  = |m - r|^2 + (n - 1) / n S^2

and for another Retrain |m - r|^2 / ((1 + 1/n) S^2) has the F distribution with v and v (n - 1)
degrees of freedom, where v is the number of independent directions in which Retrains differ.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.optimize import brentq
from scipy.stats import f as f_distribution

from evaluation.figure import Figure

MIN_RETRAINS = 2
RESAMPLES = 1000  # of the bootstrap over images
CHUNK_VALUES = 2_000_000  # image weights held in memory together
TAIL = 0.025  # on either side of a 95% interval
# With two Retrains their degrees of freedom cannot be estimated. Those of Retrains of
# SynthBloodMNIST and MedNIST are above this value, see docs/evaluation.md.
USUAL_DEGREES = 6.0
USUAL_WEIGHT = 2.0  # of USUAL_DEGREES against the estimate
MAX_MULTIPLE = 1e9


class MeanDistances(NamedTuple):
    """Mean distances over images.

    to_retrains: (J, R) from each of J models to each of R Retrains. between: (R, R), of the
    Retrains from each other. Both may have a leading axis (B,) of resamples.
    """

    to_retrains: np.ndarray
    between: np.ndarray


Measurement = Callable[[np.ndarray], MeanDistances]  # of (B, images) weights that sum to 1


def relative_distance(
    measure: Measurement,
    images: int,
    floor: float,
    seed: int = 1,
    power: float = 1.0,
) -> Figure:
    """Return the mean distance from the Retrains over their mean distance from each other.

    1 is the distance of another Retrain. `floor` takes the denominator's place if it is larger.

    measure: returns the MeanDistances of each of B resamples of the images. Distances are squared
    ones, see above. power: exponent of the ratio, 0.5 if the figure is a ratio of plain distances.

    The 95% interval combines two sources in the logarithm of the ratio (squares of the half widths
    add up; Zou and Donner, Stat. Med. 2008): which images there are (percentile bootstrap), and
    which Retrains and models (from the F distribution: up to the distance of another Retrain the
    model is taken for a sample of them with another variance, beyond it for a Retrain plus a fixed
    difference, by Patnaik's approximation of the noncentral F distribution, Biometrika 1949). A
    bootstrap over two to five models would be far too narrow. Raises ValueError with fewer than
    MIN_RETRAINS Retrains, or without an image.
    """
    observed = mean_distances_of(measure, images)
    models, retrains = observed.to_retrains.shape
    if retrains < MIN_RETRAINS or images == 0:
        raise ValueError(f"{retrains} Retrains and {images} images cannot give a relative distance")
    ratio = _ratios(observed, floor)
    rng = np.random.default_rng(seed)
    drawn = np.concatenate(
        [_ratios(measure(weights), floor) for weights in _image_weights(images, rng)]
    )
    by_images = np.percentile(drawn, [100 * TAIL, 100 * (1 - TAIL)])
    by_models = _model_interval(observed, models, retrains, floor)
    low, high = (_combine(ratio, ends) for ends in zip(by_images, by_models, strict=True))
    return Figure(
        float(ratio**power), float(min(low, ratio) ** power), float(max(high, ratio) ** power)
    )


def mean_distances_of(measure: Measurement, images: int) -> MeanDistances:
    """Return the mean distances of a number of images that count equally."""
    return MeanDistances(*(part[0] for part in measure(np.full((1, images), 1 / images))))


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


def _ratios(distances, floor):
    between = np.maximum(mean_between(distances.between), floor)
    return distances.to_retrains.mean((-2, -1)) / between


def _model_interval(observed, models, retrains, floor):
    """(low, high) of the ratio, by the F distribution; see relative_distance."""
    between = mean_between(observed.between)
    variance = between / 2
    if variance == 0:
        ratio = float(_ratios(observed, floor))
        return ratio, ratio
    inside = (retrains - 1) / retrains
    spread = 1 + 1 / retrains
    deviation = max(0.0, observed.to_retrains.mean() / variance - inside) / spread
    degrees = degrees_of_freedom(observed.between)
    above = degrees * spread**2 / (1 / models + 2 / (models * retrains) + 1 / retrains**2)
    below = degrees * (retrains - 1)

    def multiple(probability):
        """The expected multiple at which the observed one has this lower tail probability."""

        def excess(log_multiple):
            expected = math.exp(log_multiple)
            numerator = above  # degrees of freedom
            if expected > 1:
                numerator *= expected**2 / (2 * expected - 1)
            return f_distribution.cdf(deviation / expected, numerator, below) - probability

        ends = -math.log(MAX_MULTIPLE), math.log(max(1.0, deviation) * 1e3)
        if excess(ends[0]) <= 0:
            return 0.0
        return math.exp(brentq(excess, *ends, xtol=1e-6))

    scale = between / max(between, floor) / 2
    return tuple(scale * (spread * multiple(tail) + inside) for tail in (1 - TAIL, TAIL))


def _combine(value, ends):
    """One end of the interval: the distances of two ends from the value add up as squares."""
    if value == 0:
        return max(ends)
    widths = [math.log(end / value) if end > 0 else -math.inf for end in ends]
    sign = 1 if sum(widths) > 0 else -1
    half = math.hypot(*(max(0.0, sign * width) for width in widths))
    return value * math.exp(sign * half)


def _image_weights(images, rng):
    """Yield (B, images) weights of bootstrap resamples, RESAMPLES altogether."""
    chunk = max(1, min(RESAMPLES, CHUNK_VALUES // images))
    for start in range(0, RESAMPLES, chunk):
        count = min(chunk, RESAMPLES - start)
        yield rng.multinomial(images, np.full(images, 1 / images), count) / images
