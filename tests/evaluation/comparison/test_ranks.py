"""Ranks with intervals: by hand, and how often they are right in simulated comparisons."""

import math

import numpy as np
import pytest

from evaluation.comparison.ranks import (
    Estimate,
    Rank,
    better_by_base_models,
    better_by_images,
    interval_of_difference,
    ranks_by_value,
    ranks_of,
)
from evaluation.retrains.relative import distance_interval

DIRECTIONS = 10  # in which simulated Retrains differ


def estimate(value, drawn=None, low=None, high=None, ratio=2.0):
    drawn = np.full(5, value) if drawn is None else np.asarray(drawn, float)
    return Estimate(value, drawn, value if low is None else low, high or value, ratio)


def test_ranks_count_what_is_surely_better_and_surely_worse():
    """0 is better than 2 and 3; 1 is better than 3."""
    better = np.zeros((4, 4), bool)
    better[0, 2] = better[0, 3] = better[1, 3] = True
    assert ranks_of(better) == [Rank(1, 1, 2), Rank(1, 1, 3), Rank(2, 2, 4), Rank(3, 3, 4)]
    assert list(map(str, ranks_of(better))) == ["1 (1-2)", "1 (1-3)", "2 (2-4)", "3 (3-4)"]
    assert ranks_of(np.zeros((0, 0), bool)) == []
    assert str(ranks_of(np.zeros((1, 1), bool))[0]) == "1"


def test_ranks_by_value_are_shared_by_equal_values():
    assert ranks_by_value([2.0, 1.0, 2.0, 5.0]) == [Rank(2), Rank(1), Rank(2), Rank(4)]


def test_the_interval_of_a_difference_adds_squares():
    """Logarithms: models -3/+4 around 0, and -1/+12 around -1; no spread by images."""
    first = estimate(1.0, low=math.exp(-3), high=math.exp(4))
    second = estimate(math.exp(-1), low=math.exp(-2), high=math.exp(11))
    low, high = interval_of_difference(first, second)
    assert low == pytest.approx(1 - math.hypot(3, 12))
    assert high == pytest.approx(1 + math.hypot(4, 1))


def test_images_are_resampled_in_pairs():
    """Where both distances rise and fall together, their quotient is certain."""
    drawn = np.linspace(0.5, 2, 200)
    alike = estimate(1.0, drawn), estimate(1.1, 1.1 * drawn)
    apart = estimate(1.0, drawn), estimate(1.1, 1.1 * drawn[::-1])
    assert interval_of_difference(*alike)[1] == pytest.approx(-math.log(1.1))
    assert interval_of_difference(*apart)[1] > 0
    assert better_by_images(alike, floored=False).tolist() == [[False, True], [False, False]]


def test_below_the_floor_no_method_is_better():
    near, nearer = estimate(0.002, ratio=0.4), estimate(0.001, ratio=0.2)
    far = estimate(0.01, ratio=2.0)
    assert better_by_images([near, nearer], floored=False)[1, 0]
    better = better_by_images([near, nearer, far], floored=True)
    assert not better[1, 0]
    assert better[0, 2] and better[1, 2]


def test_a_distance_of_zero_is_better_than_any():
    better = better_by_images([estimate(0.0), estimate(0.1), estimate(0.0)], floored=False)
    assert better[0].tolist() == [False, True, False]


def test_base_models_are_compared_in_pairs():
    """Differences -1, -1.2, -0.8: mean -1, standard error 0.2 / sqrt(3), t of 2 degrees 4.30."""
    values = [[1.0, 2.0, 4.0], [2.0, 3.2, 4.8], [1.0, None, None]]
    better = better_by_base_models(values)
    assert better.tolist() == [[False, True, False], [False, False, False], [False] * 3]
    assert not better_by_base_models([[1.0, 2.0, 4.0], [2.0, 2.1, 4.1]]).any()


def simulated(rng, models, retrains, fixed):
    """Estimates of two methods; their models are Retrains plus fixed differences in two directions.

    fixed: squared length of either, in units of the squared deviation of a Retrain.
    """
    references = rng.normal(size=(retrains, DIRECTIONS))
    images = rng.normal(size=(200, DIRECTIONS))
    weights = rng.multinomial(200, np.full(200, 1 / 200), 200) / 200

    def by_image(one, other):
        return ((one - other) @ images.T) ** 2

    found = []
    for direction, length in enumerate(fixed):
        own = rng.normal(size=(models, DIRECTIONS))
        own[:, direction] += math.sqrt(length * DIRECTIONS)
        distances = np.mean([by_image(one, each) for one in own for each in references], 0)
        between = np.zeros((retrains, retrains))
        for i, j in zip(*np.triu_indices(retrains, 1), strict=True):
            between[i, j] = between[j, i] = by_image(references[i], references[j]).mean()
        ends = distance_interval(distances.mean(), between, models)
        found.append(Estimate(distances.mean(), weights @ distances, *ends, 2.0))
    return found


@pytest.mark.parametrize("models, retrains, fixed", [(1, 2, 0), (1, 3, 4), (3, 3, 4)])
def test_methods_that_differ_in_nothing_share_the_rank_in_95_percent(models, retrains, fixed):
    rng, runs = np.random.default_rng(models + retrains), 150
    apart = sum(
        better_by_images(simulated(rng, models, retrains, (fixed, fixed)), False).any()
        for _ in range(runs)
    )
    assert apart <= 0.05 * runs + 2 * math.sqrt(runs * 0.05 * 0.95)


def test_a_method_that_is_far_worse_does_not_share_the_rank():
    rng, runs = np.random.default_rng(1), 100
    found = [better_by_images(simulated(rng, 1, 3, (0, 9)), False) for _ in range(runs)]
    assert np.mean([better[0, 1] for better in found]) >= 0.95
    assert not any(better[1, 0] for better in found)
