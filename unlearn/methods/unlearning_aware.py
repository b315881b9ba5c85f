"""UAM: unlearning-aware minimization.

Kim, Kim, Chae and Yoon, "Unlearning-aware minimization", NeurIPS 2025: a low retain loss where the
forget loss is high. At each step the weights are moved, as in sharpness-aware minimization, to
where the forget loss is highest within a ball, and the gradient that the retain loss has there is
applied at where they were:

    min_w  L_r(w + d(w)),    d(w) = argmax_{|d| <= rho} L_f(w + d) ~ rho g / |g|,   g = grad L_f(w)
    w <- w - rate grad L_r(w + d)

Choices, the first four as the authors' code makes them:

- The projection in the paper's last equation is left out: w moves along the whole gradient, so that
  what is solved is the min-max problem above and nothing besides.
- The derivative of d with respect to w is left out; a step is two forward and two backward passes.
- The norm is the Euclidean one over all weights together. The perturbation looks at all weights,
  inside a mask or not; the step itself moves only those inside.
- Batch normalisation goes on measuring, at the moved weights as well. The forget images pass it
  together with the retain batch, so that a batch of one class alone does not decide the statistics.
- The rate falls from epoch to epoch, from 0.03, and rho stays; in the authors' code the rate stays
  at 0.01, and rho may fall to 0 step by step. The default of rho is chosen here.
"""

import torch

from unlearn.engine.loop import EpochPlan, cosine_factor, run_epochs
from unlearn.engine.method import BATCH_SIZE, Method, Option
from unlearn.engine.pairing import PairedSets, split_pair
from utils.train.losses import classification_loss
from utils.train.recipe import Recipe

OPTIONS = {"rho": Option(0.5, "how far the weights are moved to where the forget loss is high")}


def unlearning_aware(model, forget_set, retain_set, config):
    """Go on training on the retain set, by its gradients at weights that have just forgotten."""
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

    def passes(generator):
        pairs = PairedSets(retain_set, forget_set, batch_size, generator)
        for epoch in range(epochs):
            yield EpochPlan(pairs, step, cosine_factor(epoch, epochs))

    return run_epochs(model, passes, config)


@torch.no_grad()
def _move(weights, gradients, distance):
    """Move all weights together by `distance` along their gradients; not at all if these are 0."""
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
