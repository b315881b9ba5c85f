"""BadTeacher: learn what is to be forgotten from a teacher that knows nothing.

Chundawat et al., "Can bad teaching induce forgetting? Unlearning in deep networks using an
incompetent teacher", AAAI 2023: with the original model T_s, a randomly initialised one T_d of the
same architecture, and l_u = 1 for an image of the forget set, 0 for one of the retain set, minimise

    (1 - l_u) KL(T_s(x) || S(x)) + l_u KL(T_d(x) || S(x)),     all three as softmax(z / T)

over both sets, mixed, from the original weights; labels are not looked at. As in the paper a part
of the retain set is enough, 30% by default, drawn once. Choices:

- The incompetent teacher is a copy whose layers have drawn their weights afresh by their own
  reset_parameters. Parameters of modules without one, such as ViT's class token or attention's
  projections, are drawn from a normal of deviation 0.02, cut off, as torchvision has it for most
  of them. Running statistics start anew, and both teachers are asked in evaluation mode, once.
- Adam goes on for 3 epochs at 3e-4 with the usual weight decay; the authors' code for one at 1e-4
  without. It divides KL by the number of classes as well, which Adam does not feel.
- Multi-label data has a sigmoid in the softmax's place, and the incompetent teacher speaks of the
  findings that are to be forgotten alone; the competent one has the others, which are to stay.
"""

import copy

import torch
from torch import nn

from unlearn.components.teacher import teacher_probabilities
from unlearn.engine.loop import EpochPlan, run_epochs
from unlearn.engine.method import BATCH_SIZE, Method, Option
from utils.train.losses import distillation_loss
from utils.train.recipe import Recipe
from utils.train.training import gradient_step

OPTIONS = {
    "share": Option(0.3, "share of the retain set that is learned from", 0.0, 1.0),
    "temperature": Option(1.0, "softens teachers and student", 0.01, 100.0),
}
INITIAL_DEVIATION = 0.02  # of parameters that no layer knows how to draw


def bad_teacher(model, forget_set, retain_set, config):
    """Follow an ignorant teacher on the forget set and the original model on retain images."""
    share, temperature = config.options["share"], config.options["temperature"]
    multi_label = forget_set.labels.ndim == 2

    def loss(logits, labels):
        return distillation_loss(logits / temperature, labels, multi_label)

    def passes(generator):
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

    return run_epochs(model, passes, config)


def make_incompetent(model, seed):
    """A copy of `model` with all weights drawn afresh with `seed`, the same on every device."""
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
