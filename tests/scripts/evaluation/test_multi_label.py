"""Measures of multi-label data."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import binomtest
from sklearn.metrics import roc_auc_score

from evaluation.registry import GROUPS
from models.checkpoint import load_model, save_model
from tests.helpers.environment import model_flags
from tests.helpers.output import cells, check_cell, check_plain, results_of
from tests.helpers.reference import percentage, predictions
from tests.scripts.evaluation.shared import MULTI, MULTI_RETRAIN


def test_multi_label_data_in_all_groups(multi, done, data_files, monkeypatch):
    monkeypatch.setattr("evaluation.metrics.relearn.MAX_STEPS", 20)
    data = data_files["multi"]
    Path("groups.txt").write_text("\n".join(["f", "m"] * 20))
    flags = (*model_flags(data, MULTI), "--group_file", "groups.txt")
    printed = done("main_test_unlearn", *flags)
    results = results_of(MULTI)
    check_plain(results)
    assert results["retrain_model_ids"] == [MULTI_RETRAIN]
    scores = []
    for split in ("train", "val"):
        logits, labels = predictions(MULTI, data, split)
        scores.append(logits[labels[:, 1] == 1, 1])  # log p grows with the logit
    truth = np.repeat([1, 0], list(map(len, scores)))
    auc = roc_auc_score(truth, np.concatenate(scores))
    assert results["attack_loss_auc"] == pytest.approx(auc, abs=1e-6)
    (ours, labels), (theirs, _) = (
        predictions(model_id, data, "test") for model_id in (MULTI, MULTI_RETRAIN)
    )
    without = labels[:, 1] == 0
    same = percentage((ours > 0)[without] == (theirs > 0)[without])
    assert results["agreement_test_percent"] == pytest.approx(same)
    found = ours > 0
    for number in range(3):
        sensitivity = percentage(found[labels[:, number] == 1, number])
        assert results[f"class_{number}_sensitivity_percent"] == pytest.approx(sensitivity)
    kept = found[:, [0, 2]] == labels[:, [0, 2]]
    for start, name in enumerate("fm"):
        key = f"group_accuracy_percent:{name}"
        assert results[key] == pytest.approx(percentage(kept[start::2]))
        check_cell(cells(printed, f"accuracy, group {name}")["this model"], results, key)
    gap = abs(percentage(kept[::2]) - percentage(kept[1::2]))
    assert results["group_accuracy_gap_points"] == pytest.approx(gap)
    for group in GROUPS:
        assert f"\n{group.capitalize()}: " in printed


def test_a_finding_that_is_seen_everywhere_is_warned_of(multi, done, data_files):
    """It is missed nowhere: what got worse are the images without it."""
    data = data_files["multi"]
    model, record = load_model("multi_best")
    logits, labels = predictions("multi_best", data, "test")
    right = {each: int((logits[labels[:, each] == 0, each] <= 0).sum()) for each in (0, 2)}
    number, lost = max(right.items(), key=lambda item: item[1])
    with torch.no_grad():
        model.network.fc.bias[number] += 1e4
    child = {**record, "kind": "unlearned", "parent_id": "multi_best", "method": "FT"}
    child |= {"parent_digest": record["weights_digest"], "settings": {}}
    save_model("child", model, {**child, "forget_request": {"class_to_forget": 1}})
    done("main_test_unlearn", *model_flags(data, "child"), "--measures", "safety")
    results = results_of("child")
    check_plain(results)
    p_value = 4 * binomtest(lost, lost, 0.5, alternative="greater").pvalue  # two findings, twice
    assert p_value < 0.05
    assert results[f"class_{number}_lost_negatives_images"] == lost
    assert results[f"class_{number}_worse_negatives_p_value"] == pytest.approx(p_value)
    assert results[f"class_{number}_lost_images"] == 0
    [warning] = results["warnings"]
    assert warning.startswith(f"class {number} is recognised significantly worse than before: ")
    assert f"{lost} test images without it lost, 0 gained" in warning


def test_costs_of_mistakes_between_findings_make_no_sense(multi, refused, data_files):
    """An image has several findings: what is taken for what is not defined."""
    Path("costs.csv").write_text("0,1,1\n1,0,1\n1,1,0\n")
    flags = (*model_flags(data_files["multi"], MULTI), "--cost_matrix", "costs.csv")
    assert refused("--cost_matrix.*multi-label", "main_test_unlearn", *flags) == []
