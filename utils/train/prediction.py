"""The loop over batches that only looks."""

import torch

from utils.data.prefetch import iter_batches
from utils.train.recipe import PREDICTION_BATCH


@torch.inference_mode()
def predict(model, image_set, batch_size=PREDICTION_BATCH):
    """Logits (M, K) float32 of an ImageSet, on its device, in evaluation mode.

    An empty set gives (0, K). The model is left in the mode it was in.
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
