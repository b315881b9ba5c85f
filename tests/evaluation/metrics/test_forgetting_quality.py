"""Forgetting quality: epsilons by hand and by a loop, scores by bins, what chance gives."""

import math
from types import SimpleNamespace

import numpy as np
import pytest

from evaluation.audit import MODEL, RETRAIN
from evaluation.metrics import forgetting_quality
from evaluation.metrics.forgetting_quality import (
    CAP,
    DELTA,
    KEYS,
    compute,
    epsilon,
    quality_figures,
    quality_scores,
)
from evaluation.metrics.klom import MIN_MODELS
from evaluation.registry import MEASURES


def epsilon_by_loop(unlearned, retrained):
    """The same by trying each pair of cuts, with counts of models."""
    values = sorted({*unlearned, *retrained})
    cuts = [-math.inf, *((a + b) / 2 for a, b in zip(values, values[1:], strict=False)), math.inf]
    ranges = [max(kind) - min(kind) for kind in (unlearned, retrained)]
    rules = []
    upper, lower = unlearned, retrained
    if np.median(retrained) > np.median(unlearned):
        upper, lower = retrained, unlearned
    narrow, wide = (retrained, unlearned) if ranges[1] < ranges[0] else (unlearned, retrained)
    for cut in cuts:
        rules.append((np.mean([x < cut for x in upper]), np.mean([x > cut for x in lower])))
    for place, low in enumerate(cuts):
        for high in cuts[place + 1 :]:
            rules.append(
                (
                    np.mean([not low < x < high for x in narrow]),
                    np.mean([low < x < high for x in wide]),
                )
            )
    best = 0.0
    for fnr, fpr in rules:
        if fnr == fpr == 0:
            return CAP
        if fnr > 0 and fpr > 0:
            for one, other in ((fnr, fpr), (fpr, fnr)):
                if 1 - DELTA - one > 0:
                    best = max(best, math.log((1 - DELTA - one) / other))
    return best


@pytest.mark.parametrize("seed", range(20))
def test_epsilon_against_a_loop(seed):
    rng = np.random.default_rng(seed)
    unlearned = rng.normal(rng.normal(), rng.uniform(0.3, 2), rng.integers(3, 9))
    retrained = rng.normal(0, 1, rng.integers(3, 9))
    expected = epsilon_by_loop(list(unlearned), list(retrained))
    assert epsilon(unlearned, retrained) == pytest.approx(expected)


def test_epsilon_by_hand():
    """Above 2.5: three of four unlearned models and one of four Retrains; no better rule."""
    unlearned, retrained = np.array([1.0, 3.0, 5.0, 7.0]), np.array([0.0, 2.0, 2.2, 6.0])
    assert epsilon(unlearned, retrained) == pytest.approx(math.log((1 - DELTA - 1 / 4) / (1 / 4)))
    assert epsilon(np.array([5.0, 6.0, 7.0]), np.array([1.0, 2.0, 3.0])) == CAP
    # one kind within the other, found by two thresholds
    assert epsilon(np.array([2.0, 2.1, 2.2]), np.array([1.0, 3.0, 4.0])) == CAP
    assert epsilon(np.array([2.0, 2.0, 2.0]), np.array([1.0, 2.0, 3.0])) == CAP  # constant


def test_scores_halve_with_each_bin():
    found = quality_scores(np.array([0.0, 0.49, 0.5, 1.2, 1.99, 2.0, CAP]), 8)
    assert found.tolist() == [1, 1, 0.5, 0.25, 0.125, 0, 0]  # log(7) = 1.95: bins up to 2


def test_models_of_one_kind_are_better_than_others_and_near_chance():
    rng = np.random.default_rng(1)
    same = quality_figures(*rng.normal(size=(2, 6, 300)))
    other = quality_figures(rng.normal(2, 1, (6, 300)), rng.normal(size=(6, 300)))
    chance = quality_figures(*rng.normal(size=(2, 6, 2000)))
    assert same["forgetting_quality"].low < chance["forgetting_quality"].value
    assert same["forgetting_quality"].high > chance["forgetting_quality"].value
    assert other["forgetting_quality"].high < same["forgetting_quality"].low


def context_of(title, peers, retrains):
    audit = SimpleNamespace(peers=[None] * peers, retrains=[None] * retrains)
    return SimpleNamespace(
        audit=audit,
        retrain=audit,
        seed=1,
        is_tested=title == MODEL,
        is_retrain=title == RETRAIN,
        peers=lambda: range(1, 1 + peers),
        retrains=lambda: range(100, 100 + retrains),
    )


def test_too_few_models_are_a_reason_and_no_peers_none():
    figures = compute(context_of(MODEL, MIN_MODELS - 2, MIN_MODELS))
    assert set(figures) == set(KEYS)
    assert "2 models and 3 Retrains" in figures["forgetting_quality"].why_undefined
    assert compute(context_of(MODEL, 0, 3)) == {}
    assert compute(context_of("base model", 4, 4)) == {}


def test_the_margins_of_all_models_are_compared(monkeypatch):
    rng = np.random.default_rng(7)
    margins = {}

    def set_margins(each):
        key = each if isinstance(each, int) else 0
        return {"forget": margins.setdefault(key, rng.normal(size=30))}

    monkeypatch.setattr(forgetting_quality, "set_margins", set_margins)
    found = compute(context_of(MODEL, 3, 4))
    groups = [np.array([margins[key] for key in keys]) for keys in (range(4), range(100, 104))]
    assert found == quality_figures(*groups)


def test_the_column_of_retrain_is_chance():
    figures = compute(context_of(RETRAIN, 4, 5))
    assert figures["forgetting_quality"].low is None
    expected = quality_figures(*np.random.default_rng(9).normal(size=(2, 5, 2000)))
    value = expected["forgetting_quality"].value
    assert figures["forgetting_quality"].value == pytest.approx(value, abs=0.02)


def test_earlier_figures_are_dropped_if_any_of_the_models_changed():
    assert MEASURES["forgetting_quality"].inputs == MEASURES["klom"].inputs
    assert set(MEASURES["klom"].inputs) == {"seed_weights_digests", "retrain_weights_digests"}
