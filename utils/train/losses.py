"""Losses and probabilities; labels tell the task: (B,) single-label, (B, K) multi-label."""

from torch.nn import functional


def classification_loss(logits, labels):
    """Mean cross entropy; for multi-label (B, K) labels the mean binary cross entropy.

    logits: (B, K) float. Both are what MedMNIST's own training uses; two-class and ordinal data
    are trained as multi-class, as there.
    """
    if labels.ndim == 2:
        return functional.binary_cross_entropy_with_logits(logits, labels.to(logits.dtype))
    return functional.cross_entropy(logits, labels)


def distillation_loss(logits, targets, multi_label=False):
    """Mean Kullback-Leibler divergence KL(targets || model), in nats.

    logits: (B, K). targets: (B, K) probabilities. Multi-label: of each finding by itself, the mean
    over findings and images, as in `classification_loss`.
    """
    if multi_label:
        entropy = functional.binary_cross_entropy(targets, targets)
        return functional.binary_cross_entropy_with_logits(logits, targets) - entropy
    return functional.kl_div(logits.log_softmax(1), targets, reduction="batchmean")


def probabilities(logits, multi_label):
    """(N, K) probabilities: of each finding by itself if multi_label, else over all classes."""
    return logits.sigmoid() if multi_label else logits.softmax(dim=1)
