"""Distances are 0 for the same model and elsewhere what a formula, a loop or an integral finds."""

import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.spatial.distance import jensenshannon
from scipy.stats import norm

from evaluation.figure import Figure, undefined
from evaluation.metrics.distance import (
    BINNED_FROM,
    BINS,
    GAP_KEYS,
    LARGEST_MARGIN,
    LEAST_MODELS,
    LEAST_SHARE,
    agreement,
    average_gap,
    js_divergence,
    klom,
    margins,
)


def random_logits(seed, count=40, classes=5, scale=3.0):
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(count, classes, generator=generator)


def margin_groups(*models, images=6):
    """Margins of unlearned and of Retrain models, whose means and spreads differ by image."""
    rng = np.random.default_rng(models[0])
    return [
        rng.normal(rng.normal(0, 2, images), rng.uniform(0.5, 2, images), (count, images))
        for count in models
    ]


@pytest.mark.parametrize("multi_label", [False, True])
def test_identical_outputs_are_no_way_apart(multi_label):
    logits = random_logits(0)
    assert agreement(logits, logits.clone(), multi_label).value == 1
    assert js_divergence(logits, logits.clone(), multi_label).value == 0


@pytest.mark.parametrize("multi_label", [False, True])
def test_opposite_outputs_are_one_bit_apart(multi_label):
    logits = 2000 * torch.eye(4) - 1000
    other = -logits if multi_label else logits.roll(1, 0)
    assert js_divergence(logits, other, multi_label).value == 1
    assert agreement(logits, other, multi_label).value == 0


def test_agreement_by_a_loop():
    ours, theirs = (random_logits(seed).tolist() for seed in (0, 1))
    same_class = same_findings = 0
    for first, second in zip(ours, theirs, strict=True):
        same_class += first.index(max(first)) == second.index(max(second))
        same_findings += sum((a > 0) == (b > 0) for a, b in zip(first, second, strict=True))
    pair = torch.tensor(ours), torch.tensor(theirs)
    assert agreement(*pair, False).value == pytest.approx(same_class / 40)
    assert agreement(*pair, True).value == pytest.approx(same_findings / 200)


def test_js_divergence_against_scipy():
    p, q = (random_logits(seed).double() for seed in (0, 1))
    expected = np.mean(jensenshannon(p.softmax(1), q.softmax(1), base=2, axis=1) ** 2)
    assert js_divergence(p, q, False).value == pytest.approx(expected)
    yes_no = [np.stack([part.sigmoid(), 1 - part.sigmoid()]) for part in (p, q)]
    expected = np.mean(jensenshannon(*yes_no, base=2, axis=0) ** 2)
    assert js_divergence(p, q, True).value == pytest.approx(expected)
    assert js_divergence(p, q, True) == js_divergence(q, p, True)


def test_of_no_image_nothing_is_said():
    nothing = torch.zeros(0, 3)
    for measure in (agreement, js_divergence):
        assert measure(nothing, nothing, False).why_undefined == "no image"


def test_average_gap_by_hand():
    ours = dict(zip(GAP_KEYS, map(Figure, (90.0, 99.0, 95.0, 70.0)), strict=True))
    theirs = dict(zip(GAP_KEYS, map(Figure, (100.0, 98.0, 95.5, 90.0)), strict=True))
    assert average_gap(ours, theirs).value == (10 + 1 + 0.5 + 20) / 4
    assert average_gap(theirs, ours) == average_gap(ours, theirs)
    assert average_gap(ours, dict(ours)).value == 0


@pytest.mark.parametrize("key", GAP_KEYS)
def test_average_gap_passes_on_why_it_is_undefined(key):
    figures = dict.fromkeys(GAP_KEYS, Figure(50.0))
    broken = figures | {key: undefined("nobody there")}
    for pair in ((figures, broken), (broken, figures)):
        assert average_gap(*pair).why_undefined == f"{key} is not defined: nobody there"


def test_margins_are_log_odds():
    logits = random_logits(0).double()
    labels = torch.arange(40) % 5
    p = logits.softmax(1)[torch.arange(40), labels].numpy()
    np.testing.assert_allclose(margins(logits, labels), np.log(p / (1 - p)), rtol=1e-9)
    extreme = torch.tensor([[1e4, 0, 0], [1e4, 0, 0], [40.0, -40, -40]])
    expected = [1e4 - math.log(2), -1e4, 80 - math.log(2)]
    np.testing.assert_allclose(margins(extreme, torch.tensor([0, 1, 0])), expected, rtol=1e-12)


@pytest.mark.parametrize("models", [(3, 3), (30, 30), (3, 5), (BINNED_FROM - 1, BINNED_FROM + 10)])
def test_klom_of_few_models_against_an_integral(models):
    ours, retrains = margin_groups(*models)
    found = klom(ours, retrains)
    for image in range(ours.shape[1]):
        q, p = (
            norm(part[:, image].mean(), part[:, image].std(ddof=1)) for part in (ours, retrains)
        )
        ends = p.mean() - 12 * p.std(), p.mean() + 12 * p.std()
        expected, _ = quad(
            lambda x, p=p, q=q: p.pdf(x) * (p.logpdf(x) - q.logpdf(x)), *ends, limit=200
        )
        assert found[image] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("models", [(BINNED_FROM, BINNED_FROM), (BINNED_FROM + 40, 100)])
def test_klom_of_many_models_against_a_loop(models):
    ours, retrains = margin_groups(*models)
    found = klom(ours, retrains)
    for image in range(ours.shape[1]):
        both = [part[:, image].tolist() for part in (retrains, ours)]
        low, high = min(map(min, both)), max(map(max, both))
        shares = []
        for values in both:
            bins = [0] * BINS
            for value in values:
                bins[min(int((value - low) / (high - low) * BINS), BINS - 1)] += 1
            shares.append([count / len(values) for count in bins])
        expected = sum(
            p * math.log(p / max(q, LEAST_SHARE)) for p, q in zip(*shares, strict=True) if p
        )
        assert found[image] == pytest.approx(expected)
        assert expected > 0


@pytest.mark.parametrize("models", [LEAST_MODELS, 7, BINNED_FROM - 1, BINNED_FROM])
def test_klom_of_identical_groups_is_nothing(models):
    group, _ = margin_groups(models, models)
    assert (klom(group, group.copy()) == 0).all()
    np.testing.assert_allclose(klom(group, group[::-1]), 0, atol=1e-12)
    still = np.full((models, 2), [[3.0, -1e6]])  # models that all say the same
    assert (klom(still, still) == 0).all()
    assert (klom(still + 1, still)[:1] > 1).all()


def test_klom_of_groups_of_one_kind_is_small_and_grows_with_their_distance():
    rng = np.random.default_rng(0)
    same, shifted = (
        np.median(klom(rng.normal(shift, 1, (100, 200)), rng.normal(0, 1, (100, 200))))
        for shift in (0, 4)
    )
    assert 5 * same < shifted


def test_klom_cuts_margins_off():
    rng = np.random.default_rng(0)
    ours = rng.normal(0, 1, (4, 1))
    beyond, at_the_end = (np.array([[top], [top - 5], [0.0]]) for top in (1e9, LARGEST_MARGIN + 5))
    assert klom(ours, beyond) == klom(ours, at_the_end)


@pytest.mark.parametrize("models", [(1, 5), (5, 1), (2, 5), (5, 2)])
def test_one_or_two_models_have_no_spread(models):
    with pytest.raises(ValueError, match="3 models of each kind"):
        klom(*margin_groups(*models))
