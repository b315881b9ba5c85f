"""EU_k and CF_k: the last k layers change and the first ones stay bitwise identical."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from models.architectures import build_model, make_spec
from tests.helpers.small_net import SMALL_ARCH
from tests.helpers.tiny import SIZE, same_weights, split_set, tiny_set, trained_model, weights_of
from unlearn.components.last_layers import split_at_last
from unlearn.engine.config import UnlearnConfig
from unlearn.registry import METHODS
from unlearn.request.request import ForgetRequest
from utils.train.recipe import Recipe

REQUEST = ForgetRequest((1,))
RECIPE = Recipe(2, 0.01, 7, seed=5)
METHOD_IDS = ["EU_k", "CF_k"]


def small_network(seed=3, arch=SMALL_ARCH):
    return build_model(make_spec(arch, 4, 1, SIZE), seed=seed)


def unlearned(method_id, model, k, recipe=RECIPE, image_set=None):
    config = UnlearnConfig(REQUEST, recipe, {"k": k}, show=False)
    sets = split_set(REQUEST, tiny_set() if image_set is None else image_set)
    return METHODS[method_id].run(model, *sets, config)


def names_of_last(model, k):
    """Names of all weights and running statistics in the last k layers."""
    last = {id(module) for module in split_at_last(model.network, k)[1]}
    return {
        f"network.{name}.{part}"
        for name, module in model.network.named_modules()
        if id(module) in last
        for part, _ in [
            *module.named_parameters(recurse=False),
            *module.named_buffers(recurse=False),
        ]
    }


@pytest.mark.parametrize(
    ("k", "first"),
    [(1, "fc"), (3, "layer4.1.conv1"), (6, "layer4.0.conv1"), (21, ""), (99, "")],
)
def test_layers_of_a_resnet(k, first):
    model = build_model(make_spec("resnet18", 4, 1, 28))
    modules = split_at_last(model.network, k)[1]
    names = {id(module): name for name, module in model.network.named_modules()}
    assert names[id(modules[0])] == first
    convolutions = (nn.Conv2d, nn.Linear)
    assert sum(isinstance(module, convolutions) for module in modules) == min(k, 21)


@pytest.mark.parametrize(
    "arch", ["vit_b_16", "densenet121", "squeezenet1_1", "vgg11_bn", "convnext_tiny", "swin_t"]
)
def test_the_parts_hold_each_weight_once_and_the_head_is_last(arch):
    with torch.device("meta"):
        model = build_model(make_spec(arch, 4, 3, 32), initial_weights=False)
    first, last = split_at_last(model.network, 1)
    sizes = [
        sum(p.numel() for m in part for p in m.parameters(recurse=False)) for part in (first, last)
    ]
    assert sum(sizes) == sum(part.numel() for part in model.parameters())
    assert any(4 in part.shape for module in last for part in module.parameters(recurse=False))
    assert 0 < sizes[1] < 0.2 * sizes[0]


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize(
    ("k", "arch"), [(1, SMALL_ARCH), (2, SMALL_ARCH), (5, "mobilenet_v3_small")]
)
@pytest.mark.parametrize("method_id", METHOD_IDS)
def test_first_layers_stay_bitwise_identical_and_last_ones_change(method_id, k, arch, optimizer):
    """Including running statistics; weight decay would change weights without gradient."""
    model = small_network(arch=arch)
    before = weights_of(model)
    unlearned(method_id, model, k, replace(RECIPE, optimizer=optimizer, weight_decay=0.1))
    moved = {name for name, part in model.state_dict().items() if (part != before[name]).any()}
    assert moved == names_of_last(model, k)
    assert all(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize("method_id", METHOD_IDS)
def test_frozen_layers_work_as_in_evaluation(method_id):
    """Otherwise dropout and batch normalisation of frozen layers change their outputs."""
    model, modes = small_network(), {}
    for name, module in model.network.named_modules():
        if not any(module.children()):
            module.register_forward_pre_hook(
                lambda module, _, name=name: modes.setdefault(name, set()).add(module.training)
            )
    unlearned(method_id, model, 2, replace(RECIPE, epochs=1, batch_size=1000))
    last = {id(module) for module in split_at_last(model.network, 2)[1]}
    for name, module in model.network.named_modules():
        if name in modes:  # the check of the last step is in evaluation mode
            assert modes[name] == ({True, False} if id(module) in last else {False}), name


def test_the_new_layers_do_not_depend_on_the_base_model():
    """Two base models that differ only in their last layers give the same result."""
    first, second = small_network(), small_network()
    names = names_of_last(first, 2)
    with torch.no_grad():
        for name, part in second.state_dict().items():
            if name in names:
                part.mul_(3).add_(1)
    assert not same_weights(first, second)
    assert same_weights(unlearned("EU_k", first, 2), unlearned("EU_k", second, 2))
    again = small_network()
    assert not same_weights(unlearned("CF_k", again, 2), first)


def test_new_layers_are_the_initial_ones_of_training():
    recipe = replace(RECIPE, epochs=1, lr=0.0)
    model = unlearned("EU_k", small_network(), 2, recipe)
    began = small_network(seed=RECIPE.seed)
    for name, part in model.named_parameters():
        same = torch.equal(part, began.get_parameter(name))
        assert same == (name in names_of_last(model, 2)) or part.unique().numel() == 1, name


@pytest.mark.parametrize("multi_label", [False, True], ids=["single", "multi"])
def test_all_layers_of_cf_k_are_fine_tuning(multi_label):
    image_set = tiny_set(multi_label=multi_label)
    base = [trained_model(multi_label=multi_label, dropout=0.2) for _ in range(2)]
    tuned = METHODS["FT"].run(
        base[0], *split_set(REQUEST, image_set), UnlearnConfig(REQUEST, RECIPE, show=False)
    )
    assert same_weights(unlearned("CF_k", base[1], 50, image_set=image_set), tuned)


def test_the_forget_set_is_not_used():
    image_set = tiny_set()
    other = image_set.images.clone()
    other[image_set.labels == REQUEST.classes[0]] //= 2
    changed = replace(image_set, images=other)
    for method_id in METHOD_IDS:
        first = unlearned(method_id, small_network(), 2, image_set=image_set)
        assert same_weights(first, unlearned(method_id, small_network(), 2, image_set=changed))
