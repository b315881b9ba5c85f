"""The SWAP test: 0 whenever forgetting leaves no trace, whatever the images are like."""

import numpy as np
import pytest

from evaluation.metrics.lira import shadow_memberships
from evaluation.metrics.swap import swap_figures

QUERIES = 24


def margins_of(rng, models, effect):
    """(margins, seen); effect: what having been trained on an image leaves in its margin."""
    seen = shadow_memberships(models, QUERIES, int(rng.integers(1000)))
    images = rng.normal(5, 3, QUERIES)
    return images + rng.normal(size=seen.shape) + effect * seen, seen


def test_models_that_do_not_depend_on_what_they_forgot_have_no_advantage():
    """Exactly 0, although half of the images have much larger margins than the others."""
    images = np.where(np.arange(QUERIES) < QUERIES // 2, 9.0, -3.0)
    seen = shadow_memberships(6, QUERIES, 1)
    found = swap_figures(np.tile(images, (6, 1)), seen)
    assert (found["swap_advantage"].value, found["swap_quality"].value) == (0, 1)


def test_an_advantage_by_hand():
    """Two pairs of models and four images, compared with their means under the other pair."""
    seen = np.array([[1, 1, 0, 0], [0, 0, 1, 1]] * 2, bool)
    shadows = np.where(seen, 4.0, 0.0)
    found = swap_figures(shadows, seen)
    assert found["swap_advantage"].value == 1
    assert found["swap_quality"].value == 0
    shadows[0, 2] = 4.0  # an unseen image that the first model of the first pair knows
    # differences of the first pair: 2, 2, 2, -2 and -2, -2, 2, 2, of which the third is unseen
    first = ((1 - 1 / 2) + (1 - 0)) / 2
    # the mean of the third image is 4 now: 2, 2, -4, -2 and -2, -2, 0, 2, above 0 one of two
    second = ((1 - 0) + (1 / 2 - 0)) / 2
    found = swap_figures(shadows, seen)["swap_advantage"]
    assert found.value == pytest.approx((first + second) / 2)


def test_forgotten_images_that_are_known_worse_have_a_negative_advantage():
    rng = np.random.default_rng(3)
    found = swap_figures(*margins_of(rng, 8, -3.0))["swap_advantage"]
    assert found.high < 0
    assert swap_figures(*margins_of(rng, 8, 3.0))["swap_advantage"].low > 0


def test_the_interval_holds_the_advantage_of_retrain():
    """Of 200 draws 95% have a standard deviation of 1.5 points."""
    rng = np.random.default_rng(2)
    found = [swap_figures(*margins_of(rng, 8, 0.0))["swap_advantage"] for _ in range(200)]
    assert np.mean([each.low <= 0 <= each.high for each in found]) > 0.89
    assert np.mean([each.value for each in found]) == pytest.approx(0, abs=0.03)


def test_the_quality_interval_is_that_of_the_advantage():
    found = swap_figures(*margins_of(np.random.default_rng(5), 8, 1.0))
    advantage, quality = found["swap_advantage"], found["swap_quality"]
    assert quality.value == pytest.approx(1 - advantage.value)
    assert quality.low == pytest.approx(1 - advantage.high)
    assert quality.high == pytest.approx(1 - max(0, advantage.low))


def test_one_pair_is_too_few():
    found = swap_figures(*margins_of(np.random.default_rng(1), 4, 0.0))
    assert found["swap_advantage"].is_defined
    shadows, seen = margins_of(np.random.default_rng(1), 4, 0.0)
    assert "shadow models" in swap_figures(shadows[:2], seen[:2])["swap_advantage"].why_undefined
