"""BoundaryExpanding: move the forget set into an extra class, and remove this class afterwards.

Chen et al., "Boundary unlearning: rapid forgetting of deep networks via shifting the decision
boundary", CVPR 2023. The last layer gets an extra output, the shadow class K + 1:

    minimise E_{x in D_f} [ CE(f^+(x), K + 1) ]        f(x) = the first K outputs of f^+(x)

Without the shadow class the images fall into nearby classes. The retain set is not used. Choices
that the paper leaves open:

- The shadow class is initialised like an output of a new layer, uniformly within 1 / sqrt(inputs).
  All its weights may change; a mask covers only the weights that remain.
- The running statistics of batch normalisation stay those of the base model: batches of a single
  class would shift them away from what the retained classes need.
- There is no weight decay: nothing here would restore what it takes from the other classes.
"""

import copy
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import nn

from models.architectures import Classifier
from models.features import classifier_head
from unlearn.engine.config import UnlearnConfig
from unlearn.engine.loop import EpochPlan, run_epochs
from unlearn.engine.masking import WeightMask
from unlearn.engine.method import BATCH_SIZE, Method
from utils.data.datasets import ImageSet
from utils.train.losses import classification_loss
from utils.train.recipe import Recipe
from utils.train.training import gradient_step


def boundary_expanding(
    model: Classifier, forget_set: ImageSet, retain_set: ImageSet, config: UnlearnConfig
) -> Classifier:
    """Train on the forget set alone, with an extra class as label that is removed at the end."""
    shadow = forget_set.with_labels(torch.full_like(forget_set.labels, model.spec.num_classes))

    def plan_epochs(_):
        for _ in range(config.recipe.epochs):
            yield EpochPlan(shadow, gradient_step(classification_loss), update_statistics=False)

    with _expanded(model, config.recipe.seed) as head_name:
        mask = _expanded_mask(config.mask, head_name) if config.mask else None
        run_epochs(model, plan_epochs, replace(config, mask=mask))
    return model.eval()  # also its own last layer, which was replaced during training


@contextmanager
def _expanded(model, seed):
    """Give the model one more output; afterwards copy the other outputs to its own last layer.

    Yields the name of the last layer. Its own last layer is also restored after an error.
    """
    head = classifier_head(model)
    name = next(name for name, module in model.network.named_modules() if module is head)
    wide = copy.deepcopy(head)
    bound = head.weight[0].numel() ** -0.5
    generator = torch.Generator().manual_seed(seed)
    for part, parameter in head.named_parameters():
        extra = torch.empty(1, *parameter.shape[1:]).uniform_(-bound, bound, generator=generator)
        setattr(wide, part, nn.Parameter(torch.cat([parameter.detach(), extra.to(parameter)])))
    model.network.set_submodule(name, wide)
    try:
        yield f"network.{name}"
    finally:
        with torch.no_grad():
            for part, parameter in head.named_parameters():
                parameter.copy_(getattr(wide, part)[:-1])
        model.network.set_submodule(name, head)


def _expanded_mask(mask, head_name):
    """The mask extended by the shadow class's weights, which may all change."""
    changeable = dict(mask.changeable)
    for part in ("weight", "bias"):
        name = f"{head_name}.{part}"
        if name in changeable:
            extra = torch.ones_like(changeable[name][:1])
            changeable[name] = torch.cat([changeable[name], extra])
    return WeightMask(changeable)


METHOD = Method(
    id="BoundaryExpanding",
    name="Boundary Expanding",
    run=boundary_expanding,
    recipe=Recipe(5, 1e-4, BATCH_SIZE, weight_decay=0.0),
    paper="Chen et al., CVPR 2023",
    family="other labels",
    summary="moves forgotten images into an extra class and then removes this class",
    single_label_only=True,
    allows_batch_of_one=True,
    needs_last_layer=True,
)
