"""GA: gradient ascent on the forget set.

Thudi et al., "Unrolling SGD", EuroS&P 2022, add the gradient of the forget set at the base model's
weights once. As the baseline GA of Jia et al., "Model sparsity can simplify machine unlearning",
NeurIPS 2023, it is repeated: maximise E_{x in D_f} [ CE(f(x), y) ]. The retain set is not used.
(Graves et al., who are sometimes cited for GA, revert recorded updates of the training instead.)
Three choices that the papers leave open decide whether the model stays usable:

- An image has no gradient once its loss is that of a random guess, ln K: it is forgotten, and cross
  entropy, which has no upper bound, would otherwise destroy what is to stay.
- The default optimizer is Adam, at a small rate. A model that fits the forget set perfectly has
  gradients near zero there, and large ones as soon as it changes; no rate of SGD suits both.
- The running statistics of batch normalisation stay those of the base model: batches of a single
  class would shift them away from what the retained classes need.
"""

import torch

from models.architectures import Classifier
from unlearn.engine.config import UnlearnConfig
from unlearn.engine.loop import EpochPlan, run_epochs
from unlearn.engine.method import BATCH_SIZE, Method
from unlearn.request.request import ForgetRequest
from utils.data.datasets import ImageSet
from utils.train.recipe import Recipe
from utils.train.training import gradient_step


def gradient_ascent(
    model: Classifier, forget_set: ImageSet, retain_set: ImageSet, config: UnlearnConfig
) -> Classifier:
    """Maximise the loss of each forget image, up to that of a random guess."""

    def ascent(logits, labels):
        return -bounded_losses(config.request, logits, labels).mean()

    def plan_epochs(_):
        for _ in range(config.recipe.epochs):
            yield EpochPlan(forget_set, gradient_step(ascent), update_statistics=False)

    return run_epochs(model, plan_epochs, config)


def bounded_losses(
    request: ForgetRequest, logits: torch.Tensor, labels: torch.Tensor
) -> torch.Tensor:
    """Return the losses (B,) clipped to that of a random guess, where they have no gradient."""
    losses = request.losses(logits, labels)
    beyond = (losses - request.chance_loss(logits, labels)).relu()
    return losses - beyond  # the smaller of the two, and NaN if the loss is infinite


METHOD = Method(
    id="GA",
    name="Gradient Ascent",
    run=gradient_ascent,
    # Adam would follow a decay wherever the gradient is near zero
    recipe=Recipe(5, 3e-6, BATCH_SIZE, optimizer="adam", weight_decay=0.0),
    paper="Thudi et al., EuroS&P 2022",
    family="gradient ascent",
    summary="maximises the loss of the forget set, up to the loss of a random guess",
    allows_batch_of_one=True,
)
