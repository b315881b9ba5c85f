"""Fisher: noise on the weights, the more the less the retain set depends on them.

Golatkar et al., "Eternal sunshine of the spotless net", CVPR 2020 (Fisher forgetting):

    theta_u = theta + alpha^(1/4) F^(-1/4) eps,     eps ~ N(0, I)

with F the diagonal Fisher information of the retain set, and alpha the paper's lambda sigma_h^2,
its trade of information about the forget set against retain loss. The forget set is not looked at.
Choices:

- F is the paper's, over labels that the model itself would give, sum_y p(y|x) (d log p(y|x))^2; the
  training labels' gradients all but vanish in a model that knows them. One random direction in
  logit space with covariance diag(p) - p p^T, the Fisher information of the logits, stands for the
  sum over the labels: unbiased, one backward pass for any number of classes.
- Weights that the retain set hardly needs would get noise without bounds. F counts as at least
  FLOOR, as in the authors' code, whose 1/F is at most 1000.
- The authors' code gives each weight the variance alpha / F instead of (alpha / F)^(1/2), averaged
  over the inputs of a unit, ten times as much in normalisation layers and the last one (where 1/F
  is at most 100), and empties the forgotten class's outputs. The paper's equation has none of it,
  and neither has this. Its alpha of 1e-7 to 1e-6 makes a deviation of 0.01 to 0.03 at the floor, as
  1e-11 to 1e-9 does here; the default makes 0.006.
"""

from dataclasses import replace

import torch

from unlearn.components.fisher import diagonal_fisher, random_signs
from unlearn.components.one_step import finished
from unlearn.engine.method import FISHER_BATCH_SIZE, ONE_STEP, ONE_STEP_IGNORES, Method, Option
from utils.train.losses import probabilities

OPTIONS = {"alpha": Option(1e-12, "the noise: its standard deviation grows with alpha^(1/4)")}
FLOOR = 1e-3


def fisher_forgetting(model, forget_set, retain_set, config):
    """Blur the weights as far as the retain set allows."""
    generator = torch.Generator().manual_seed(config.recipe.seed)

    def scores(logits, labels):
        return own_label_scores(logits, labels.ndim == 2, generator)

    fisher = diagonal_fisher(model, retain_set, scores, config.recipe.batch_size, generator)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            noise = torch.randn(weight.shape, generator=generator).to(weight.device)
            weight.add_(noise * (config.options["alpha"] / fisher[name].clamp(min=FLOOR)) ** 0.25)
    return finished(model, forget_set, config.recipe.batch_size)


def own_label_scores(logits, multi_label, generator):
    """(B,) scores whose expected squared gradient is the Fisher information of the model's labels.

    Logits times random signs times a square root of diag(p) - p p^T; multi-label: of the diagonal
    p (1 - p), as findings are independent. Summed, so that the unit, and with it what FLOOR and
    alpha mean, is the same for both: nats about all that the model says of an image.
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
