"""SFRon: saliency forgetting in the remain-preserving manifold, online.

Huang et al., "Unified gradient-based machine unlearning with remain geometry enhancement", NeurIPS
2024. Each outer step ascends on a forget batch, repairs on T_in retain batches, and moves the slow
weights towards the fast ones:

    theta_f = theta + rate alpha m * grad mean_i(c_i l_i),  c_i = l_i^-decline / mean(l^-decline)
    theta_r = theta_f after `inner` steps of descent on the retain loss
    theta  <- theta + beta (theta_r - theta)

m selects the weights whose diagonal Fisher information on the forget set is at least gamma times
that on the retain set, at the base model's weights. c_i (without gradient; the paper's lambda is
called decline) favours images that the model still recognises. The descent on the retain loss
reverts the ascent along its steep directions: to first order the two together are the ascent times
the inverse Hessian of the retain set, which is never computed. Choices, as in the authors' code
unless stated:

- Learning rate and alpha both follow half a cosine, from epoch to epoch (1 and 0.5 in two epochs;
  in the code step by step to 0); both kinds of step share one optimizer; the gradient of the
  ascent, including alpha and mask, is clipped to the norm MAX_NORM. beta is 1, so that the slow
  weights are the fast ones.
- alpha is 25 in the code for a ResNet-18 on CIFAR-10, over 300 ascents (500 is for AdamW at 2e-5).
  There are far fewer ascents here, and images that the model fits perfectly have almost no gradient
  (a norm of about 0.01 on a ResNet-18): up to 5 nothing of a random sample is forgotten. With the
  default, MAX_NORM limits the step instead, for a class as for a sample.
- An epoch is one pass over the forget set, with `inner` batches of retain images after each batch,
  which are smaller at the end of the retain set.
- The Fisher information uses single images' gradients (fisher.py); the code squares those of
  batches. In multi-label data it covers all findings, of both sets, so that gamma compares equal
  quantities; the ascent covers only the findings to forget.
- Batch normalisation uses batch statistics in the ascent, too, as in the code. With the running
  statistics instead, the same settings destroyed most of what a ResNet-18 was to keep. A single
  image has no batch statistics: there the ascent uses the running ones.
"""

import torch
from torch import nn

from models.architectures import Classifier
from unlearn.components.fisher import diagonal_fisher, image_losses
from unlearn.engine.config import UnlearnConfig
from unlearn.engine.loop import EpochPlan, cosine_factor, run_epochs
from unlearn.engine.method import BATCH_SIZE, FISHER_BATCH_SIZE, Method, Option
from unlearn.engine.pairing import PairedSets
from utils.data.datasets import ImageSet
from utils.runtime.errors import UserError
from utils.train.losses import classification_loss
from utils.train.recipe import MIN_TRAIN_IMAGES, Recipe
from utils.train.training import TOO_FEW, gradient_step

OPTIONS = {
    "alpha": Option(500.0, "weight of the ascent on the forget set in the first epoch"),
    "inner": Option(5, "retain batches after each forget batch", low=1),
    "decline": Option(
        0.5, "how fast the weight of a forgotten image decreases (the paper's lambda)"
    ),
    "gamma": Option(1.0, "minimum ratio of Fisher information, forget to retain, for the ascent"),
    "beta": Option(1.0, "fraction of the way that the slow weights follow", high=1.0),
}
MAX_NORM = 7.0
SMALLEST_LOSS = 1e-6  # nats: the weight of an image is unbounded otherwise


def sfron(
    model: Classifier, forget_set: ImageSet, retain_set: ImageSet, config: UnlearnConfig
) -> Classifier:
    """Ascend on weights that matter to the forget set, and repair on the retain set."""
    if len(retain_set) < MIN_TRAIN_IMAGES:
        raise UserError(TOO_FEW.format(len(retain_set)))
    recipe, options = config.recipe, config.options

    def plan_epochs(generator):
        mask = fisher_ratio_mask(model, forget_set, retain_set, config, generator)
        secondary_size = options["inner"] * recipe.batch_size
        for epoch in range(recipe.epochs):
            rate = cosine_factor(epoch, recipe.epochs)
            step = _outer_step(mask, options["alpha"] * rate, config)
            paired = PairedSets(forget_set, retain_set, secondary_size, generator)
            # the step sets the mode itself, because a forget batch may have a single image
            yield EpochPlan(paired, step, rate, update_statistics=False)

    return run_epochs(model, plan_epochs, config)


def fisher_ratio_mask(
    model: Classifier,
    forget_set: ImageSet,
    retain_set: ImageSet,
    config: UnlearnConfig,
    generator: torch.Generator,
) -> dict[str, torch.Tensor]:
    """Return by name which weights matter at least gamma times as much to the forget set."""
    of_forget = diagonal_fisher(model, forget_set, image_losses, FISHER_BATCH_SIZE, generator)
    of_retain = diagonal_fisher(model, retain_set, image_losses, FISHER_BATCH_SIZE, generator)
    gamma = config.options["gamma"]
    return {name: part >= gamma * of_retain[name] for name, part in of_forget.items()}


def adaptive_loss(losses: torch.Tensor, decline: float) -> torch.Tensor:
    """Return the weighted mean of losses (B,); weights decrease with the loss and average 1."""
    weights = losses.detach().clamp(min=SMALLEST_LOSS) ** -decline
    return (weights / weights.mean() * losses).mean()


def _outer_step(mask, alpha, config):
    options, repair = config.options, gradient_step(classification_loss)

    def step(model, optimizer, images, labels):
        forget_labels, retain_labels = labels
        if options["beta"] < 1:
            slow = [weight.detach().clone() for weight in model.parameters()]
        forget_images, retain_images = images.split([len(forget_labels), len(retain_labels)])
        model.train(len(forget_labels) >= MIN_TRAIN_IMAGES)
        losses = config.request.losses(model(forget_images), forget_labels)
        optimizer.zero_grad(set_to_none=True)
        (-alpha * adaptive_loss(losses, options["decline"])).backward()
        for name, weight in model.named_parameters():
            if weight.grad is not None:
                weight.grad.mul_(mask[name])
        nn.utils.clip_grad_norm_(model.parameters(), MAX_NORM)
        optimizer.step()

        model.train()
        count = max(1, min(options["inner"], len(retain_labels) // MIN_TRAIN_IMAGES))
        parts = zip(
            retain_images.tensor_split(count), retain_labels.tensor_split(count), strict=True
        )
        repaired = torch.stack([repair(model, optimizer, *part) for part in parts])
        if options["beta"] < 1:
            with torch.no_grad():
                for weight, before in zip(model.parameters(), slow, strict=True):
                    weight.copy_(torch.lerp(before, weight, options["beta"]))
        return repaired.mean() + 0 * losses.mean().detach()  # not finite if either is not

    return step


METHOD = Method(
    id="SFRon",
    name="Saliency Forgetting in the Remain-preserving manifold",
    run=sfron,
    recipe=Recipe(2, 0.01, BATCH_SIZE),
    paper="Huang et al., NeurIPS 2024",
    family="gradient ascent",
    summary="forgets along directions to which the retain loss is insensitive, with fast and slow "
    "weights",
    allows_batch_of_one=True,
    options=OPTIONS,
)
