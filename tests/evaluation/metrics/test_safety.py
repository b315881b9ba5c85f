"""What kept classes lose is found and warned of; what was to be forgotten is no loss."""

import numpy as np
import pytest
import torch
from evaluation.metrics.clinical import Worsening, class_rates, expected_cost
from evaluation.metrics.safety import predictions, safety_figures, worsening_figures, worsenings

from evaluation.figure import Figure, undefined
from evaluation.metrics.fairness import group_gaps
from evaluation.outputs import Answers
from evaluation.report import (
    control_warnings,
    separates,
    worsening_warnings,
    yardstick_warnings,
)

NAMES = ["0 artery", "1 bone", "2 cortex", "3 duct"]
KEPT = [0, 2, 3]  # class 1 is to be forgotten
COSTS = np.array([[0.0, 1, 2, 3], [9, 0, 9, 9], [4, 5, 0, 6], [7, 8, 9, 0]])


def outputs_of(answers, labels):
    """Outputs of a model that gives these classes, or findings (N, K)."""
    answers, labels = torch.as_tensor(answers), torch.as_tensor(labels)
    logits = 2.0 * answers - 1 if answers.ndim == 2 else 4 * torch.eye(4)[answers]
    return Answers(logits, labels)


def drawn_answers(seed, count=200, multi_label=False):
    rng = np.random.default_rng(seed)
    if multi_label:
        return rng.integers(2, size=(2, count, 4))
    return rng.integers(4, size=(2, count))


def test_predictions_are_the_answers():
    for multi_label in (False, True):
        answers, labels = drawn_answers(0, multi_label=multi_label)
        np.testing.assert_array_equal(predictions(outputs_of(answers, labels)), answers)


def test_rates_are_of_all_classes_and_worst_and_spread_of_kept_ones():
    labels = [0, 0, 1, 1, 2, 2, 2, 2, 3]
    answers = [0, 0, 0, 0, 2, 2, 2, 1, 3]
    figures = safety_figures(outputs_of(answers, labels), KEPT)
    for number, rate in enumerate(class_rates(np.array(answers), np.array(labels), 4)):
        assert figures[f"class_{number}_sensitivity_percent"] == rate.sensitivity.times(100)
        assert figures[f"class_{number}_specificity_percent"] == rate.specificity.times(100)
    assert figures["class_1_sensitivity_percent"].value == 0
    assert figures["worst_sensitivity_percent"].value == 75
    assert figures["worst_sensitivity_class"] == Figure(2)
    assert figures["sensitivity_spread_points"].value == 25
    assert not any(key.startswith(("expected", "group", "equalized")) for key in figures)


@pytest.mark.parametrize("seed", range(3))
def test_costs_and_groups_are_of_images_of_kept_classes(seed):
    answers, labels = drawn_answers(seed)
    groups = np.random.default_rng(9).choice(["f", "m"], 200)
    figures = safety_figures(outputs_of(answers, labels), KEPT, costs=COSTS, groups=groups)
    kept = labels != 1
    assert figures["expected_cost"] == expected_cost(answers[kept], labels[kept], COSTS)
    assert figures["expected_cost_all_classes"] == expected_cost(answers, labels, COSTS)
    gaps = group_gaps(answers[kept], labels[kept], groups[kept], 4)
    for name in ("accuracy_gap", "equalized_odds_gap"):
        for ending in ("", "_by_chance"):
            key = f"{name}{ending}_points"
            key = f"group_{key}" if name == "accuracy_gap" else key
            assert figures[key] == getattr(gaps, name + ending).times(100)
            assert figures[key].is_defined
    for group in "fm":
        right = [
            a == y for a, y, g in zip(answers, labels, groups, strict=True) if g == group and y != 1
        ]
        key = f"group_accuracy_percent:{group}"
        assert figures[key].value == pytest.approx(100 * np.mean(right))
    values = [figures[f"group_accuracy_percent:{group}"].value for group in "fm"]
    assert figures["group_accuracy_gap_points"].value == pytest.approx(max(values) - min(values))
    # what becomes of the forgotten class's images is neither a cost nor unfair
    answers = np.where(kept, answers, 3)
    again = safety_figures(outputs_of(answers, labels), KEPT, costs=COSTS, groups=groups)
    for key in ("expected_cost", "group_accuracy_gap_points", "equalized_odds_gap_points"):
        assert again[key] == figures[key]
    costs = [part["expected_cost_all_classes"] for part in (again, figures)]
    assert costs[0] == expected_cost(answers, labels, COSTS) != costs[1]


def test_groups_of_findings_are_compared_by_kept_findings():
    answers, labels = drawn_answers(0, multi_label=True)
    groups = np.random.default_rng(9).choice(["f", "m"], 200)
    figures = safety_figures(outputs_of(answers, labels), KEPT, groups=groups)
    gaps = group_gaps(answers[:, KEPT], labels[:, KEPT], groups, 3)
    assert figures["group_accuracy_gap_points"] == gaps.accuracy_gap.times(100)
    assert figures["equalized_odds_gap_points"] == gaps.equalized_odds_gap.times(100)
    assert figures["group_accuracy_percent:f"] == gaps.accuracies["f"].times(100)
    sensitivities = [answers[labels[:, n] == 1, n].mean() for n in KEPT]
    assert figures["worst_sensitivity_percent"].value == pytest.approx(100 * min(sensitivities))


@pytest.mark.parametrize("multi_label", [False, True])
def test_a_planted_loss_is_warned_of(multi_label):
    labels = np.repeat(np.arange(4), 40)
    before, after = labels.copy(), labels.copy()
    before[5] = 1  # what the model after knows is a gain
    after[40:80] = 0  # class 1, as was asked for
    after[80:92] = 3  # 12 of class 2
    after[120:122] = 0  # 2 of class 3
    if multi_label:
        labels, before, after = (np.eye(4, dtype=int)[part] for part in (labels, before, after))
    changes = worsenings(outputs_of(before, labels), outputs_of(after, labels), KEPT)
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
    if multi_label:  # what it now takes the others for is seen where it is not
        expected.insert(0, lost.format("class 0 artery", "42 test images without it"))
        expected.append(lost.format("class 3 duct", "12 test images without it"))
    lines = worsening_warnings(changes, NAMES)
    assert [line.partition(" (")[0] for line in lines] == expected
    assert f"p = {p_value:.2g} after" in lines[-1]
    figures = worsening_figures(changes)
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
    same = worsenings(outputs_of(labels, labels), outputs_of(labels, labels), KEPT)
    assert worsening_warnings(same, NAMES) == []
    better = worsenings(outputs_of(np.zeros_like(labels), labels), outputs_of(labels, labels), KEPT)
    assert [each.gained for each in better] == [0, 40, 40]
    assert worsening_warnings(better, NAMES) == []
    assert len(worsening_warnings([Worsening(2, 20, 0, 0.05)], NAMES)) == 1
    assert worsening_warnings([Worsening(2, 20, 0, 0.051)], NAMES) == []


@pytest.mark.parametrize(
    ("figure", "expected"),
    [
        (Figure(0.7, 0.6, 0.8), True),
        (Figure(0.3, 0.2, 0.4), True),
        (Figure(0.7, 0.49, 0.9), False),
        (Figure(0.51, 0.501, 0.52), True),  # little more than guessing, but more
        (Figure(0.49, 0.48, 0.499), True),
        (Figure(0.7, 0.5, 1), False),
        (Figure(0.3, 0, 0.5), False),
        (undefined("no images"), False),
        (None, False),
    ],
)
def test_sets_are_told_apart_by_the_whole_interval(figure, expected):
    assert separates(figure) == expected


def test_a_poor_yardstick_is_named():
    def remaining(percent):
        return {"remaining_accuracy_percent": Figure(percent)}

    assert yardstick_warnings(remaining(99.0), remaining(95.0)) == []
    [line] = yardstick_warnings(remaining(99.0), remaining(60.0))
    assert "Retrain recognises 60.0% of the kept training images, the base model 99.0%" in line
    assert yardstick_warnings(None, remaining(60.0)) == []
    nothing = {"remaining_accuracy_percent": undefined("no images")}
    assert yardstick_warnings(nothing, remaining(60.0)) == []


def test_controls_that_succeed_are_named():
    high, low = Figure(0.8, 0.7, 0.9), Figure(0.2, 0.1, 0.3)
    none = Figure(0.5, 0.4, 0.6)
    retrain = {"attack_loss_auc": none, "attack_modified_entropy_auc": low}
    (line,) = control_warnings({}, retrain, "val")
    assert line.startswith(
        "the attack by modified entropy tells forget and val images apart on Retrain too"
    )
    (line,) = control_warnings({"attack_blind_auc": high}, {}, "test")
    assert line.startswith("forget and test images differ without any model")
    (line,) = control_warnings(
        {"blind_retain_val_auc": high, "blind_retain_test_auc": none}, {}, "val"
    )
    assert "retained training images and val images differ" in line
    assert "mia_efficacy_val_percent" in line
    (line,) = control_warnings({"blind_retain_test_auc": low}, {}, "val")
    assert "mia_efficacy_percent" in line
    quiet = dict.fromkeys(("attack_blind_auc", "attack_loss_auc", "blind_retain_val_auc"), none)
    assert control_warnings(quiet, quiet, "val") == []


def test_a_finding_that_is_seen_everywhere_is_warned_of():
    """It loses no image that has it, and finds more of them than before."""
    labels = (np.random.default_rng(0).random((100, 4)) < 0.3).astype(int)
    before, everywhere = labels.copy(), labels.copy()
    before[np.flatnonzero(labels[:, 2])[:5], 2] = 0
    everywhere[:, 2] = 1
    changes = worsenings(outputs_of(before, labels), outputs_of(everywhere, labels), KEPT)
    (line,) = worsening_warnings(changes, NAMES)
    count = (labels[:, 2] == 0).sum()
    assert f"class 2 cortex is recognised significantly worse than before: {count} test" in line
    assert "images without it lost, 0 gained" in line
    figures = worsening_figures(changes)
    assert figures["class_2_gained_images"] == Figure(5)
    assert figures["class_2_worse_p_value"].value == 1
    assert figures["class_2_lost_negatives_images"] == Figure(count)
    # the finding that is to be forgotten may be seen anywhere
    everywhere = labels.copy()
    everywhere[:, 1] = 1
    changes = worsenings(outputs_of(labels, labels), outputs_of(everywhere, labels), KEPT)
    assert worsening_warnings(changes, NAMES) == []
