"""Gradients with respect to the pixels of an image."""

import torch
from torch.nn import functional

from models.architectures import Classifier


def logits_and_gradient(
    model: Classifier, images: torch.Tensor, excluded: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return logits (B, K) and the gradient of each image's loss by its pixels (B, C, H, W).

    images: float, 0 to 255. excluded: (B, K) bool, the classes that ascent on the loss
    makes less probable: the loss is -log of their total probability, for a single class the cross
    entropy. The gradients of the weights are neither computed nor changed.
    """
    images = images.detach().requires_grad_()
    with torch.enable_grad():
        logits = model(images)
        left = functional.log_softmax(logits, 1).masked_fill(~excluded, -torch.inf)
        loss = -left.logsumexp(1).sum()
    (gradient,) = torch.autograd.grad(loss, images)
    return logits.detach(), gradient
