"""KLOM is 0 for identical groups and elsewhere that of an integral, or of a loop."""

import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.stats import norm

from evaluation.metrics.klom import (
    BINNED_FROM,
    BINS,
    MAX_MARGIN,
    MIN_MODELS,
    MIN_PROPORTION,
    klom,
    klom_by_chance,
    klom_figures,
    margins,
)


def margin_groups(*models, images=6):
    """Margins of unlearned and of Retrain models, whose means and spreads differ by image."""
    rng = np.random.default_rng(models[0])
    return [
        rng.normal(rng.normal(0, 2, images), rng.uniform(0.5, 2, images), (count, images))
        for count in models
    ]


def random_logits(seed, count=40, classes=5, scale=3.0):
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(count, classes, generator=generator)


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
        proportions = []
        for values in both:
            bins = [0] * BINS
            for value in values:
                bins[min(int((value - low) / (high - low) * BINS), BINS - 1)] += 1
            proportions.append([count / len(values) for count in bins])
        expected = sum(
            p * math.log(p / max(q, MIN_PROPORTION)) for p, q in zip(*proportions, strict=True) if p
        )
        assert found[image] == pytest.approx(expected)
        assert expected > 0


@pytest.mark.parametrize("models", [MIN_MODELS, 7, BINNED_FROM - 1, BINNED_FROM])
def test_klom_of_identical_groups_is_nothing(models):
    group, _ = margin_groups(models, models)
    assert (klom(group, group.copy()) == 0).all()
    np.testing.assert_allclose(klom(group, group[::-1]), 0, atol=1e-12)
    still = np.full((models, 2), [[3.0, -1e6]])  # identical models
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
    beyond, at_the_end = (np.array([[top], [top - 5], [0.0]]) for top in (1e9, MAX_MARGIN + 5))
    assert klom(ours, beyond) == klom(ours, at_the_end)


@pytest.mark.parametrize("models", [(1, 5), (5, 1), (2, 5), (5, 2)])
def test_one_or_two_models_have_no_spread(models):
    with pytest.raises(ValueError, match="3 models of each kind"):
        klom(*margin_groups(*models))


def _margins(rng, *shapes, mean=0.0, spread=1.0):
    return [[{"forget": rng.normal(mean, spread, n)} for _ in range(m)] for m, n in shapes]


@pytest.mark.parametrize("models", [(3, 3), (5, 3), (10, 10), (100, 100)])
def test_klom_by_chance_is_that_of_equal_groups_of_any_kind(models):
    images = 2000 if models[0] == 100 else 100_000
    groups = _margins(np.random.default_rng(5), *((m, images) for m in models), mean=7, spread=3)
    found = klom_figures(*groups)["klom_forget_nats"].value
    by_chance = klom_by_chance(*models, ["forget", "test"])
    assert by_chance["klom_forget_nats"] == by_chance["klom_test_nats"]
    assert by_chance["klom_forget_nats"].value == pytest.approx(found, rel=0.05)


def test_klom_by_chance_falls_with_the_models_and_below_what_differs():
    values = [klom_by_chance(m, m, ["forget"])["klom_forget_nats"].value for m in (3, 6, 20, 99)]
    assert values == sorted(values, reverse=True)
    assert values[-1] < 0.1 and values[0] > 10  # which is why it is given in the table
    rng = np.random.default_rng(0)
    (ours,), (theirs,) = _margins(rng, (20, 500), mean=2), _margins(rng, (20, 500))
    assert klom_figures(ours, theirs)["klom_forget_nats"].value > 3 * values[2]
    (none,) = _margins(rng, (3, 0))
    assert klom_figures(none, none)["klom_forget_nats"].why_undefined == "no image"
