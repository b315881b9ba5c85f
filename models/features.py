"""Penultimate features: the inputs of a network's last layer."""

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import torch
from torch import nn

from models.parallel import gather_batch
from utils.runtime.errors import UserError
from utils.train.prediction import PREDICTION_BATCH, predict

if TYPE_CHECKING:
    from models.architectures import Classifier
    from utils.data.datasets import CompositeSet, ImageSet


def classifier_head(model: "Classifier") -> nn.Module:
    """Return the last layer, Linear or 1x1 convolution, whose outputs are the logits.

    Raises UserError for a model in shards, which has one per shard.
    """
    heads = classifier_heads(model)
    if model.spec.shards:
        raise UserError(
            f"a model in shards has {len(heads)} last layers, and this needs exactly one: choose "
            "another method, or a base model trained without --sisa_shards"
        )
    return heads[0]


def classifier_heads(model: "Classifier") -> list[nn.Module]:
    """Return the last layer of each network of the model, one without shards."""
    networks = model.network.shards if model.spec.shards else [model.network]
    return [_head(network, model.spec) for network in networks]


def _head(network, spec):
    classes = spec.num_classes
    heads = [
        module
        for module in network.modules()
        if classes in (getattr(module, "out_features", None), getattr(module, "out_channels", None))
    ]
    if not heads:
        raise ValueError(f"{spec.arch} has no layer with {classes} outputs")
    return heads[-1]


def predict_with_features(
    model: "Classifier",
    image_set: "ImageSet | CompositeSet",
    batch_size: int = PREDICTION_BATCH,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (logits (M, K), features (M, D)) of M images, float32 on the CPU, in evaluation mode.

    Features are the inputs of the classifier head; feature maps, as SqueezeNet's, are averaged over
    their positions. Features of a model in shards are concatenated. An empty set has features
    (0, 0).
    """
    with ExitStack() as stack:
        found = [stack.enter_context(_inputs_of(head)) for head in classifier_heads(model)]
        logits = predict(model, image_set, batch_size).cpu()
    if not found[0]:
        return logits, torch.zeros(0, 0)
    return logits, torch.cat([torch.cat(batches) for batches in found], dim=1)


@contextmanager
def _inputs_of(layer: nn.Module):
    found = []

    def keep(_, inputs):
        features = gather_batch(inputs[0]).detach().float()
        found.append((features if features.ndim == 2 else features.flatten(2).mean(2)).cpu())

    handle = layer.register_forward_pre_hook(keep)
    try:
        yield found
    finally:
        handle.remove()
