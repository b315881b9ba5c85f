"""L1_sparse: fine-tuning on the retain set with a penalty that makes the weights sparse.

Jia, Liu, Ram, Yao, Liu, Liu, Sharma, Liu, "Model sparsity can simplify machine unlearning",
NeurIPS 2023: minimise

    E_{(x, y) in D_r} [ CE(f(x), y) ] + gamma_t ||theta||_1

gamma_t decreases linearly over the epochs, the best of the schedules that the paper compares: first
it enforces sparsity and forgetting, then the model recovers. As in the authors' code it is constant
within an epoch, gamma in the first of T epochs and gamma / T in the last; theta is every trainable
parameter, including biases and those of normalisation. The penalty acts through its subgradient, so
weights come close to zero and are not set to zero. The learning rate decreases from epoch to epoch,
as in FT.
"""

from models.architectures import Classifier
from unlearn.engine.config import UnlearnConfig
from unlearn.engine.loop import EpochPlan, cosine_factor, run_epochs
from unlearn.engine.method import BATCH_SIZE, Method, Option
from utils.data.datasets import ImageSet
from utils.train.losses import classification_loss
from utils.train.recipe import Recipe
from utils.train.training import gradient_step

OPTIONS = {"gamma": Option(5e-4, "weight of the L1 penalty in the first epoch; then it decreases")}


def l1_sparse(
    model: Classifier, forget_set: ImageSet, retain_set: ImageSet, config: UnlearnConfig
) -> Classifier:
    """Train on the retain set with the L1 penalty; the forget set is not used."""
    epochs = config.recipe.epochs

    def plan_epochs(_):
        for epoch in range(epochs):
            gamma = config.options["gamma"] * (1 - epoch / epochs)
            step = gradient_step(_penalised(model, gamma))
            yield EpochPlan(retain_set, step, cosine_factor(epoch, epochs))

    return run_epochs(model, plan_epochs, config)


def _penalised(model, gamma):
    def loss_function(logits, labels):
        norm = sum(parameter.abs().sum() for parameter in model.parameters())
        return classification_loss(logits, labels) + gamma * norm

    return loss_function


METHOD = Method(
    id="L1_sparse",
    name="L1-sparse fine tuning",
    run=l1_sparse,
    recipe=Recipe(3, 0.03, BATCH_SIZE),
    paper="Jia et al., NeurIPS 2023",
    family="fine-tuning",
    summary="trains on the retain set with an L1 penalty on the weights that decreases to zero",
    options=OPTIONS,
)
