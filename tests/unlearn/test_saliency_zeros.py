"""Weights without a gradient, and the threshold from which a mask restricts nothing."""

import copy
from dataclasses import replace

import pytest
import torch

from models.architectures import build_model, make_spec
from models.checkpoint import load_tensors, save_tensors
from tests.helpers.tiny import same_weights, tiny_dataset, tiny_model, tiny_set
from unlearn.request.request import ForgetRequest
from unlearn.saliency import (
    SaliencyMap,
    compute_mask,
    compute_saliency_map,
    full_mask_warning,
    gradient_saliency,
    load_saliency_map,
    matches_origin,
    saliency_origin,
    save_saliency_map,
    with_zeros,
)
from utils.data.datasets import ImageSet
from utils.runtime.errors import UserError

REQUEST = ForgetRequest((1,))
SPEC = make_spec("resnet18", 4, 1, 28, stem="imagenet")
SALIENCY = {"conv": torch.tensor([[3.0, 0.0], [0.0, 1.0]]), "bias": torch.tensor([0.0, 2.0])}


def some_saliency(nonzero, count):
    """Return saliency of `count` weights, `nonzero` of which have one, in two parameters."""
    flat = torch.zeros(count)
    flat[torch.randperm(count, generator=torch.Generator().manual_seed(3))[:nonzero]] = 1.0
    return {"first": flat[:7], "second": flat[7:]}


def test_zeros_are_counted_by_parameter():
    found = compute_saliency_map(SALIENCY)
    assert found.zeros == {"conv": 2, "bias": 1}
    assert (found.zero_count(), found.weight_count()) == (3, 6)


def test_the_full_threshold_is_the_first_whose_mask_contains_all_others():
    found = compute_saliency_map(SALIENCY)  # three of six
    assert found.full_threshold() == 0.5
    inside = found.mask(0.5).changeable
    assert all(torch.equal(inside[name], part > 0) for name, part in SALIENCY.items())
    below = found.mask(0.49).changeable  # 2 of 6
    assert sum(int(part.sum()) for part in below.values()) == 2


@pytest.mark.parametrize("count", [9, 100, 237, 1000])
def test_the_full_threshold_by_trying_every_mask(count):
    for nonzero in (0, 1, count // 3, count // 2, count - 1, count):
        saliency = some_saliency(nonzero, count)
        found = compute_saliency_map(saliency)

        def is_full(percent, found=found, saliency=saliency):
            inside = found.mask(percent / 100).changeable
            return all(bool(inside[name][part > 0].all()) for name, part in saliency.items())

        first = next(percent for percent in range(1, 101) if is_full(percent))
        assert found.full_threshold() == first / 100


def test_a_mask_holds_what_a_record_needs():
    mask = compute_saliency_map(SALIENCY).mask(0.5)
    record = mask.record()
    assert record["mask_zero_fraction"] == 0.5 and record["mask_full_threshold"] == 0.5
    assert record["mask_digest"] == mask.digest
    unknown = SaliencyMap(compute_saliency_map(SALIENCY).percentiles).mask(0.5)
    assert unknown.record() == {"mask_digest": mask.digest}


def test_the_warning_begins_exactly_at_the_full_threshold():
    assert full_mask_warning(0.36, 0.37, SPEC) is None
    assert full_mask_warning(0.37, 0.37, SPEC) == (
        "the mask at 0.37 contains every weight that has a gradient: it changes next to nothing; "
        "choose a threshold below 0.37, or a model with --stem pooled"
    )
    assert full_mask_warning(None, 0.37, SPEC) is None
    assert full_mask_warning(0.37, None, SPEC) is None


def test_the_advice_suits_the_model():
    def advice(full_threshold, spec):
        return full_mask_warning(1.0, full_threshold, spec).split("; ")[1]

    pooled = make_spec("resnet18", 4, 1, 28)
    assert advice(0.01, SPEC) == "choose a model with --stem pooled"
    assert advice(0.99, pooled) == "choose a threshold below 0.99"
    assert advice(0.99, replace(SPEC, input_size=64)) == "choose a threshold below 0.99"
    assert advice(0.01, pooled) == "every other mask does, too"
    assert advice(0.5, make_spec("vgg11", 4, 1, 32)) == "choose a threshold below 0.5"


def saved(folder):
    """Save the map of a tiny model; return (path, model, map, origin)."""
    model = tiny_model()
    origin = saliency_origin(model, tiny_dataset())
    found = compute_saliency_map(gradient_saliency(model, tiny_set(8), REQUEST))
    path = folder / "class_1.pt"
    save_saliency_map(path, found, REQUEST, origin)
    return path, model, found, origin


def test_files_of_earlier_versions_are_read_and_their_zeros_counted_again(tmp_path):
    path, model, found, origin = saved(tmp_path)
    content = load_tensors(path, "saliency map")
    assert content.pop("zeros") == found.zeros
    save_tensors(path, content)
    assert matches_origin(path, REQUEST, origin) is True
    earlier = load_saliency_map(path, model, REQUEST, origin, "make")
    assert earlier.zeros is earlier.zero_count() is earlier.full_threshold() is None
    again = with_zeros(earlier, model, tiny_set(8), REQUEST)
    assert again.zeros == found.zeros and same_weights(again.percentiles, found.percentiles)
    assert again.mask(0.5).record() == found.mask(0.5).record()


def test_known_zeros_are_not_counted_again(tmp_path):
    _, _, found, _ = saved(tmp_path)
    assert with_zeros(found, None, None, REQUEST) is found


@pytest.mark.parametrize("kind", ["negative", "too many", "no number", "other names", "no dict"])
def test_zeros_that_cannot_be_true_are_refused(tmp_path, kind):
    path, model, found, origin = saved(tmp_path)
    name, count = next((name, part.numel()) for name, part in found.percentiles.items())
    zeros = {
        "negative": found.zeros | {name: -1},
        "too many": found.zeros | {name: count + 1},
        "no number": found.zeros | {name: 0.5},
        "other names": {"other": 0},
        "no dict": [0],
    }[kind]
    save_tensors(path, load_tensors(path, "saliency map") | {"zeros": zeros})
    assert matches_origin(path, REQUEST, origin) is None
    with pytest.raises(UserError, match="damaged or altered: create it again with make"):
        load_saliency_map(path, model, REQUEST, origin, "make")


@pytest.fixture(scope="module")
def images():
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randint(0, 256, (48, 3, 28, 28), dtype=torch.uint8, generator=generator)
    return ImageSet.from_tensors(drawn, torch.arange(48) % 8)


def network(stem, images):
    """A ResNet-18 whose normalisation has the statistics of the images, as after training."""
    model = build_model(make_spec("resnet18", 8, 3, 28, stem=stem), seed=1)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        model.train()(images.batch(torch.arange(48))[0])
    return model.eval()


def test_on_28_px_the_stem_of_imagenet_leaves_most_weights_without_a_gradient(images):
    """layer4 has 1x1 maps, on which a 3x3 kernel uses its middle; its first kernel, 2x2 maps."""
    model = network("imagenet", images)
    saliency = gradient_saliency(model, images, REQUEST)
    found = compute_saliency_map(saliency)
    middle, corner = torch.zeros(2, 3, 3, dtype=torch.bool)
    middle[1, 1] = corner[1:, 1:] = True
    unused = 0
    for name, used in (("0.conv1", corner), ("0.conv2", middle), ("1.conv1", middle)):
        part = saliency[f"network.layer4.{name}.weight"]
        assert not part[:, :, ~used].any() and part[:, :, used].any()
        unused += part[:, :, ~used].numel()
    unused += saliency["network.layer4.1.conv2.weight"][:, :, ~middle].numel()
    assert unused == 512 * 256 * 5 + 3 * 512 * 512 * 8 == 6_946_816
    assert unused <= found.zero_count() < 1.01 * unused
    assert 0.62 < found.zero_count() / found.weight_count() < 0.63
    assert found.full_threshold() == 0.38
    mask = found.mask(0.5)
    assert full_mask_warning(mask.threshold, mask.full_threshold, model.spec)


def test_the_stem_for_small_images_leaves_next_to_none(images):
    found = compute_saliency_map(gradient_saliency(network("pooled", images), images, REQUEST))
    assert found.zero_count() < 0.01 * found.weight_count()
    assert found.full_threshold() > 0.98


def test_masks_do_not_depend_on_whether_zeros_are_known():
    model = tiny_model()
    mask = compute_mask(copy.deepcopy(model), tiny_set(8), REQUEST, 0.5)
    percentiles = compute_saliency_map(gradient_saliency(model, tiny_set(8), REQUEST)).percentiles
    unknown = SaliencyMap(percentiles).mask(0.5)
    assert same_weights(mask.changeable, unknown.changeable) and mask.digest == unknown.digest
