"""Results files and printed tables have all figures, and the same."""

import re
from pathlib import Path

import medmnist
import numpy as np
import pytest
import scipy
import sklearn
import torch
import torchvision

from evaluation.registry import GROUPS, MEASURES
from models.checkpoint import read_record
from tests.helpers.environment import BASE, FORGOTTEN, GREY_NAMES, assert_one_line, model_flags
from tests.helpers.output import (
    assert_near,
    cells,
    check_cell,
    check_plain,
    line_figure,
    printed_groups,
    results_of,
    strict_json,
    tables,
)
from tests.helpers.reference import percentage, predictions
from tests.scripts.evaluation.shared import EVERYTHING, GAPS, PEERS, RETRAIN, RETRAINS

HEADING = (
    *("format", "model_id", "weights_digest", "method", "parent_id", "class_to_forget", "dataset"),
    *("train_digest", "seed", "device", "command", "non_members", "retrain_model_ids", "warnings"),
)


def test_the_results_are_flat_and_say_what_they_are_of(measured, in_family, grey):
    _, results = measured
    check_plain(results)
    assert list(results)[:4] == ["format", "model_id", "weights_digest", "method"]
    assert set(HEADING) <= results.keys()
    record = read_record(FORGOTTEN)
    for key in ("model_id", "weights_digest", "method", "parent_id", "dataset", "train_digest"):
        assert results[key] == record[key]
    assert results["format"] == "medical-unlearning-results-1"
    assert (results["class_to_forget"], results["seed"], results["non_members"]) == (3, 1, "val")
    command = ("python main_test_unlearn.py", *model_flags(grey, FORGOTTEN), *EVERYTHING)
    assert results["command"] == " ".join(command)
    assert results["retrain_model_ids"] == list(RETRAINS)
    digests = [read_record(name)["weights_digest"] for name in RETRAINS]
    assert results["retrain_weights_digests"] == digests
    assert results["seed_model_ids"] == list(PEERS)
    assert results["notes"] == []
    for split in ("val", "test"):
        assert re.fullmatch("[0-9a-f]{64}", results[f"{split}_digest"])
    for module in (torch, torchvision, medmnist, np, scipy, sklearn):
        assert results[f"version_{module.__name__}"] == module.__version__
    assert results["version_python"].startswith("3.")


def test_what_is_printed_is_what_is_written(measured):
    """Every line and every cell of every table, under its label, in its unit."""
    printed, results = measured
    for name, key in zip(("Unlearn", "Remaining", "Test"), GAPS, strict=False):
        assert_near(line_figure(f"{name} Accuracy", printed), results[key])
    assert printed.count("Accuracy: ") == 3
    prefixes = {"base model": "base_", "this model": "", "Retrain": "retrain_"}
    seen = set()
    for key, label, _ in [row for measure in MEASURES.values() for row in measure.rows]:
        if not any(prefix + key in results for prefix in prefixes.values()):
            continue
        if label.startswith("  "):
            continue  # named by the line above, see below
        for title, cell in cells(printed, label).items():
            check_cell(cell, results, prefixes[title] + key)
            seen.add(prefixes[title] + key)
    rows = [row for header, rows in tables(printed) if header[0] == "" for row in rows]
    for above, below in zip(rows, rows[1:], strict=False):
        if above[0].startswith("attack by "):
            attack = above[0].removeprefix("attack by ").removesuffix(": AUC").replace(" ", "_")
            assert below[0] == "AUC minus Retrain's"
            for prefix, cell in zip(prefixes.values(), below[1:], strict=True):
                check_cell(cell, results, f"{prefix}attack_{attack}_auc_minus_retrain")
        for number, name in enumerate(GREY_NAMES):
            if above[0] == f"{number} {name}: sensitivity":
                for line, what in ((above, "sensitivity"), (below, "specificity")):
                    for prefix, cell in zip(prefixes.values(), line[1:], strict=True):
                        check_cell(cell, results, f"{prefix}class_{number}_{what}_percent")
    assert {"attack_loss_auc", "probe_accuracy_percent", "klom_test_nats"} <= seen
    assert {"retrain_average_gap_points", "base_relearn_steps", "unlearn_seconds"} <= seen
    text = " ".join(printed.split())  # without line breaks
    for group in GROUPS.values():
        assert f" {group.name.capitalize()}: {group.question} " in text
    for name, measure in MEASURES.items():
        # no costs and no groups were given, and `destinations` has a table of its own
        shown = name not in ("expected_cost", "fairness", "destinations")
        assert (f" - {measure.name}: {measure.explanation} " in text) == shown, name


def test_what_it_cost(measured, in_family):
    _, results = measured
    seconds, retrain_seconds = (read_record(name)["seconds"] for name in (FORGOTTEN, RETRAIN))
    assert results["unlearn_seconds"] == seconds
    assert results["retrain_unlearn_seconds"] == retrain_seconds
    part = 100 * seconds / retrain_seconds
    assert results["share_of_retrain_time_percent"] == pytest.approx(part)
    assert results["retrain_share_of_retrain_time_percent"] == 100
    assert "base_unlearn_seconds" not in results


def test_what_each_class_lost(measured, in_family, grey):
    _, results = measured
    before, labels = predictions(BASE, grey, "test")
    after, _ = predictions(FORGOTTEN, grey, "test")
    right = [part.argmax(1) == labels for part in (before, after)]
    for number in range(3):
        of_class = labels == number
        lost = (right[0] & ~right[1])[of_class].sum()
        gained = (~right[0] & right[1])[of_class].sum()
        assert results[f"class_{number}_lost_images"] == lost
        assert results[f"class_{number}_gained_images"] == gained
        sensitivity = percentage(right[1][of_class])
        assert results[f"class_{number}_sensitivity_percent"] == pytest.approx(sensitivity)
        specificity = percentage(after.argmax(1)[~of_class] != number)
        assert results[f"class_{number}_specificity_percent"] == pytest.approx(specificity)
    assert "class_3_lost_images" not in results  # losing these was requested
    sensitivities = [results[f"class_{number}_sensitivity_percent"] for number in range(3)]
    assert results["worst_sensitivity_percent"] == min(sensitivities)
    assert results["worst_sensitivity_class"] == np.argmin(sensitivities)
    spread = max(sensitivities) - min(sensitivities)
    assert results["sensitivity_spread_points"] == pytest.approx(spread)


def test_json_and_nothing_else(couple, run_here, grey):
    flags = (*model_flags(grey, FORGOTTEN), "--measures", "privacy", "distance")
    result = run_here("main_test_unlearn", *flags, "--json")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == Path(f"results/{FORGOTTEN}.json").read_text(encoding="utf-8")
    results = strict_json(result.stdout)
    check_plain(results)
    assert results["command"].endswith("--json")
    run_here("main_test_unlearn", *flags)
    silent = {key: value for key, value in results.items() if key != "command"}
    assert {**results_of(FORGOTTEN), "command": ""} == {**silent, "command": ""}
    refused = run_here("main_test_unlearn", *flags, "--json", "--retrain_model_id", BASE)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert_one_line(refused.stderr, "--retrain_model_id")


def test_a_base_model_is_measured_as_well(couple, done, grey):
    flags = (*model_flags(grey), "--class_to_forget", "duct", "--measures", "forgetting", "cost")
    printed = done("main_test_unlearn", *flags)
    results = results_of(BASE, "_3")
    check_plain(results)
    assert (results["method"], results["parent_id"]) == (None, None)
    assert results["retrain_model_ids"] == [RETRAIN]
    assert results["unlearn_seconds"] is None
    assert results["unlearn_seconds_undefined"] == "the model file records no unlearning"
    assert not [key for key in results if key.startswith("base_")]
    assert "base model:" not in printed


def test_accuracies_alone(couple, done, grey):
    flags = (*model_flags(grey, FORGOTTEN), "--measures", "forgetting")
    printed = done("main_test_unlearn", *flags)
    results = results_of(FORGOTTEN)
    check_plain(results)
    measured = {key.removeprefix("base_").removeprefix("retrain_") for key in results}
    measured = {key for key in measured if re.search(r"_(percent|auc|points|steps|nats)", key)}
    assert measured == {
        *("unlearn_accuracy_percent", "remaining_accuracy_percent", "test_accuracy_percent"),
        *("unlearn_accuracy_test_percent", "evaluator_accuracy_percent", "evaluator_auc"),
        "kept_auc",
        *(f"taken_for_class_{number}_percent" for number in range(4)),
    }
    assert "seconds" not in "".join(results)
    assert printed_groups(printed) == ["forgetting"]
    assert {"base_kept_auc", "retrain_kept_auc"} <= results.keys()


@pytest.mark.parametrize("group", sorted(GROUPS))
def test_each_group_alone(couple, done, grey, group, monkeypatch):
    monkeypatch.setattr("evaluation.metrics.relearn.MAX_STEPS", 3)
    printed = done("main_test_unlearn", *model_flags(grey, FORGOTTEN), "--measures", group)
    results = results_of(FORGOTTEN)
    check_plain(results)
    assert printed_groups(printed) == [group]
    for key in [row.key for measure in MEASURES.values() for row in measure.rows_of(group)]:
        if "{" in key:
            continue  # a row per class, or per patient group
        needs_more = re.search("finding|cost|klom|forgetting_|group|odds", key)
        assert (key in results) == (not needs_more), key
    if group == "inside":
        reason = results["retrain_relearn_steps_undefined"]
        assert reason == "not relearned after 3 steps"
