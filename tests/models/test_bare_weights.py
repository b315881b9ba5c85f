"""Bare state_dicts load with an architecture and an input size."""

import pytest
import torch
import torchvision
from torch import nn

from models.architectures import build_model, make_spec
from models.checkpoint import (
    load_model,
    model_path,
)
from tests.helpers.small_net import SMALL_ARCH
from tests.helpers.tiny import same_weights
from tests.models.saved_models import small_model
from utils.runtime.errors import UserError

pytestmark = pytest.mark.usefixtures("empty_folder")


@pytest.mark.parametrize(
    ("arch", "stem", "wrapper", "prefix"),
    [
        *(
            (SMALL_ARCH, None, wrapper, prefix)
            for wrapper in (None, "state_dict", "model_state_dict", "model")
            for prefix in ("", "module.")
        ),
        ("resnet18", "imagenet", None, ""),
        ("resnet18", "pooled", None, ""),
        ("resnet18", "imagenet", "model", "module."),
        ("resnet18", "pooled", "model", "module."),
    ],
)
def test_bare_weights_load_with_arch_and_size(arch, stem, wrapper, prefix):
    model = build_model(make_spec(arch, 6, 1, 28, stem=stem), seed=4)
    weights = {prefix + name: part for name, part in model.network.state_dict().items()}
    content = {wrapper: weights, "epoch": 9} if wrapper else weights
    model_path("theirs").parent.mkdir()
    torch.save(content, model_path("theirs"))
    loaded, record = load_model("theirs", arch=arch, input_size=28)
    assert record == {}
    assert loaded.spec == model.spec
    assert same_weights(loaded, model)


def test_weights_of_a_torchvision_network_load():
    network = torchvision.models.mobilenet_v3_small(num_classes=3)
    model_path("theirs").parent.mkdir()
    torch.save(network.state_dict(), model_path("theirs"))
    loaded, _ = load_model("theirs", arch="mobilenet_v3_small", input_size=64)
    assert (loaded.spec.num_classes, loaded.spec.channels) == (3, 3)
    assert same_weights(loaded.network, network)


def test_bare_weights_load_with_a_stem():
    model = build_model(make_spec("resnet18", 6, 3, 28, stem="full"), seed=4)
    model_path("theirs").parent.mkdir()
    torch.save(model.network.state_dict(), model_path("theirs"))
    loaded, _ = load_model("theirs", arch="resnet18", input_size=28, stem="full")
    assert loaded.spec == model.spec


def test_bare_weights_without_the_right_arch_are_refused():
    model_path("theirs").parent.mkdir()
    torch.save(small_model().network.state_dict(), model_path("theirs"))
    with pytest.raises(UserError, match="bare weights: describe .* with --arch and --input_size"):
        load_model("theirs")
    with pytest.raises(UserError, match="bare weights"):
        load_model("theirs", arch=SMALL_ARCH)
    with pytest.raises(UserError, match="no weights of --arch squeezenet1_1"):
        load_model("theirs", arch="squeezenet1_1", input_size=28)
    with pytest.raises(UserError, match="--arch shuflenet"):
        load_model("theirs", arch="shuflenet", input_size=28)


def test_bare_weights_without_a_convolution_are_refused():
    model_path("theirs").parent.mkdir()
    torch.save(nn.Linear(4, 2).state_dict(), model_path("theirs"))
    with pytest.raises(UserError, match="theirs.pt"):
        load_model("theirs", arch="resnet18", input_size=28)
