"""What a network sees before its last layer: the penultimate features."""

from contextlib import contextmanager

import torch
from torch import nn

from utils.prediction import PREDICTION_BATCH, predict


def classifier_head(model):
    """The last layer, Linear or 1x1 convolution, whose outputs are the model's classes."""
    classes = model.spec.num_classes
    heads = [
        module
        for module in model.network.modules()
        if classes in (getattr(module, "out_features", None), getattr(module, "out_channels", None))
    ]
    if not heads:
        raise ValueError(f"{model.spec.arch} has no layer with {classes} outputs")
    return heads[-1]


def predict_with_features(model, image_set, batch_size=PREDICTION_BATCH):
    """(logits (M, K), features (M, D)) of an ImageSet, float32 on the CPU, in evaluation mode.

    Features are what the classifier head is given; maps, as SqueezeNet's, are averaged over their
    positions. An empty set has features (0, 0).
    """
    with _inputs_of(classifier_head(model)) as found:
        logits = predict(model, image_set, batch_size).cpu()
    return logits, torch.cat(found) if found else torch.zeros(0, 0)


@contextmanager
def _inputs_of(layer: nn.Module):
    found = []

    def keep(_, inputs):
        features = inputs[0].detach().float()
        found.append((features if features.ndim == 2 else features.flatten(2).mean(2)).cpu())

    handle = layer.register_forward_pre_hook(keep)
    try:
        yield found
    finally:
        handle.remove()
