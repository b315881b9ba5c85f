"""Training of a network's last k layers alone, which EU_k and CF_k share.

A layer is a convolution or a linear map, with all that the network defines after it up to the
next one: its batch normalisation, dropout and so on. Layers are counted in the order in which the
network defines them; a ResNet's shortcut convolution stands at the end of its block. ResNet-18 has
21: k = 1 is the classifier, k = 3 its last block too, k = 6 the whole last stage.
"""

from itertools import chain

from torch import nn

from models.features import classifier_head
from unlearn.engine.loop import EpochPlan, cosine_factor, run_epochs
from utils.train.losses import classification_loss
from utils.train.training import gradient_step

LAYERS = (nn.Conv2d, nn.Linear, nn.MultiheadAttention)


def split_at_last(network, k):
    """(modules before the last k layers, modules from there on); each module on its own."""
    modules = list(network.modules())
    starts = [number for number, module in enumerate(modules) if isinstance(module, LAYERS)]
    start = starts[-k] if k < len(starts) else 0
    return modules[:start], modules[start:]


def own_tensors(module):
    """Weights and running statistics of a module without its children's."""
    return chain(module.parameters(recurse=False), module.buffers(recurse=False))


def train_last_layers(model, retain_set, config):
    """Train the last layers on the retain set; the others stay bit for bit as they are.

    Their batch normalisation and dropout work as in evaluation. They have no gradient, so that
    the way back ends where they begin. Returns the model in evaluation mode.
    """
    classifier_head(model)  # of a model in shards there is no one last layer: it says so
    epochs, first = config.recipe.epochs, split_at_last(model.network, config.options["k"])[0]
    frozen = [parameter for module in first for parameter in module.parameters(recurse=False)]
    inner_step = gradient_step(classification_loss)

    def step(*arguments):
        for module in first:
            module.training = False  # of this module alone: train() would reach its children
        return inner_step(*arguments)

    def passes(_):
        for epoch in range(epochs):
            yield EpochPlan(retain_set, step, cosine_factor(epoch, epochs))

    for parameter in frozen:
        parameter.requires_grad_(False)
    try:
        return run_epochs(model, passes, config)
    finally:
        for parameter in frozen:
            parameter.requires_grad_(True)
