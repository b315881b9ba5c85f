"""SCRUB: a student that moves away from its teacher on the forget set and follows it elsewhere.

Kurmanji et al., "Towards unbounded machine unlearning", NeurIPS 2023: with the original model as
teacher p and its copy as student q,

    min_q  alpha E_{D_r} [ KL(p || q) ] + gamma E_{D_r} [ CE(q, y) ] - E_{D_f} [ KL(p || q) ]

in alternation: each of the first `msteps` epochs begins with a pass over the forget set that raises
the last term; every epoch then has a pass over the retain set that lowers the first two terms.
SCRUB_R (unlearn/methods/scrub_r.py) adds rewinding.

Choices:
- KL has no temperature, as in the paper's equation. The authors' code has a temperature of 2 or 4,
  and its square as a factor.
- The authors have two recipes. The defaults take alpha, gamma, Adam and the constant learning rate
  from that for small data, and msteps, epochs and weight decay from that for large data.
- Both kinds of passes are in training mode. In evaluation mode student and teacher agree at first,
  and the gradient of KL is zero there.
- In multi-label data the passes over the forget set use only the findings of the request; the other
  findings are to stay.
"""

from collections.abc import Callable

import torch

from models.architectures import Classifier
from unlearn.components.teacher import teacher_logits, teacher_probabilities
from unlearn.engine.config import UnlearnConfig
from unlearn.engine.loop import EpochPlan, run_epochs
from unlearn.engine.method import BATCH_SIZE, Method, Option
from utils.data.datasets import ImageSet
from utils.train.losses import classification_loss, distillation_loss
from utils.train.recipe import MIN_TRAIN_IMAGES, Recipe
from utils.train.training import gradient_step

OPTIONS = {
    "msteps": Option(2, "number of epochs that begin with a pass over the forget set"),
    "alpha": Option(0.5, "weight of the divergence from the teacher on the retain set"),
    "gamma": Option(1.0, "weight of the cross entropy on the retain set"),
}
# SGD hardly leaves the teacher, where the gradient of the divergence is zero
RECIPE = Recipe(3, 5e-4, BATCH_SIZE, optimizer="adam")


def scrub(
    model: Classifier, forget_set: ImageSet, retain_set: ImageSet, config: UnlearnConfig
) -> Classifier:
    """Train the student and keep its last epoch."""
    return train_student(model, forget_set, retain_set, config)


def train_student(
    model: Classifier,
    forget_set: ImageSet,
    retain_set: ImageSet,
    config: UnlearnConfig,
    after_epoch: Callable[[], None] | None = None,
) -> Classifier:
    """Maximise the divergence from the teacher on the forget set, minimise it on the retain set.

    after_epoch: called after each epoch, when the model has that epoch's weights.
    """
    epochs, request = config.recipe.epochs, config.request
    forget_epochs = min(config.options["msteps"], epochs)
    alpha, gamma = config.options["alpha"], config.options["gamma"]
    multi_label = retain_set.labels.ndim == 2
    retain_targets = teacher_probabilities(model, retain_set)
    scored, _ = request.scored_logits(teacher_logits(model, forget_set), forget_set.labels)
    forget_targets = scored.softmax(1)

    def with_positions(image_set):
        return image_set.with_labels(torch.arange(len(image_set), device=image_set.device))

    def forget_loss(logits, positions):
        scored, _ = request.scored_logits(logits, forget_set.labels[positions])
        return -distillation_loss(scored, forget_targets[positions])

    def retain_loss(logits, positions):
        divergence = distillation_loss(logits, retain_targets[positions], multi_label)
        cross_entropy = classification_loss(logits, retain_set.labels[positions])
        return alpha * divergence + gamma * cross_entropy

    several = len(forget_set) >= MIN_TRAIN_IMAGES  # batch normalisation cannot train on one image

    def plan_epochs(_):
        for epoch in range(epochs):
            if epoch < forget_epochs:
                step = gradient_step(forget_loss)
                yield EpochPlan(with_positions(forget_set), step, update_statistics=several)
            yield EpochPlan(with_positions(retain_set), gradient_step(retain_loss))
            if after_epoch:
                after_epoch()

    return run_epochs(model, plan_epochs, config, count=epochs + forget_epochs)


METHOD = Method(
    id="SCRUB",
    name="SCRUB",
    run=scrub,
    recipe=RECIPE,
    paper="Kurmanji et al., NeurIPS 2023",
    family="distillation",
    summary="a student moves away from its teacher on the forget set and follows it on the retain "
    "set",
    options=OPTIONS,
)
