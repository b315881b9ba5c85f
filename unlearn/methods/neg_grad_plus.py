"""NegGrad+: gradient ascent on the forget set together with descent on the retain set.

Kurmanji, Triantafillou, Hayes, Triantafillou, "Towards unbounded machine unlearning",
NeurIPS 2023, one of their baselines: minimise

    beta E_{(x, y) in D_r} [ CE(f(x), y) ] - (1 - beta) E_{(x, y) in D_f} [ CE(f(x), y) ]

jointly: each step has a batch of both sets. Choices:

- An epoch is one pass over the forget set with equally many retain images, so that it costs as much
  as the forget set. The next epoch continues with the retain images that were not used yet.
- A forget image has no gradient once its loss is that of a random guess, as in gradient ascent; the
  paper sets no bound and relies on a beta near 1. With the bound a smaller beta, which forgets in
  fewer steps, does not destroy what is to stay.
- The optimizer is Adam, because a model that fits both sets perfectly has gradients near zero at
  the start. The running statistics of batch normalisation stay those of the base model: batches
  that are half forget set would shift them away from what the retained classes need.
"""

from models.architectures import Classifier
from unlearn.engine.config import UnlearnConfig
from unlearn.engine.loop import EpochPlan, run_epochs
from unlearn.engine.method import BATCH_SIZE, Method, Option
from unlearn.engine.pairing import PairedSets, split_pair
from unlearn.methods.gradient_ascent import bounded_losses
from utils.data.datasets import ImageSet
from utils.train.losses import classification_loss
from utils.train.recipe import Recipe
from utils.train.training import gradient_step

OPTIONS = {"beta": Option(0.8, "weight of the retain set; the forget set has 1 - beta", 0.0, 1.0)}


def neg_grad_plus(
    model: Classifier, forget_set: ImageSet, retain_set: ImageSet, config: UnlearnConfig
) -> Classifier:
    """Maximise the loss of forget images and minimise that of retain images in each step."""
    beta, size = config.options["beta"], config.recipe.batch_size

    def loss_function(logits, labels):
        forget, retain = split_pair(logits, labels)
        ascent = -bounded_losses(config.request, *forget).mean()
        return beta * classification_loss(*retain) + (1 - beta) * ascent

    def plan_epochs(generator):
        paired = PairedSets(forget_set, retain_set, size, generator)
        for _ in range(config.recipe.epochs):
            yield EpochPlan(paired, gradient_step(loss_function), update_statistics=False)

    return run_epochs(model, plan_epochs, config)


METHOD = Method(
    id="NegGradPlus",
    name="NegGrad+",
    run=neg_grad_plus,
    recipe=Recipe(5, 1e-5, BATCH_SIZE, optimizer="adam", weight_decay=0.0),
    paper="Kurmanji et al., NeurIPS 2023",
    family="gradient ascent",
    summary="gradient ascent on the forget set and descent on retain images, in the same step",
    allows_batch_of_one=True,
    options=OPTIONS,
)
