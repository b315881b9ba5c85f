"""CRA: clinically risk-aware random labelling; inside the mask it is meant to be SalUn-CRA.

Falcao and Cordeiro, "Does machine unlearning preserve clinical safety? A risk analysis for medical
image classification", 2026 (arXiv:2604.23854). Random labels teach the model that a malignant image
which is to be forgotten shows something benign, and missed malignancies follow. So such images are
forgotten by entropy instead, while the others get random wrong labels as in RL. That much the
abstract says; the paper itself was not at hand, and its exact loss may be another than this:

    min  E_{x in D_f, risky} [ KL(u || f(x)) ] + E_{x in D_f, other} [ CE(f(x), y') ]
        + alpha E_{(x, y) in D_r} [ CE(f(x), y) ],    u uniform over the classes

with all images shuffled together, so that each weighs the same, as in RL. The paper has two
classes, benign and malignant; `risky` says which of several are the malignant ones. Choices taken:

- The entropy is raised by cross entropy with the uniform distribution, which is KL(u || f) up to a
  constant. It has the same best answer as the negative entropy, and unlike that a gradient where
  the model is certain, as a trained model is of its training images.
- By default every class is risky: no forgotten image is called anything.
"""

import torch
from torch.nn import functional

from unlearn.engine.loop import EpochPlan, run_epochs
from unlearn.engine.method import BATCH_SIZE, Method, Option
from unlearn.methods.random_label import draw_wrong_labels
from utils.runtime.errors import UserError
from utils.train.recipe import Recipe
from utils.train.training import gradient_step

OPTIONS = {"risky": Option((), "classes whose images are made undecided, not called another class")}


def clinical_risk_aware(model, forget_set, retain_set, config):
    """RL, but forget images of a risky class are to be undecided between all classes."""
    classes = model.spec.num_classes
    risky = _risky(forget_set.labels, config.options["risky"], classes)
    kept = functional.one_hot(retain_set.labels, classes).float()

    def passes(generator):
        for _ in range(config.recipe.epochs):
            wrong = draw_wrong_labels(forget_set.labels, classes, config.request, generator)
            targets = functional.one_hot(wrong, classes).float()
            targets[risky] = 1 / classes
            mixed = forget_set.with_labels(targets).concat(retain_set.with_labels(kept))
            yield EpochPlan(mixed, gradient_step(functional.cross_entropy))

    return run_epochs(model, passes, config)


def _risky(labels, chosen, classes):
    """(M,) bool from (M,) labels. Raises UserError if a chosen class is not there."""
    if not chosen:
        return torch.ones_like(labels, dtype=torch.bool)
    if max(chosen) >= classes:
        raise UserError(
            f"--unlearn_options risky: there is no class {max(chosen)}, the last is {classes - 1}"
        )
    return torch.isin(labels, torch.tensor(chosen, device=labels.device))


METHOD = Method(
    id="CRA",
    name="Clinically Risk-Aware Labeling",
    run=clinical_risk_aware,
    recipe=Recipe(5, 0.01, BATCH_SIZE),
    paper="Falcao and Cordeiro, 2026",
    family="other labels",
    summary="RL, but images of the risky classes are trained towards a uniform prediction instead "
    "of a wrong class; the loss is inferred from the paper's abstract",
    single_label_only=True,
    needs_other_class=True,
    options=OPTIONS,
)
