"""Which way an image has to change for a model to get it wrong."""

import torch
from torch.nn import functional


def logits_and_gradient(model, images, barred):
    """(logits (B, K), gradient by the pixels (B, C, H, W) of each image's loss).

    images: float, 0 to 255. barred: (B, K) bool, the classes that the image is to leave. The loss
    is -log of their probability together, the cross entropy where there is one. The gradients of
    the weights are neither worked out nor touched.
    """
    images = images.detach().requires_grad_()
    with torch.enable_grad():
        logits = model(images)
        left = functional.log_softmax(logits, 1).masked_fill(~barred, -torch.inf)
        loss = -left.logsumexp(1).sum()
    (gradient,) = torch.autograd.grad(loss, images)
    return logits.detach(), gradient
