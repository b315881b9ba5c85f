"""Small models, requests and settings with which any method runs quickly."""

from dataclasses import replace

import pytest

from models.architectures import build_model, make_spec, sharded_spec
from tests.helpers.small_net import SMALL_ARCH
from tests.helpers.tiny import (
    SIZE,
    split_set,
    tiny_set,
    trained_model,
)
from unlearn.engine.config import UnlearnConfig
from unlearn.registry import METHODS
from unlearn.request.request import ForgetRequest
from unlearn.saliency import compute_saliency_map, gradient_saliency
from utils.train.prediction import predict
from utils.train.recipe import Recipe

REQUEST = ForgetRequest((1,))
CONFIG = UnlearnConfig(REQUEST, Recipe(3, 0.01, 7), show=False)
RECIPE = Recipe(epochs=2, lr=0.02, batch_size=5, optimizer="adamw", weight_decay=0.01, seed=7)
TRAIN_FROM_SCRATCH = ("Retrain", "EU_k", "SISA")  # they need an architecture that can be built
OWN_RECIPE = [method for method in METHODS.values() if method.recipe]
by_id = pytest.mark.parametrize("method", METHODS.values(), ids=lambda method: method.id)
by_own_recipe = pytest.mark.parametrize("method", OWN_RECIPE, ids=lambda method: method.id)
by_task = pytest.mark.parametrize("multi_label", [False, True], ids=["single", "multi"])


def real_model(seed=3, shards=0):
    """A network with dropout that Retrain can build again, by the name of its architecture."""
    spec = sharded_spec(make_spec(SMALL_ARCH, 4, 1, SIZE), shards, 0, multi_label=False)
    return build_model(spec, seed=seed)


def config_for(method, image_set, *, seed=1, epochs=3):
    """A quick configuration with everything that the method needs."""
    unseen = split_set(REQUEST, tiny_set(12, multi_label=image_set.labels.ndim == 2, seed=1))
    mask, recipe = None, replace(method.recipe or RECIPE, seed=seed)
    if method.uses_mask:
        saliency = gradient_saliency(trained_model(), split_set(REQUEST, image_set)[0], REQUEST)
        mask = compute_saliency_map(saliency).mask(0.5)
    if method.recipe and not method.one_step:
        recipe = replace(recipe, epochs=epochs, lr=0.01, batch_size=7)
    return UnlearnConfig(
        REQUEST,
        recipe,
        {name: option.default for name, option in method.options.items()},
        mask=mask,
        matching_val=unseen[0],
        retain_val=unseen[1],
        show=False,
    )


def retrain_config(recipe, retain_val, selection="best"):
    return UnlearnConfig(
        REQUEST, recipe, base_selection=selection, retain_val=retain_val, show=False
    )


def with_recipe(config, **changes):
    return replace(config, recipe=replace(config.recipe, **changes))


def unlearned(method, image_set, *, seed=1, epochs=3):
    multi_label = image_set.labels.ndim == 2
    if method.id in TRAIN_FROM_SCRATCH:
        model = real_model(shards=2 if method.needs_shards else 0)
    else:
        model = trained_model(multi_label=multi_label, dropout=0.3)
    config = config_for(method, image_set, seed=seed, epochs=epochs)
    return method.run(model, *split_set(REQUEST, image_set), config)


def accuracy(model, image_set):
    """The fraction of correct predictions, 0 to 1."""
    return (predict(model, image_set).argmax(1) == image_set.labels).float().mean().item()


def scrub_config(msteps, alpha, gamma, **changes):
    """Settings of SCRUB and SCRUB_R with one batch per epoch; changes: of the recipe."""
    recipe = Recipe(3, 0.1, 1000, weight_decay=0.0)
    options = {"msteps": msteps, "alpha": alpha, "gamma": gamma}
    return UnlearnConfig(REQUEST, replace(recipe, **changes), options, show=False)
