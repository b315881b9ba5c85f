"""Losses and probabilities. Labels are (B,) for single-label tasks, (B, K) for multi-label."""

import torch
from torch.nn import functional


def classification_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the mean cross entropy; for (B, K) labels the mean binary cross entropy.

    logits: (B, K) float. Both are the losses of MedMNIST's own training code; two-class and
    ordinal data are trained as multi-class, as there.
    """
    if labels.ndim == 2:
        return functional.binary_cross_entropy_with_logits(logits, labels.to(logits.dtype))
    return functional.cross_entropy(logits, labels)


def distillation_loss(
    logits: torch.Tensor, targets: torch.Tensor, multi_label: bool = False
) -> torch.Tensor:
    """Return the mean Kullback-Leibler divergence KL(targets || model), in nats.

    logits: (B, K). targets: (B, K) probabilities. multi_label: take each finding separately, and
    the mean over findings and images, as in `classification_loss`.
    """
    if multi_label:
        entropy = functional.binary_cross_entropy(targets, targets)
        return functional.binary_cross_entropy_with_logits(logits, targets) - entropy
    return functional.kl_div(logits.log_softmax(1), targets, reduction="batchmean")


def probabilities(logits: torch.Tensor, multi_label: bool) -> torch.Tensor:
    """Return (N, K) probabilities: of each finding if multi_label, otherwise over all classes."""
    return logits.sigmoid() if multi_label else logits.softmax(dim=1)
