"""Boundary Shrink trains each image with its nearest wrong class as label."""

import copy
from dataclasses import replace

import torch
from torch import nn
from torch.nn import functional

from models.architectures import Classifier, ModelSpec
from tests.helpers.tiny import same_weights, split_set, tiny_set, trained_model, weights_of
from unlearn.engine.config import UnlearnConfig
from unlearn.methods.boundary_shrink import neighbour_labels
from unlearn.registry import METHODS
from unlearn.request.request import ForgetRequest
from utils.data.datasets import ImageSet
from utils.train.prediction import predict
from utils.train.recipe import Recipe

REQUEST = ForgetRequest((1,))
ONE = ForgetRequest((), (0,))  # excludes only an image's own class
CONFIG = UnlearnConfig(REQUEST, Recipe(3, 0.003, 7, weight_decay=0.0), {"bound": 0.1}, show=False)


def linear_model(weight, bias):
    """Two pixels, from -1 to 1, and the logits weight x + bias."""
    layer = nn.Linear(2, len(bias))
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(weight))
        layer.bias.copy_(torch.tensor(bias))
    return Classifier(nn.Sequential(nn.Flatten(), layer), ModelSpec("linear", len(bias), 1, 2))


def test_the_nearest_class_after_a_signed_step_by_hand():
    """At (0, 0) class 0 is first and 1 second; after one step towards (+, -) class 2 is first."""
    model = linear_model([[0.0, 0.0], [0.0, 0.0], [2.0, -2.0]], [0.3, 0.2, 0.0])
    images = torch.full((1, 1, 1, 2), 127, dtype=torch.uint8)
    image_set = ImageSet.from_tensors(images, torch.tensor([0]))
    assert neighbour_labels(model, image_set, 0.0, ONE, 16).item() == 1
    assert neighbour_labels(model, image_set, 25.5, ONE, 16).item() == 2


def test_no_image_keeps_its_class_if_the_step_does_not_reach_the_boundary():
    image_set = tiny_set(80)
    model = trained_model()
    before = weights_of(model)
    for bound in (0.0, 5.0, 60.0):
        assert (neighbour_labels(model, image_set, bound, ONE, 16) != image_set.labels).all()
    assert same_weights(model, before)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_no_nearest_class_is_forgotten_too_by_hand():
    """At (0, 0) the order of classes is 0, 1, 2, 3; 1 and 3 are forgotten."""
    model = linear_model([[0.0, 0.0], [0.0, 0.0], [0.0, 0.0], [3.0, -3.0]], [0.3, 0.2, 0.1, 0.0])
    images = torch.full((1, 1, 1, 2), 127, dtype=torch.uint8)
    image_set = ImageSet.from_tensors(images, torch.tensor([0]))
    assert neighbour_labels(model, image_set, 25.5, ForgetRequest((0, 1)), 16).item() == 3
    assert neighbour_labels(model, image_set, 25.5, ForgetRequest((0, 1, 3)), 16).item() == 2
    assert neighbour_labels(model, image_set, 25.5, ForgetRequest((0, 3)), 16).item() == 1


def test_a_step_is_plain_descent_on_the_labels_of_the_base_model():
    forget_set, retain_set = split_set(REQUEST, tiny_set(60))
    model = trained_model()
    nearest = neighbour_labels(model, forget_set, 25.5, REQUEST, 16)
    plain = copy.deepcopy(model).eval()
    optimizer = torch.optim.SGD(plain.parameters(), 0.003, momentum=0.9, nesterov=True)
    for _ in range(2):  # the labels are not computed again
        loss = functional.cross_entropy(plain(forget_set.batch(slice(None))[0]), nearest)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    config = replace(CONFIG, recipe=replace(CONFIG.recipe, epochs=2, batch_size=1000))
    METHODS["BoundaryShrink"].run(model, forget_set, retain_set, config)
    for ours, theirs in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_it_forgets_and_keeps_without_the_retain_set():
    forget_set, retain_set = split_set(REQUEST, tiny_set(120))
    models = [trained_model(), trained_model()]
    METHODS["BoundaryShrink"].run(models[0], forget_set, retain_set, CONFIG)
    METHODS["BoundaryShrink"].run(models[1], forget_set, retain_set.subset(slice(0, 2)), CONFIG)
    assert same_weights(*models)
    right = [
        (predict(models[0], part).argmax(1) == part.labels).float().mean()
        for part in (forget_set, retain_set)
    ]
    assert right[0] < 0.2 and right[1] > 0.8
