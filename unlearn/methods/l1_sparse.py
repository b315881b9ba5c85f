"""L1_sparse: fine-tuning on the retain set under a penalty that makes the weights sparse.

Jia, Liu, Ram, Yao, Liu, Liu, Sharma, Liu, "Model sparsity can simplify machine unlearning",
NeurIPS 2023: minimise

    E_{(x, y) in D_r} [ CE(f(x), y) ] + gamma_t ||theta||_1

gamma_t falls linearly over the epochs, the best of the schedules that the paper compares: sparse
and forgetful at first, then free to settle. As in the authors' code it is constant within an
epoch, gamma in the first of T epochs and gamma / T in the last; theta is every trainable
parameter, biases and those of normalisation too. The penalty moves weights by its subgradient,
so they come near zero and are not set to zero. The rate falls from epoch to epoch as in FT.
"""

from unlearn.engine.loop import EpochPlan, cosine_factor, run_epochs
from unlearn.engine.method import BATCH_SIZE, Method, Option
from utils.train.losses import classification_loss
from utils.train.recipe import Recipe
from utils.train.training import gradient_step

OPTIONS = {"gamma": Option(5e-4, "weight of the L1 penalty in the first epoch; it falls linearly")}


def l1_sparse(model, forget_set, retain_set, config):
    """Go on training on the retain set while weights shrink; the forget set is not looked at."""
    epochs = config.recipe.epochs

    def passes(_):
        for epoch in range(epochs):
            gamma = config.options["gamma"] * (1 - epoch / epochs)
            step = gradient_step(_penalised(model, gamma))
            yield EpochPlan(retain_set, step, cosine_factor(epoch, epochs))

    return run_epochs(model, passes, config)


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
