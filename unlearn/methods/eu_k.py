"""EU_k: exact unlearning of the last k layers.

Goel, Prabhu, Sanyal, Lim, Torr, Kumaraguru, "Towards adversarial evaluations for inexact machine
unlearning", 2022: freeze all layers but the last k, re-initialise these and train them

    theta_last = argmin E_{(x, y) in D_r} [ CE(f(x; theta_first, theta_last), y) ]

so that the last k layers have never seen the forget set; the first layers keep their knowledge of
it. The new weights are drawn with the run's seed, as in Retrain: by default the base model's seed,
so that they are the base model's initial weights (ImageNet's if the base model started from those).
unlearn/components/last_layers.py defines what a layer is.
"""

import torch

from models.architectures import Classifier, build_model
from unlearn.components.last_layers import OPTIONS, own_tensors, split_at_last, train_last_layers
from unlearn.engine.config import UnlearnConfig
from unlearn.engine.method import BATCH_SIZE, Method
from utils.data.datasets import ImageSet
from utils.train.recipe import Recipe


def exact_last_layers(
    model: Classifier, forget_set: ImageSet, retain_set: ImageSet, config: UnlearnConfig
) -> Classifier:
    """Train the last layers from scratch on the retain set; the forget set is not used."""
    k, fresh = config.options["k"], build_model(model.spec, seed=config.recipe.seed)
    last, fresh_last = (split_at_last(each.network, k)[1] for each in (model, fresh))
    with torch.no_grad():
        for module, fresh_module in zip(last, fresh_last, strict=True):
            for old, new in zip(own_tensors(module), own_tensors(fresh_module), strict=True):
                old.copy_(new)
    return train_last_layers(model, retain_set, config)


METHOD = Method(
    id="EU_k",
    name="Exact unlearning of the last k layers",
    run=exact_last_layers,
    recipe=Recipe(3, 0.03, BATCH_SIZE),
    paper="Goel et al., 2022",
    family="fine-tuning",
    summary="re-initialises the last k layers and trains them on the retain set; the other layers "
    "stay bitwise identical",
    supports_mask=False,
    needs_last_layer=True,
    options=OPTIONS,
)
