"""Distances between the outputs of two models, image by image, and between several models."""

from collections.abc import Callable, Sequence

import numpy as np
import torch

from evaluation.retrains.relative import Measurement


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
    outputs: Sequence[torch.Tensor],
    multi_label: bool,
) -> Measurement:
    """Return the function of image weights that gives the mean distances between M models.

    distance: js_divergences or disagreements. outputs: the (N, K) logits of each model.
    """
    count = len(outputs)
    rows, columns = np.triu_indices(count, 1)
    by_image = np.array(
        [distance(outputs[i], outputs[j], multi_label) for i, j in zip(rows, columns, strict=True)]
    )

    def measure(weights):
        means = np.zeros((len(weights), count, count))
        means[:, rows, columns] = weights @ by_image.T
        return means + means.transpose(0, 2, 1)

    return measure


def confusion_distances(
    outputs: Sequence[torch.Tensor], labels: torch.Tensor, multi_label: bool
) -> Measurement:
    """Return the function of image weights that gives the squared distances of confusions.

    The distance of two models is the total variation distance, 0 to 1, of where the images go: half
    the sum over true and predicted classes of the absolute difference between the fractions of
    images; in multi-label data the difference between the fractions of images that a finding is
    predicted for, averaged over the findings. Squared, as a Measurement has to be: an L1 norm is no
    Euclidean one, so that the F distribution is an approximation here.

    outputs: the (N, K) logits of each of M models. labels: (N,), or (N, K) for multi-label data.
    """
    cells = [_cells(logits, labels, multi_label) for logits in outputs]

    def measure(weights):
        fractions = np.stack([weights @ each for each in cells], 1)  # (B, M, cells)
        squared = np.empty((len(weights), len(cells), len(cells)))
        for model in range(len(cells)):  # all pairs together would need too much memory
            gaps = np.abs(fractions - fractions[:, model, None])
            squared[:, model] = (gaps.mean(-1) if multi_label else gaps.sum(-1) / 2) ** 2
        return squared

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
