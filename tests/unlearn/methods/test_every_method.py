"""Properties that every method has: its inputs, seeds, memory and result."""

import inspect

import pytest
import torch

from tests.helpers.methods import (
    OWN_RECIPE,
    REQUEST,
    TRAIN_FROM_SCRATCH,
    by_id,
    by_task,
    config_for,
    real_model,
    unlearned,
)
from tests.helpers.tiny import (
    same_weights,
    split_set,
    tiny_set,
    trained_model,
)
from unlearn.registry import METHODS
from utils.data.datasets import ImageSet


@pytest.mark.parametrize(
    "method",
    [method for method in METHODS.values() if not method.uses_mask],
    ids=lambda method: method.id,
)
def test_batches_read_ahead_change_nothing(method):
    image_set = tiny_set(40)
    wanted = unlearned(method, image_set, epochs=2)
    assert same_weights(unlearned(method, image_set.stream_to("cpu", 2), epochs=2), wanted)


def with_poison(image_set, where):
    """The same set with other images and labels at `where`, (N,) bool; the forget set stays."""
    images, labels = image_set.images.clone(), image_set.labels.clone()
    images[where] = 255 - images[where]
    if labels.ndim == 2:
        labels[:, [0, 2, 3]] = torch.where(where[:, None], 1 - labels, labels)[:, [0, 2, 3]]
    else:
        labels[where & (labels != REQUEST.classes[0])] = 0
    return ImageSet.from_tensors(images, labels)


def poisoned_results(method, multi_label):
    """Whether the weights are the same with other forget images, and with other retain images."""
    image_set = tiny_set(multi_label=multi_label)
    covered = REQUEST.has_requested_class(image_set.labels)
    clean = unlearned(method, image_set, epochs=2)
    return [
        same_weights(clean, unlearned(method, with_poison(image_set, where), epochs=2))
        for where in (covered, ~covered)
    ]


@by_task
@pytest.mark.parametrize(
    ("method_id", "ignores_forget_set", "ignores_retain_set"),
    [("Retrain", True, False), ("RL", False, False), ("FT", True, False), ("GA", False, True)],
)
def test_sets_that_a_method_uses(method_id, ignores_forget_set, ignores_retain_set, multi_label):
    expected = [ignores_forget_set, ignores_retain_set]
    assert poisoned_results(METHODS[method_id], multi_label) == expected


@by_id
def test_same_seed_same_weights_and_another_seed_others(method):
    image_set = tiny_set(60)  # several batches of forget images
    first = unlearned(method, image_set)
    torch.manual_seed(5)  # the global random state does not matter
    assert same_weights(first, unlearned(method, image_set))
    assert not same_weights(first, unlearned(method, image_set, seed=2))


@by_id
def test_the_global_random_state_is_not_changed(method):
    torch.manual_seed(5)
    drawn = torch.rand(3)
    torch.manual_seed(5)
    unlearned(method, tiny_set(), epochs=1)
    assert torch.equal(torch.rand(3), drawn)


@by_id
def test_the_model_is_returned_in_evaluation_mode(method):
    model = unlearned(method, tiny_set(), epochs=1)
    assert not any(module.training for module in model.modules())


@pytest.mark.parametrize(
    "method", [method for method in OWN_RECIPE if not method.uses_mask], ids=lambda each: each.id
)
def test_no_more_images_than_two_batches_have_gradients_at_a_time(method):
    """The user limits memory with the batch size; some methods pair two sets."""
    seen = []

    def watch(_, inputs):
        seen.append(len(inputs[0]) if torch.is_grad_enabled() else 0)

    image_set, model = tiny_set(120), trained_model()
    if method.id in TRAIN_FROM_SCRATCH:
        model = real_model()
    config = config_for(method, image_set, epochs=2)
    with torch.nn.modules.module.register_module_forward_pre_hook(watch):
        method.run(model, *split_set(REQUEST, image_set), config)
    assert 1 <= max(seen) <= 2 * config.recipe.batch_size + 1


@by_id
def test_methods_have_one_shape(method):
    parameters = list(inspect.signature(method.run.load()).parameters)
    assert parameters == ["model", "forget_set", "retain_set", "config"]
    assert method.uses_mask == method.id.endswith("_with_SalUn")
    assert (f"{method.id}_with_SalUn" in METHODS) == (method.supports_mask and not method.uses_mask)
