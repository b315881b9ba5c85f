"""Losses are found in their class, and chance alone rarely warns."""

import math

import numpy as np
import pytest
from scipy.stats import binom

from evaluation.audit import BASE
from evaluation.figure import Figure
from evaluation.metrics.worsening import (
    SIGNIFICANCE,
    Worsening,
    compute,
    significantly_worse,
    warnings,
    worsenings,
)
from tests.evaluation.contexts import certain_outputs, make_context
from unlearn.request.request import ForgetRequest

REQUEST = ForgetRequest((1,))
KEPT = [0, 2, 3]
NAMES = ["0 artery", "1 bone", "2 cortex", "3 duct"]


def runs(*counts):
    """Bools of (count, value) pairs: runs((2, True), (1, False)) is two correct and one wrong."""
    return np.repeat([value for _, value in counts], [count for count, _ in counts])


def context_of(before, after, labels):
    """The Context of a model whose base model predicted `before`."""
    base, model = ({"test": certain_outputs(part, labels, REQUEST)} for part in (before, after))
    base = make_context(REQUEST, base, title=BASE, names=NAMES)
    return make_context(REQUEST, model, base=base, names=NAMES)


@pytest.mark.parametrize(("lost", "gained"), [(0, 1), (5, 0), (9, 2), (2, 9), (20, 20), (130, 70)])
def test_p_value_of_one_class_is_mcnemars(lost, gained):
    before = runs((lost, True), (gained, False), (6, True), (3, False))
    after = runs((lost, False), (gained, True), (6, True), (3, False))
    discordant = lost + gained
    tail = sum(math.comb(discordant, k) for k in range(lost, discordant + 1)) / 2**discordant
    (worsening,) = significantly_worse(before, after, np.zeros(len(before), dtype=int), [0])
    assert (worsening.class_index, worsening.lost, worsening.gained) == (0, lost, gained)
    assert worsening.p_value == pytest.approx(tail)
    assert worsening.is_significant == (tail <= SIGNIFICANCE)


def test_correction_is_over_classes_with_images_alone():
    labels = np.repeat([0, 2], 8)
    before, after = np.ones(16, dtype=bool), runs((6, False), (2, True), (8, True))
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
    # the other way round it is a gain, which needs no warning
    tested = significantly_worse(after, before, labels, range(6))
    assert not any(worse.is_significant for worse in tested)


def test_warnings_by_chance_alone_are_rare():
    """At most 5% of runs may warn; 400 runs of just 5% stay within the bound in 99% of cases.

    Without Holm's correction many more would: the bound is tight enough to detect it.
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
    correct = np.array([True, True, False, True, False])
    tested = significantly_worse(correct, correct, np.array([0, 0, 1, 2, 2]), range(3))
    assert [(worse.lost, worse.gained, worse.p_value) for worse in tested] == [(0, 0, 1)] * 3


@pytest.mark.parametrize("multi_label", [False, True])
def test_a_planted_loss_is_warned_of(multi_label):
    labels = np.repeat(np.arange(4), 40)
    before, after = labels.copy(), labels.copy()
    before[5] = 1  # correct in the model after: a gain
    after[40:80] = 0  # class 1, as requested
    after[80:92] = 3  # 12 of class 2
    after[120:122] = 0  # 2 of class 3
    if multi_label:
        labels, before, after = (np.eye(4, dtype=int)[part] for part in (labels, before, after))
    context = context_of(before, after, labels)
    changes = worsenings(context.base.outputs["test"], context.outputs["test"], KEPT)
    with_it = [each for each in changes if not each.negatives]
    assert [(each.class_index, each.lost, each.gained) for each in with_it] == [
        (0, 0, 1),
        (2, 12, 0),
        (3, 2, 0),
    ]
    # one-sided, times the 3 classes tested; of findings, which have two tests each, 5 are left
    p_value = (5 if multi_label else 3) / 2**12
    lost = "{} is recognised significantly worse than before: {} lost, 0 gained"
    expected = [lost.format("class 2 cortex", "12 test images")]
    if multi_label:  # findings that images are wrongly assigned to
        expected.insert(0, lost.format("class 0 artery", "42 test images without it"))
        expected.append(lost.format("class 3 duct", "12 test images without it"))
    lines = warnings(context)
    assert [line.partition(" (")[0] for line in lines] == expected
    assert f"p = {p_value:.2g} after" in lines[-1]
    figures = compute(context)
    assert figures["class_2_worse_p_value"].value == pytest.approx(p_value)
    negatives = {key: figure.value for key, figure in figures.items() if "_negatives_" in key}
    if multi_label:
        assert negatives["class_0_lost_negatives_images"] == 42
        assert negatives["class_0_gained_negatives_images"] == 0
        assert negatives["class_3_worse_negatives_p_value"] == pytest.approx(p_value)
    assert len(negatives) == (9 if multi_label else 0)
    assert figures["class_2_lost_images"] == Figure(12)
    assert figures["class_2_gained_images"] == Figure(0)
    assert not any(key.startswith("class_1_") for key in figures)


def test_no_loss_is_no_warning():
    labels = np.repeat(np.arange(4), 40)
    assert warnings(context_of(labels, labels, labels)) == []
    better = context_of(np.zeros_like(labels), labels, labels)
    assert [compute(better)[f"class_{n}_gained_images"].value for n in KEPT] == [0, 40, 40]
    assert warnings(better) == []


def test_significance_is_at_most_5_percent():
    assert Worsening(2, 20, 0, 0.05).is_significant
    assert not Worsening(2, 20, 0, 0.051).is_significant


def test_a_finding_that_is_seen_everywhere_is_warned_of():
    """It loses no image that has it, and finds more of them than before."""
    labels = (np.random.default_rng(0).random((100, 4)) < 0.3).astype(int)
    before, everywhere = labels.copy(), labels.copy()
    before[np.flatnonzero(labels[:, 2])[:5], 2] = 0
    everywhere[:, 2] = 1
    context = context_of(before, everywhere, labels)
    (line,) = warnings(context)
    count = (labels[:, 2] == 0).sum()
    assert f"class 2 cortex is recognised significantly worse than before: {count} test" in line
    assert "images without it lost, 0 gained" in line
    figures = compute(context)
    assert figures["class_2_gained_images"] == Figure(5)
    assert figures["class_2_worse_p_value"].value == 1
    assert figures["class_2_lost_negatives_images"] == Figure(count)
    # the forgotten finding may be seen anywhere
    everywhere = labels.copy()
    everywhere[:, 1] = 1
    assert warnings(context_of(labels, everywhere, labels)) == []


def test_only_the_tested_model_is_compared_with_its_base_model():
    labels = np.repeat(np.arange(4), 5)
    context = context_of(labels, labels, labels)
    assert compute(context)
    assert compute(context.base) == {}
    alone = make_context(REQUEST, context.outputs)
    assert compute(alone) == {} and warnings(alone) == []
