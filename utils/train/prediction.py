"""Prediction: the logits of all images of a set."""

from typing import TYPE_CHECKING

import torch

from utils.data.prefetch import iter_batches
from utils.train.recipe import PREDICTION_BATCH

if TYPE_CHECKING:
    from utils.data.datasets import CompositeSet, ImageSet


@torch.inference_mode()
def predict(
    model: torch.nn.Module,
    image_set: "ImageSet | CompositeSet",
    batch_size: int = PREDICTION_BATCH,
) -> torch.Tensor:
    """Return the logits (M, K) float32 of M images, on their device, in evaluation mode.

    The logits of an empty set are (0, K). The model's training or evaluation mode is restored.
    """
    if len(image_set) == 0:
        return torch.zeros(0, model.spec.num_classes, device=image_set.device)
    was_training = model.training
    model.eval()
    positions = torch.arange(len(image_set), device=image_set.device)
    parts = positions.split(batch_size)
    logits = [model(images).float() for images, _ in iter_batches(image_set, parts)]
    model.train(was_training)
    return torch.cat(logits)
