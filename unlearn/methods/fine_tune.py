"""FT: fine-tuning on the retain set only, so that the rest fades (catastrophic forgetting).

Warnecke et al., "Machine unlearning of features and labels", NDSS 2023; Golatkar et al., CVPR 2020:
minimise E_{(x, y) in D_r} [ CE(f(x), y) ] from the base model's weights. The learning rate starts
high, so that something is forgotten, and decreases from epoch to epoch, so that training converges.
"""

from models.architectures import Classifier
from unlearn.engine.config import UnlearnConfig
from unlearn.engine.loop import EpochPlan, cosine_factor, run_epochs
from unlearn.engine.method import BATCH_SIZE, Method
from utils.data.datasets import ImageSet
from utils.train.losses import classification_loss
from utils.train.recipe import Recipe
from utils.train.training import gradient_step


def fine_tune(
    model: Classifier, forget_set: ImageSet, retain_set: ImageSet, config: UnlearnConfig
) -> Classifier:
    """Continue training on the retain set; the forget set is not used."""
    epochs = config.recipe.epochs

    def plan_epochs(_):
        for epoch in range(epochs):
            rate = cosine_factor(epoch, epochs)
            yield EpochPlan(retain_set, gradient_step(classification_loss), rate)

    return run_epochs(model, plan_epochs, config)


METHOD = Method(
    id="FT",
    name="Fine Tuning",
    run=fine_tune,
    recipe=Recipe(5, 0.03, BATCH_SIZE),
    paper="Warnecke et al., NDSS 2023",
    family="fine-tuning",
    summary="trains on the retain set only, with a decreasing learning rate",
)
