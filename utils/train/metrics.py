"""Metrics from logits and labels. Fractions are 0 to 1; an undefined value is None."""

import warnings
from collections.abc import Callable

import numpy as np
import torch
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.metrics import roc_auc_score

from utils.data.medmnist_package import medmnist_module
from utils.train.losses import probabilities
from utils.train.training import count_correct


def accuracy(logits: torch.Tensor, labels: torch.Tensor) -> float | None:
    """Return the fraction of correct predictions: of images, or of all findings of all images."""
    return None if len(labels) == 0 else count_correct(logits, labels).item() / labels.numel()


def medmnist_scores(
    logits: torch.Tensor, labels: torch.Tensor, task: str
) -> tuple[float | None, float | None]:
    """Return (AUC, ACC) of `task`, computed by the functions of medmnist's Evaluator.

    AUC is the mean over classes, one-vs-rest; None where a class has no positive or no negative
    image. ACC is the fraction of correct images, for multi-label data the mean over findings.
    """
    if len(labels) == 0:
        return None, None
    scores = probabilities(logits.cpu().double(), labels.ndim == 2).numpy()
    truth = labels.cpu().numpy()
    if len(truth) == 1:  # the Evaluator squeezes the row of a single image away
        return None, accuracy(logits, labels)
    evaluator = medmnist_module("evaluator")
    auc = _defined_or_none(evaluator.getAUC, truth, scores, task)
    return auc, float(evaluator.getACC(truth, scores, task))


def per_class_metrics(logits: torch.Tensor, labels: torch.Tensor) -> list[dict]:
    """Return one dict per class: `images`, and `correct`, the recall of the class.

    Multi-label data: `images` with the finding, `correct`, its sensitivity, and `auc`.
    """
    classes = logits.shape[1]
    if labels.ndim == 1:
        images = torch.bincount(labels, minlength=classes)
        correct = torch.bincount(labels[logits.argmax(1) == labels], minlength=classes)
        recalls = (correct.float() / images).tolist()
        pairs = zip(images.tolist(), recalls, strict=True)
        return [{"images": n, "correct": recall if n else None} for n, recall in pairs]
    found = logits > 0
    return [
        {
            "images": int(labels[:, number].sum()),
            "correct": _mean(found[labels[:, number] == 1, number]),
            "auc": finding_auc(logits, labels, number),
        }
        for number in range(classes)
    ]


def finding_auc(logits: torch.Tensor, labels: torch.Tensor, number: int) -> float | None:
    """Return the AUC of one finding of multi-label data; None if all images have it or none."""
    return _defined_or_none(
        roc_auc_score, labels[:, number].cpu().numpy(), logits[:, number].cpu().numpy()
    )


def confusion_counts(logits: torch.Tensor, labels: torch.Tensor) -> np.ndarray:
    """Return the (K, K) int64 confusion matrix, rows truth, columns prediction; single-label."""
    num_classes = logits.shape[1]
    pairs = labels * num_classes + logits.argmax(1)
    return torch.bincount(pairs, minlength=num_classes**2).view(num_classes, -1).cpu().numpy()


def finding_counts(logits: torch.Tensor, labels: torch.Tensor) -> np.ndarray:
    """Return (K, 2, 2) int64 by finding: rows truth no / yes, columns prediction no / yes."""
    cells = 2 * labels + (logits > 0)
    return np.stack([torch.bincount(c, minlength=4).view(2, 2).cpu().numpy() for c in cells.T])


def _mean(values: torch.Tensor) -> float | None:
    return None if len(values) == 0 else values.float().mean().item()


def _defined_or_none(score: Callable[..., float], *arguments) -> float | None:
    """Return a score, or None where scikit-learn reports (error or warning) it as undefined."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UndefinedMetricWarning)
            value = float(score(*arguments))
    except (ValueError, UndefinedMetricWarning):
        return None
    return None if np.isnan(value) else value
