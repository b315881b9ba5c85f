"""Saliency maps equal those of the SalUn reference code, and record their origin."""

import copy

import pytest
import torch
from torch.nn import functional

from models.architectures import build_model, count_parameters, make_spec
from models.checkpoint import save_tensors
from tests.helpers.tiny import (
    same_weights,
    split_set,
    tiny_dataset,
    tiny_model,
    tiny_set,
    weights_of,
)
from unlearn.mask_threshold import threshold_to_percent
from unlearn.request.request import ForgetRequest
from unlearn.saliency import (
    SaliencyMap,
    _percentiles_by_rank,
    _percentiles_by_sort,
    compute_percentiles,
    compute_saliency_map,
    gradient_saliency,
    load_saliency_map,
    saliency_origin,
    saliency_path,
    save_saliency_map,
)
from utils.runtime.errors import UserError

TEN_THRESHOLDS = [step / 10 for step in range(1, 11)]
REQUEST = ForgetRequest((1,))


def reference_mask(saliency, percent):
    """Return the mask as SalUn's generate_mask.py computes it, by two argsorts per threshold.

    Unlike there, the argsorts are stable and the count is computed in integers, because
    int(n * 0.29) loses a weight to rounding.
    """
    negated = -torch.cat([part.flatten() for part in saliency.values()])
    threshold_index = len(negated) * percent // 100
    positions = torch.argsort(negated, stable=True)
    ranks = torch.argsort(positions)
    mask, start = {}, 0
    for name, part in saliency.items():
        own = ranks[start : start + part.numel()]
        mask[name] = (own < threshold_index).reshape(part.shape)
        start += part.numel()
    return mask


KINDS = ("different", "ties", "zeros", "all zero", "tiny to huge")


def example_saliency(kind):
    """Return saliency of three layers with 10,037 weights, of one of the KINDS."""
    generator = torch.Generator().manual_seed(5)
    shapes = {"conv": (16, 3, 5, 5), "head": (40, 220), "bias": (37,)}
    parts = {name: torch.rand(shape, generator=generator) for name, shape in shapes.items()}
    change = {
        "different": lambda part: part,
        "ties": lambda part: (part * 4).floor() / 4,
        "zeros": lambda part: part * (part > 0.9),
        "all zero": torch.zeros_like,
        "tiny to huge": lambda part: torch.exp((part - 0.5) * 170),  # with subnormal numbers
    }[kind]
    return {name: change(part) for name, part in parts.items()}


@pytest.mark.parametrize("kind", KINDS)
def test_masks_equal_the_reference(kind):
    saliency = example_saliency(kind)
    percentiles = compute_percentiles(saliency)
    for threshold in [*TEN_THRESHOLDS, 0.01, 0.29, 0.57, 0.99]:
        mask = SaliencyMap(percentiles).mask(threshold).changeable
        reference = reference_mask(saliency, round(100 * threshold))
        assert mask.keys() == reference.keys()
        assert all(torch.equal(mask[name], reference[name]) for name in mask)


@pytest.mark.parametrize("kind", KINDS)
def test_sorting_and_ranking_give_the_same_percentiles(kind):
    flat = torch.cat([part.flatten() for part in example_saliency(kind).values()])
    for count in (1, 2, 99, 100, 101, len(flat)):
        percentiles = _percentiles_by_sort(flat[:count])
        assert percentiles.dtype == torch.uint8
        assert percentiles.tolist() == _percentiles_by_rank(flat[:count].numpy()).tolist()


def test_masks_of_a_real_network_equal_the_reference():
    model = tiny_model()
    forget_set, _ = split_set(REQUEST, tiny_set(40))
    saliency = gradient_saliency(model, forget_set, REQUEST)
    percentiles = compute_percentiles(saliency)
    for threshold in TEN_THRESHOLDS:
        mask = SaliencyMap(percentiles).mask(threshold).changeable
        reference = reference_mask(saliency, round(100 * threshold))
        assert all(torch.equal(mask[name], reference[name]) for name in mask)


@pytest.mark.parametrize("kind", ["different", "zeros"])
def test_masks_are_nested_and_have_exact_sizes(kind):
    percentiles = compute_percentiles(example_saliency(kind))
    assert all(part.dtype == torch.uint8 for part in percentiles.values())
    before = torch.zeros(10037, dtype=torch.bool)
    for percent in range(1, 101):
        mask = SaliencyMap(percentiles).mask(percent / 100)
        flat = torch.cat([part.flatten() for part in mask.changeable.values()])
        assert flat.sum() == 10037 * percent // 100
        assert mask.fraction() == int(flat.sum()) / 10037
        assert not (before & ~flat).any()
        before = flat


def test_a_model_with_fewer_than_100_weights():
    percentiles = compute_percentiles({"weight": torch.tensor([0.1, 0.4, 0.2])})
    assert percentiles["weight"].tolist() == [
        100,
        34,
        67,
    ]  # floor(3 * 0.34) = 1, floor(3 * 0.67) = 2


def test_weights_inside_the_mask_are_more_salient():
    saliency = example_saliency("different")
    mask = compute_saliency_map(saliency).mask(0.3).changeable
    inside = torch.cat([saliency[name][mask[name]] for name in mask])
    outside = torch.cat([saliency[name][~mask[name]] for name in mask])
    assert inside.min() > outside.max()


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_gradients_that_are_not_finite_are_refused(value):
    with pytest.raises(UserError, match="not finite"):
        compute_percentiles({"weight": torch.tensor([1.0, value])})


def reference_saliency(model, forget_set, request, loss):
    """Return |sum of the gradients of single images|, in float64."""
    model = copy.deepcopy(model).double().eval()
    total = {name: torch.zeros_like(part) for name, part in model.named_parameters()}
    for position in range(len(forget_set)):
        images, labels = forget_set.batch(torch.tensor([position]))
        gradients = torch.autograd.grad(loss(model(images), labels), list(model.parameters()))
        for part, gradient in zip(total.values(), gradients, strict=True):
            part += gradient
    return {name: part.abs() for name, part in total.items()}


def single_label_loss(logits, labels):
    return functional.cross_entropy(logits, labels)


def one_finding_loss(logits, labels):
    """-log p of the finding to forget, which all of these images have."""
    return -logits[:, REQUEST.classes[0]].sigmoid().log().sum()


@pytest.mark.parametrize("multi_label", [False, True])
def test_saliency_is_the_absolute_summed_gradient(multi_label):
    model = tiny_model(dropout=0.5)
    forget_set, _ = split_set(REQUEST, tiny_set(30, multi_label=multi_label))
    loss = one_finding_loss if multi_label else single_label_loss
    reference = reference_saliency(model, forget_set, REQUEST, loss)
    for batch_size in (1, 3, 512):
        saliency = gradient_saliency(model, forget_set, REQUEST, batch_size)
        assert saliency.keys() == reference.keys()
        for name, part in saliency.items():
            torch.testing.assert_close(part.double(), reference[name], rtol=1e-4, atol=1e-5)


def test_other_findings_of_the_forget_set_do_not_matter():
    model, image_set = tiny_model(), tiny_set(30, multi_label=True)
    forget_set, _ = split_set(REQUEST, image_set)
    others = forget_set.labels.clone()
    others[:, [0, 2, 3]] = 1 - others[:, [0, 2, 3]]
    saliency = gradient_saliency(model, forget_set, REQUEST)
    flipped = gradient_saliency(model, forget_set.with_labels(others), REQUEST)
    assert same_weights(saliency, flipped)
    assert not saliency["network.6.weight"][[0, 2, 3]].any()
    assert saliency["network.6.weight"][1].any()


@pytest.mark.parametrize("was_training", [False, True])
def test_the_model_is_unchanged(was_training):
    model = tiny_model(dropout=0.5).train(was_training)
    before = weights_of(model)
    gradient_saliency(model, tiny_set(8), REQUEST, batch_size=3)
    assert same_weights(model, before)
    assert model.training is was_training
    assert all(module.training is was_training for module in model.modules())
    assert all(part.grad is None and part.requires_grad for part in model.parameters())


def test_existing_gradients_do_not_matter():
    model, forget_set = tiny_model().eval(), tiny_set(8)
    clean = gradient_saliency(model, forget_set, REQUEST)
    model(forget_set.images).sum().backward()
    assert same_weights(gradient_saliency(model, forget_set, REQUEST), clean)


def saved_saliency(model, folder):
    origin = saliency_origin(model, tiny_dataset())
    saliency_map = compute_saliency_map(gradient_saliency(model, tiny_set(8), REQUEST))
    path = folder / "class_1.pt"
    save_saliency_map(path, saliency_map, REQUEST, origin)
    return path, saliency_map, origin


def test_percentiles_are_read_from_their_file(tmp_path):
    model = tiny_model()
    path, saved, origin = saved_saliency(model, tmp_path / "new" / "folder")
    found = load_saliency_map(path, model, REQUEST, origin, "make")
    assert same_weights(found.percentiles, saved.percentiles)
    assert found.zeros == saved.zeros


def test_the_file_of_a_resnet18_has_one_byte_per_weight(tmp_path):
    model = build_model(make_spec("resnet18", 8, 3, 28), seed=1)
    generator = torch.Generator().manual_seed(0)
    saliency = {
        name: torch.rand(part.shape, generator=generator) for name, part in model.named_parameters()
    }
    save_saliency_map(tmp_path / "class_0.pt", compute_saliency_map(saliency), REQUEST, {})
    size = (tmp_path / "class_0.pt").stat().st_size
    assert count_parameters(model) <= size < 1.01 * count_parameters(model)
    assert size < 15e6
    loaded = load_saliency_map(tmp_path / "class_0.pt", model, REQUEST, {}, "make")
    assert same_weights(loaded.percentiles, compute_percentiles(saliency))


def test_a_mask_of_other_weights_is_refused(tmp_path):
    model, other = tiny_model(), tiny_model(seed=1)
    path, _, origin = saved_saliency(model, tmp_path)
    other_origin = saliency_origin(other, tiny_dataset())
    with pytest.raises(
        UserError, match="belongs to other weights or data: create it again with make it"
    ):
        load_saliency_map(path, other, REQUEST, other_origin, "make it so")
    with pytest.raises(UserError, match="belongs to other weights or data"):
        load_saliency_map(path, tiny_model(num_classes=5), REQUEST, origin, "make")


def test_a_mask_of_other_data_or_another_class_is_refused(tmp_path):
    model = tiny_model()
    path, _, origin = saved_saliency(model, tmp_path)
    other_data = saliency_origin(model, tiny_dataset(train=25))
    with pytest.raises(UserError, match="belongs to other weights or data"):
        load_saliency_map(path, model, REQUEST, other_data, "make")
    with pytest.raises(UserError, match="belongs to other weights or data"):
        load_saliency_map(path, model, ForgetRequest((0,)), origin, "make")


def test_other_files_are_refused(tmp_path):
    model = tiny_model()
    with pytest.raises(UserError, match="there is no mask .*class_7.pt: create it with make it so"):
        load_saliency_map(tmp_path / "class_7.pt", model, REQUEST, {}, "make it so")
    path, _, origin = saved_saliency(model, tmp_path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="cut short, damaged, or not a saliency map"):
        load_saliency_map(path, model, REQUEST, origin, "make")
    for content in ({}, {"format": "other"}, {"percents": torch.zeros(3)}):
        save_tensors(path, content)
        with pytest.raises(UserError, match="not a saliency map: create it"):
            load_saliency_map(path, model, REQUEST, origin, "make")


def test_each_model_and_class_has_its_own_file():
    paths = {saliency_path(model, ForgetRequest((n,))) for model in ("a", "b") for n in (1, 2)}
    assert len(paths) == 4


def test_thresholds_are_whole_percents():
    for percent in range(1, 101):
        assert threshold_to_percent(percent / 100) == percent
    assert [threshold_to_percent(threshold) for threshold in (0.29, 0.57, 0.01, 1.0)] == [
        29,
        57,
        1,
        100,
    ]


@pytest.mark.parametrize("threshold", [0, -0.5, 1.01, 0.005, 0.255, 1e-9, 50, 0.504])
def test_invalid_thresholds_are_refused(threshold):
    with pytest.raises(UserError, match="--mask_thresh .* whole percent"):
        threshold_to_percent(threshold)
