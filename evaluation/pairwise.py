"""Distances between the outputs of two models, image by image, and between several models."""

from collections.abc import Callable, Sequence

import numpy as np
import torch

from evaluation.relative import MeanDistances, Measurement


def js_divergences(
    logits: torch.Tensor, other_logits: torch.Tensor, multi_label: bool
) -> np.ndarray:
    """Return the Jensen-Shannon divergence of two models' outputs: (N,) float64, bits, 0 to 1.

    logits: (N, K). JS(p, q) = H((p + q) / 2) - H(p) / 2 - H(q) / 2 (Lin, IEEE Trans. Inf. Theory
    1991), over the classes of an image; in multi-label data over presence and absence of each
    finding, averaged.
    """
    p, q = (_distributions(part, multi_label) for part in (logits, other_logits))
    each = _entropy((p + q) / 2) - _entropy(p) / 2 - _entropy(q) / 2
    if multi_label:
        each = each.mean(1)
    return each.clamp(0, 1).numpy()


def disagreements(
    logits: torch.Tensor, other_logits: torch.Tensor, multi_label: bool
) -> np.ndarray:
    """Return whether two models predict differently: (N,) float64, 0 or 1.

    logits: (N, K). By the top class of each image; in multi-label data the fraction of findings.
    """
    first, second = (_predictions(part, multi_label) for part in (logits, other_logits))
    differs = (first != second).double()
    return (differs.mean(1) if multi_label else differs).numpy()


def mean_distances(
    distance: Callable[[torch.Tensor, torch.Tensor, bool], np.ndarray],
    models: Sequence[torch.Tensor],
    retrains: Sequence[torch.Tensor],
    multi_label: bool,
) -> Measurement:
    """Return the function of image weights that gives the MeanDistances of models and Retrains.

    distance: js_divergences or disagreements. models, retrains: the (N, K) logits of each.
    """
    to_retrains = np.array(
        [[distance(model, retrain, multi_label) for retrain in retrains] for model in models]
    )
    between = np.zeros((len(retrains), len(retrains), to_retrains.shape[-1]))
    for first in range(len(retrains)):
        for second in range(first):
            between[first, second] = between[second, first] = distance(
                retrains[first], retrains[second], multi_label
            )

    def measure(weights):
        return MeanDistances(*(_weighted(part, weights) for part in (to_retrains, between)))

    return measure


def confusion_distances(
    models: Sequence[torch.Tensor],
    retrains: Sequence[torch.Tensor],
    labels: torch.Tensor,
    multi_label: bool,
) -> Measurement:
    """Return the function of image weights that gives the squared MeanDistances of confusions.

    The distance of two models is the total variation distance, 0 to 1, of where the images go: half
    the sum over true and predicted classes of the absolute difference between the fractions of
    images; in multi-label data the difference between the fractions of images that a finding is
    predicted for, averaged over the findings. Squared, as evaluation.relative expects distances.

    models, retrains: the (N, K) logits of each. labels: (N,), or (N, K) for multi-label data.
    """
    cells = [_cells(logits, labels, multi_label) for logits in (*models, *retrains)]
    count = len(models)

    def measure(weights):
        fractions = np.stack([weights @ each for each in cells], 1)  # (B, models, cells)
        gaps = np.abs(fractions[:, :, None] - fractions[:, None, :])
        distances = gaps.mean(-1) if multi_label else gaps.sum(-1) / 2
        squared = distances**2
        return MeanDistances(squared[:, :count, count:], squared[:, count:, count:])

    return measure


def _cells(logits, labels, multi_label):
    """(N, cells) of 0 and 1: the cell of the confusion matrix, or the findings, of each image."""
    predicted = _predictions(logits, multi_label)
    if multi_label:
        return predicted.double().numpy()
    classes = logits.shape[1]
    found, cells = torch.unique(labels, return_inverse=True)
    cells = cells * classes + predicted
    return torch.nn.functional.one_hot(cells, len(found) * classes).double().numpy()


def _weighted(distances, weights):
    """(B, ...) means of (..., N) distances with (B, N) weights of the images."""
    flat = distances.reshape(-1, distances.shape[-1])
    return (weights @ flat.T).reshape(len(weights), *distances.shape[:-1])


def _predictions(logits, multi_label):
    return logits > 0 if multi_label else logits.argmax(1)


def _distributions(logits, multi_label):
    logits = logits.double()
    if multi_label:
        found = logits.sigmoid()
        return torch.stack([found, 1 - found], -1)
    return logits.softmax(1)


def _entropy(p):
    return torch.special.entr(p).sum(-1) / np.log(2)
