"""GA: gradient ascent on the forget set.

Thudi et al., "Unrolling SGD", EuroS&P 2022, who add the forget set's gradient at the weights back
once; as the baseline GA of Jia et al., "Model sparsity can simplify machine unlearning", NeurIPS
2023, again and again: maximise E_{x in D_f} [ CE(f(x), y) ]. The retain set is not looked at. (That
is not Graves et al., who are cited for it at times: they take recorded updates of the training
back.) Three choices that are left open decide whether anything is left of the model afterwards:

- An image stops pushing once its loss is that of guessing, ln K: it is forgotten, and cross
  entropy, which has no upper bound, would go on to wreck what is to stay.
- The default optimizer is Adam, at a small rate. A model that knows the forget set by heart has
  gradients near zero there, and large ones as soon as it wavers; no rate of SGD suits both.
- The running statistics of batch normalisation stay the base model's: batches of a single class
  would pull them away from what the retained classes need.
"""

from unlearn.engine.loop import EpochPlan, run_epochs
from unlearn.engine.method import BATCH_SIZE, Method
from utils.train.recipe import Recipe
from utils.train.training import gradient_step


def gradient_ascent(model, forget_set, retain_set, config):
    """Raise the loss of each image that is to be forgotten up to that of guessing."""

    def ascent(logits, labels):
        return -bounded_losses(config.request, logits, labels).mean()

    def passes(_):
        for _ in range(config.recipe.epochs):
            yield EpochPlan(forget_set, gradient_step(ascent), update_statistics=False)

    return run_epochs(model, passes, config)


def bounded_losses(request, logits, labels):
    """The request's losses (B,), at most that of guessing: beyond it an image has no gradient."""
    losses = request.losses(logits, labels)
    beyond = (losses - request.chance_loss(logits, labels)).relu()
    return losses - beyond  # the smaller of the two, and NaN where infinite


METHOD = Method(
    id="GA",
    name="Gradient Ascent",
    run=gradient_ascent,
    # Adam would follow a decay wherever the gradient is near zero
    recipe=Recipe(5, 3e-6, BATCH_SIZE, optimizer="adam", weight_decay=0.0),
    paper="Thudi et al., EuroS&P 2022",
    family="gradient ascent",
    summary="maximises the loss of the forget set, up to the loss of a random guess",
    allows_batch_of_one=True,
)
