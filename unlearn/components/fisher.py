"""Fisher information of a model's weights, from gradients over a set of images.

The Fisher information of a loss l is F = E_x[ g g^T ] with g the gradient of one image's loss, the
negative log-likelihood of its labels. In multi-label data it covers all findings, which the model
treats as independent, so it is the sum of their losses (the training loss is their mean). One
backward pass per image is slow, and the square of a batch's gradient is not the sum of squares. So
the images of a batch get random signs s = +1 or -1: as E[s_i s_j] = 0 for two images,

    E[ (sum_i s_i g_i) (sum_j s_j g_j)^T ] = sum_i g_i g_i^T,

an unbiased estimate for any batch size, and the exact diagonal at a batch size of 1. The model is
in evaluation mode throughout: no running statistics change and an image's gradient is its own.
"""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch.nn import functional

from models.architectures import Classifier
from utils.data.datasets import ImageSet
from utils.data.prefetch import iter_batches
from utils.runtime.devices import to_device_async
from utils.runtime.errors import UserError

ImageLosses = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]  # (logits, labels) -> (B,)


def image_losses(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return -log p(labels) (B,): cross entropy; multi-label: sum of binary cross entropies."""
    if labels.ndim == 2:
        losses = functional.binary_cross_entropy_with_logits(
            logits, labels.to(logits.dtype), reduction="none"
        )
        return losses.sum(1)
    return functional.cross_entropy(logits, labels, reduction="none")


def random_signs(
    shape: Sequence[int], generator: torch.Generator, device: torch.device
) -> torch.Tensor:
    """Return +1 and -1 with probability one half each: float of `shape`."""
    return to_device_async((2 * torch.randint(2, shape, generator=generator) - 1).float(), device)


def signed_gradients(
    model: Classifier,
    image_set: ImageSet,
    losses: ImageLosses,
    batch_size: int,
    generator: torch.Generator,
) -> Iterator[tuple[int, tuple[torch.Tensor, ...]]]:
    """Yield for each batch (number of images, gradients of the sum of their signed losses).

    losses: (logits, labels) -> (B,). The images are in random order, each once. The gradients are a
    tuple in the order of the model's parameters.
    """
    weights = list(model.eval().parameters())
    order = torch.randperm(len(image_set), generator=generator).to(image_set.device)
    for images, labels in iter_batches(image_set, order.split(batch_size)):
        signs = random_signs((len(images),), generator, image_set.device)
        loss = signs @ losses(model(images), labels)
        yield len(images), torch.autograd.grad(loss, weights, materialize_grads=True)


def diagonal_fisher(
    model: Classifier,
    image_set: ImageSet,
    losses: ImageLosses,
    batch_size: int,
    generator: torch.Generator,
) -> dict[str, torch.Tensor]:
    """Return the mean squared gradient of each weight over the images, by parameter name."""
    total = [torch.zeros_like(weight) for weight in model.parameters()]
    for _, gradients in signed_gradients(model, image_set, losses, batch_size, generator):
        torch._foreach_addcmul_(total, gradients, gradients)
    check_finite(total)
    torch._foreach_div_(total, len(image_set))
    return dict(zip((name for name, _ in model.named_parameters()), total, strict=True))


def check_finite(tensors: Sequence[torch.Tensor]) -> None:
    """Raise UserError if gradients are infinite or NaN."""
    if not torch.stack([tensor.isfinite().all() for tensor in tensors]).all():
        raise UserError("the gradients are not finite: the model's weights are broken")
