"""IU: influence unlearning, one step to where training without the forget set would have ended.

Koh and Liang, "Understanding black-box predictions via influence functions", ICML 2017; Izzo et
al., "Approximate data deletion from machine learning models", AISTATS 2021; with WoodFisher (Singh
and Alistarh, NeurIPS 2020), as the baseline IU of Jia et al., "Model sparsity can simplify machine
unlearning", NeurIPS 2023. If the gradient of the whole training loss is zero at the base model's
weights, that of the mean retain loss is -1/|D_r| sum_{D_f} g_i, and one Newton step on it gives

    theta_u = theta + alpha / |D_r| F^-1 sum_{i in D_f} g_i,     F = damping I + 1/n sum_j g_j g_j^T

with n gradients of the retain set in place of its Hessian. For a quadratic loss, its true Hessian
and alpha = 1 this is the leave-out solution itself. Choices:

- The mean gradient r of all training images is assumed to be zero. With weight decay, at a best
  epoch that is not the last, or in evaluation mode, it is only approximately zero. The code of Jia
  et al. uses |D_f| / |D| times the difference of the mean gradients of D_f and D_r in place of the
  sum over |D_r|. It is smaller by |D_f| / |D_r| r, which matters where the gradients of the forget
  images are close to zero.
- g_i is the gradient of everything that an image contributed to the training loss: in multi-label
  data of all its findings, not only those to forget, because training without the image would have
  missed them all. Its scale is that of the log-likelihood, like F's: only then F approximates the
  Hessian.
- F uses the gradients at the true labels (the empirical Fisher information), as WoodFisher does. A
  sample g_j is a batch with random signs, divided by the square root of its size: see fisher.py.
- Only F^-1 times one vector is needed. WoodFisher adds the g_j one by one; the Woodbury identity
  adds all at once: F^-1 v = (v - G^T (n damping I + G G^T)^-1 G v) / damping, with G the n samples
  as rows. Memory: twice `samples` times the model's size while G is built (1.4 GB for a ResNet-18
  and 16 samples), half of that afterwards. The code of Jia et al. passes only the first gradient
  through the recursion, so that no other direction enters; this code uses the paper's F.
- A network's gradients span few directions. In all others the step is gradient ascent at the rate
  alpha / damping / |D_r|. The linear approximation does not hold as far as alpha = 1 moves a deep
  network (at a damping of 1, a ResNet-18 that forgets a class is ruined from 0.2 on). The default
  is where it has forgotten most of the class and kept the rest.
"""

import torch

from models.architectures import Classifier
from unlearn.components.fisher import check_finite, image_losses, signed_gradients
from unlearn.components.one_step import require_finite
from unlearn.engine.config import UnlearnConfig
from unlearn.engine.method import ONE_STEP, ONE_STEP_IGNORES, Method, Option
from utils.data.datasets import ImageSet

OPTIONS = {
    "alpha": Option(0.1, "fraction of the step to the leave-out solution"),
    "damping": Option(1.0, "added to the Fisher information's diagonal", low=1e-12),
    "samples": Option(16, "batches of retain images for the Fisher information", low=1),
}


def influence_unlearning(
    model: Classifier, forget_set: ImageSet, retain_set: ImageSet, config: UnlearnConfig
) -> Classifier:
    """Take one Newton step that removes the forget images' gradients."""
    options, batch_size = config.options, config.recipe.batch_size
    generator = torch.Generator().manual_seed(config.recipe.seed)
    count = min(options["samples"] * batch_size, len(retain_set))
    drawn = torch.randperm(len(retain_set), generator=generator)[:count].to(retain_set.device)
    batches = signed_gradients(model, retain_set.subset(drawn), image_losses, batch_size, generator)
    samples = torch.stack([_flat(gradients) / size**0.5 for size, gradients in batches])
    towards = _summed_gradient(model, forget_set, batch_size)
    check_finite([samples, towards])
    step = inverse_fisher_product(samples, towards, options["damping"])
    _move(model, step * (options["alpha"] / len(retain_set)), config.mask)
    return require_finite(model, forget_set, batch_size)


def inverse_fisher_product(
    samples: torch.Tensor, vector: torch.Tensor, damping: float
) -> torch.Tensor:
    """Return (damping I + G^T G / n)^-1 v for `samples` G (n, P) and `vector` v (P,)."""
    count = len(samples)
    inner = (samples @ samples.T).double()
    inner.diagonal().add_(count * damping)
    coefficients = torch.linalg.solve(inner, (samples @ vector).double()).to(vector.dtype)
    return (vector - coefficients @ samples) / damping


def _summed_gradient(model, image_set, batch_size):
    weights = list(model.eval().parameters())
    total = 0
    for positions in torch.arange(len(image_set), device=image_set.device).split(batch_size):
        images, labels = image_set.batch(positions)
        loss = image_losses(model(images), labels).sum()
        total += _flat(torch.autograd.grad(loss, weights, materialize_grads=True))
    return total


def _flat(tensors):
    return torch.cat([tensor.flatten() for tensor in tensors])


@torch.no_grad()
def _move(model, step, mask):
    parts = step.split([weight.numel() for weight in model.parameters()])
    for (name, weight), part in zip(model.named_parameters(), parts, strict=True):
        part = part.view_as(weight)
        if mask:
            part = torch.where(mask.changeable[name].to(part.device), part, 0.0)
        weight.add_(part)


METHOD = Method(
    id="IU",
    name="Influence Unlearning",
    run=influence_unlearning,
    recipe=ONE_STEP,
    paper="Izzo et al., AISTATS 2021",
    family="weight edits",
    summary="one influence-function step, with the inverse Fisher information by WoodFisher",
    one_step=True,
    allows_batch_of_one=True,
    options=OPTIONS,
    ignored_settings=ONE_STEP_IGNORES,
)
