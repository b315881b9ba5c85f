"""L1_sparse: fine-tuning with a penalty on the weights that decreases to zero."""

import copy
from dataclasses import replace

import pytest
import torch

from tests.helpers.tiny import same_weights, split_set, tiny_set, trained_model, weights_of
from unlearn.engine.config import UnlearnConfig
from unlearn.registry import METHODS
from unlearn.request.request import ForgetRequest
from utils.train.losses import classification_loss
from utils.train.prediction import predict
from utils.train.recipe import Recipe

REQUEST = ForgetRequest((1,))
RECIPE = Recipe(3, 0.01, 7, weight_decay=0.0)


def unlearned(model, gamma, recipe=RECIPE, image_set=None):
    config = UnlearnConfig(REQUEST, recipe, {"gamma": gamma}, show=False)
    sets = split_set(REQUEST, tiny_set(60) if image_set is None else image_set)
    return METHODS["L1_sparse"].run(model, *sets, config)


def test_without_a_penalty_it_is_fine_tuning():
    tuned = METHODS["FT"].run(
        trained_model(),
        *split_set(REQUEST, tiny_set(60)),
        UnlearnConfig(REQUEST, RECIPE, show=False),
    )
    assert same_weights(unlearned(trained_model(), 0.0), tuned)


@pytest.mark.parametrize("multi_label", [False, True], ids=["single", "multi"])
def test_one_step_adds_the_sign_of_each_weight(multi_label):
    """Including biases and weights of normalisation layers."""
    image_set = tiny_set(60, multi_label=multi_label)
    model = trained_model(multi_label=multi_label)
    reference, before = copy.deepcopy(model).train(), weights_of(model)
    images, labels = split_set(REQUEST, image_set)[1].batch(slice(None))
    classification_loss(reference(images), labels).backward()
    unlearned(model, 0.5, replace(RECIPE, epochs=1, batch_size=1000), image_set)
    for (name, after), part in zip(model.named_parameters(), reference.parameters(), strict=True):
        step = 1.9 * RECIPE.lr * (part.grad + 0.5 * before[name].sign())  # Nesterov's first step
        torch.testing.assert_close(after, before[name] - step, rtol=1e-5, atol=1e-6)


def test_the_penalty_decreases_linearly_over_the_epochs(monkeypatch):
    """Without the classification loss each gradient is gamma or -gamma."""
    model, seen = trained_model(), []
    bias = model.network[6].bias
    monkeypatch.setattr(
        "unlearn.methods.l1_sparse.classification_loss", lambda logits, _: 0 * logits.sum()
    )
    step = torch.optim.SGD.step

    def look(optimizer, *arguments, **named):
        seen.append(bias.grad.abs().max().item())
        return step(optimizer, *arguments, **named)

    monkeypatch.setattr(torch.optim.SGD, "step", look)
    unlearned(model, 0.4, replace(RECIPE, epochs=4, batch_size=1000, lr=1e-6))
    assert seen == pytest.approx([0.4, 0.3, 0.2, 0.1])


def test_a_larger_penalty_gives_smaller_weights():
    norms = [
        sum(part.abs().sum().item() for part in unlearned(trained_model(), gamma).parameters())
        for gamma in (0.0, 0.01, 0.1)
    ]
    assert norms[0] > norms[1] > norms[2]


def test_it_forgets_what_fine_tuning_does_not_and_keeps():
    image_set = tiny_set(120)
    sets = split_set(REQUEST, image_set)
    known = {}
    for gamma in (0.0, 0.05):
        model = unlearned(trained_model(), gamma, Recipe(15, 0.1, 10), image_set)
        known[gamma] = [
            (predict(model, each).argmax(1) == each.labels).float().mean() for each in sets
        ]
    assert known[0.0][0] > 0.5
    assert known[0.05][0] < 0.1 and known[0.05][1] > 0.95
