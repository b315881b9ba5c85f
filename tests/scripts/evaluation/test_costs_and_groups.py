"""Figures of --cost_matrix and --group_file, and of classes that got worse."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import binomtest

from models.checkpoint import load_model, save_model, weights_digest
from tests.helpers.environment import BASE, FORGOTTEN, GREY_NAMES, model_flags
from tests.helpers.output import cells, check_cell, check_plain, results_of
from tests.helpers.reference import percentage, predictions
from tests.scripts.evaluation.shared import RETRAIN

COSTS = np.array([[0, 1, 2, 3], [4, 0, 5, 6], [7, 8, 0, 9], [10, 11, 12, 0]], float)


def write_costs(path, costs, order=(2, 0, 3, 1)):
    """With a header and a first column, in another order than the data set's."""
    lines = [["", *(GREY_NAMES[column] for column in order)]]
    lines += [[GREY_NAMES[row], *(costs[row, column] for column in order)] for row in order]
    Path(path).write_text("\n".join(",".join(map(str, line)) for line in lines))


def test_costs_and_groups_by_hand(couple, done, grey):
    write_costs("costs.csv", COSTS)
    groups = np.array(["north", "south", "a, b", "south"] * 10)
    Path("groups.txt").write_text("\n".join('"a, b"' if g == "a, b" else g for g in groups))
    flags = (*model_flags(grey, FORGOTTEN), "--measures", "safety")
    sides = ("--cost_matrix", "costs.csv", "--group_file", "groups.txt")
    printed = done("main_test_unlearn", *flags, *sides)
    results = results_of(FORGOTTEN)
    check_plain(results)
    ids = {"base model": ("base_", BASE), "this model": ("", FORGOTTEN)}
    ids["Retrain"] = "retrain_", RETRAIN
    for title, (prefix, model_id) in ids.items():
        logits, labels = predictions(model_id, grey, "test")
        kept = labels != 3
        predicted, truth, group_of = logits.argmax(1)[kept], labels[kept], groups[kept]
        cost = sum(COSTS[pair] for pair in zip(truth, predicted, strict=True)) / kept.sum()
        assert results[f"{prefix}expected_cost"] == pytest.approx(cost)
        label = "expected cost per image, {} classes"
        check_cell(cells(printed, label.format("kept"))[title], results, f"{prefix}expected_cost")
        all_costs = COSTS[labels, logits.argmax(1)]
        key = f"{prefix}expected_cost_all_classes"
        assert results[key] == pytest.approx(all_costs.mean())
        check_cell(cells(printed, label.format("all"))[title], results, key)
        accuracies, rates = {}, {}
        for name in sorted(set(groups)):
            own = group_of == name
            accuracies[name] = percentage(predicted[own] == truth[own])
            key = f"{prefix}group_accuracy_percent:{name}"
            assert results[key] == pytest.approx(accuracies[name])
            check_cell(cells(printed, f"accuracy, group {name}")[title], results, key)
            for number in range(4):
                for of_class in (True, False):
                    rows = own & ((truth == number) == of_class)
                    if rows.any():
                        rate = percentage(predicted[rows] == number)
                        rates.setdefault((number, of_class), []).append(rate)
        gap = max(accuracies.values()) - min(accuracies.values())
        assert results[f"{prefix}group_accuracy_gap_points"] == pytest.approx(gap)
        gap = max(max(part) - min(part) for part in rates.values())
        assert results[f"{prefix}equalized_odds_gap_points"] == pytest.approx(gap)


@pytest.mark.parametrize(
    "flag, text, message",
    [
        ("--cost_matrix", "0,1\n1,0\n", "side.csv has 2 lines for 4 classes"),
        (
            "--cost_matrix",
            "0,1,1,1\n1,0,1,1\n1,1,0,1\n1,-1,1,0\n",
            "line 4: '-1' is not a valid cost",
        ),
        (
            "--cost_matrix",
            "0,1,1,1\n1,0,1,1\n1,1,0,1\n1,nan,1,0\n",
            "line 4: 'nan' is not a valid cost",
        ),
        ("--cost_matrix", ",artery,bone,cortex,skin\n", "the data set has no class 'skin'"),
        ("--cost_matrix", "", "side.csv is empty"),
        ("--group_file", "a\nb\n", "side.csv has 2 lines for 40 test images"),
        ("--group_file", "a\n" * 40, "puts every image in the group 'a'"),
        ("--group_file", "a\n\0\n", "is not UTF-8 text"),
        ("--cost_matrix", None, "cannot read side.csv: No such file"),
        ("--group_file", None, "cannot read side.csv: No such file"),
    ],
)
def test_faulty_side_files(trained, refused, grey, flag, text, message):
    if text is not None:
        Path("side.csv").write_text(text)
    flags = (*model_flags(grey, FORGOTTEN), flag, "side.csv")
    assert refused(message, "main_test_unlearn", *flags) == []


@pytest.fixture
def spoiled_child(trained):
    """spoiled_child(class): the base model's child that gives a class away; None gives none."""

    def make(number):
        model, record = load_model(BASE)
        digest = weights_digest(model.network.state_dict())
        if number is not None:
            with torch.no_grad():
                model.network.fc.bias[number] -= 1e4
        child = {**record, "kind": "unlearned", "parent_id": BASE, "parent_digest": digest}
        child |= {"method": "FT", "forget_request": {"class_to_forget": 3}, "settings": {}}
        save_model("child", model, child)
        return "child"

    return make


def test_a_class_that_got_worse_is_warned_of(spoiled_child, done, grey):
    flags = (*model_flags(grey, spoiled_child(1)), "--measures", "safety")
    printed = done("main_test_unlearn", *flags)
    results = results_of("child")
    before, labels = predictions(BASE, grey, "test")
    lost = int((before.argmax(1) == labels)[labels == 1].sum())
    p_value = 3 * binomtest(lost, lost, 0.5, alternative="greater").pvalue  # Holm, three classes
    assert p_value < 0.05
    assert results["class_1_lost_images"] == lost
    assert results["class_1_worse_p_value"] == pytest.approx(p_value)
    [warning] = results["warnings"]
    assert warning.startswith("class 1 bone is recognised significantly worse than before: ")
    assert f"{lost} test images lost, 0 gained" in warning
    assert f"\nWARNING: {warning}\n" in printed
    assert results["class_1_sensitivity_percent"] == 0


@pytest.mark.parametrize("number", [None, 3])
def test_no_warning_where_nothing_got_worse(spoiled_child, done, grey, number):
    """Not of an untouched copy, nor of one that gives away what it was to forget."""
    flags = (*model_flags(grey, spoiled_child(number)), "--measures", "safety")
    printed = done("main_test_unlearn", *flags)
    assert "WARNING" not in printed
    results = results_of("child")
    assert results["warnings"] == []
    assert [results[f"class_{kept}_lost_images"] for kept in range(3)] == [0, 0, 0]
    assert {results[f"class_{kept}_worse_p_value"] for kept in range(3)} == {1.0}
    logits, labels = predictions(BASE, grey, "test")
    before = percentage(logits.argmax(1)[labels == 3] == 3)
    assert results["class_3_sensitivity_percent"] == (
        pytest.approx(before) if number is None else 0
    )
