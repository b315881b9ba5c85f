"""SSD: selective synaptic dampening, which shrinks the weights that the forget set needs most.

Foster, Schoepf and Brintrup, "Fast machine unlearning without retraining through selective synaptic
dampening", AAAI 2024: with I the diagonal Fisher information of all training images D and of D_f,

    theta_u = beta theta   where I_Df > alpha I_D,     beta = min(dampening I_D / I_Df, 1)

(the paper's lambda is called dampening here); all other weights stay. Nothing is trained. Choices:

- I is the mean of squared gradients of single images, as the paper defines it; the authors' code
  squares the gradients of batches. Batches here have random signs (fisher.py), which keep the
  definition; --unlearn_batch_size 1 removes the randomness.
- D contains D_f, so with s = |D_f| / |D| the rule is I_Df / I_Dr > alpha (1 - s) / (1 - alpha s),
  and from alpha = 1 / s on it selects nothing. The paper's 10 requires a ratio of 11 where a class
  is a hundredth of the images and of 19 where it is a twentieth, and would not change a quarter at
  all. The default is for a quarter, on a ResNet-18, where it requires 15 (2 or 3 damage the rest of
  the model); at a sixth it requires only 6, at a tenth 4.5. alpha = 15 / (1 + 14 s) requires 15 at
  any fraction. alpha is the first setting to tune on other data.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

import torch

from models.architectures import Classifier
from unlearn.components.fisher import diagonal_fisher, image_losses
from unlearn.components.one_step import require_finite
from unlearn.engine.config import UnlearnConfig
from unlearn.engine.method import FISHER_BATCH_SIZE, ONE_STEP, ONE_STEP_IGNORES, Method, Option
from utils.data.datasets import ImageSet

OPTIONS = {
    "alpha": Option(3.35, "minimum ratio of importance, forget set to all images"),
    "dampening": Option(1.0, "the paper's lambda: the smaller, the more a weight shrinks"),
}


def selective_synaptic_dampening(
    model: Classifier, forget_set: ImageSet, retain_set: ImageSet, config: UnlearnConfig
) -> Classifier:
    """Shrink the weights that matter more to the forget set than to all images."""

    def importance(image_set, generator):
        return diagonal_fisher(model, image_set, image_losses, config.recipe.batch_size, generator)

    return dampened(model, forget_set, retain_set, config, importance)


def dampened(
    model: Classifier,
    forget_set: ImageSet,
    retain_set: ImageSet,
    config: UnlearnConfig,
    importance: Callable[[ImageSet, torch.Generator], Mapping[str, torch.Tensor]],
) -> Classifier:
    """Apply the rule with any importance: (image_set, generator) -> mean importance by name."""
    generator = torch.Generator().manual_seed(config.recipe.seed)
    of_forget, of_retain = (importance(part, generator) for part in (forget_set, retain_set))
    fraction = len(forget_set) / (len(forget_set) + len(retain_set))
    dampen(model, of_forget, of_retain, fraction, config.options)
    return require_finite(model, forget_set, config.recipe.batch_size)


@torch.no_grad()
def dampen(
    model: Classifier,
    of_forget: Mapping[str, torch.Tensor],
    of_retain: Mapping[str, torch.Tensor],
    fraction: float,
    options: Mapping[str, float],
) -> None:
    """Apply the rule to `model`, with importances by parameter name; fraction: |D_f| / |D|."""
    for name, weight in model.named_parameters():
        forget, whole = of_forget[name], torch.lerp(of_retain[name], of_forget[name], fraction)
        beta = (options["dampening"] * whole / forget).clamp(max=1)
        weight.copy_(torch.where(forget > options["alpha"] * whole, beta * weight, weight))


METHOD = Method(
    id="SSD",
    name="Selective Synaptic Dampening",
    run=selective_synaptic_dampening,
    recipe=replace(ONE_STEP, batch_size=FISHER_BATCH_SIZE),
    paper="Foster et al., AAAI 2024",
    family="weight edits",
    summary="shrinks the weights that matter far more to the forget set than to all images",
    supports_mask=False,
    one_step=True,
    allows_batch_of_one=True,
    options=OPTIONS,
    ignored_settings=ONE_STEP_IGNORES,
)
