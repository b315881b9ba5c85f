"""SFRon: each outer step is a masked and weighted ascent, then a repair."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

from tests.helpers.methods import accuracy
from tests.helpers.tiny import same_weights, split_set, tiny_set, trained_model, weights_of
from unlearn.components.fisher import diagonal_fisher, image_losses
from unlearn.engine.config import UnlearnConfig
from unlearn.methods import sfron as module
from unlearn.methods.sfron import adaptive_loss, fisher_ratio_mask, sfron
from unlearn.registry import METHODS
from unlearn.request.request import ForgetRequest
from utils.runtime.errors import UserError
from utils.train.losses import classification_loss
from utils.train.recipe import Recipe

REQUEST = ForgetRequest((1,))


def config_with(recipe=None, **options):
    defaults = {name: option.default for name, option in METHODS["SFRon"].options.items()}
    recipe = recipe or Recipe(1, 0.01, 100, weight_decay=0.0)
    return UnlearnConfig(REQUEST, recipe, defaults | options, show=False)


def test_adaptive_weights_by_hand():
    """Losses 1, 4 and 16: the weights are as 1, 1/2 and 1/4, and average 1."""
    losses = torch.tensor([1.0, 4.0, 16.0], requires_grad=True)
    loss = adaptive_loss(losses, 0.5)
    loss.backward()
    weights = torch.tensor([12.0, 6.0, 3.0]) / 7
    torch.testing.assert_close(losses.grad, weights / 3)  # no gradient through the weights
    torch.testing.assert_close(loss, (weights * losses.detach()).mean())
    torch.testing.assert_close(adaptive_loss(losses, 0.0), losses.mean())


def test_weights_of_images_with_almost_no_loss_are_bounded():
    losses = torch.tensor([0.0, 1.0], requires_grad=True)
    assert adaptive_loss(losses, 0.5).isfinite()


@pytest.mark.parametrize("multi_label", [False, True], ids=["single", "multi"])
def test_the_mask_is_the_ratio_of_fisher_information(monkeypatch, multi_label):
    """With the same loss on both sets: a set has no ratio above 1 to itself."""
    monkeypatch.setattr(module, "FISHER_BATCH_SIZE", 1)  # exact for any signs
    sets = split_set(REQUEST, tiny_set(multi_label=multi_label))
    model = trained_model(multi_label=multi_label)
    same = fisher_ratio_mask(model, sets[0], sets[0], config_with(gamma=1.1), torch.Generator())
    weights = dict(model.named_parameters())
    fisher = diagonal_fisher(model, sets[0], image_losses, 1, torch.Generator())
    assert not any((same[name] & (fisher[name] > 1e-12)).any() for name in weights)
    draws = torch.Generator()
    forget, retain = (diagonal_fisher(model, part, image_losses, 1, draws) for part in sets)
    mask = fisher_ratio_mask(model, *sets, config_with(gamma=2.0), draws)
    for name, part in mask.items():
        assert torch.equal(part, forget[name] >= 2 * retain[name])
    assert (
        0 < sum(part.sum() for part in mask.values()) < sum(p.numel() for p in model.parameters())
    )


@pytest.mark.parametrize("beta", [1.0, 0.3])
@pytest.mark.parametrize("alpha", [0.5, 1e5])
def test_one_outer_step_by_hand(monkeypatch, alpha, beta):
    """All images in a batch: an ascent, two repairs on half of the retain set each, a slow step."""
    monkeypatch.setattr(module, "FISHER_BATCH_SIZE", 1)
    forget_set, retain_set = split_set(REQUEST, tiny_set())
    config = config_with(alpha=alpha, beta=beta, inner=2)
    reference = trained_model()
    mask = fisher_ratio_mask(reference, forget_set, retain_set, config, torch.Generator())
    before = copy.deepcopy(reference)
    optimizer = torch.optim.SGD(reference.parameters(), 0.01, momentum=0.9, nesterov=True)

    images, labels = forget_set.batch(slice(None))
    losses = REQUEST.losses(reference.train()(images), labels)
    (-alpha * adaptive_loss(losses, config.options["decline"])).backward()
    for name, weight in reference.named_parameters():
        weight.grad *= mask[name]
    norm = torch.stack([weight.grad.norm() for weight in reference.parameters()]).norm()
    assert (norm > 7) == (alpha == 1e5)
    nn.utils.clip_grad_norm_(reference.parameters(), 7.0)
    optimizer.step()
    draws = torch.Generator().manual_seed(config.recipe.seed)
    for part in (forget_set, retain_set):  # the mask's draws: order and signs
        torch.randperm(len(part), generator=draws)
        for _ in range(len(part)):
            torch.randint(2, (1,), generator=draws)
    torch.randperm(len(forget_set), generator=draws)
    order = torch.randperm(len(retain_set), generator=draws)
    for part in order.tensor_split(2):
        images, labels = retain_set.batch(part)
        optimizer.zero_grad()
        classification_loss(reference.train()(images), labels).backward()
        optimizer.step()

    model = sfron(trained_model(), forget_set, retain_set, config)
    for name, weight in model.named_parameters():
        base, fast = before.get_parameter(name), reference.get_parameter(name)
        expected = base + beta * (fast - base)
        torch.testing.assert_close(weight, expected, rtol=1e-4, atol=1e-6)


def test_without_ascent_the_forget_set_has_no_effect():
    forget_set, retain_set = split_set(REQUEST, tiny_set(60))
    config = config_with(alpha=0.0)
    others = forget_set.with_labels(forget_set.labels * 0 + 2)
    first = sfron(trained_model(), forget_set, retain_set, config)
    assert same_weights(first, sfron(trained_model(), others, retain_set, config))


def test_forgets_and_keeps():
    forget_set, retain_set = split_set(REQUEST, tiny_set(120))
    model = trained_model()
    recipe = Recipe(5, 0.05, 10)
    sfron(model, forget_set, retain_set, config_with(recipe, alpha=1000.0))
    assert accuracy(model, forget_set) < 0.2
    assert accuracy(model, retain_set) > 0.9


def test_a_single_forget_image_is_enough_and_a_single_retain_image_is_not():
    forget_set, retain_set = split_set(REQUEST, tiny_set())
    one = forget_set.subset(slice(0, 1))
    model = sfron(trained_model(), one, retain_set, config_with(alpha=0.1))
    assert not same_weights(model, weights_of(trained_model()))
    sfron(trained_model(), one, retain_set.subset(slice(0, 3)), config_with(alpha=0.1))
    with pytest.raises(UserError, match="1 training images are too few"):
        sfron(trained_model(), one, retain_set.subset(slice(0, 1)), config_with())


def test_an_ascent_that_breaks_the_model_stops_with_one_line():
    config = config_with()
    config = replace(config, recipe=replace(config.recipe, lr=1e30, epochs=2))
    with pytest.raises(UserError, match="not finite"):
        sfron(trained_model(), *split_set(REQUEST, tiny_set()), config)
