"""NegMerge: subtract what several fine-tuned models agree to be knowledge of the forget set.

Kim, Han and Choe, "NegMerge: sign-consensual weight merging for machine unlearning", ICML 2025:
fine-tune n models on the forget set with various settings, theta_1 ... theta_n, take the task
vectors tau_i = theta_i - theta, and go the other way where all of them go the same way:

    theta - lambda * mean_i(tau_i) * [ sign(tau_1) = ... = sign(tau_n) ]

The retain set is not looked at. Choices:

- n models, 3 by default, whose rates go in powers of 2 up and down from the recipe's, each with its
  own order of the images. The paper's 27 classifiers differ in epochs (40 to 60), weight decay and
  label smoothing instead. Plain labels, as here, have next to no gradient where a model knows the
  forget set by heart, and nothing moves; smoothed ones have a gradient there too.
- They are fine-tuned with the running statistics of batch normalisation, and dropout off, as in
  evaluation: the statistics are no weights, and stay the base model's.
- No weight decay by default, unlike the paper: it shrinks all weights in all models, so that signs
  would agree by it alone, and its negation would blow the weights up.
- The paper chooses lambda by validation; here it is an option.
"""

import copy
from dataclasses import replace

import torch

from unlearn.engine.loop import EpochPlan, run_epochs
from unlearn.engine.method import BATCH_SIZE, Method, Option
from utils.runtime.errors import NotFiniteError
from utils.train.prediction import predict
from utils.train.recipe import Recipe
from utils.train.training import gradient_step

OPTIONS = {
    "lambda": Option(0.5, "how far to go against the merged task vector"),
    "models": Option(3, "models that are fine-tuned on the forget set", 1, 30),
}


def neg_merge(model, forget_set, retain_set, config):
    """Fine-tune copies on the forget set, and move against what they have in common."""
    base = dict(model.named_parameters())
    merged = SignConsensus()
    for number in range(config.options["models"]):
        tuned = fine_tuned(model, forget_set, config, number)
        merged.add({name: part.detach() - base[name] for name, part in tuned.named_parameters()})
    with torch.no_grad():
        for name, vector in merged.mean().items():
            base[name].sub_(config.options["lambda"] * vector)
    if not predict(model, forget_set).isfinite().all():
        raise NotFiniteError("once the task vectors are subtracted")
    return model.eval()


def fine_tuned(model, forget_set, config, number):
    """A copy trained on the forget set by the settings of one of the models, 0-based."""
    middle = (config.options["models"] - 1) / 2
    recipe = config.recipe
    own = replace(recipe, lr=recipe.lr * 2 ** (number - middle), seed=recipe.seed + number)

    def loss(logits, labels):
        return config.request.losses(logits, labels).mean()

    def passes(_):
        for _ in range(recipe.epochs):
            yield EpochPlan(forget_set, gradient_step(loss), update_statistics=False)

    return run_epochs(copy.deepcopy(model), passes, replace(config, recipe=own, mask=None))


class SignConsensus:
    """The mean of task vectors, by parameter name, where all of them have one sign, else 0.

    Vectors are added one at a time, so that no more than their sum is held.
    """

    def __init__(self):
        self.count, self._sums, self._signs = 0, {}, {}

    def add(self, vector):
        """vector: tensors by name."""
        for name, part in vector.items():
            sign = part.sign().to(torch.int8)
            if self.count:
                sign = torch.where(sign == self._signs[name], sign, 0)
                part = part + self._sums[name]
            self._sums[name], self._signs[name] = part, sign
        self.count += 1

    def mean(self):
        """Tensors by name."""
        return {
            name: torch.where(self._signs[name] != 0, part / self.count, 0)
            for name, part in self._sums.items()
        }


METHOD = Method(
    id="NegMerge",
    name="Sign-Consensual Negation",
    run=neg_merge,
    # decay would make all signs agree
    recipe=Recipe(3, 0.002, BATCH_SIZE, weight_decay=0.0),
    paper="Kim et al., ICML 2025",
    family="weight edits",
    summary="subtracts the weight changes on whose sign several models fine-tuned on the forget "
    "set agree",
    supports_mask=False,
    allows_batch_of_one=True,
    options=OPTIONS,
)
