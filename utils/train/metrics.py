"""Figures from logits and labels. Shares are 0 to 1; a figure that is not defined is None."""

import warnings

import numpy as np
import torch
from medmnist.evaluator import getACC, getAUC
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.metrics import roc_auc_score

from utils.train.losses import probabilities
from utils.train.training import count_correct


def accuracy(logits, labels):
    """Share of outputs that are right: of images, or of all findings of all images."""
    return None if len(labels) == 0 else count_correct(logits, labels).item() / labels.numel()


def medmnist_scores(logits, labels, task):
    """(AUC, ACC) as medmnist's Evaluator defines them for `task`; by its own functions.

    AUC is the mean over classes, one against the rest; it is None where a class has no image or
    no image but its own. ACC is the share of images, for multi-label data the mean over findings.
    """
    if len(labels) == 0:
        return None, None
    scores = probabilities(logits.cpu().double(), labels.ndim == 2).numpy()
    truth = labels.cpu().numpy()
    if len(truth) == 1:  # the Evaluator squeezes the only image's row away
        return None, accuracy(logits, labels)
    return _defined(getAUC, truth, scores, task), float(getACC(truth, scores, task))


def per_class_metrics(logits, labels):
    """A dict a class: images, and correct, the share of them that the model recognises.

    Multi-label data: images with the finding, the share of them in which it is found
    (sensitivity), and auc, the finding's own.
    """
    if labels.ndim == 1:
        right = logits.argmax(1) == labels
        members = [labels == number for number in range(logits.shape[1])]
        return [{"images": int(which.sum()), "correct": _mean(right[which])} for which in members]
    found = logits > 0
    return [
        {
            "images": int(labels[:, number].sum()),
            "correct": _mean(found[labels[:, number] == 1, number]),
            "auc": finding_auc(logits, labels, number),
        }
        for number in range(logits.shape[1])
    ]


def finding_auc(logits, labels, number):
    """AUC of one finding of multi-label data, None where all images have it or none has."""
    return _defined(roc_auc_score, labels[:, number].cpu().numpy(), logits[:, number].cpu().numpy())


def confusion_counts(logits, labels):
    """(K, K) int64 numpy, rows truth, columns prediction. Single-label only."""
    num_classes = logits.shape[1]
    pairs = labels * num_classes + logits.argmax(1)
    return torch.bincount(pairs, minlength=num_classes**2).view(num_classes, -1).cpu().numpy()


def finding_counts(logits, labels):
    """(K, 2, 2) int64 numpy by finding: rows truth no / yes, columns prediction no / yes."""
    cells = 2 * labels + (logits > 0)
    return np.stack([torch.bincount(c, minlength=4).view(2, 2).cpu().numpy() for c in cells.T])


def _mean(right):
    return None if len(right) == 0 else right.float().mean().item()


def _defined(score, *arguments):
    """A score, or None where scikit-learn says that it is undefined (by error or by warning)."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UndefinedMetricWarning)
            value = float(score(*arguments))
    except (ValueError, UndefinedMetricWarning):
        return None
    return None if np.isnan(value) else value
