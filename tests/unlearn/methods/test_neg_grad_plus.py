"""NegGradPlus: ascent on the forget set and descent on the retain set, in one step."""

import copy
import math
from dataclasses import replace

import pytest
import torch

from tests.helpers.methods import accuracy
from tests.helpers.tiny import same_weights, split_set, tiny_set, trained_model, weights_of
from unlearn.engine.config import UnlearnConfig
from unlearn.registry import METHODS
from unlearn.request.request import ForgetRequest
from utils.data.datasets import ImageSet
from utils.train.losses import classification_loss
from utils.train.recipe import Recipe

REQUEST = ForgetRequest((1,))
METHOD = METHODS["NegGradPlus"]
WHOLE = Recipe(1, 0.01, 1000, weight_decay=0.0)  # one step with all images
by_task = pytest.mark.parametrize("multi_label", [False, True], ids=["single", "multi"])


def unlearned(model, image_set, beta, recipe=WHOLE):
    config = UnlearnConfig(REQUEST, recipe, {"beta": beta}, show=False)
    return METHOD.run(model, *split_set(REQUEST, image_set), config)


@by_task
@pytest.mark.parametrize("beta", [0.0, 0.3, 1.0])
def test_one_step_is_the_papers_gradient(beta, multi_label):
    """With beta 1 it is a step on the retain set alone, with 0 a step of gradient ascent."""
    image_set = tiny_set(120, multi_label=multi_label)
    forget_set, retain_set = split_set(REQUEST, image_set)
    model = trained_model(multi_label=multi_label)
    reference, before = copy.deepcopy(model).eval(), weights_of(model)
    images, labels = forget_set.batch(slice(None))
    losses = REQUEST.losses(reference(images), labels)
    known = losses < math.log(2 if multi_label else 4)
    assert known.any()
    forget_loss = losses[known].sum() / len(losses)
    images, labels = retain_set.batch(slice(None))
    retain_loss = classification_loss(reference(images), labels)
    (beta * retain_loss - (1 - beta) * forget_loss).backward()
    unlearned(model, image_set, beta)
    for (name, after), part in zip(model.named_parameters(), reference.parameters(), strict=True):
        step = 1.9 * WHOLE.lr * part.grad  # Nesterov's momentum of 0.9 in its first step
        torch.testing.assert_close(after, before[name] - step, rtol=1e-5, atol=1e-6)


def test_with_beta_1_the_forget_set_has_no_effect():
    image_set = tiny_set(60)
    other = image_set.images.clone()
    other[image_set.labels == REQUEST.classes[0]] //= 2
    recipe = replace(WHOLE, epochs=3, batch_size=7)
    plain, changed = (
        unlearned(trained_model(), each, 1.0, recipe)
        for each in (image_set, ImageSet.from_tensors(other, image_set.labels))
    )
    for ours, theirs in zip(plain.parameters(), changed.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_an_epoch_costs_what_the_forget_set_costs():
    image_set = tiny_set(160)
    model, sizes = trained_model(), []
    model.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    unlearned(model, image_set, 0.5, replace(WHOLE, epochs=2, batch_size=10))
    assert sizes[:8] == [20] * 8  # 40 images to forget, 10 at a time with equally many others


def test_it_forgets_keeps_and_leaves_the_running_statistics():
    image_set, model = tiny_set(120), trained_model()
    forget_set, retain_set = split_set(REQUEST, image_set)
    before = weights_of(model)
    assert accuracy(model, forget_set) == 1
    unlearned(model, image_set, 0.8, replace(WHOLE, epochs=15, lr=0.01, optimizer="adam"))
    assert accuracy(model, forget_set) < 0.1
    assert accuracy(model, retain_set) > 0.95
    statistics = {name: part for name, part in model.state_dict().items() if "running" in name}
    assert len(statistics) == 2
    assert same_weights(statistics, {name: before[name] for name in statistics})
