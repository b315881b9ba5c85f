"""GA raises the loss of the forget set, up to that of a random guess."""

import copy
import math

import pytest
import torch

from tests.helpers.methods import (
    CONFIG,
    REQUEST,
    by_task,
    unlearned,
    with_recipe,
)
from tests.helpers.tiny import (
    same_weights,
    split_set,
    tiny_set,
    trained_model,
    weights_of,
)
from unlearn.registry import METHODS
from utils.runtime.errors import UserError
from utils.train.prediction import predict


def forget_losses(model, forget_set):
    return REQUEST.losses(predict(model, forget_set), forget_set.labels)


@by_task
def test_gradient_ascent_raises_the_forget_loss(multi_label):
    forget_set, retain_set = split_set(REQUEST, tiny_set(120, multi_label=multi_label))
    model = trained_model(multi_label=multi_label)
    before = forget_losses(model, forget_set)
    METHODS["GA"].run(
        model, forget_set, retain_set, with_recipe(CONFIG, lr=0.003, optimizer="adam")
    )
    after = forget_losses(model, forget_set)
    assert after.mean() > 2 * before.mean()
    assert (after > before).float().mean() > 0.9


@by_task
def test_gradient_ascent_uses_images_below_the_loss_of_a_guess(multi_label):
    """One step of plain SGD: images at the loss of a random guess have no gradient."""
    forget_set, retain_set = split_set(REQUEST, tiny_set(120, multi_label=multi_label))
    model = trained_model(multi_label=multi_label)
    losses = forget_losses(model, forget_set)
    chance = 2 if multi_label else 4
    known = forget_set.subset(losses < math.log(chance))
    assert len(known) > 0
    reference = copy.deepcopy(model).eval()
    images, labels = known.batch(slice(None))
    (REQUEST.losses(reference(images), labels).sum() / len(forget_set)).backward()
    config = with_recipe(CONFIG, epochs=1, batch_size=1000, optimizer="sgd", weight_decay=0.0)
    before = weights_of(model)
    METHODS["GA"].run(model, forget_set, retain_set, config)
    for (name, after), part in zip(model.named_parameters(), reference.parameters(), strict=True):
        step = 1.9 * config.recipe.lr * part.grad  # Nesterov's momentum of 0.9 in its first step
        torch.testing.assert_close(after, before[name] + step, rtol=1e-5, atol=1e-6)


def test_gradient_ascent_does_not_change_a_model_that_has_forgotten():
    forget_set, retain_set = split_set(REQUEST, tiny_set())
    model = trained_model()
    with torch.no_grad():
        model.network[6].bias[REQUEST.classes[0]] -= 50
    assert forget_losses(model, forget_set).min() > math.log(4)
    before = weights_of(model)
    METHODS["GA"].run(model, forget_set, retain_set, with_recipe(CONFIG, weight_decay=0.0))
    assert same_weights(model, before)


@pytest.mark.parametrize("method_id", ["GA", "GA_with_SalUn"])
def test_gradient_ascent_leaves_the_running_statistics(method_id):
    before = weights_of(trained_model())
    after = unlearned(METHODS[method_id], tiny_set()).state_dict()
    statistics = [name for name in before if "running" in name or "tracked" in name]
    assert len(statistics) == 3
    assert all(torch.equal(after[name], before[name]) for name in statistics)


@pytest.mark.parametrize("epochs", [1, 5])
@pytest.mark.parametrize("batch_size", [3, 100])
def test_ascent_without_bounds_stops_with_one_line(epochs, batch_size):
    """Even if the loss is first infinite after the last step."""
    config = with_recipe(CONFIG, lr=1e30, epochs=epochs, batch_size=batch_size)
    with pytest.raises(UserError, match="not finite.*was not saved; try a lower"):
        METHODS["GA"].run(trained_model(), *split_set(REQUEST, tiny_set()), config)
