"""Weights outside the mask stay bitwise identical, for every method and optimizer."""

from dataclasses import replace

import pytest
import torch

from tests.helpers.tiny import same_weights, split_set, tiny_set, trained_model, weights_of
from unlearn.engine.config import UnlearnConfig
from unlearn.engine.masking import WeightMask
from unlearn.registry import METHODS
from unlearn.request.request import ForgetRequest
from unlearn.saliency import compute_saliency_map, gradient_saliency
from utils.train.recipe import OPTIMIZERS, Recipe

MASKED_METHODS = [method for method in METHODS.values() if method.uses_mask]
REQUEST = ForgetRequest((1,))
RECIPE = Recipe(4, 0.01, 7, weight_decay=0.1)
FEWER_STEPS = {
    "AMUN": {"steps": 8},
    "UNSIR": {"steps": 8, "noise": 5},
}  # that do not change the weights


def base_and_sets(multi_label=False):
    model = trained_model(multi_label=multi_label, dropout=0.2)
    return model, *split_set(REQUEST, tiny_set(multi_label=multi_label))


def mask_of(threshold, multi_label=False):
    model, forget_set, _ = base_and_sets(multi_label)
    return compute_saliency_map(gradient_saliency(model, forget_set, REQUEST)).mask(threshold)


def unlearned(method, mask=None, optimizer="sgd", multi_label=False):
    fewer = FEWER_STEPS.get(method.id.removesuffix("_with_SalUn"), {})
    config = UnlearnConfig(
        REQUEST,
        replace(RECIPE, optimizer=optimizer),
        {name: option.default for name, option in method.options.items()} | fewer,
        mask=mask,
        matching_val=split_set(REQUEST, tiny_set(12, multi_label=multi_label, seed=1))[0],
        show=False,
    )
    return method.run(*base_and_sets(multi_label), config)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("method", MASKED_METHODS, ids=lambda method: method.id)
def test_weights_outside_the_mask_stay_and_those_inside_change(method, optimizer):
    before = weights_of(trained_model())
    for threshold in (0.1, 0.5):
        mask = mask_of(threshold)
        model = unlearned(method, mask, optimizer)
        changed = inside = 0
        for name, after in model.named_parameters():
            changeable = mask.changeable[name]
            assert torch.equal(after[~changeable], before[name][~changeable]), name
            changed += (after != before[name])[changeable].sum().item()
            inside += changeable.sum().item()
        assert changed > 0.9 * inside > 0


@pytest.mark.parametrize(
    "method",
    [method for method in MASKED_METHODS if not method.single_label_only],
    ids=lambda method: method.id,
)
def test_multi_label_weights_outside_the_mask_stay(method):
    before, mask = weights_of(base_and_sets(True)[0]), mask_of(0.3, multi_label=True)
    model = unlearned(method, mask, multi_label=True)
    moved = {name: after != before[name] for name, after in model.named_parameters()}
    assert not any((moved[name] & ~mask.changeable[name]).any() for name in moved)
    assert any(part.any() for part in moved.values())


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("method", MASKED_METHODS, ids=lambda method: method.id)
def test_a_mask_of_all_weights_changes_nothing(method, optimizer):
    everything = unlearned(method, mask_of(1.0), optimizer)
    assert same_weights(everything, unlearned(method, None, optimizer))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_without_a_mask_nearly_all_weights_change(optimizer):
    """So the tests above show an effect of the mask."""
    before = weights_of(trained_model())
    model = unlearned(METHODS["FT"], None, optimizer)
    moved = [(after != before[name]).float().mean() for name, after in model.named_parameters()]
    assert min(moved) > 0.5


def test_removing_the_handle_ends_the_mask():
    model = torch.nn.Linear(2, 1, bias=False)
    torch.nn.init.constant_(model.weight, 5.0)  # small integers, so that differences are exact
    optimizer = torch.optim.SGD(model.parameters(), 1.0)
    mask = WeightMask({"weight": torch.tensor([[True, False]])})
    before = model.weight.detach().clone()
    handle = mask.apply_to(model, optimizer)
    model.weight.grad = torch.ones(1, 2)
    optimizer.step()
    assert torch.equal(model.weight, before - torch.tensor([[1.0, 0.0]]))
    handle.remove()
    optimizer.step()
    assert torch.equal(model.weight, before - torch.tensor([[2.0, 1.0]]))


def test_fraction_counts_weights_of_the_whole_model():
    mask = WeightMask({"a": torch.tensor([True, False, False]), "b": torch.tensor([[True]])})
    assert mask.fraction() == 0.5
