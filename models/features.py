"""What a network sees before its last layer: the penultimate features."""

from contextlib import ExitStack, contextmanager

import torch
from torch import nn

from models.parallel import gather_batch
from utils.runtime.errors import UserError
from utils.train.prediction import PREDICTION_BATCH, predict


def classifier_head(model):
    """The last layer, Linear or 1x1 convolution, whose outputs are the model's classes.

    Raises UserError for a model in shards, which has one for each.
    """
    heads = classifier_heads(model)
    if model.spec.shards:
        raise UserError(
            f"a model in shards has {len(heads)} last layers where one is asked for: choose "
            "another method, or a base model trained without --sisa_shards"
        )
    return heads[0]


def classifier_heads(model):
    """The same of each of the networks that the model is made of: a list, of one without shards."""
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


def predict_with_features(model, image_set, batch_size=PREDICTION_BATCH):
    """(logits (M, K), features (M, D)) of an ImageSet, float32 on the CPU, in evaluation mode.

    Features are what the classifier head is given; maps, as SqueezeNet's, are averaged over their
    positions. Those of a model in shards are its networks' features side by side. An empty set has
    features (0, 0).
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
