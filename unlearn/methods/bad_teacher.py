"""BadTeacher: distil the forget set from a randomly initialised teacher.

Chundawat et al., "Can bad teaching induce forgetting? Unlearning in deep networks using an
incompetent teacher", AAAI 2023: with the original model T_s, a randomly initialised one T_d of the
same architecture, and l_u = 1 for an image of the forget set, 0 for one of the retain set, minimise

    (1 - l_u) KL(T_s(x) || S(x)) + l_u KL(T_d(x) || S(x)),     all three as softmax(z / T)

over both sets, shuffled together, from the original weights. Labels are not used. As in the paper a
part of the retain set is enough, 30% by default, drawn once. Choices:

- The incompetent teacher is a copy whose layers are re-initialised by their own reset_parameters.
  Parameters of modules without this function, such as ViT's class token or the projections of
  attention, are drawn from a truncated normal distribution with standard deviation 0.02, which
  torchvision uses for most of them. Running statistics are reset. The predictions of both teachers
  are computed once, in evaluation mode.
- Adam runs for 3 epochs at 3e-4 with the usual weight decay; the authors' code for one at 1e-4
  without. It also divides KL by the number of classes, which has no effect on Adam.
- Multi-label data has a sigmoid in place of the softmax. The incompetent teacher teaches only the
  findings to forget; the competent one teaches the others, which are to stay.
"""

import copy

import torch
from torch import nn

from models.architectures import Classifier
from unlearn.components.teacher import teacher_probabilities
from unlearn.engine.config import UnlearnConfig
from unlearn.engine.loop import EpochPlan, run_epochs
from unlearn.engine.method import BATCH_SIZE, Method, Option
from utils.data.datasets import ImageSet
from utils.train.losses import distillation_loss
from utils.train.recipe import Recipe
from utils.train.training import gradient_step

OPTIONS = {
    "share": Option(0.3, "fraction of the retain set that is used", 0.0, 1.0),
    "temperature": Option(1.0, "divides the logits of teachers and student", 0.01, 100.0),
}
INITIAL_DEVIATION = 0.02  # of parameters without reset_parameters


def bad_teacher(
    model: Classifier, forget_set: ImageSet, retain_set: ImageSet, config: UnlearnConfig
) -> Classifier:
    """Distil an untrained teacher on the forget set and the original model on retain images."""
    share, temperature = config.options["share"], config.options["temperature"]
    multi_label = forget_set.labels.ndim == 2

    def loss(logits, labels):
        return distillation_loss(logits / temperature, labels, multi_label)

    def plan_epochs(generator):
        drawn = torch.randperm(len(retain_set), generator=generator)
        part = retain_set.subset(drawn[: round(share * len(retain_set))].to(retain_set.device))
        incompetent = make_incompetent(model, config.recipe.seed)
        wrong = teacher_probabilities(incompetent, forget_set, temperature)
        if multi_label:
            kept = config.request.kept_classes(wrong.shape[1])
            if len(kept) < wrong.shape[1]:
                wrong[:, kept] = teacher_probabilities(model, forget_set, temperature)[:, kept]
        right = teacher_probabilities(model, part, temperature)
        taught = forget_set.with_labels(wrong).concat(part.with_labels(right))
        for _ in range(config.recipe.epochs):
            yield EpochPlan(taught, gradient_step(loss))

    return run_epochs(model, plan_epochs, config)


def make_incompetent(model: Classifier, seed: int) -> Classifier:
    """Return a copy of `model` with re-initialised weights, the same on every device."""
    fresh = copy.deepcopy(model).cpu()
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.random.default_generator.manual_seed(seed)  # torch.manual_seed reaches GPUs as well
        for module in fresh.modules():
            if hasattr(module, "reset_parameters"):
                module.reset_parameters()
                continue
            for parameter in module.parameters(recurse=False):
                nn.init.trunc_normal_(parameter, std=INITIAL_DEVIATION)
    return fresh.to(next(model.parameters()).device)


METHOD = Method(
    id="BadTeacher",
    name="Bad Teacher",
    run=bad_teacher,
    recipe=Recipe(3, 3e-4, BATCH_SIZE, optimizer="adam"),
    paper="Chundawat et al., AAAI 2023",
    family="distillation",
    summary="distils the forget set from an untrained teacher, and retain images from the base "
    "model",
    options=OPTIONS,
)
