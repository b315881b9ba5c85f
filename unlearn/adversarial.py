"""Which way an image has to change for a model to get it wrong."""

import torch
from torch.nn import functional


def logits_and_gradient(model, images, labels):
    """(logits (B, K), gradient of each image's cross entropy by its pixels (B, C, H, W)).

    images: float, 0 to 255. The gradients of the weights are neither worked out nor touched.
    """
    images = images.detach().requires_grad_()
    with torch.enable_grad():
        logits = model(images)
        losses = functional.cross_entropy(logits, labels, reduction="sum")
    (gradient,) = torch.autograd.grad(losses, images)
    return logits.detach(), gradient
