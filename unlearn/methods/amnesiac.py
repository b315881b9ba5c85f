"""Amnesiac: random wrong labels, drawn once, trained on for a few steps with retain images.

Graves, Nagisetty, Ganesh, "Amnesiac machine learning", AAAI 2021, the variant that they call
unlearning (not the one that reverts recorded updates): every image of the forget set gets a wrong
label y'(x), and the model is trained for a few steps on

    E_{x in D_f} [ CE(f(x), y'(x)) ] + E_{(x, y) in D_r} [ CE(f(x), y) ]

The differences from RL: y' is drawn once, so that a model can memorise it, whereas RL draws it in
each epoch and so favours no class; and an epoch is one pass over the forget set with equally many
retain images, whereas RL passes over the whole retain set. The paper trains on all data with the
changed labels for a small number of steps; when half of each step is forget set, fewer steps do.
The next epoch continues with the retain images that were not used yet.
"""

import torch

from models.architectures import Classifier
from unlearn.engine.config import UnlearnConfig
from unlearn.engine.loop import EpochPlan, cosine_factor, run_epochs
from unlearn.engine.method import BATCH_SIZE, Method
from unlearn.engine.pairing import PairedSets
from unlearn.methods.random_label import draw_wrong_labels
from utils.data.datasets import ImageSet
from utils.train.losses import classification_loss
from utils.train.recipe import Recipe
from utils.train.training import gradient_step


def amnesiac(
    model: Classifier, forget_set: ImageSet, retain_set: ImageSet, config: UnlearnConfig
) -> Classifier:
    """Train on the forget set with fixed wrong labels, and on equally many retain images."""
    epochs, size = config.recipe.epochs, config.recipe.batch_size

    def loss_function(logits, labels):
        return classification_loss(logits, torch.cat(labels))

    def plan_epochs(generator):
        wrong = draw_wrong_labels(
            forget_set.labels, model.spec.num_classes, config.request, generator
        )
        paired = PairedSets(forget_set.with_labels(wrong), retain_set, size, generator)
        for epoch in range(epochs):
            yield EpochPlan(paired, gradient_step(loss_function), cosine_factor(epoch, epochs))

    return run_epochs(model, plan_epochs, config)


METHOD = Method(
    id="Amnesiac",
    name="Amnesiac relabelling",
    run=amnesiac,
    recipe=Recipe(3, 0.01, BATCH_SIZE),
    paper="Graves et al., AAAI 2021",
    family="other labels",
    summary="trains on wrong labels that are drawn once, mixed with part of the retain set",
    allows_batch_of_one=True,
    needs_other_class=True,
)
