"""Retrain equals training without the forget set."""

from dataclasses import replace

import pytest

from tests.helpers.methods import (
    RECIPE,
    REQUEST,
    real_model,
    retrain_config,
)
from tests.helpers.tiny import (
    same_weights,
    split_set,
    tiny_dataset,
)
from unlearn.registry import METHODS
from utils.data.datasets import ImageSet
from utils.train.training import TrainingRun


@pytest.mark.parametrize("selection", ["best", "last"])
def test_retrain_is_training_on_the_retain_set(selection):
    dataset = tiny_dataset()
    forget_set, retain_set = split_set(REQUEST, dataset.train)
    retain_val = split_set(REQUEST, dataset.val)[1]
    recipe = replace(RECIPE, epochs=4)
    config = retrain_config(recipe, retain_val, selection)
    retrained = METHODS["Retrain"].run(real_model(), forget_set, retain_set, config)

    fresh = real_model(seed=recipe.seed)
    run = TrainingRun(fresh, retain_set, retain_val, recipe)
    run.run(show=False)
    assert same_weights(retrained, run.best_weights if selection == "best" else fresh)


def test_retrain_is_training_on_data_without_the_class():
    """The images were deleted before, so that their positions do not exist."""
    dataset = tiny_dataset()
    retain_val = split_set(REQUEST, dataset.val)[1]
    config = retrain_config(RECIPE, retain_val)
    retrained = METHODS["Retrain"].run(real_model(), *split_set(REQUEST, dataset.train), config)

    without = []
    for split in (dataset.train, dataset.val):
        keep = split.labels != REQUEST.classes[0]
        without.append(
            ImageSet.from_tensors(split.images[keep].clone(), split.labels[keep].clone())
        )
    run = TrainingRun(real_model(seed=RECIPE.seed), *without, RECIPE)
    run.run(show=False)
    assert same_weights(retrained, run.best_weights)


def test_retrain_does_not_depend_on_the_base_weights():
    dataset = tiny_dataset()
    sets = split_set(REQUEST, dataset.train)
    config = retrain_config(RECIPE, split_set(REQUEST, dataset.val)[1])
    first, second = (METHODS["Retrain"].run(real_model(seed), *sets, config) for seed in (3, 4))
    assert same_weights(first, second)
