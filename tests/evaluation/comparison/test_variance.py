"""Variance components: by hand, by a second formula, and by simulation."""

import itertools
import statistics

import numpy as np
import pytest

from evaluation.comparison.variance import (
    NO_VALUES,
    NO_VARIANCE,
    ONE_BASE_MODEL,
    ONE_UNLEARNING,
    variance_components,
)

UNEQUAL = (2, 3, 4, 2, 6)
BETWEEN, WITHIN, MEAN = 4.0, 1.0, 10.0


def draw(number, counts, between=BETWEEN, within=WITHIN):
    """Return `number` data sets of the model, each with a list of values per base model."""
    generator = np.random.default_rng(0)
    for _ in range(number):
        means = MEAN + np.sqrt(between) * generator.standard_normal(len(counts))
        yield [
            (mean + np.sqrt(within) * generator.standard_normal(count)).tolist()
            for mean, count in zip(means, counts, strict=True)
        ]


def test_equal_numbers_by_hand():
    # means 2, 5, 8; squares within 2 + 2 + 2 with 6 degrees: 1; between 3 (9 + 0 + 9) / 2 = 27
    found = variance_components([[1, 2, 3], [4, 5, 6], [7, 8, 9]])
    assert found.counts == (3, 3, 3)
    assert found.within.value == pytest.approx(1)
    assert found.between.value == pytest.approx((27 - 1) / 3)
    assert found.total.value == pytest.approx(26 / 3 + 1)
    assert found.fraction_between.value == pytest.approx(26 / 29)
    # t of 2 degrees, 97.5%: 4.302653; standard deviation of the means 3
    half = 4.302653 * 3 / 3**0.5
    assert (found.mean.low, found.mean.value, found.mean.high) == pytest.approx(
        (5 - half, 5, 5 + half), rel=1e-6
    )
    # F of 2 and 6 degrees: 7.259856 (97.5%) and 0.025425 (2.5%); ratio of the mean squares 27
    low, high = ((27 / quantile - 1) / 3 for quantile in (7.259856, 0.025425))
    assert found.fraction_between.low == pytest.approx(low / (1 + low), rel=1e-4)
    assert found.fraction_between.high == pytest.approx(high / (1 + high), rel=1e-4)
    assert not found.truncated


def test_unequal_numbers_by_hand():
    # means 1, 4, 6; squares within 2 + 0 + 2 with 3 degrees: 4/3
    found = variance_components([[0, 2], [4], [5, 6, 7]])
    grand = (0 + 2 + 4 + 5 + 6 + 7) / 6  # 4
    between = 2 * (1 - grand) ** 2 + (4 - grand) ** 2 + 3 * (6 - grand) ** 2  # 30
    n0 = (6 - (4 + 1 + 9) / 6) / 2  # 11/6
    assert (grand, between, n0) == pytest.approx((4, 30, 11 / 6))
    assert found.within.value == pytest.approx(4 / 3)
    assert found.between.value == pytest.approx((15 - 4 / 3) / (11 / 6))
    assert found.mean.value == pytest.approx(11 / 3)  # every base model counts once
    low, high = found.fraction_between.low, found.fraction_between.high
    assert 0 <= low <= found.fraction_between.value <= high <= 1


def test_half_the_mean_squared_difference_is_the_variance():
    """Second computation: pairs of unlearnings of one base model, and of two base models."""
    values = next(draw(1, (4,) * 6))
    found = variance_components(values)

    def half_square(pairs):
        return statistics.mean((a - b) ** 2 / 2 for a, b in pairs)

    same = [pair for group in values for pair in itertools.combinations(group, 2)]
    different = [
        pair
        for one, two in itertools.combinations(values, 2)
        for pair in itertools.product(one, two)
    ]
    assert found.within.value == pytest.approx(half_square(same))
    assert found.total.value == pytest.approx(half_square(different))
    assert found.between.value == pytest.approx(half_square(different) - half_square(same))


@pytest.mark.parametrize("counts", [(3, 3, 3, 3, 3), UNEQUAL])
def test_estimates_have_the_true_values_as_their_means(counts):
    # with 4 : 1 nothing is truncated but by chance once in some hundred draws
    found = [variance_components(values) for values in draw(2000, counts)]
    assert np.mean([each.within.value for each in found]) == pytest.approx(WITHIN, rel=0.05)
    assert np.mean([each.between.value for each in found]) == pytest.approx(BETWEEN, rel=0.07)
    assert np.mean([each.mean.value for each in found]) == pytest.approx(MEAN, abs=0.1)


@pytest.mark.parametrize("counts", [(3, 3, 3), UNEQUAL])
@pytest.mark.parametrize("between", [0.0, BETWEEN])
def test_intervals_hold_the_true_values_in_95_of_100(counts, between):
    found = [variance_components(values) for values in draw(1500, counts, between)]
    truth = {"mean": MEAN, "fraction_between": between / (between + WITHIN)}
    for name, value in truth.items():
        figures = [getattr(each, name) for each in found]
        covered = np.mean([each.low <= value <= each.high for each in figures])
        # fraction 0: an interval misses it on one side only
        expected = 0.975 if (name, between) == ("fraction_between", 0.0) else 0.95
        assert covered == pytest.approx(expected, abs=0.025), name


def test_a_negative_estimate_is_set_to_0_and_marked():
    found = variance_components([[1, 5], [2, 4], [3, 3.5]])
    assert found.truncated
    assert found.between.value == 0
    assert found.fraction_between.value == found.fraction_between.low == 0
    assert found.total.value == found.within.value > 0


def test_values_without_variance():
    found = variance_components([[0.1, 0.1, 0.1], [0.1, 0.1]])
    assert (found.mean.low, found.mean.value, found.mean.high) == (0.1, 0.1, 0.1)
    assert (found.between.value, found.within.value, found.total.value) == (0, 0, 0)
    assert found.fraction_between.why_undefined == NO_VARIANCE
    assert not found.truncated


def test_a_method_without_random_numbers_varies_between_base_models_only():
    found = variance_components([[0.1, 0.1, 0.1], [0.7, 0.7], [0.3]])
    assert found.within.value == 0
    assert found.between.value > 0
    fraction = found.fraction_between
    assert (fraction.low, fraction.value, fraction.high) == (1, 1, 1)


def test_one_unlearning_per_base_model_shows_the_total_only():
    found = variance_components([[1], [2], [6]])
    assert found.total.value == pytest.approx(7)  # (4 + 1 + 9) / 2
    assert found.mean.value == pytest.approx(3)
    assert found.mean.low < 3 < found.mean.high
    for part in (found.between, found.within, found.fraction_between):
        assert part.why_undefined == ONE_UNLEARNING


def test_one_base_model_shows_the_variance_within_only():
    found = variance_components([[1, 2, 3], []])
    assert (found.counts, found.mean.value, found.mean.low) == ((3,), 2, None)
    assert found.within.value == pytest.approx(1)
    for part in (found.between, found.total, found.fraction_between):
        assert part.why_undefined == ONE_BASE_MODEL
    assert variance_components([[1]]).within.why_undefined == ONE_UNLEARNING


def test_no_values():
    assert variance_components([[], []]).mean.why_undefined == NO_VALUES
    assert variance_components([]).within.why_undefined == NO_VALUES
