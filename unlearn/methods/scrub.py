"""SCRUB_R: SCRUB with rewinding, a student that disobeys its teacher on the forget set.

Kurmanji et al., "Towards unbounded machine unlearning", NeurIPS 2023: with the original model as
teacher p and its copy as student q,

    min_q  alpha E_{D_r} [ KL(p || q) ] + gamma E_{D_r} [ CE(q, y) ] - E_{D_f} [ KL(p || q) ]

by turns: in each of the first `msteps` epochs a pass over the forget set that raises the last term,
then, in every epoch, one over the retain set that lowers the first two. SCRUB+R keeps the weights
after each epoch and ends with those whose error on the forget set is nearest to a reference: the
error of the model at the end on unseen images of the same kind. Among equals the last is taken.

For a class-wise request these are validation images of the classes to forget: the scrubbed model
errs on them nearly always, so the reference asks for full forgetting. For samples of all classes
it is the model's ordinary error, and rewinding keeps forgotten images from standing out. Where
there are no such images the last epoch stays, as in SCRUB without rewinding.

Until the reference is known any epoch may be the nearest, so the weights of all are held in memory.

KL has no temperature, as in the paper's equation; the authors' code has one of 2 or 4, and its
square as a factor. Of its two recipes the defaults take alpha, gamma, Adam and the rate, which
stays, from that for small data, and msteps, epochs and weight decay from that for large data.

Both kinds of passes are in training mode, and must be: in evaluation mode student and teacher agree
at first, where the gradient of KL is zero. In multi-label data the forget passes look at the
question asked alone, other findings are to stay.
"""

import copy

import torch

from unlearn.components.teacher import teacher_logits, teacher_probabilities
from unlearn.engine.loop import EpochPlan, run_epochs
from unlearn.engine.method import Option
from utils.train.losses import classification_loss, distillation_loss
from utils.train.prediction import predict
from utils.train.recipe import MIN_TRAIN_IMAGES
from utils.train.training import gradient_step

OPTIONS = {
    "msteps": Option(2, "epochs that begin with a pass of disobedience on the forget set"),
    "alpha": Option(0.5, "weight of the teacher's word on the retain set"),
    "gamma": Option(1.0, "weight of the true labels of the retain set"),
}


def scrub(model, forget_set, retain_set, config):
    """Part from the teacher on the forget set, stay with it on the retain set, then rewind."""
    epochs, request = config.recipe.epochs, config.request
    forget_epochs = min(config.options["msteps"], epochs)
    alpha, gamma = config.options["alpha"], config.options["gamma"]
    multi_label = retain_set.labels.ndim == 2
    kept_targets = teacher_probabilities(model, retain_set)
    at_first, _ = request.scored_logits(teacher_logits(model, forget_set), forget_set.labels)
    forget_targets = at_first.softmax(1)

    def numbered(image_set):
        return image_set.with_labels(torch.arange(len(image_set), device=image_set.device))

    def disobey(logits, rows):
        answers, _ = request.scored_logits(logits, forget_set.labels[rows])
        return -distillation_loss(answers, forget_targets[rows])

    def obey(logits, rows):
        to_teacher = distillation_loss(logits, kept_targets[rows], multi_label)
        return alpha * to_teacher + gamma * classification_loss(logits, retain_set.labels[rows])

    kept_weights = []
    several = len(forget_set) >= MIN_TRAIN_IMAGES  # batch normalisation learns nothing from one

    def passes(_):
        for epoch in range(epochs):
            if epoch < forget_epochs:
                yield EpochPlan(
                    numbered(forget_set), gradient_step(disobey), update_statistics=several
                )
            yield EpochPlan(numbered(retain_set), gradient_step(obey))
            if config.comparable_val:
                weights = copy.deepcopy(model.state_dict())
                kept_weights.append((error(model, forget_set, request), weights))

    model = run_epochs(model, passes, config, count=epochs + forget_epochs)
    if kept_weights:
        reference = error(model, config.comparable_val, request)
        model.load_state_dict(rewound(kept_weights, reference))
    return model


def error(model, image_set, request):
    """Share of images, 0 to 1, on which the model is wrong in what the request is about."""
    right = request.correct_fraction(predict(model, image_set), image_set.labels)
    return 1 - right.mean().item()


def rewound(kept_weights, reference):
    """The weights of (error, weights) pairs with the error nearest to `reference`, of equals the
    last."""
    return min(reversed(kept_weights), key=lambda pair: abs(pair[0] - reference))[1]
