"""SSD: selective synaptic dampening, smaller weights where the forget set needs them most.

Foster, Schoepf and Brintrup, "Fast machine unlearning without retraining through selective synaptic
dampening", AAAI 2024: with I the diagonal Fisher information of all training images D and of D_f,

    theta_u = beta theta   where I_Df > alpha I_D,     beta = min(dampening I_D / I_Df, 1)

(the paper's lambda is called dampening here); all other weights stay. Nothing is trained. Choices:

- I is the mean of squared gradients of single images, as the paper defines it; the authors' code
  squares the gradients of batches. Batches here go under random signs (fisher.py), which keeps the
  definition; --unlearn_batch_size 1 leaves no chance in it.
- D holds D_f, so with s = |D_f| / |D| the rule is I_Df / I_Dr > alpha (1 - s) / (1 - alpha s), and
  from alpha = 1 / s on it selects nothing. The paper's 10 asks for a ratio of 11 where a class is a
  hundredth of the images and of 19 where it is a twentieth, and would leave a quarter alone. The
  default is for that quarter, on a ResNet-18, where it asks for 15 (2 or 3 take the rest of the
  model along); at a sixth it asks for 6 only, at a tenth for 4.5. alpha = 15 / (1 + 14 s) asks for
  15 at any share. alpha is the setting to look for first on other data.
"""

from dataclasses import replace

import torch

from unlearn.components.fisher import diagonal_fisher, image_losses
from unlearn.components.one_step import finished
from unlearn.engine.method import FISHER_BATCH_SIZE, ONE_STEP, ONE_STEP_IGNORES, Method, Option

OPTIONS = {
    "alpha": Option(3.35, "how many times as important to the forget set a weight must be"),
    "dampening": Option(1.0, "the paper's lambda: how little is left, the smaller the less"),
}


def selective_synaptic_dampening(model, forget_set, retain_set, config):
    """Scale down the weights that matter to the forget set more than to all images."""

    def importance(image_set, generator):
        return diagonal_fisher(model, image_set, image_losses, config.recipe.batch_size, generator)

    return dampened(model, forget_set, retain_set, config, importance)


def dampened(model, forget_set, retain_set, config, importance):
    """The rule by any importance: (image_set, generator) -> its mean over the images, by name."""
    generator = torch.Generator().manual_seed(config.recipe.seed)
    of_forget, of_retain = (importance(part, generator) for part in (forget_set, retain_set))
    share = len(forget_set) / (len(forget_set) + len(retain_set))
    dampen(model, of_forget, of_retain, share, config.options)
    return finished(model, forget_set, config.recipe.batch_size)


@torch.no_grad()
def dampen(model, of_forget, of_retain, share, options):
    """The rule on `model`, from importances by parameter name; `share`: |D_f| / |D|."""
    for name, weight in model.named_parameters():
        forget, whole = of_forget[name], torch.lerp(of_retain[name], of_forget[name], share)
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
