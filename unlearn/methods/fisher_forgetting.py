"""Fisher: noise on the weights; the less the retain set depends on a weight, the more noise.

Golatkar et al., "Eternal sunshine of the spotless net", CVPR 2020 (Fisher forgetting):

    theta_u = theta + alpha^(1/4) F^(-1/4) eps,     eps ~ N(0, I)

with F the diagonal Fisher information of the retain set, and alpha the paper's lambda sigma_h^2,
its trade-off between information about the forget set and retain loss. The forget set is not used.
Choices:

- F is the paper's, over labels that the model itself predicts, sum_y p(y|x) (d log p(y|x))^2; the
  gradients at the training labels nearly vanish in a model that fits them. One random direction in
  logit space with covariance diag(p) - p p^T, the Fisher information of the logits, replaces the
  sum over the labels: unbiased, one backward pass for any number of classes.
- Weights that the retain set hardly needs would get unbounded noise. F is at least FLOOR, as in the
  authors' code, whose 1/F is at most 1000.
- The authors' code gives each weight the variance alpha / F instead of (alpha / F)^(1/2), averaged
  over the inputs of a unit, ten times as much in normalisation layers and the last layer (where 1/F
  is at most 100), and empties the outputs of the forgotten class. The paper's equation has none of
  this, and neither has this code. Its alpha of 1e-7 to 1e-6 gives a standard deviation of 0.01 to
  0.03 at the floor, as 1e-11 to 1e-9 does here; the default gives 0.006.
"""

from dataclasses import replace

import torch

from models.architectures import Classifier
from unlearn.components.fisher import diagonal_fisher, random_signs
from unlearn.components.one_step import require_finite
from unlearn.engine.config import UnlearnConfig
from unlearn.engine.method import FISHER_BATCH_SIZE, ONE_STEP, ONE_STEP_IGNORES, Method, Option
from utils.data.datasets import ImageSet
from utils.train.losses import probabilities

OPTIONS = {"alpha": Option(1e-12, "noise: its standard deviation is proportional to alpha^(1/4)")}
FLOOR = 1e-3


def fisher_forgetting(
    model: Classifier, forget_set: ImageSet, retain_set: ImageSet, config: UnlearnConfig
) -> Classifier:
    """Add noise to the weights, scaled by the Fisher information of the retain set."""
    generator = torch.Generator().manual_seed(config.recipe.seed)

    def scores(logits, labels):
        return own_label_scores(logits, labels.ndim == 2, generator)

    fisher = diagonal_fisher(model, retain_set, scores, config.recipe.batch_size, generator)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            noise = torch.randn(weight.shape, generator=generator).to(weight.device)
            weight.add_(noise * (config.options["alpha"] / fisher[name].clamp(min=FLOOR)) ** 0.25)
    return require_finite(model, forget_set, config.recipe.batch_size)


def own_label_scores(
    logits: torch.Tensor, multi_label: bool, generator: torch.Generator
) -> torch.Tensor:
    """Return scores (B,) whose expected squared gradient is the Fisher information.

    It is the information over labels that the model predicts. The scores are logits (B, K) times
    random signs times a square root of diag(p) - p p^T; for multi-label data of the diagonal
    p (1 - p), because findings are independent. They are summed over the classes, so that FLOOR and
    alpha have the same unit for both: nats about all predictions for an image.
    """
    p = probabilities(logits.detach(), multi_label)
    signs = random_signs(logits.shape, generator, logits.device)
    if multi_label:
        return (logits * signs * (p * (1 - p)).sqrt()).sum(1)
    root = signs * p.sqrt()
    return (logits * (root - p * root.sum(1, keepdim=True))).sum(1)


METHOD = Method(
    id="Fisher",
    name="Fisher Forgetting",
    run=fisher_forgetting,
    recipe=replace(ONE_STEP, batch_size=FISHER_BATCH_SIZE),
    paper="Golatkar et al., CVPR 2020",
    family="noise",
    summary="adds noise to the weights: the less the retain set depends on a weight, the more "
    "noise",
    supports_mask=False,
    one_step=True,
    allows_batch_of_one=True,
    options=OPTIONS,
    ignored_settings=ONE_STEP_IGNORES,
)
