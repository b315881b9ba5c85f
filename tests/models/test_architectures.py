"""Any torchvision classifier accepts small images, grey or colour, and is built from a seed."""

from pathlib import Path
from urllib.error import URLError

import pytest
import torch
import torchvision
from torch import nn

from models.architectures import (
    ARCHITECTURES,
    IMAGENET_MEAN,
    IMAGENET_STD,
    STEMS,
    Classifier,
    ModelSpec,
    build_model,
    count_parameters,
    make_spec,
)
from tests.helpers.tiny import same_weights, weights_of
from utils.runtime.errors import UserError

ONE_OF_EACH_FAMILY = [
    "resnet18",
    "alexnet",
    "vgg11",
    "squeezenet1_1",
    "densenet121",
    "mobilenet_v3_small",
    "efficientnet_b0",
    "shufflenet_v2_x0_5",
    "regnet_y_400mf",
    "convnext_tiny",
    "vit_b_16",
    "swin_t",
    "googlenet",
    "inception_v3",
]
WITH_IMAGENET_WEIGHTS = {  # size of images, names of the first convolution and of the last layer
    "resnet18": (28, "conv1", "fc"),
    "squeezenet1_1": (28, "features.0", "classifier.1"),
    "densenet121": (28, "features.conv0", "classifier"),
    "mobilenet_v3_small": (28, "features.0.0", "classifier.3"),
    "googlenet": (28, "conv1.conv", "fc"),
    "inception_v3": (28, "Conv2d_1a_3x3.conv", "fc"),
    "vit_b_32": (224, "conv_proj", "heads.head"),
}  # they are run in colour by their own test
GIANTS = [name for name in ARCHITECTURES if name.endswith(("_16gf", "_32gf", "_128gf"))]
NOT_BUILT = [name for name in ARCHITECTURES if name not in ONE_OF_EACH_FAMILY + GIANTS]


def two_images(channels, size=28):
    generator = torch.Generator().manual_seed(0)
    shape = (2, channels, size, size)
    return torch.randint(256, shape, generator=generator, dtype=torch.uint8)


@pytest.mark.parametrize(
    ("arch", "channels", "num_classes"),
    [
        *((arch, 1, 2) for arch in ONE_OF_EACH_FAMILY),
        *((arch, 3, 8) for arch in ONE_OF_EACH_FAMILY if arch not in WITH_IMAGENET_WEIGHTS),
    ],
)
def test_networks_train_on_images_of_28_pixels(arch, channels, num_classes):
    spec = make_spec(arch, num_classes, channels, 28)
    model = build_model(spec, seed=1)
    images = two_images(channels)
    logits = model.train()(images)
    assert logits.shape == (2, num_classes)
    logits.sum().backward()
    assert all(weight.grad is not None for weight in model.parameters())
    with torch.no_grad():
        again = model.eval()(images)
    assert again.shape == (2, num_classes) and again.isfinite().all()


@pytest.mark.parametrize("arch", NOT_BUILT)
def test_every_classifier_has_a_spec(arch):
    spec = make_spec(arch, 4, 1, 28)
    assert (spec.arch, spec.num_classes, spec.channels, spec.input_size) == (arch, 4, 1, 28)
    assert spec.network_size is None or spec.network_size > 28


def test_only_networks_that_need_it_get_enlarged_images():
    assert make_spec("resnet18", 4, 1, 28).network_size is None
    assert make_spec("efficientnet_b0", 4, 1, 28).network_size is None
    assert make_spec("vgg11", 4, 1, 28).network_size == 32
    assert make_spec("alexnet", 4, 1, 28).network_size == 64
    assert make_spec("alexnet", 4, 1, 64).network_size is None
    assert make_spec("inception_v3", 4, 3, 28).network_size == 128


def test_images_are_enlarged_before_the_network():
    spec = ModelSpec("any", 2, 1, 4, network_size=8)
    pixels = torch.zeros(1, 1, 4, 4, dtype=torch.uint8)
    pixels[..., :2] = 255
    seen = Classifier(nn.Identity(), spec)(pixels)
    assert seen.shape == (1, 1, 8, 8)
    torch.testing.assert_close(seen[..., 0], torch.ones(1, 1, 8))
    torch.testing.assert_close(seen[..., -1], -torch.ones(1, 1, 8))


@pytest.mark.parametrize(
    ("stem", "input_size", "map_size"),
    [
        ("imagenet", 28, 7),
        ("strided", 28, 14),
        ("pooled", 28, 14),
        ("full", 28, 28),
        ("imagenet", 224, 56),
    ],
)
def test_stems_determine_the_map_of_the_first_block(stem, input_size, map_size):
    model = build_model(make_spec("resnet18", 4, 1, input_size, stem=stem), seed=1)
    shapes = []
    model.network.layer1.register_forward_hook(lambda _, given, __: shapes.append(given[0].shape))
    with torch.no_grad():
        model(two_images(1, input_size))
    assert shapes == [(2, 64, map_size, map_size)]


def test_the_default_stem_depends_on_the_image_size():
    kernels = {}
    for size in (28, 63, 64, 224):
        spec = make_spec("resnet18", 4, 3, size)
        kernels[size] = STEMS[spec.stem][0]
    assert kernels == {28: 3, 63: 3, 64: 7, 224: 7}
    assert make_spec("resnet18", 4, 3, 28, pretrained=True).stem == "imagenet"
    assert make_spec("vgg11", 4, 3, 28).stem is None


def test_invalid_specs_are_an_error():
    with pytest.raises(UserError, match=r"--arch resnet81: .*\(did you mean resnet18\?\)"):
        make_spec("resnet81", 4, 1, 28)
    with pytest.raises(UserError, match="--arch qqq: .*no such classifier: resnet18, "):
        make_spec("qqq", 4, 1, 28)
    with pytest.raises(UserError, match="--stem is for ResNets only"):
        make_spec("vgg11", 4, 1, 28, stem="full")
    with pytest.raises(UserError, match="--stem full has no ImageNet weights"):
        make_spec("resnet18", 4, 1, 28, stem="full", pretrained=True)
    with pytest.raises(UserError, match="vit_b_16 does not accept images of 300 px"):
        make_spec("vit_b_16", 4, 1, 300)


@pytest.mark.parametrize("arch", ["resnet18", "mobilenet_v3_small", "regnet_y_400mf"])
def test_the_seed_determines_the_initial_weights(arch):
    torch.manual_seed(21)
    spec = make_spec(arch, 4, 1, 28)
    first, again = build_model(spec, seed=1), build_model(spec, seed=1)
    other = build_model(spec, seed=2)
    assert same_weights(first, again)
    assert not same_weights(first, other)
    build_model(spec)
    drawn = torch.rand(3)
    torch.manual_seed(21)
    assert torch.equal(drawn, torch.rand(3))


def test_weights_have_the_names_and_number_of_torchvision():
    model = build_model(make_spec("resnet18", 1000, 3, 224), seed=1)
    torchvisions = torchvision.models.resnet18()
    assert model.network.state_dict().keys() == torchvisions.state_dict().keys()
    assert count_parameters(model) == 11_689_512


def test_pixels_are_normalised_by_hand():
    pixels = torch.tensor([0, 51, 255], dtype=torch.uint8).view(1, 3, 1, 1)
    seen = Classifier(nn.Identity(), ModelSpec("any", 2, 3, 1))(pixels)
    torch.testing.assert_close(seen.flatten(), torch.tensor([-1.0, -0.6, 1.0]))
    seen = Classifier(nn.Identity(), ModelSpec("any", 2, 3, 1, pretrained=True))(pixels)
    by_hand = [
        (value / 255 - mean) / std
        for value, mean, std in zip((0, 51, 255), IMAGENET_MEAN, IMAGENET_STD, strict=True)
    ]
    torch.testing.assert_close(seen.flatten(), torch.tensor(by_hand))
    grey = Classifier(nn.Identity(), ModelSpec("any", 2, 1, 1, pretrained=True))(pixels[:, 1:2])
    by_hand = (0.2 - (0.485 + 0.456 + 0.406) / 3) / ((0.229 + 0.224 + 0.225) / 3)
    assert grey.item() == pytest.approx(by_hand)


# ImageNet's weights


@pytest.fixture
def no_network(tmp_path, monkeypatch):
    """An empty cache folder of torchvision's weights, and no downloads."""

    def refuse(*_, **__):
        raise URLError("Name or service not known")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


def weights_file(arch):
    return Path(torchvision.models.get_model_weights(arch).DEFAULT.url).name


def put_weights(arch, folder):
    """Save random weights as those of ImageNet, and return the state_dict."""
    arguments = {"init_weights": False} if arch in ("googlenet", "inception_v3") else {}
    with torch.device("meta"):  # the network's own draws take longer than all that is tested
        shapes = torchvision.models.get_model(arch, **arguments).state_dict()
    weights = {
        name: torch.empty(part.shape, dtype=part.dtype).uniform_(0, 0.02)
        if part.is_floating_point()
        else torch.zeros(part.shape, dtype=part.dtype)
        for name, part in shapes.items()
    }
    torch.save(weights, folder / weights_file(arch))
    return weights


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("arch", WITH_IMAGENET_WEIGHTS)
def test_imagenet_weights_are_used_except_for_the_head(no_network, arch, channels):
    size, first, head = WITH_IMAGENET_WEIGHTS[arch]
    theirs = put_weights(arch, no_network)
    spec = make_spec(arch, 5, channels, size, pretrained=True)
    model = build_model(spec, seed=1)
    ours = model.network.state_dict()
    replaced = {f"{head}.weight", f"{head}.bias"}
    if channels == 1:
        replaced.add(f"{first}.weight")
        torch.testing.assert_close(
            ours[f"{first}.weight"], theirs[f"{first}.weight"].sum(1, keepdim=True)
        )
    assert replaced <= ours.keys() <= theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours.keys() - replaced)
    left_out = theirs.keys() - ours.keys()
    assert all(name.lower().startswith("aux") for name in left_out)
    assert ours[f"{head}.weight"].shape[0] == 5
    assert model.train()(two_images(channels, size)).shape == (2, 5)

    bare = build_model(spec, initial_weights=False)  # as a checkpoint is opened
    bare.network.load_state_dict(ours)


def test_the_new_head_depends_on_the_seed(no_network):
    put_weights("mobilenet_v3_small", no_network)
    spec = make_spec("mobilenet_v3_small", 5, 1, 28, pretrained=True)
    first, again, other = (weights_of(build_model(spec, seed=seed)) for seed in (1, 1, 2))
    assert same_weights(first, again)
    different = {name for name in first if not torch.equal(first[name], other[name])}
    assert different == {"network.classifier.3.weight", "network.classifier.3.bias"}


def test_a_pretrained_network_treats_grey_images_like_colour_images(no_network):
    """The summed kernels on one channel equal the kernels on three identical channels."""
    theirs = put_weights("resnet18", no_network)
    model = build_model(make_spec("resnet18", 5, 1, 28, pretrained=True), seed=1)
    pixels = torch.randn(2, 1, 28, 28)
    in_colour = nn.functional.conv2d(
        pixels.expand(-1, 3, -1, -1), theirs["conv1.weight"], stride=2, padding=3
    )
    torch.testing.assert_close(model.network.conv1(pixels), in_colour, rtol=1e-4, atol=1e-4)


def test_without_a_connection_the_missing_file_and_its_folder_are_named(no_network):
    with pytest.raises(UserError) as caught:
        build_model(make_spec("resnet18", 5, 3, 28, pretrained=True), seed=1)
    message = str(caught.value)
    assert weights_file("resnet18") in message
    assert str(no_network) in message
    assert "leave out --pretrained" in message
    assert "Name or service not known" in message


@pytest.mark.parametrize("damage", ["empty", "half", "a web page"])
def test_damaged_imagenet_weights_are_refused(no_network, damage):
    put_weights("squeezenet1_1", no_network)
    path = no_network / weights_file("squeezenet1_1")
    whole = path.read_bytes()
    contents = {"empty": b"", "half": whole[: len(whole) // 2], "a web page": b"<html>404</html>"}
    path.write_bytes(contents[damage])
    with pytest.raises(UserError, match="--pretrained: the ImageNet weights cannot be loaded"):
        build_model(make_spec("squeezenet1_1", 5, 3, 28, pretrained=True), seed=1)


def test_loading_a_checkpoint_downloads_nothing(no_network):
    build_model(make_spec("resnet18", 5, 3, 28, pretrained=True), initial_weights=False)
    assert not list(no_network.iterdir())


def test_a_pretrained_transformer_keeps_its_image_size(no_network):
    spec = make_spec("vit_b_32", 5, 3, 64, pretrained=True)
    with pytest.raises(UserError, match="--pretrained vit_b_32 takes images of 224 px"):
        build_model(spec, seed=1)
