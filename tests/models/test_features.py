"""Features are the inputs of the last layer, for every architecture."""

import pytest
import torch
from torch import nn

from models.architectures import build_model, make_spec
from models.features import classifier_head, predict_with_features
from tests.helpers.tiny import tiny_model, tiny_set
from utils.train.prediction import predict


def classifier(arch, channels=1):
    return tiny_model() if arch == "tiny" else build_model(make_spec(arch, 4, channels, 8), seed=1)


@pytest.mark.parametrize(
    ("arch", "width"),
    [
        ("tiny", 48),
        ("resnet18", 512),
        ("mobilenet_v3_small", 1024),
        ("shufflenet_v2_x0_5", 1024),
        ("swin_t", 768),
    ],
)
def test_logits_follow_from_features_and_head(arch, width):
    model, images = classifier(arch), tiny_set(6)
    logits, features = predict_with_features(model, images)
    head = classifier_head(model)
    assert features.shape == (6, width)
    assert torch.equal(logits, predict(model, images))
    expected = features @ head.weight.T + head.bias
    torch.testing.assert_close(logits, expected.detach(), rtol=1e-4, atol=1e-5)


def test_maps_of_squeezenet_are_averaged():
    model, images = classifier("squeezenet1_0", channels=3), tiny_set(3, channels=3)
    logits, features = predict_with_features(model, images)
    assert isinstance(classifier_head(model), nn.Conv2d)
    assert torch.equal(logits, predict(model, images))
    model.network.classifier = nn.Identity()  # the network then gives the maps themselves
    expected = predict(model, images).view(3, 512, -1).mean(2)
    torch.testing.assert_close(features, expected)
    assert features.std() > 0


def test_the_head_is_the_last_layer_of_its_width():
    model = tiny_model(6)  # whose convolution has 6 channels
    assert classifier_head(model) is model.network[-1]
    model.network[-1] = nn.Identity()
    model.network[0] = nn.Conv2d(1, 5, 3)
    with pytest.raises(ValueError, match="tiny has no layer with 6 outputs"):
        classifier_head(model)


@pytest.mark.parametrize("training", [False, True])
def test_batches_and_mode_change_nothing(training):
    model, images = tiny_model(dropout=0.5).train(training), tiny_set(10)
    whole, parts = (predict_with_features(model, images, size) for size in (512, 3))
    for first, second in zip(whole, parts, strict=True):
        torch.testing.assert_close(first, second)
    assert model.training == training


def test_hooks_are_removed():
    model = tiny_model()
    predict_with_features(model, tiny_set(4))
    with pytest.raises(RuntimeError):
        predict_with_features(model, tiny_set(4, channels=3))
    assert not classifier_head(model)._forward_pre_hooks


def test_an_empty_set_has_no_features():
    nobody = tiny_set(4).subset(slice(0, 0))
    logits, features = predict_with_features(tiny_model(), nobody)
    assert (logits.shape, features.shape) == ((0, 4), (0, 0))
