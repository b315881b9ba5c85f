"""NegMerge: subtract the weight changes on whose sign several fine-tuned models agree.

Kim, Han and Choe, "NegMerge: sign-consensual weight merging for machine unlearning", ICML 2025:
fine-tune n models on the forget set with various settings, theta_1 ... theta_n, compute the task
vectors tau_i = theta_i - theta, and move in the opposite direction where all signs agree:

    theta - lambda * mean_i(tau_i) * [ sign(tau_1) = ... = sign(tau_n) ]

The retain set is not used. Choices:

- n models, 3 by default, whose learning rates are the recipe's times powers of 2, each with its own
  order of the images. The paper's 27 classifiers differ in epochs (40 to 60), weight decay and
  label smoothing instead. Plain labels, as here, have almost no gradient where a model fits the
  forget set perfectly, and nothing changes; smoothed labels have a gradient there, too.
- They are fine-tuned with the running statistics of batch normalisation and without dropout, as in
  evaluation mode: the statistics are not weights, and stay those of the base model.
- No weight decay by default, unlike the paper: it shrinks all weights in all models, so that it
  alone would make signs agree, and its negation would enlarge the weights.
- The paper chooses lambda by validation; here it is an option.
"""

import copy
from collections.abc import Mapping
from dataclasses import replace

import torch

from models.architectures import Classifier
from unlearn.engine.config import UnlearnConfig
from unlearn.engine.loop import EpochPlan, run_epochs
from unlearn.engine.method import BATCH_SIZE, Method, Option
from utils.data.datasets import ImageSet
from utils.runtime.errors import NotFiniteError
from utils.train.prediction import predict
from utils.train.recipe import Recipe
from utils.train.training import gradient_step

OPTIONS = {
    "lambda": Option(0.5, "length of the step against the merged task vector"),
    "models": Option(3, "number of models fine-tuned on the forget set", 1, 30),
}


def neg_merge(
    model: Classifier, forget_set: ImageSet, retain_set: ImageSet, config: UnlearnConfig
) -> Classifier:
    """Fine-tune copies on the forget set, and subtract the changes on which they agree."""
    base = dict(model.named_parameters())
    merged = SignConsensus()
    for number in range(config.options["models"]):
        tuned = fine_tuned(model, forget_set, config, number)
        merged.add({name: part.detach() - base[name] for name, part in tuned.named_parameters()})
    with torch.no_grad():
        for name, vector in merged.mean().items():
            base[name].sub_(config.options["lambda"] * vector)
    if not predict(model, forget_set).isfinite().all():
        raise NotFiniteError("after the task vectors were subtracted")
    return model.eval()


def fine_tuned(
    model: Classifier, forget_set: ImageSet, config: UnlearnConfig, number: int
) -> Classifier:
    """Return a copy trained on the forget set with the settings of model `number`, 0-based."""
    middle = (config.options["models"] - 1) / 2
    recipe = config.recipe
    own = replace(recipe, lr=recipe.lr * 2 ** (number - middle), seed=recipe.seed + number)

    def loss(logits, labels):
        return config.request.losses(logits, labels).mean()

    def plan_epochs(_):
        for _ in range(recipe.epochs):
            yield EpochPlan(forget_set, gradient_step(loss), update_statistics=False)

    return run_epochs(copy.deepcopy(model), plan_epochs, replace(config, recipe=own, mask=None))


class SignConsensus:
    """Mean of task vectors, by parameter name, where all of them have the same sign, else 0.

    Vectors are added one at a time, so that only their sum is in memory.
    """

    def __init__(self):
        self.count, self._sums, self._signs = 0, {}, {}

    def add(self, vector: Mapping[str, torch.Tensor]) -> None:
        """Add a task vector: tensors by name."""
        for name, part in vector.items():
            sign = part.sign().to(torch.int8)
            if self.count:
                sign = torch.where(sign == self._signs[name], sign, 0)
                part = part + self._sums[name]
            self._sums[name], self._signs[name] = part, sign
        self.count += 1

    def mean(self) -> dict[str, torch.Tensor]:
        """Return the mean: tensors by name."""
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
