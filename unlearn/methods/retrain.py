"""Retrain: exact unlearning, the reference for all other methods.

New weights are drawn with the base model's seed and trained on the retain set with the base model's
recipe: the model that training would have given without the forget set.
"""

from models.architectures import Classifier, build_model
from models.shards import training_run
from unlearn.engine.config import UnlearnConfig
from unlearn.engine.method import Method
from unlearn.engine.progress import train_with_progress
from utils.data.datasets import ImageSet


def retrain(
    model: Classifier, forget_set: ImageSet, retain_set: ImageSet, config: UnlearnConfig
) -> Classifier:
    """Return a new model trained without the forget set; only the spec of `model` is used.

    The epoch is chosen as for the base model: the best on the validation images that the request
    does not cover, or the last. A model in shards is trained from scratch in the same shards.
    """
    fresh = build_model(model.spec, seed=config.recipe.seed).to(retain_set.device)
    run = training_run(fresh, retain_set, config.retain_val, config.recipe)
    train_with_progress(run, config)
    if config.base_selection == "best":
        fresh.load_state_dict(run.best_weights)
    return fresh.eval()


METHOD = Method(
    id="Retrain",
    name="Retrain",
    run=retrain,
    recipe=None,
    paper="the definition",
    family="exact",
    summary="trains a new model on the retain set with the base model's recipe and seed: the "
    "reference",
    supports_mask=False,
)
