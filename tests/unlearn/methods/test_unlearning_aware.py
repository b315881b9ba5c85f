"""A step of UAM is the retain gradient at the perturbed weights, applied at the original ones."""

import copy

import pytest
import torch

from tests.helpers.tiny import split_set, tiny_set, trained_model, weights_of
from unlearn.engine.config import UnlearnConfig
from unlearn.registry import METHODS
from unlearn.request.request import ForgetRequest
from utils.train.losses import classification_loss
from utils.train.recipe import Recipe

REQUEST = ForgetRequest((1,))
ONE_STEP = Recipe(1, 0.01, 1000, weight_decay=0.0)


def unlearned(model, sets, rho, recipe=ONE_STEP):
    config = UnlearnConfig(REQUEST, recipe, {"rho": rho}, show=False)
    return METHODS["UAM"].run(model, *sets, config)


def gradients(model, loss):
    return torch.autograd.grad(loss, list(model.parameters()))


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("rho", [0.0, 0.3])
def test_one_step_by_hand(multi_label, rho):
    sets = split_set(REQUEST, tiny_set(40, multi_label=multi_label))
    model = trained_model(multi_label=multi_label).train()
    moved, before = copy.deepcopy(model), weights_of(model)
    (forget_images, forgotten), (retain_images, kept) = (part.batch(slice(None)) for part in sets)
    both = torch.cat([retain_images, forget_images])

    def forget_loss(model):
        return REQUEST.losses(model(both)[len(kept) :], forgotten).mean()

    along = gradients(moved, forget_loss(moved))
    length = torch.cat([part.flatten() for part in along]).norm()
    for weight, part in zip(moved.parameters(), along, strict=True):
        weight.data += rho * part / length
    if rho:
        distance = sum((a - before[n]).square().sum() for n, a in moved.named_parameters()).sqrt()
        assert distance.item() == pytest.approx(rho, rel=1e-4)
        assert forget_loss(moved) > forget_loss(copy.deepcopy(model))
    retain = gradients(moved, classification_loss(moved(retain_images), kept))
    unlearned(model, sets, rho)
    for (name, after), part in zip(model.named_parameters(), retain, strict=True):
        expected = before[name] - 1.9 * ONE_STEP.lr * part  # Nesterov's momentum, first step
        torch.testing.assert_close(after, expected, rtol=1e-5, atol=1e-6)


def test_a_forget_loss_without_a_gradient_changes_nothing():
    sets = split_set(REQUEST, tiny_set(40))
    model = trained_model()
    with torch.no_grad():
        model.network[6].bias[REQUEST.classes[0]] += 1000  # completely certain
    before = copy.deepcopy(model)
    far, near = unlearned(model, sets, 0.5), unlearned(before, sets, 0.0)
    for name, weight in far.state_dict().items():
        torch.testing.assert_close(weight, near.state_dict()[name])
