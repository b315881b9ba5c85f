"""The loop over batches that only looks."""

import torch

PREDICTION_BATCH = 512  # images


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
    logits = [model(image_set.batch(part)[0]).float() for part in positions.split(batch_size)]
    model.train(was_training)
    return torch.cat(logits)
