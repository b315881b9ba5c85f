"""UAM: unlearning-aware minimization.

Kim, Kim, Chae and Yoon, "Unlearning-aware minimization", NeurIPS 2025: a low retain loss where the
forget loss is high. Each step moves the weights, as in sharpness-aware minimization, to where the
forget loss is highest within a ball, and applies the gradient of the retain loss there at the
original position:

    min_w  L_r(w + d(w)),    d(w) = argmax_{|d| <= rho} L_f(w + d) ~ rho g / |g|,   g = grad L_f(w)
    w <- w - rate grad L_r(w + d)

Choices, the first four as in the authors' code:

- The projection in the paper's last equation is left out: w moves along the whole gradient, which
  solves exactly the min-max problem above.
- The derivative of d with respect to w is left out; a step is two forward and two backward passes.
- The norm is the Euclidean norm over all weights together. The perturbation covers all weights,
  inside a mask or not; the step itself changes only those inside.
- Batch normalisation updates its statistics, at the moved weights, too. The forget images pass it
  together with the retain batch, so that no batch of one class alone determines the statistics.
- The learning rate decreases from epoch to epoch, from 0.03, and rho is constant; in the authors'
  code the rate stays at 0.01, and rho may decrease to 0 step by step. The default of rho is chosen
  here.
"""

import torch

from models.architectures import Classifier
from unlearn.engine.config import UnlearnConfig
from unlearn.engine.loop import EpochPlan, cosine_factor, run_epochs
from unlearn.engine.method import BATCH_SIZE, Method, Option
from unlearn.engine.pairing import PairedSets, split_pair
from utils.data.datasets import ImageSet
from utils.train.losses import classification_loss
from utils.train.recipe import Recipe

OPTIONS = {"rho": Option(0.5, "distance of the move to where the forget loss is high")}


def unlearning_aware(
    model: Classifier, forget_set: ImageSet, retain_set: ImageSet, config: UnlearnConfig
) -> Classifier:
    """Train on the retain set with gradients at weights where the forget loss is high."""
    epochs, batch_size = config.recipe.epochs, config.recipe.batch_size
    rho, request = config.options["rho"], config.request

    def step(model, optimizer, images, labels):
        kept, forgotten = labels
        weights = list(model.parameters())
        (_, _), (logits, _) = split_pair(model(images), labels)
        forget_loss = request.losses(logits, forgotten).mean()
        gradients = torch.autograd.grad(forget_loss, weights, materialize_grads=True)
        before = [weight.detach().clone() for weight in weights]
        _move(weights, gradients, rho)
        loss = classification_loss(model(images[: len(kept)]), kept)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        with torch.no_grad():
            for weight, old in zip(weights, before, strict=True):
                weight.copy_(old)
        optimizer.step()
        return loss.detach()

    def plan_epochs(generator):
        pairs = PairedSets(retain_set, forget_set, batch_size, generator)
        for epoch in range(epochs):
            yield EpochPlan(pairs, step, cosine_factor(epoch, epochs))

    return run_epochs(model, plan_epochs, config)


@torch.no_grad()
def _move(weights, gradients, distance):
    """Move all weights together by `distance` along their gradients, unless these are 0."""
    norm = torch.stack([gradient.norm() for gradient in gradients]).norm()
    scale = distance / norm.clamp_min(torch.finfo(norm.dtype).tiny)
    for weight, gradient in zip(weights, gradients, strict=True):
        weight.add_(gradient * scale)


METHOD = Method(
    id="UAM",
    name="Unlearning-Aware Minimization",
    run=unlearning_aware,
    recipe=Recipe(3, 0.03, BATCH_SIZE),
    paper="Kim et al., NeurIPS 2025",
    family="fine-tuning",
    summary="minimises the retain loss at weights that are moved to where the forget loss is high",
    options=OPTIONS,
)
