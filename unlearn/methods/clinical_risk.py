"""CRA: clinically risk-aware random labelling; its SalUn variant is meant to be SalUn-CRA.

Falcao and Cordeiro, "Does machine unlearning preserve clinical safety? A risk analysis for medical
image classification", 2026 (arXiv:2604.23854). Random labels teach the model that a malignant image
of the forget set shows something benign, and missed malignancies follow. So such images are
forgotten by entropy, while the others get random wrong labels as in RL. This loss was inferred from
the paper's abstract, because the full text was not available, and the paper's own may differ:

    min  E_{x in D_f, risky} [ KL(u || f(x)) ] + E_{x in D_f, other} [ CE(f(x), y') ]
        + alpha E_{(x, y) in D_r} [ CE(f(x), y) ],    u uniform over the classes

with all images shuffled together, so that each has the same weight, as in RL. The paper has two
classes, benign and malignant; the option `risky` lists the malignant ones of several. Choices:

- The entropy is raised by cross entropy with the uniform distribution, which is KL(u || f) up to a
  constant. It has the same optimum as the negative entropy, and unlike that a gradient where the
  model is certain, as a trained model is for its training images.
- By default every class is risky: no forgotten image is trained towards another class.
"""

import torch
from torch.nn import functional

from models.architectures import Classifier
from unlearn.engine.config import UnlearnConfig
from unlearn.engine.loop import EpochPlan, run_epochs
from unlearn.engine.method import BATCH_SIZE, Method, Option
from unlearn.methods.random_label import draw_wrong_labels
from utils.data.datasets import ImageSet
from utils.runtime.errors import UserError
from utils.train.recipe import Recipe
from utils.train.training import gradient_step

OPTIONS = {"risky": Option((), "classes whose images get uniform targets, not another class")}


def clinical_risk_aware(
    model: Classifier, forget_set: ImageSet, retain_set: ImageSet, config: UnlearnConfig
) -> Classifier:
    """Train as RL does, but with uniform targets for forget images of a risky class."""
    classes = model.spec.num_classes
    risky = _risky(forget_set.labels, config.options["risky"], classes)
    kept = functional.one_hot(retain_set.labels, classes).float()

    def plan_epochs(generator):
        for _ in range(config.recipe.epochs):
            wrong = draw_wrong_labels(forget_set.labels, classes, config.request, generator)
            targets = functional.one_hot(wrong, classes).float()
            targets[risky] = 1 / classes
            mixed = forget_set.with_labels(targets).concat(retain_set.with_labels(kept))
            yield EpochPlan(mixed, gradient_step(functional.cross_entropy))

    return run_epochs(model, plan_epochs, config)


def _risky(labels, chosen, classes):
    """(M,) bool from (M,) labels. Raises UserError if a chosen class does not exist."""
    if not chosen:
        return torch.ones_like(labels, dtype=torch.bool)
    if max(chosen) >= classes:
        raise UserError(
            f"--unlearn_options risky: class {max(chosen)} does not exist: give 0 to {classes - 1}"
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
