"""What the tests of scripts share: printed tables and figures against the models themselves."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import roc_auc_score

from tests.helpers.output import assert_near, cells, line_figure, results_of, table
from tests.helpers.reference import percentage, predictions, reference_figures, softmax

ACCURACIES = ("--measures", "forgetting", "utility")


HEADLINES = {
    "Unlearn Accuracy": "unlearn_accuracy_percent",
    "Remaining Accuracy": "remaining_accuracy_percent",
    "Test Accuracy": "test_accuracy_percent",
}


LABELS = {
    "unlearn accuracy, training images": "unlearn_accuracy_percent",
    "unlearn accuracy, test images": "unlearn_accuracy_test_percent",
    "AUC of the finding, test images": "finding_auc",
    "remaining accuracy, training images": "remaining_accuracy_percent",
    "test accuracy, kept classes": "test_accuracy_percent",
    "AUC, kept classes": "kept_auc",
    "accuracy by MedMNIST's Evaluator": "evaluator_accuracy_percent",
    "AUC by MedMNIST's Evaluator": "evaluator_auc",
}


PICTURES = ("confidence", "features")


def table_rows(text):
    """Return the rows of the only table whose header starts with `class`, `name`."""
    return table(text, "class", "name")[1]


def assert_pictures(text, *paths):
    found = re.findall(r"^picture: (.*)$", text, re.MULTILINE)
    assert found == list(paths)
    for path in paths:
        with Image.open(path) as picture:
            assert picture.format == "PNG"
            colours = picture.convert("RGB").getcolors(2**24)
        assert len(colours) > 4  # it is not blank


def check_forgetting(printed, model_id, data, forgotten):
    """Compare lines, tables, results and pictures with the models; return the results."""
    suffix = "" if "FORGOTTEN" in model_id else f"_{forgotten}"
    results = results_of(model_id, suffix)
    kinds = model_columns(model_id, results)
    shares = {}
    for title, (known_as, prefix) in kinds.items():
        figures, shares[title] = reference_figures(known_as, data, forgotten)
        for key, wanted in figures.items():
            assert results[prefix + key] == pytest.approx(wanted, abs=2e-5), (title, key)
        for number, wanted in enumerate(shares[title]):
            assert results[f"{prefix}taken_for_class_{number}_percent"] == pytest.approx(wanted)
        for label, key in LABELS.items():
            if key in figures and any(
                results[each + key] is not None for _, each in kinds.values()
            ):
                check_cell(cells(printed, label)[title], figures[key])
            elif key in figures:  # undefined for all models: printed once, below the table
                assert re.search(rf"^undefined: (.* )?{label}", printed, re.MULTILINE)
    for name, key in HEADLINES.items():
        assert_near(line_figure(name, printed), results[key])
    titles, rows = table(printed, "class", "name")
    assert titles == list(kinds)
    for row in rows:
        for title, cell in zip(titles, row[2:], strict=True):
            assert_near(cell, shares[title][int(row[0])])
    assert f"results: results/{model_id}{suffix}.json\n" in printed
    for name in (*PICTURES, "forgotten"):
        assert f"picture: pics/{model_id}/{name}{suffix}.png\n" in printed
        assert Path(f"pics/{model_id}/{name}{suffix}.png").exists()
    return results


def model_columns(model_id, results):
    """Return title -> (model id, prefix of its keys) of the models that a test shows."""
    columns = {"this model": (model_id, "")}
    if results["parent_id"]:
        columns = {"base model": (results["parent_id"], "base_")} | columns
    for retrain in results["retrain_model_ids"][:1]:
        columns["Retrain"] = retrain, "retrain_"
    return columns


def check_cell(cell, wanted):
    """Check a cell: a percentage, an AUC, or `undefined`."""
    if wanted is None:
        assert cell == "undefined"
    elif cell.endswith("%"):
        assert_near(cell, wanted)
    else:
        assert abs(float(cell) - wanted) <= 0.0005 + 2e-5


def check_single_label_test(printed, model_id, data, names):
    logits, labels = predictions(model_id, data, "test")
    right = logits.argmax(1) == labels
    rows = table_rows(printed)
    assert [row[:3] for row in rows] == [
        [str(number), name, str((labels == number).sum())] for number, name in enumerate(names)
    ]
    for number, row in enumerate(rows):
        assert_near(row[3].rstrip("%"), percentage(right[labels == number]))
    assert_near(line_figure("overall accuracy", printed), percentage(right))
    scores = softmax(logits)
    if len(names) == 2:
        auc = roc_auc_score(labels, scores[:, 1])
    else:
        per_class = [roc_auc_score(labels == n, scores[:, n]) for n in range(len(names))]
        auc = np.mean(per_class)
    assert abs(float(re.search(r"^AUC: ([\d.]+)$", printed, re.MULTILINE)[1]) - auc) < 2e-5


def check_multi_label_test(printed, model_id, data, names):
    logits, labels = predictions(model_id, data, "test")
    found = logits > 0
    for number, (row, name) in enumerate(zip(table_rows(printed), names, strict=True)):
        has = labels[:, number] == 1
        assert row[:3] == [str(number), name, str(has.sum())]
        assert_near(row[3].rstrip("%"), percentage(found[has, number]))
        auc = roc_auc_score(labels[:, number], logits[:, number])
        assert abs(float(row[4]) - auc) < 2e-5
    assert_near(line_figure("overall accuracy", printed), percentage(found == labels))
