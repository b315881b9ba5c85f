"""Amnesiac: random wrong labels, drawn once, learned in a few steps beside retain images.

Graves, Nagisetty, Ganesh, "Amnesiac machine learning", AAAI 2021, the variant that they call
unlearning (not the one that takes recorded updates back): every image to forget gets a wrong label
y'(x), and the model is trained for a few steps on

    E_{x in D_f} [ CE(f(x), y'(x)) ] + E_{(x, y) in D_r} [ CE(f(x), y) ]

What sets it apart from RL: y' is drawn once and stays, so that a model can learn it by heart,
where RL draws it afresh each epoch and so asks for no answer at all; and an epoch goes through the
forget set with as many retain images beside it, where RL goes through the whole retain set. The
paper trains on all the data under the changed labels for a small number of steps; steps of which
half are images to forget need fewer. The retain images go on from epoch to epoch.
"""

import torch

from unlearn.engine.loop import EpochPlan, cosine_factor, run_epochs
from unlearn.engine.method import BATCH_SIZE, Method
from unlearn.engine.pairing import PairedSets
from unlearn.methods.random_label import draw_wrong_labels
from utils.train.losses import classification_loss
from utils.train.recipe import Recipe
from utils.train.training import gradient_step


def amnesiac(model, forget_set, retain_set, config):
    """Train on the forget set under wrong labels that stay, beside as many retain images."""
    epochs, size = config.recipe.epochs, config.recipe.batch_size

    def loss_function(logits, labels):
        return classification_loss(logits, torch.cat(labels))

    def passes(generator):
        wrong = draw_wrong_labels(
            forget_set.labels, model.spec.num_classes, config.request, generator
        )
        paired = PairedSets(forget_set.with_labels(wrong), retain_set, size, generator)
        for epoch in range(epochs):
            yield EpochPlan(paired, gradient_step(loss_function), cosine_factor(epoch, epochs))

    return run_epochs(model, passes, config)


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
