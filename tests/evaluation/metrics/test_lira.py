"""U-LiRA's ratios are those of a plain loop; it finds memory where it is, and only there."""

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from evaluation.metrics.lira import (
    MIN_SHADOW_MODELS,
    MIN_SHADOWS_FOR_OWN_SPREAD,
    MIN_SPREAD,
    likelihood_ratios,
    shadow_memberships,
)


@pytest.mark.parametrize("count", [MIN_SHADOW_MODELS, 16, MIN_SHADOWS_FOR_OWN_SPREAD])
@pytest.mark.parametrize("queries", [1, 2, 7, 100])
def test_every_image_is_seen_by_half_of_the_models(count, queries):
    seen = shadow_memberships(count, queries)
    assert (seen.shape, seen.dtype) == ((count, queries), bool)
    assert (seen.sum(0) == count // 2).all()
    for first, second in zip(seen[::2], seen[1::2], strict=True):
        np.testing.assert_array_equal(first, ~second)
        assert first.sum() - second.sum() == queries % 2


def test_memberships_are_drawn_by_the_seed():
    seen = shadow_memberships(8, 50, seed=3)
    np.testing.assert_array_equal(shadow_memberships(8, 50, seed=3), seen)
    assert (shadow_memberships(8, 50, seed=4) != seen).any()
    assert len({half.tobytes() for half in seen}) == 8  # no model twice


def test_more_models_begin_with_the_same_ones():
    """So that existing shadow models can be used."""
    np.testing.assert_array_equal(shadow_memberships(16, 31)[:8], shadow_memberships(8, 31))


def test_no_image_is_preferred():
    """Of 2,000 pairs each image is in the first half about 1,000 times, and pairs as often."""
    halves = shadow_memberships(4000, 10)[::2]
    assert np.abs(halves.mean(0) - 0.5).max() < 4 * 0.5 / np.sqrt(2000)
    together = (halves[:, :, None] & halves[:, None]).mean(0)[~np.eye(10, dtype=bool)]
    assert np.abs(together - 5 * 4 / (10 * 9)).max() < 0.05


@pytest.mark.parametrize("count", [0, 2, MIN_SHADOW_MODELS - 1, 7, 65])
def test_numbers_of_models_that_make_no_pairs(count):
    with pytest.raises(ValueError, match=f"{count} shadow models: the number must be even"):
        shadow_memberships(count, 5)


def drawn(count, queries, *, memory=0.0, seed=0):
    """(target margins, shadow margins, seen): each image has its own mean; memory adds to it.

    The first half of the images are the target's members.
    """
    rng = np.random.default_rng(seed)
    seen = shadow_memberships(count, queries, seed)
    means = rng.normal(0, 5, queries)
    members = np.arange(queries) < queries // 2
    shadows = means + memory * seen + rng.normal(0, 1, (count, queries))
    return means + memory * members + rng.normal(0, 1, queries), shadows, seen


def ratios_by_loop(target, shadows, seen, pooled):
    ratios = []
    for kind in (seen, ~seen):
        away = [
            [shadows[m, i] - shadows[kind[:, i], i].mean() for m in np.flatnonzero(kind[:, i])]
            for i in range(len(target))
        ]
        if pooled:
            everything = sum(away, [])
            free = sum(len(part) - 1 for part in away)
            spreads = [np.sqrt(sum(value**2 for value in everything) / free)] * len(target)
        else:
            spreads = [np.sqrt(sum(v**2 for v in part) / (len(part) - 1)) for part in away]
        ratios.append(
            [
                norm(shadows[kind[:, i], i].mean(), spreads[i]).logpdf(target[i])
                for i in range(len(target))
            ]
        )
    return np.subtract(*ratios)


@pytest.mark.parametrize(
    "count",
    [
        MIN_SHADOW_MODELS,
        MIN_SHADOWS_FOR_OWN_SPREAD - 2,
        MIN_SHADOWS_FOR_OWN_SPREAD,
        MIN_SHADOWS_FOR_OWN_SPREAD + 6,
    ],
)
@pytest.mark.parametrize("memory", [0, 2])
def test_ratios_against_a_loop(count, memory):
    """One spread for all images with few models, one for each with many."""
    parts = drawn(count, 9, memory=memory, seed=count)
    pooled, own = (ratios_by_loop(*parts, pooled) for pooled in (True, False))
    found = likelihood_ratios(*parts)
    assert (found.shape, found.dtype) == ((9,), np.float64)
    np.testing.assert_allclose(
        found, pooled if count < MIN_SHADOWS_FOR_OWN_SPREAD else own, rtol=1e-9, atol=1e-12
    )
    assert not np.allclose(pooled, own)


def test_a_ratio_by_hand():
    """Seen: 2 and 4, mean 3, spread sqrt(2). Never seen: -1 and 1, mean 0, the same spread."""
    seen = np.array([[True], [False], [True], [False]])
    shadows = np.array([[2.0], [-1.0], [4.0], [1.0]])
    for target, ratio in ((3, 9 / 4), (0, -9 / 4), (1.5, 0)):
        found = likelihood_ratios(np.array([float(target)]), shadows, seen)
        np.testing.assert_allclose(found, [ratio], atol=1e-12)


@pytest.mark.parametrize("count", [MIN_SHADOW_MODELS, MIN_SHADOWS_FOR_OWN_SPREAD])
def test_models_that_all_say_the_same(count):
    """A spread of nothing divides by nothing; what is like both kinds speaks for neither."""
    seen = shadow_memberships(count, 3)
    shadows = np.where(seen, [1.0, 1, 2], [1.0, 0, 2])
    found = likelihood_ratios(np.array([1.0, 1, 2]), shadows, seen)
    assert np.isfinite(found).all()
    assert found[0] == found[2] == 0
    assert found[1] == pytest.approx(0.5 / MIN_SPREAD**2)


def auc(ratios):
    return roc_auc_score(np.arange(len(ratios)) < len(ratios) // 2, ratios)


@pytest.mark.parametrize("count", [MIN_SHADOW_MODELS, 16, MIN_SHADOWS_FOR_OWN_SPREAD])
def test_memory_is_found_where_one_threshold_finds_none(count):
    """Images differ more among each other than a seen one from the same one unseen."""
    target, shadows, seen = drawn(count, 2000, memory=5)
    assert auc(likelihood_ratios(target, shadows, seen)) > 0.98
    assert auc(target) < 0.8


@pytest.mark.parametrize("count", [MIN_SHADOW_MODELS, 16, MIN_SHADOWS_FOR_OWN_SPREAD])
@pytest.mark.parametrize("seed", range(3))
def test_no_memory_is_no_finding(count, seed):
    """4,000 images: guessing has a standard error of 0.009."""
    target, shadows, seen = drawn(count, 4000, memory=0, seed=seed)
    assert abs(auc(likelihood_ratios(target, shadows, seen)) - 0.5) < 0.035


def test_a_target_that_forgot_is_not_accused():
    """Shadow models whose unlearning leaves a trace tell nothing of a target without one."""
    _, shadows, seen = drawn(16, 2000, memory=3)
    target, _, _ = drawn(16, 2000, memory=0)  # the same means: drawn by the same seed
    found = likelihood_ratios(target, shadows, seen)
    assert abs(auc(found) - 0.5) < 0.05
    assert (found > 0).mean() < 0.15
