"""An independent reference implementation: predictions and accuracies from a model's files."""

import functools

import numpy as np
import torch
from scipy.special import expit
from sklearn.metrics import roc_auc_score
from torch import nn

from models.checkpoint import load_model


def predictions(model_id, data, split):
    """(logits, labels) of a saved model for a split of a .npz file, predicted image by image."""
    model, record = load_model(model_id)
    return model_predictions(model, data, split, record.get("weights_digest"))


def model_predictions(model, data, split, digest=None):
    """The same of a model in memory; cached by the digest of its weights, if it is given."""
    images, labels = arrays_of(data, split)
    if digest is None:
        return _logits(model, images), labels
    return _cached_logits(_Hashed(model, digest), str(data), split), labels


def arrays_of(data, split):
    """(images (N, H, W, C), labels (N,) or (N, K)) of a .npz file."""
    with np.load(data) as file:
        images, labels = file[f"{split}_images"], file[f"{split}_labels"]
    images = images[..., None] if images.ndim == 3 else images
    return images, labels[:, 0] if labels.shape[1] == 1 else labels


class _Hashed:
    def __init__(self, model, digest):
        self.model, self.digest = model, digest

    def __hash__(self):
        return hash(self.digest)

    def __eq__(self, other):
        return self.digest == other.digest


@functools.cache
def _cached_logits(hashed, data, split):
    return _logits(hashed.model, arrays_of(data, split)[0])


def _logits(model, images):
    model.eval()
    logits = []
    with torch.no_grad():
        for image in images:
            pixels = torch.tensor(image).permute(2, 0, 1)[None].float() / 255
            pixels = (pixels - 0.5) / 0.5
            if model.spec.network_size:
                size = (model.spec.network_size,) * 2
                pixels = nn.functional.interpolate(pixels, size, mode="bilinear", antialias=True)
            logits.append(model.network(pixels)[0])
    return torch.stack(logits).numpy()


def percentage(correct):
    """Percentage of True."""
    return 100 * float(np.mean(correct))


def softmax(logits):
    powers = np.exp(logits.astype(float) - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def reference_figures(model_id, data, forgotten):
    """(figures of the groups forgetting and utility by key, percentages by predicted class)."""
    found = {}
    for split in ("train", "test"):
        logits, labels = predictions(model_id, data, split)
        compute = _multi_label_forgetting if labels.ndim == 2 else _single_label_forgetting
        found[split] = compute(logits, labels, forgotten)
    train, test = found["train"], found["test"]
    figures = {
        "unlearn_accuracy_percent": train["unlearn"],
        "remaining_accuracy_percent": train["kept"],
        "test_accuracy_percent": test["kept"],
        "unlearn_accuracy_test_percent": test["unlearn"],
        "evaluator_accuracy_percent": test["accuracy"],
        "evaluator_auc": test["auc"],
        "kept_auc": test["kept_auc"],
    }
    if "finding_auc" in test:
        figures["finding_auc"] = test["finding_auc"]
    return figures, train["destinations"]


def _single_label_forgetting(logits, labels, forgotten):
    correct, covered = logits.argmax(1) == labels, labels == forgotten
    kept = [number for number in range(logits.shape[1]) if number != forgotten]
    return {
        "unlearn": percentage(~correct[covered]),
        "kept": percentage(correct[~covered]),
        "accuracy": percentage(correct),
        "auc": mean_auc(softmax(logits), labels, range(logits.shape[1])),
        "kept_auc": mean_auc(softmax(logits[~covered][:, kept]), labels[~covered], kept),
        "destinations": [
            percentage(logits[covered].argmax(1) == number) for number in range(logits.shape[1])
        ],
    }


def mean_auc(scores, labels, numbers):
    """Mean over classes `numbers`, each against the rest; two classes: of the second. Or None."""
    numbers = list(numbers)
    if len(numbers) < 2:
        return None
    if len(numbers) == 2:
        return roc_auc_score(labels == numbers[1], scores[:, 1])
    return np.mean([roc_auc_score(labels == n, scores[:, at]) for at, n in enumerate(numbers)])


def _multi_label_forgetting(logits, labels, forgotten):
    found, covered = logits > 0, labels[:, forgotten] == 1
    correct, others = found == labels, np.arange(labels.shape[1]) != forgotten
    scores = expit(logits.astype(float))  # as the Evaluator: extreme logits are equal
    aucs = [roc_auc_score(labels[:, n], scores[:, n]) for n in range(labels.shape[1])]
    kept_aucs = [
        roc_auc_score(labels[~covered, n], scores[~covered, n]) for n in np.flatnonzero(others)
    ]
    return {
        "unlearn": percentage(~correct[covered, forgotten]),
        "kept": percentage(correct[~covered][:, others]),
        "accuracy": percentage(correct),
        "auc": np.mean(aucs),
        "kept_auc": np.mean(kept_aucs),
        "finding_auc": roc_auc_score(labels[:, forgotten], logits[:, forgotten]),
        "destinations": [percentage(part) for part in found[covered].T],
    }
