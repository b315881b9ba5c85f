"""Training of only the last k layers of a network, for EU_k and CF_k.

A layer is a convolution or a linear map, with all that the network defines after it up to the
next one: its batch normalisation, dropout and so on. Layers are counted in the order in which the
network defines them; a ResNet's shortcut convolution stands at the end of its block. ResNet-18 has
21: k = 1 is the classifier, k = 3 its last block too, k = 6 the whole last stage.
"""

from collections.abc import Iterator
from itertools import chain

import torch
from torch import nn

from models.architectures import Classifier
from models.features import classifier_head
from unlearn.engine.config import UnlearnConfig
from unlearn.engine.loop import EpochPlan, cosine_factor, run_epochs
from unlearn.engine.method import Option
from utils.data.datasets import ImageSet
from utils.train.losses import classification_loss
from utils.train.training import gradient_step

OPTIONS = {"k": Option(6, "number of last layers to train; a larger number trains all layers", 1)}
LAYERS = (nn.Conv2d, nn.Linear, nn.MultiheadAttention)


def split_at_last(network: nn.Module, k: int) -> tuple[list[nn.Module], list[nn.Module]]:
    """Return (modules before the last k layers, modules from there on), without nesting."""
    modules = list(network.modules())
    starts = [number for number, module in enumerate(modules) if isinstance(module, LAYERS)]
    start = starts[-k] if k < len(starts) else 0
    return modules[:start], modules[start:]


def own_tensors(module: nn.Module) -> Iterator[torch.Tensor]:
    """Return weights and running statistics of a module, without those of its children."""
    return chain(module.parameters(recurse=False), module.buffers(recurse=False))


def train_last_layers(model: Classifier, retain_set: ImageSet, config: UnlearnConfig) -> Classifier:
    """Train the last layers on the retain set; the others stay bitwise identical.

    Batch normalisation and dropout of the others are in evaluation mode, and they have no gradient,
    so that backward passes end there. Returns the model in evaluation mode.
    """
    classifier_head(model)  # raises UserError for a model in shards
    epochs, first = config.recipe.epochs, split_at_last(model.network, config.options["k"])[0]
    frozen = [parameter for module in first for parameter in module.parameters(recurse=False)]
    inner_step = gradient_step(classification_loss)

    def step(*arguments):
        for module in first:
            module.training = False  # of this module alone: train() would reach its children
        return inner_step(*arguments)

    def plan_epochs(_):
        for epoch in range(epochs):
            yield EpochPlan(retain_set, step, cosine_factor(epoch, epochs))

    for parameter in frozen:
        parameter.requires_grad_(False)
    try:
        return run_epochs(model, plan_epochs, config)
    finally:
        for parameter in frozen:
            parameter.requires_grad_(True)
