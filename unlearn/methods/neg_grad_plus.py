"""NegGrad+: gradient ascent on the forget set, held in place by descent on the retain set.

Kurmanji, Triantafillou, Hayes, Triantafillou, "Towards unbounded machine unlearning",
NeurIPS 2023, one of their baselines: minimise

    beta E_{(x, y) in D_r} [ CE(f(x), y) ] - (1 - beta) E_{(x, y) in D_f} [ CE(f(x), y) ]

jointly: each step sees a batch of both sets. What is chosen here:

- An epoch goes through the forget set, with as many retain images beside it, so that it costs what
  the forget set costs. The retain images go on from epoch to epoch.
- An image to forget stops pushing once its loss is that of guessing, as in gradient ascent; the
  paper sets no bound and leaves it to a beta near 1. With the bound a smaller beta, which forgets
  in fewer steps, does not wreck what is to stay.
- The optimizer is Adam, because a model that knows both sets by heart has gradients near zero at
  first, and the running statistics of batch normalisation stay the base model's: batches that are
  half forget set would pull them away from what the retained classes need.
"""

from unlearn.engine.loop import EpochPlan, run_epochs
from unlearn.engine.method import BATCH_SIZE, Method, Option
from unlearn.engine.pairing import PairedSets, split_pair
from unlearn.methods.gradient_ascent import bounded_losses
from utils.train.losses import classification_loss
from utils.train.recipe import Recipe
from utils.train.training import gradient_step

OPTIONS = {"beta": Option(0.8, "weight of the retain set; the forget set has 1 - beta", 0.0, 1.0)}


def neg_grad_plus(model, forget_set, retain_set, config):
    """Raise the loss of what is to be forgotten while lowering that of retain images beside it."""
    beta, size = config.options["beta"], config.recipe.batch_size

    def loss_function(logits, labels):
        forget, retain = split_pair(logits, labels)
        ascent = -bounded_losses(config.request, *forget).mean()
        return beta * classification_loss(*retain) + (1 - beta) * ascent

    def passes(generator):
        paired = PairedSets(forget_set, retain_set, size, generator)
        for _ in range(config.recipe.epochs):
            yield EpochPlan(paired, gradient_step(loss_function), update_statistics=False)

    return run_epochs(model, passes, config)


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
