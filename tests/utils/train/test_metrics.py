"""Metrics equal those of medmnist and scikit-learn, or hand-computed values."""

import numpy as np
import pytest
import torch
from medmnist import INFO, Evaluator
from sklearn.metrics import confusion_matrix, multilabel_confusion_matrix, roc_auc_score

from utils.data.datasets import MULTI_CLASS, MULTI_LABEL
from utils.train.losses import probabilities
from utils.train.metrics import (
    accuracy,
    confusion_counts,
    finding_auc,
    finding_counts,
    medmnist_scores,
    per_class_metrics,
)

ONE_OF_EACH_TASK = ["bloodmnist", "pneumoniamnist", "retinamnist", "chestmnist"]
IMAGES = 300


def random_test_split(flag, seed=0):
    """Return logits and labels as of a medmnist data set, with every class, partly correct."""
    generator = torch.Generator().manual_seed(seed)
    num_classes = len(INFO[flag]["label"])
    if INFO[flag]["task"] == MULTI_LABEL:
        labels = (torch.rand(IMAGES, num_classes, generator=generator) < 0.2).long()
        truth = 2 * labels - 1
    else:
        labels = torch.randint(num_classes, (IMAGES,), generator=generator)
        labels[:num_classes] = torch.arange(num_classes)
        truth = torch.nn.functional.one_hot(labels, num_classes)
    return torch.randn(IMAGES, num_classes, generator=generator) + truth, labels


@pytest.mark.parametrize("flag", ONE_OF_EACH_TASK)
@pytest.mark.parametrize("seed", range(3))
def test_scores_equal_those_of_the_evaluator(flag, seed, tmp_path):
    logits, labels = random_test_split(flag, seed)
    column = labels if labels.ndim == 2 else labels[:, None]
    np.savez(tmp_path / f"{flag}.npz", test_labels=column.numpy().astype(np.uint8))
    scores = probabilities(logits, labels.ndim == 2).double().numpy()
    theirs = Evaluator(flag, "test", root=str(tmp_path)).evaluate(scores)
    ours = medmnist_scores(logits, labels, INFO[flag]["task"])
    assert ours == (theirs.AUC, theirs.ACC)
    assert ours[1] == pytest.approx(accuracy(logits, labels))
    assert 0.6 < ours[0] < 1


def test_every_task_is_tested():
    assert {INFO[flag]["task"] for flag in ONE_OF_EACH_TASK} == {
        info["task"] for info in INFO.values()
    }


def test_auc_of_a_class_without_images_is_undefined():
    logits = torch.tensor([[2.0, 0.0, 0.0], [0.0, 2.0, 0.0], [2.0, 0.0, 1.0]])
    labels = torch.tensor([0, 1, 1])
    assert medmnist_scores(logits, labels, MULTI_CLASS) == (None, 2 / 3)
    assert medmnist_scores(logits, torch.zeros(3).long(), MULTI_CLASS) == (None, 2 / 3)
    findings = torch.tensor([[1, 0, 0], [0, 1, 0], [1, 0, 0]])  # no image has the third
    assert medmnist_scores(logits, findings, MULTI_LABEL)[0] is None


def test_scores_of_one_image_and_of_no_image():
    logits = torch.tensor([[2.0, 0.0, -1.0]])
    assert medmnist_scores(logits, torch.tensor([0]), MULTI_CLASS) == (None, 1)
    assert medmnist_scores(logits, torch.tensor([[1, 0, 0]]), MULTI_LABEL) == (None, 1)
    assert medmnist_scores(logits[:0], torch.tensor([], dtype=int), MULTI_CLASS) == (None, None)


def test_finding_auc_against_scikit_learn():
    logits, labels = random_test_split("chestmnist")
    for number in range(labels.shape[1]):
        expected = roc_auc_score(labels[:, number], logits[:, number])
        assert finding_auc(logits, labels, number) == pytest.approx(expected)
    for same in (torch.zeros_like(labels), torch.ones_like(labels)):
        assert finding_auc(logits, same, 0) is None


@pytest.mark.parametrize("flag", ["bloodmnist", "pneumoniamnist", "retinamnist"])
def test_confusion_counts_and_per_class_metrics_against_scikit_learn(flag):
    logits, labels = random_test_split(flag)
    num_classes = logits.shape[1]
    expected = confusion_matrix(labels, logits.argmax(1), labels=range(num_classes))
    counts = confusion_counts(logits, labels)
    np.testing.assert_array_equal(counts, expected)
    rows = per_class_metrics(logits, labels)
    assert [row["images"] for row in rows] == expected.sum(1).tolist()
    recall = np.diag(expected) / expected.sum(1)
    assert [row["correct"] for row in rows] == pytest.approx(recall.tolist())


def test_finding_counts_and_per_class_metrics_against_scikit_learn():
    logits, labels = random_test_split("chestmnist")
    expected = multilabel_confusion_matrix(labels, logits > 0)
    np.testing.assert_array_equal(finding_counts(logits, labels), expected)
    rows = per_class_metrics(logits, labels)
    assert [row["images"] for row in rows] == labels.sum(0).tolist()
    sensitivity = expected[:, 1, 1] / expected[:, 1].sum(1)
    assert [row["correct"] for row in rows] == pytest.approx(sensitivity.tolist())
    assert [row["auc"] for row in rows] == [finding_auc(logits, labels, n) for n in range(14)]


def test_metrics_of_classes_without_images_are_none():
    logits = torch.tensor([[2.0, 0.0, 0.0], [0.0, 2.0, 0.0]])
    rows = per_class_metrics(logits, torch.tensor([0, 0]))
    assert rows == [
        {"images": 2, "correct": 0.5},
        {"images": 0, "correct": None},
        {"images": 0, "correct": None},
    ]
    counts = confusion_counts(logits, torch.tensor([0, 0]))
    np.testing.assert_array_equal(counts, [[1, 1, 0], [0, 0, 0], [0, 0, 0]])
    rows = per_class_metrics(logits, torch.tensor([[1, 0, 0], [1, 0, 0]]))
    assert rows[0] == {"images": 2, "correct": 0.5, "auc": None}
    assert rows[1] == {"images": 0, "correct": None, "auc": None}


def test_accuracy_of_no_image_is_undefined():
    assert accuracy(torch.zeros(0, 3), torch.zeros(0, dtype=int)) is None
