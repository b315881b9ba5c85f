"""Boundary Expanding trains towards a shadow class and removes it at the end."""

import copy
from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from models.architectures import build_model, make_spec
from models.features import classifier_head
from tests.helpers.tiny import split_set, tiny_set, trained_model, weights_of
from unlearn.engine.config import UnlearnConfig
from unlearn.engine.masking import WeightMask
from unlearn.methods.boundary_expanding import _expanded
from unlearn.registry import METHODS
from unlearn.request.request import ForgetRequest
from utils.runtime.errors import NotFiniteError
from utils.train.prediction import predict
from utils.train.recipe import Recipe

REQUEST = ForgetRequest((1,))
CONFIG = UnlearnConfig(REQUEST, Recipe(5, 0.01, 7, weight_decay=0.0), show=False)
run = METHODS["BoundaryExpanding"].run


def shapes(model):
    return {name: tensor.shape for name, tensor in model.state_dict().items()}


@pytest.mark.parametrize("arch", ["squeezenet1_1", "mobilenet_v3_small"])
def test_only_the_shadow_is_added_and_it_is_removed(arch):
    """With a 1x1 convolution and with a linear layer as the last layer."""
    model = build_model(make_spec(arch, 4, 1, 32), seed=0).eval()
    images = torch.randint(0, 256, (2, 1, 32, 32), dtype=torch.uint8)
    before, head, logits = shapes(model), classifier_head(model), model(images)
    with _expanded(model, seed=1):
        wide = model(images)
        assert wide.shape == (2, 5)
        torch.testing.assert_close(wide[:, :4], logits)
    assert shapes(model) == before and classifier_head(model) is head
    torch.testing.assert_close(model(images), logits)


def test_a_step_is_descent_with_one_more_class():
    forget_set, retain_set = split_set(REQUEST, tiny_set(60))
    model = trained_model()
    plain = copy.deepcopy(model).eval()
    with _expanded(plain, seed=1):
        images = forget_set.batch(slice(None))[0]
        shadow = torch.full((len(images),), 4)
        functional.cross_entropy(plain(images), shadow).backward()
        expected = [  # Nesterov's momentum of 0.9 in its first step
            part.detach() - 1.9 * 0.01 * part.grad for part in plain.parameters()
        ]
    config = replace(CONFIG, recipe=replace(CONFIG.recipe, epochs=1, batch_size=1000))
    run(model, forget_set, retain_set, config)
    for after, part in zip(model.parameters(), expected, strict=True):
        torch.testing.assert_close(after, part[: len(after)])


def test_it_forgets_and_keeps():
    forget_set, retain_set = split_set(REQUEST, tiny_set(120))
    model = run(trained_model(), forget_set, retain_set, CONFIG)
    right = [
        (predict(model, part).argmax(1) == part.labels).float().mean()
        for part in (forget_set, retain_set)
    ]
    assert right[0] < 0.5 and right[1] > 0.8


def test_with_all_weights_protected_only_the_shadow_learns_and_the_model_stays():
    forget_set, retain_set = split_set(REQUEST, tiny_set())
    model = trained_model()
    before = weights_of(model)
    mask = WeightMask({n: torch.zeros_like(p).bool() for n, p in model.named_parameters()})
    run(model, forget_set, retain_set, replace(CONFIG, mask=mask))
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_the_last_layer_is_restored_after_an_error():
    model = trained_model()
    before = shapes(model)
    config = replace(CONFIG, recipe=replace(CONFIG.recipe, lr=1e30))
    with pytest.raises(NotFiniteError):
        run(model, *split_set(REQUEST, tiny_set()), config)
    assert shapes(model) == before
