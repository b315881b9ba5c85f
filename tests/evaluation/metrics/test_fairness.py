"""Gaps between groups are computed by hand, or in a plain loop."""

import numpy as np
import pytest

from evaluation.figure import Figure
from evaluation.metrics.fairness import compute, group_gaps
from evaluation.statistics import wilson_proportion
from tests.evaluation.contexts import certain_outputs, make_context, random_predictions
from unlearn.request.request import ForgetRequest

# Group A: class 0 right in 3 of 4, class 1 in 1 of 2. Group B: 2 of 2, and 1 of 4.
GROUPS = np.repeat(["A", "B"], 6)
LABELS = np.array([0, 0, 0, 0, 1, 1, 0, 0, 1, 1, 1, 1])
PREDICTED = np.array([0, 0, 0, 1, 1, 0, 0, 0, 1, 0, 0, 0])


def rates_by_loop(predicted, labels, num_classes):
    """{(class, truth): fraction of images predicted to be of the class}, where there are images."""
    rates = {}
    for number in range(num_classes):
        for truth in (True, False):
            said = [
                answer == number
                for answer, label in zip(predicted, labels, strict=True)
                if (label == number) == truth
            ]
            if said:
                rates[number, truth] = sum(said) / len(said)
    return rates


def test_gaps_by_hand():
    gaps = group_gaps(PREDICTED, LABELS, GROUPS, 2)
    assert {group: figure.value for group, figure in gaps.accuracies.items()} == {
        "A": 4 / 6,
        "B": 3 / 6,
    }
    assert gaps.accuracies["A"] == wilson_proportion(np.arange(6) < 4, "")  # with its interval
    assert gaps.accuracy_gap == Figure(4 / 6 - 3 / 6)
    # class 0: true positives 3/4 and 2/2, false positives 1/2 and 3/4; class 1 mirrors them
    assert gaps.equalized_odds_gap == Figure(1 / 4)


def test_one_group_perfect_and_one_always_wrong():
    labels = np.array([0, 1, 0, 1])
    gaps = group_gaps(np.array([0, 1, 1, 0]), labels, np.array(["old", "old", "new", "new"]), 2)
    assert gaps.accuracy_gap == gaps.equalized_odds_gap == Figure(1)


@pytest.mark.parametrize("seed", range(3))
def test_odds_against_a_loop(seed):
    rng = np.random.default_rng(seed)
    labels, predicted = rng.integers(4, size=(2, 60))
    groups = rng.choice(["east", "north", "west"], 60)
    groups[:2], labels[:2] = "tiny", 3  # no rate of the other classes' images
    by_group = [
        rates_by_loop(predicted[groups == group], labels[groups == group], 4)
        for group in sorted(set(groups))
    ]
    expected = 0
    for key in {key for rates in by_group for key in rates}:
        values = [rates[key] for rates in by_group if key in rates]
        expected = max(expected, max(values) - min(values))
    gaps = group_gaps(predicted, labels, groups, 4)
    assert gaps.equalized_odds_gap.value == pytest.approx(expected)


def test_findings_by_hand():
    labels = np.array([[1, 0], [0, 1], [1, 0], [0, 1]])
    predicted = np.array([[1, 0], [0, 1], [1, 1], [0, 1]])
    gaps = group_gaps(predicted, labels, np.array(["f", "f", "m", "m"]), 2)
    assert [gaps.accuracies[group].value for group in "fm"] == [1, 3 / 4]
    assert gaps.accuracy_gap == Figure(1 / 4)
    assert gaps.equalized_odds_gap == Figure(1)  # the second finding's false positives: none, all


def test_groups_that_are_served_alike_have_no_gap():
    rng = np.random.default_rng(0)
    for shape in ((50,), (50, 3)):
        labels, predicted = rng.integers(2, size=(2, *shape))
        twice = (np.concatenate([part, part, part]) for part in (predicted, labels))
        gaps = group_gaps(*twice, np.repeat(["A", "B"], [50, 100]), 3 if len(shape) > 1 else 2)
        assert gaps.accuracy_gap == gaps.equalized_odds_gap == Figure(0)


def test_gaps_that_cannot_be_measured():
    gaps = group_gaps(PREDICTED, LABELS, np.full(12, "A"), 2)
    assert gaps.accuracy_gap.why_undefined == "fewer than two groups"
    assert gaps.equalized_odds_gap.why_undefined == "fewer than two groups"
    assert not gaps.accuracy_gap_by_chance.is_defined
    assert not gaps.equalized_odds_gap_by_chance.is_defined
    assert gaps.accuracies == {"A": wilson_proportion(PREDICTED == LABELS, "")}
    # each group holds one class alone: no rate of one can be held against the other's
    gaps = group_gaps(np.array([0, 1]), np.array([0, 1]), np.array(["A", "B"]), 2)
    assert gaps.accuracy_gap == Figure(0)
    assert gaps.equalized_odds_gap.why_undefined == "no rate can be measured in two groups"
    assert not gaps.equalized_odds_gap_by_chance.is_defined


def served(sizes, rights, seed, multi_label=False):
    """Predictions, labels and groups of so many images, so many of them right in each group."""
    rng = np.random.default_rng(seed)
    groups = np.repeat([f"group {number}" for number in range(len(sizes))], sizes)
    labels = rng.integers(2, size=(sum(sizes), 3) if multi_label else sum(sizes))
    chance = np.repeat(rights, sizes)
    right = rng.random(labels.shape) < (chance[:, None] if multi_label else chance)
    order = rng.permutation(len(groups))
    return np.where(right, labels, 1 - labels)[order], labels[order], groups[order]


NAMES = ("accuracy_gap", "equalized_odds_gap")
ENDINGS = ("", "_by_chance")


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("sizes", [(150, 150), (30, 300), (20, 60, 200)])
def test_a_fair_models_gap_is_about_that_by_chance(sizes, multi_label):
    """Of a fair model's images drawn again; the mean over draws, because one gap varies."""
    classes, found = 3 if multi_label else 2, []
    for seed in range(20):
        gaps = group_gaps(*served(sizes, [0.8] * len(sizes), seed, multi_label), classes, seed)
        found.append([getattr(gaps, name + end).value for name in NAMES for end in ENDINGS])
    means = np.mean(found, 0)
    for gap, by_chance in (means[:2], means[2:]):
        assert by_chance == pytest.approx(gap, rel=0.35)
        assert by_chance > 0.02


@pytest.mark.parametrize("multi_label", [False, True])
def test_a_planted_gap_is_far_above_that_by_chance(multi_label):
    made = served((150, 150), [0.95, 0.55], 0, multi_label)
    gaps = group_gaps(*made, 3 if multi_label else 2)
    for name in NAMES:
        gap, by_chance = (getattr(gaps, name + end).value for end in ENDINGS)
        assert gap > 0.3 and gap > 3 * by_chance > 0


@pytest.mark.parametrize("multi_label", [False, True])
def test_a_model_that_is_always_right_has_no_gap_by_chance_either(multi_label):
    _, labels, groups = served((20, 60), [1, 1], 0, multi_label)
    gaps = group_gaps(labels, labels, groups, 3 if multi_label else 2)
    for name in NAMES:
        assert [getattr(gaps, name + end) for end in ENDINGS] == [Figure(0), Figure(0)]


def test_gaps_by_chance_against_lots_drawn_here():
    predicted, labels, groups = served((25, 75), [0.9, 0.6], 4)
    rng, drawn = np.random.default_rng(99), []
    for _ in range(2000):
        lot = rng.permutation(100)
        right = (predicted == labels)[lot]
        drawn.append(abs(right[:25].mean() - right[25:].mean()))
    found = [group_gaps(predicted, labels, groups, 2, seed) for seed in range(8)]
    by_chance = [gaps.accuracy_gap_by_chance.value for gaps in found]
    np.testing.assert_allclose(by_chance, np.mean(drawn), rtol=0.25)
    assert np.mean(by_chance) == pytest.approx(np.mean(drawn), rel=0.07)
    assert len({gaps.accuracy_gap for gaps in found}) == 1 < len(set(by_chance))
    assert found[1] == group_gaps(predicted, labels, groups, 2)


def figures_of(predicted, labels, groups):
    request = ForgetRequest((1,))
    outputs = {"test": certain_outputs(predicted, labels, request)}
    return compute(make_context(request, outputs, groups=groups))


@pytest.mark.parametrize("seed", range(3))
def test_figures_are_of_images_of_kept_classes(seed):
    predicted, labels = random_predictions(seed)
    groups = np.random.default_rng(9).choice(["f", "m"], 200)
    figures = figures_of(predicted, labels, groups)
    kept = labels != 1
    gaps = group_gaps(predicted[kept], labels[kept], groups[kept], 4)
    for name in ("accuracy_gap", "equalized_odds_gap"):
        for ending in ("", "_by_chance"):
            key = f"{name}{ending}_points"
            key = f"group_{key}" if name == "accuracy_gap" else key
            assert figures[key] == getattr(gaps, name + ending).times(100)
            assert figures[key].is_defined
    accuracies = []
    for group in "fm":
        own = kept & (groups == group)
        accuracies.append(figures[f"group_accuracy_percent:{group}"].value)
        assert accuracies[-1] == pytest.approx(100 * np.mean(predicted[own] == labels[own]))
    gap = figures["group_accuracy_gap_points"].value
    assert gap == pytest.approx(max(accuracies) - min(accuracies))
    # predictions for images of the forgotten class do not count
    assert figures_of(np.where(kept, predicted, 3), labels, groups) == figures


def test_groups_of_findings_are_compared_by_kept_findings():
    predicted, labels = random_predictions(0, multi_label=True)
    groups = np.random.default_rng(9).choice(["f", "m"], 200)
    figures = figures_of(predicted, labels, groups)
    gaps = group_gaps(predicted[:, [0, 2, 3]], labels[:, [0, 2, 3]], groups, 3)
    assert figures["group_accuracy_gap_points"] == gaps.accuracy_gap.times(100)
    assert figures["equalized_odds_gap_points"] == gaps.equalized_odds_gap.times(100)
    assert figures["group_accuracy_percent:f"] == gaps.accuracies["f"].times(100)


def test_without_groups_there_are_no_figures():
    assert figures_of(*random_predictions(0), None) == {}
