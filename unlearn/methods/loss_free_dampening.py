"""LFSSD: selective synaptic dampening by the model's output instead of its loss, without labels.

Foster, Schoepf and Brintrup, "Loss-free machine unlearning", ICLR 2024 Tiny Papers: the rule of SSD
(synaptic_dampening.py) with, in place of the Fisher information, how strongly a weight changes the
length of the output (the importance of memory aware synapses, Aljundi et al., ECCV 2018):

    I_i = E_x[ |d ||f(x)||^2 / d theta_i| ],     f(x) the logits

Choices:

- The absolute value is taken of single images' gradients, as in the equation; the authors' code
  takes it of batches, where images cancel. This costs one backward pass per image. An average over
  `images` of each set, drawn at random, is accurate enough.
- alpha is smaller than the paper's 3.5 to 10, because D_f is a larger fraction of D here (see
  synaptic_dampening.py), and because ratios are closer to 1 where images do not cancel.
"""

import torch

from models.architectures import Classifier
from unlearn.components.fisher import check_finite
from unlearn.engine.config import UnlearnConfig
from unlearn.engine.method import ONE_STEP, ONE_STEP_IGNORES, Method, Option
from unlearn.methods.synaptic_dampening import dampened
from utils.data.datasets import ImageSet

OPTIONS = {
    "alpha": Option(1.3, "minimum ratio of importance, forget set to all images"),
    "dampening": Option(1.0, "the paper's lambda: the smaller, the more a weight shrinks"),
    "images": Option(300, "images of each set, drawn at random, for the importance", low=1),
}


def loss_free_dampening(
    model: Classifier, forget_set: ImageSet, retain_set: ImageSet, config: UnlearnConfig
) -> Classifier:
    """Shrink the weights that change the output more on the forget set than on all images."""

    def importance(image_set, generator):
        return output_sensitivity(model, image_set, config.options["images"], generator)

    return dampened(model, forget_set, retain_set, config, importance)


def output_sensitivity(
    model: Classifier, image_set: ImageSet, count: int, generator: torch.Generator
) -> dict[str, torch.Tensor]:
    """Return mean |gradient of the squared length of the logits| over `count` images, by name."""
    weights = dict(model.eval().named_parameters())
    total = [torch.zeros_like(weight) for weight in weights.values()]
    drawn = torch.randperm(len(image_set), generator=generator)[:count].to(image_set.device)
    for position in drawn.split(1):
        length = model(image_set.batch(position)[0]).square().sum()
        gradients = torch.autograd.grad(length, list(weights.values()), materialize_grads=True)
        torch._foreach_add_(total, torch._foreach_abs(gradients))
    check_finite(total)
    torch._foreach_div_(total, len(drawn))
    return dict(zip(weights, total, strict=True))


METHOD = Method(
    id="LFSSD",
    name="Loss-Free SSD",
    run=loss_free_dampening,
    recipe=ONE_STEP,
    paper="Foster et al., ICLR 2024 Tiny Papers",
    family="weight edits",
    summary="SSD without a loss and without labels",
    supports_mask=False,
    one_step=True,
    options=OPTIONS,
    ignored_settings=("batch_size", *ONE_STEP_IGNORES),
)
