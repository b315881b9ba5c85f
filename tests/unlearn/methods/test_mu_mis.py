"""MU-Mis reduces the true class's sensitivity to the pixels, and stops in time."""

import copy
from dataclasses import replace

import pytest
import torch

from models.architectures import build_model, make_spec
from tests.helpers.tiny import same_weights, split_set, tiny_set, trained_model
from unlearn.engine.config import UnlearnConfig
from unlearn.methods.mu_mis import _has_risen, _with_other_class, mu_mis, sensitivities
from unlearn.request.request import ForgetRequest
from utils.train.recipe import Recipe

REQUEST = ForgetRequest((1,))
ONE = ForgetRequest((), (0,))  # excludes only an image's own class
NEVER = {"delta": 1e9}
CONFIG = UnlearnConfig(REQUEST, Recipe(3, 1e-3, 7, "adam", 0.0), NEVER, show=False)


def by_differences(model, image, label, step=1e-3):
    """|d logit / d pixel|^2 by central differences, pixels at 0 to 1, in double precision."""
    model = copy.deepcopy(model).double().eval()
    pixels, total = image[None].double() / 255, 0.0
    for place in range(pixels.numel()):
        change = torch.zeros_like(pixels)
        change.view(-1)[place] = step
        with torch.no_grad():
            up, down = (model(255 * (pixels + sign * change))[0, label] for sign in (1, -1))
        total += ((up - down) / (2 * step)).item() ** 2
    return total


def test_sensitivities_equal_finite_differences():
    model, images = trained_model().eval(), tiny_set(3).images
    classes = torch.tensor([[0, 2], [1, 3], [2, 0]])
    found = sensitivities(model, images, classes)
    for number, image in enumerate(images):
        for column in (0, 1):
            expected = by_differences(model, image, classes[number, column].item())
            assert found[number, column].item() == pytest.approx(expected, rel=0.02)


def test_the_other_class_is_never_the_true_one_and_each_is_drawn():
    image_set = tiny_set(400)
    drawn = _with_other_class(image_set, 4, ONE, torch.Generator().manual_seed(0)).labels
    assert torch.equal(drawn[:, 0], image_set.labels)
    steps = (drawn[:, 1] - drawn[:, 0]) % 4
    assert torch.bincount(steps, minlength=4).tolist()[0] == 0
    assert torch.bincount(steps, minlength=4)[1:].min() > 80


def test_of_several_classes_to_forget_none_is_the_other_class():
    image_set = tiny_set(400)
    image_set = image_set.subset(image_set.labels != 2)
    request = ForgetRequest((0, 1, 3))
    drawn = _with_other_class(image_set, 4, request, torch.Generator().manual_seed(0)).labels
    assert drawn[:, 1].unique().tolist() == [2]


def gap(model, image_set):
    classes = _with_other_class(image_set, 4, ONE, torch.Generator().manual_seed(9)).labels
    true, other = sensitivities(model.eval(), image_set.batch(slice(None))[0], classes).mean(0)
    return (true - other).item()


def test_the_gap_between_true_and_other_classes_closes():
    forget_set, retain_set = split_set(REQUEST, tiny_set(120))
    model = trained_model()
    before = gap(model, forget_set)
    mu_mis(model, forget_set, retain_set, CONFIG)
    assert gap(model, forget_set) < before - 0.1 * abs(before)


def test_it_stops_when_the_other_classes_are_sensitive_again():
    """Then no weight changes any more, whatever the number of epochs; otherwise it continues."""
    sets = split_set(REQUEST, tiny_set(60))

    def after(epochs, delta):
        recipe = replace(CONFIG.recipe, epochs=epochs, lr=0.005)
        config = replace(CONFIG, recipe=recipe, options={"delta": delta})
        return mu_mis(trained_model(), *sets, config)

    assert same_weights(after(20, 1.1), after(30, 1.1))
    assert not same_weights(after(20, 1.1), trained_model())
    assert not same_weights(after(20, 1.1), after(20, 1e9))


def test_the_sensitivity_must_rise_from_its_minimum():
    """It decreases from 4 to 2 and rises to 3: enough for 3, not for 3.5; never at the minimum."""
    seen = [torch.tensor(value) for value in (4.0, 2.0, 3.0)]
    assert _has_risen(seen, 3.0) and not _has_risen(seen, 3.5)
    assert not _has_risen(seen[:2], 1.0) and not _has_risen(seen[:1], 0.0)


def test_no_retained_image_matters_and_the_running_statistics_stay():
    forget_set, retain_set = split_set(REQUEST, tiny_set(60))
    first = mu_mis(trained_model(), forget_set, retain_set, CONFIG)
    second = mu_mis(trained_model(), forget_set, retain_set.subset(slice(0, 2)), CONFIG)
    assert same_weights(first, second)
    assert torch.equal(first.network[1].running_mean, trained_model().network[1].running_mean)


@pytest.mark.parametrize("arch", ["mobilenet_v3_small", "vit_b_16"])
def test_attention_and_other_activations_have_second_derivatives(arch):
    if arch == "vit_b_16":
        from torchvision.models.vision_transformer import VisionTransformer
    spec = make_spec("mobilenet_v3_small", 4, 1, 8)
    model = build_model(spec, seed=0)
    if arch == "vit_b_16":
        model.network = VisionTransformer(8, 4, 1, 2, 8, 16, num_classes=4)
        model.network.conv_proj = torch.nn.Conv2d(1, 8, 4, 4)
        torch.nn.init.normal_(model.network.heads.head.weight)
    before = copy.deepcopy(model)
    mu_mis(model, *split_set(REQUEST, tiny_set(8)), replace(CONFIG, recipe=Recipe(1, 1e-3, 4)))
    assert not same_weights(model, before)
