"""Retrain: exact unlearning, the yardstick of all others.

Fresh weights from the base model's own seed, trained on the retain set by the base model's own
recipe: what would have come about had the forget set never been there.
"""

from models.architectures import build_model
from models.shards import training_run
from unlearn.engine.method import Method
from unlearn.engine.progress import train_with_progress


def retrain(model, forget_set, retain_set, config):
    """A new model trained without the forget set; of `model` only its spec is looked at.

    The epoch is chosen as it was for the base model: the best on the validation images that the
    request does not cover, or the last. A model in shards is trained anew in the same shards.
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
