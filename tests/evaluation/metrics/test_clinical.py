"""Rates, costs and tests of worsening are what a formula, a loop or a pencil finds."""

import math

import numpy as np
import pytest
from evaluation.metrics.clinical import (
    SIGNIFICANCE,
    class_rates,
    expected_cost,
    holm,
    sensitivity_spread,
    significantly_worse,
    wilson_proportion,
    worst_sensitivity,
)
from scipy.stats import binom, binomtest

from evaluation.figure import Figure

LABELS = np.array([0, 0, 0, 0, 1, 1, 1, 2])
PREDICTED = np.array([0, 0, 0, 1, 1, 0, 2, 2])


def answers(*runs):
    """Bools of (count, value) runs: answers((2, True), (1, False)) is two right and one wrong."""
    return np.repeat([value for _, value in runs], [count for count, _ in runs])


@pytest.mark.parametrize("total", [1, 7, 200, 100_000])
@pytest.mark.parametrize("part", [0, 0.3, 1])
def test_intervals_are_wilsons(part, total):
    hits = round(part * total)
    figure = wilson_proportion(np.arange(total) < hits, "no images")
    p, z = hits / total, 1.959963984540054
    centre = (p + z**2 / (2 * total)) / (1 + z**2 / total)
    half = z / (1 + z**2 / total) * math.sqrt(p * (1 - p) / total + z**2 / (4 * total**2))
    assert figure.value == p
    assert (figure.low, figure.high) == pytest.approx((centre - half, centre + half), abs=1e-12)
    scipys = binomtest(hits, total).proportion_ci(method="wilson")
    assert (figure.low, figure.high) == pytest.approx((scipys.low, scipys.high), abs=1e-12)
    assert 0 <= figure.low <= figure.value <= figure.high <= 1


def test_findings_of_one_image_do_not_count_as_independent():
    right = answers((7, True), (4, False))
    assert wilson_proportion(
        np.repeat(right[:, None], 14, axis=1), "no images"
    ) == wilson_proportion(right, "no images")


def test_rates_by_hand():
    rates = class_rates(PREDICTED, LABELS, 4)
    assert [rate.sensitivity.value for rate in rates] == [3 / 4, 1 / 3, 1, None]
    assert [rate.specificity.value for rate in rates] == [3 / 4, 4 / 5, 6 / 7, 1]
    assert rates[3].sensitivity.why_undefined == "no image of the class"
    assert rates[0].sensitivity == wilson_proportion(answers((3, True), (1, False)), "")
    alone = class_rates(np.zeros(3, dtype=int), np.zeros(3, dtype=int), 2)
    assert alone[0].specificity.why_undefined == "no image of another class"


def test_findings_have_the_rates_of_their_one_hot_classes():
    rows = np.eye(4, dtype=int)
    assert class_rates(rows[PREDICTED], rows[LABELS], 4) == class_rates(PREDICTED, LABELS, 4)
    labels, predicted = np.array([[1, 1], [1, 0], [0, 0]]), np.array([[1, 0], [0, 0], [1, 1]])
    rates = class_rates(predicted, labels, 2)
    assert [rate.sensitivity.value for rate in rates] == [1 / 2, 0]
    assert [rate.specificity.value for rate in rates] == [0, 1 / 2]


def test_worst_and_spread_look_at_kept_classes_only():
    rates = class_rates(PREDICTED, LABELS, 4)
    assert worst_sensitivity(rates, [0, 1, 2, 3]) == (rates[1].sensitivity, 1)
    assert worst_sensitivity(rates, [0, 2]) == (rates[0].sensitivity, 0)
    assert sensitivity_spread(rates, [0, 1, 2, 3]) == Figure(1 - 1 / 3)
    assert sensitivity_spread(rates, [0, 2, 3]) == Figure(1 / 4)


def test_without_images_there_is_no_worst_and_no_spread():
    rates = class_rates(PREDICTED, LABELS, 4)
    worst, number = worst_sensitivity(rates, [3])
    assert (worst.is_defined, number) == (False, None)
    assert not sensitivity_spread(rates, [0, 3]).is_defined
    assert not expected_cost(LABELS[:0], LABELS[:0], np.ones((4, 4))).is_defined


def test_expected_cost_by_a_loop():
    rng = np.random.default_rng(0)
    costs, labels, predicted = rng.random((5, 5)), *rng.integers(5, size=(2, 100))
    total = 0
    for truth, answer in zip(labels, predicted, strict=True):
        total += costs[truth, answer]
    assert expected_cost(predicted, labels, costs).value == pytest.approx(total / 100)
    missed_ten_times_as_dear = np.array([[0, 1], [10, 0]])
    assert expected_cost(np.array([1, 0]), np.array([0, 1]), missed_ten_times_as_dear).value == 5.5


@pytest.mark.parametrize(("lost", "gained"), [(0, 1), (5, 0), (9, 2), (2, 9), (20, 20), (130, 70)])
def test_mcnemar_against_summed_binomial_coefficients(lost, gained):
    before = answers((lost, True), (gained, False), (6, True), (3, False))
    after = answers((lost, False), (gained, True), (6, True), (3, False))
    discordant = lost + gained
    tail = sum(math.comb(discordant, k) for k in range(lost, discordant + 1)) / 2**discordant
    (worsening,) = significantly_worse(before, after, np.zeros(len(before), dtype=int), [0])
    assert (worsening.class_index, worsening.lost, worsening.gained) == (0, lost, gained)
    assert worsening.p_value == pytest.approx(tail)
    assert worsening.is_significant == (tail <= SIGNIFICANCE)


def test_holm_by_hand():
    # sorted 0.005 0.01 0.03 0.04, times 4 3 2 1: 0.02 0.03 0.06 0.04, and no step may fall back
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.5]) == [1, 1]
    assert holm([0.03]) == [0.03]
    assert holm([]) == []


def test_correction_is_over_classes_with_images_alone():
    labels = np.repeat([0, 2], 8)
    before, after = np.ones(16, dtype=bool), answers((6, False), (2, True), (8, True))
    tested = significantly_worse(before, after, labels, [0, 1, 2])
    assert [(worse.class_index, worse.lost, worse.gained) for worse in tested] == [
        (0, 6, 0),
        (2, 0, 0),
    ]
    assert [worse.p_value for worse in tested] == pytest.approx([2 / 2**6, 1])
    (alone,) = significantly_worse(before, after, labels, [0])
    assert alone.p_value == pytest.approx(1 / 2**6)
    assert significantly_worse(before, after, labels, [1]) == []


def test_findings_are_compared_on_the_images_that_have_them_and_on_the_others():
    labels = np.array([[1, 0], [1, 1], [0, 1], [0, 1]])
    before = np.array([[1, 1], [0, 1], [1, 1], [1, 0]], dtype=bool)
    after = np.array([[0, 0], [1, 0], [0, 0], [0, 1]], dtype=bool)
    tested = significantly_worse(before, after, labels, [0, 1])
    assert [(w.class_index, w.negatives, w.lost, w.gained) for w in tested] == [
        (0, False, 1, 1),
        (0, True, 2, 0),
        (1, False, 2, 1),
        (1, True, 1, 0),
    ]
    everyone_has_it = np.ones((4, 2), dtype=int)
    tested = significantly_worse(before, after, everyone_has_it, [0])
    assert [worse.negatives for worse in tested] == [False]


def test_correction_counts_images_with_and_without_a_finding():
    labels = np.repeat([[1, 0], [0, 1]], 8, axis=0)
    before = np.ones((16, 2), dtype=bool)
    after = before.copy()
    after[8:14, 0] = False  # 6 of those without the first finding
    tested = significantly_worse(before, after, labels, [0, 1])
    assert [(w.class_index, w.negatives) for w in tested if w.lost] == [(0, True)]
    assert [w.p_value for w in tested] == pytest.approx([1, 4 / 2**6, 1, 1])


@pytest.mark.parametrize("multi_label", [False, True])
def test_planted_loss_is_found_in_its_class_alone(multi_label):
    rng = np.random.default_rng(1)
    labels = np.repeat(np.arange(6), 60)
    before, after = rng.random((2, 360, 6) if multi_label else (2, 360)) < 0.95
    lost = (labels == 4) & (rng.random(360) < 0.3)
    if multi_label:
        labels = np.eye(6, dtype=int)[labels]
        after[lost, 4] = False
    else:
        after[lost] = False
    tested = significantly_worse(before, after, labels, range(6))
    assert [(w.class_index, w.negatives) for w in tested if w.is_significant] == [(4, False)]
    # the other way round it is a gain, which is no reason to warn
    tested = significantly_worse(after, before, labels, range(6))
    assert not any(worse.is_significant for worse in tested)


def test_warnings_by_chance_alone_are_rare():
    """At most 5% of runs are to warn; 400 runs of just 5% stay within the bound in 99% of cases.

    Without Holm's correction many more would: the bound is tight enough to tell.
    """
    runs, rng = 400, np.random.default_rng(2)
    bound = binom.ppf(0.99, runs, SIGNIFICANCE)
    labels = np.repeat(np.arange(8), 100)
    warned = warned_uncorrected = 0
    for _ in range(runs):
        before, after = rng.random((2, len(labels))) < 0.7
        warned += any(
            w.is_significant for w in significantly_worse(before, after, labels, range(8))
        )
        warned_uncorrected += any(
            significantly_worse(before, after, labels, [number])[0].is_significant
            for number in range(8)
        )
    assert 0 < warned <= bound
    assert warned_uncorrected > 2 * bound


def test_a_finding_seen_everywhere_is_found_among_the_images_without_it():
    labels = np.random.default_rng(3).integers(2, size=(60, 3))
    everywhere = labels.copy()
    everywhere[:, 1] = 1
    tested = significantly_worse(labels == labels, everywhere == labels, labels, range(3))
    (found,) = (worse for worse in tested if worse.is_significant)
    assert (found.class_index, found.negatives, found.gained) == (1, True, 0)
    assert found.lost == (labels[:, 1] == 0).sum()


def test_identical_predictions_are_no_worse():
    right = PREDICTED == LABELS
    tested = significantly_worse(right, right, LABELS, range(3))
    assert [(worse.lost, worse.gained, worse.p_value) for worse in tested] == [(0, 0, 1)] * 3
    assert sensitivity_spread(class_rates(LABELS, LABELS, 3), range(3)) == Figure(0)
