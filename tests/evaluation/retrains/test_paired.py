"""The paired test: by hand, by SciPy, and by simulation of Retrains."""

import numpy as np
import pytest
from scipy import stats

from evaluation.retrains.paired import (
    LEVEL,
    MAX_RETRAINS,
    WANTED_POWER,
    paired_test,
    power,
    retrains_needed,
)

UNSEEN = 60


def simulated(rng, retrains, forgotten, *, alike=0.0, heavy=False, effect=0.0):
    """(model, Retrains, forgotten, kinds) that differ by chance only, but for `effect`.

    alike: standard deviation of what a model's forgotten images have in common. heavy: whether
    deviations have the t distribution with 4 degrees of freedom.
    """
    count = forgotten + UNSEEN
    is_forgotten = np.arange(count) < forgotten
    shape = (retrains + 1, count)
    noise = rng.standard_t(4, shape) if heavy else rng.normal(size=shape)
    shift = rng.normal(size=(retrains + 1, 1))  # of all images of a model
    own = alike * rng.normal(size=(retrains + 1, 1)) * is_forgotten
    margins = rng.normal(5, 3, count) + shift + own + noise
    margins[0] += effect * is_forgotten
    return margins[0], margins[1:], is_forgotten, rng.integers(0, 3, count)


def statistic(margins, forgotten):
    return margins[forgotten].mean() - margins[~forgotten].mean()


def test_complete_retrains_against_the_t_interval_of_a_new_observation():
    model, retrains, forgotten, _ = simulated(np.random.default_rng(1), 5, 12)
    found = paired_test(model, retrains, forgotten, np.zeros(len(model), int))
    others = np.array([statistic(each, forgotten) for each in retrains])
    difference = statistic(model, forgotten) - others.mean()
    error = others.std(ddof=1) * np.sqrt(1 + 1 / 5)
    assert found.difference == pytest.approx(difference)
    assert found.error == pytest.approx(error)
    low, high = stats.t.interval(0.95, 4, loc=difference, scale=error)
    assert (found.low, found.high) == pytest.approx((low, high))
    assert found.p_value == pytest.approx(2 * stats.t.sf(abs(difference) / error, 4))
    assert found.retrains == 5


def test_unseen_images_count_by_kind():
    """Two forgotten images of kind 0 and one of kind 1; one and two unseen ones."""
    forgotten = np.array([True, True, True, False, False, False])
    kinds = np.array([0, 0, 1, 0, 1, 1])
    retrains = np.array([[0.0] * 6, [2.0] * 3 + [0.0] * 3])  # mean 1 on forgotten images
    model = np.array([4.0, 3.0, 2.0, 1.0, 5.0, 7.0])
    found = paired_test(model, retrains, forgotten, kinds)
    assert found.difference == pytest.approx((3 + 2 + 1) / 3 - (2 * 1 + 1 * 6) / 3)
    lonely = paired_test(model, retrains, forgotten, np.array([0, 0, 2, 0, 1, 1]))
    assert lonely.difference == pytest.approx(2 - (2 * 1 + 1 * 13 / 3) / 3)


def test_an_image_is_compared_with_the_models_that_have_not_seen_it():
    nan = np.nan
    forgotten = np.array([True, True, False, False])
    retrains = np.array(
        [[1.0, 2.0, 0.0, 0.0], [3.0, nan, 0.0, 0.0], [nan, 4.0, 0.0, 0.0], [8.0, 6.0, 0.0, 0.0]]
    )
    found = paired_test(np.array([5.0, 7.0, 0.0, 0.0]), retrains, forgotten, np.zeros(4, int))
    assert found.difference == pytest.approx(((5 - 4) + (7 - 4)) / 2)
    own = [((1 - 4) + (2 - 4)) / 2, 3 - 4, 4 - 4, ((8 - 4) + (6 - 4)) / 2]
    variance = np.mean(np.square(own)) * 3 / 2  # three models for each image
    assert found.error == pytest.approx(np.sqrt(variance * 4 / 3))
    assert found.retrains == 3


@pytest.mark.parametrize("images, retrains", [(1, 3), (12, 2), (12, 3), (12, 8), (100, 3)])
@pytest.mark.parametrize("case", [{}, {"alike": 1.0}, {"heavy": True}], ids=str)
def test_false_alarms(images, retrains, case):
    """5% of 400 draws have a standard deviation of 1.1 points."""
    rng = np.random.default_rng(images + 1000 * retrains)
    draws = 400
    found = sum(
        paired_test(*simulated(rng, retrains, images, **case)).is_found for _ in range(draws)
    )
    assert found / draws < LEVEL + 0.03
    assert found / draws > 0.01


def test_false_alarms_with_models_that_have_seen_half_of_the_images():
    """They are fewer, because such a model varies more than a Retrain does."""
    rng = np.random.default_rng(4)
    draws, found = 300, 0
    for _ in range(draws):
        model, retrains, forgotten, kinds = simulated(rng, 11, 12)
        for number in range(3, 11, 2):
            half = rng.permutation(len(model)) < len(model) // 2
            retrains[number, half] = np.nan
            retrains[number + 1, ~half] = np.nan
        found += paired_test(model, retrains, forgotten, kinds).is_found
    assert found / draws < LEVEL


@pytest.mark.parametrize(
    "retrains, base_shadows, retrain_shadows", [(3, 8, 0), (2, 0, 8), (1, 0, 4), (2, 4, 4)]
)
def test_false_alarms_with_shadow_models_of_some_images(retrains, base_shadows, retrain_shadows):
    """Queries are the forgotten images and as many unseen ones; all images of a model shift."""
    rng, draws, found = np.random.default_rng(6), 300, 0
    for _ in range(draws):
        count = retrains + base_shadows + retrain_shadows
        model, others, forgotten, kinds = simulated(rng, count, 12)
        shifts = 4 * rng.normal(size=(count + 1, 1))
        model, others = model + shifts[0], others + shifts[1:]
        queries = np.r_[:12, 12 + rng.permutation(UNSEEN)[:12]]
        for number in range(retrains, retrains + base_shadows, 2):
            halves = np.split(rng.permutation(queries), 2)
            for place, half in enumerate(halves):
                others[number + place, half] = np.nan
        others[retrains + base_shadows :, np.setdiff1d(range(len(model)), queries)] = np.nan
        found += paired_test(model, others, forgotten, kinds).is_found
    assert found / draws < LEVEL + 0.03


def test_a_shift_of_a_model_is_no_memory():
    """Whatever each model adds to all images of a kind leaves the result as it is."""
    rng = np.random.default_rng(7)
    model, retrains, forgotten, kinds = simulated(rng, 6, 12)
    for number in (1, 2):
        retrains[number, rng.permutation(len(model))[:30]] = np.nan
    retrains[3:5, 20:50] = np.nan
    expected = paired_test(model, retrains, forgotten, kinds)
    shifts = 10 * rng.normal(size=(7, 3))[:, kinds]
    found = paired_test(model + shifts[0], retrains + shifts[1:], forgotten, kinds)
    assert found.difference == pytest.approx(expected.difference, abs=1e-6)
    assert found.p_value == pytest.approx(expected.p_value, abs=1e-6)


def test_levels_against_a_fit_of_models_and_images():
    """With one kind, unseen images enter by the levels of margin = model + image alone."""
    rng = np.random.default_rng(8)
    model, retrains, forgotten, _ = simulated(rng, 4, 1)
    retrains[:2, 1 + rng.permutation(UNSEEN)[:50]] = np.nan
    retrains[2, 1:20] = np.nan
    columns = 1 + np.flatnonzero(np.isfinite(retrains[:, 1:]).sum(0) >= 2)
    rows, images = np.nonzero(np.isfinite(retrains[:, columns]))
    design = np.concatenate([np.eye(4)[rows], np.eye(len(columns))[images]], 1)
    margins = retrains[:, columns][rows, images]
    fit = np.linalg.lstsq(design, margins, rcond=None)[0]
    others = retrains[:, 0] - fit[:4]
    difference = model[0] - (model[columns] - fit[4:]).mean() - others.mean()
    found = paired_test(model, retrains, forgotten, np.zeros(len(model), int))
    assert found.difference == pytest.approx(difference)
    assert found.error == pytest.approx(others.std(ddof=1) * np.sqrt(1 + 1 / 4))


def test_power_against_simulation():
    rng = np.random.default_rng(5)
    images, retrains, effect, draws = 12, 4, 1.5, 600
    found = sum(
        paired_test(*simulated(rng, retrains, images, effect=effect)).is_found for _ in range(draws)
    )
    shares = np.full(3, 1 / 3)  # variance of the unseen images' mean, three kinds of 20 each
    spread = np.sqrt(1 / images + (shares**2).sum() / (UNSEEN / 3)) * np.sqrt(1 + 1 / retrains)
    assert power(effect, spread, retrains) == pytest.approx(found / draws, abs=0.06)


def test_power_without_an_effect_is_the_level_and_grows_with_retrains():
    assert power(0.0, 1.0, 3) == pytest.approx(LEVEL)
    found = [power(2.0, 1.0, 3, others) for others in (2, 3, 5, 10, 40)]
    assert found == sorted(found)
    assert power(2.0, 1.0, 3, 3) == power(2.0, 1.0, 3)


def test_the_number_of_retrains_that_is_needed():
    needed = retrains_needed(3.0, 1.0, 3)
    assert power(3.0, 1.0, 3, needed) >= WANTED_POWER > power(3.0, 1.0, 3, needed - 1)
    assert retrains_needed(0.5, 1.0, 3) is None
    assert retrains_needed(9.0, 1.0, 3) == 4  # more than there are
    assert power(0.5, 1.0, 3, MAX_RETRAINS) < WANTED_POWER


def test_retrains_that_do_not_differ_give_no_test():
    same = np.tile([0.1, 1 / 3, 7.7, -2.3], (3, 1))  # whose mean is rounded
    forgotten = np.array([True, True, False, False])
    assert paired_test(np.zeros(4), same, forgotten, np.zeros(4, int)) is None


@pytest.mark.parametrize(
    "retrains, forgotten",
    [
        (np.ones((1, 2)), [True, False]),
        (np.ones((3, 2)), [True, True]),
        (np.ones((3, 2)), [False, False]),
        (np.array([[1.0, np.nan], [np.nan, 1.0], [1.0, 1.0]]), [True, False]),
    ],
    ids=["one Retrain", "no unseen image", "no forgotten image", "no common image"],
)
def test_what_cannot_be_tested(retrains, forgotten):
    with pytest.raises(ValueError, match="two Retrains"):
        paired_test(np.zeros(2), retrains, np.array(forgotten), np.zeros(2, int))
