"""Requests split data into a forget set and a retain set, and select matching images."""

import itertools
from dataclasses import replace

import pytest
import torch

from evaluation.metrics.blind import blind_attack
from tests.helpers.requests import LISTED, requests_of
from tests.helpers.tiny import split_set, tiny_dataset, tiny_set
from unlearn.request.request import ForgetRequest
from utils.data.datasets import ImageSet
from utils.runtime.errors import UserError


@pytest.mark.parametrize("multi_label", [False, True])
def test_forget_and_retain_sets_partition_the_data(multi_label):
    dataset = tiny_dataset(multi_label=multi_label)
    for request, (name, split) in itertools.product(requests_of(dataset), dataset.splits.items()):
        forget_set, retain_set = request.split(dataset, name)
        both = torch.cat([forget_set.indices, retain_set.indices])
        assert sorted(both.tolist()) == list(range(len(split)))
        for part in (forget_set, retain_set):
            images, labels = part.batch(torch.arange(len(part)))
            assert torch.equal(images, split.images[part.indices])
            assert torch.equal(labels, split.labels[part.indices])
        if request.indices is not None:
            assert tuple(forget_set.indices.tolist()) == (request.indices * (name == "train"))
            continue
        assert len(forget_set) > 0 and len(retain_set) > 0
        has_forgotten, has_kept = (
            part.labels[:, request.classes].any(1)
            if multi_label
            else torch.tensor([label in request.classes for label in part.labels.tolist()])
            for part in (forget_set, retain_set)
        )
        assert has_forgotten.all() and not has_kept.any()
        assert torch.equal(
            request.matches_forget_set(dataset, name), request.in_forget_set(dataset, name)
        )


def test_single_images_match_unseen_images_of_their_classes():
    dataset = tiny_dataset()  # the class of an image is its row modulo 4
    request = ForgetRequest((), (0, 3, 4))
    assert request.matches_forget_set(dataset, "val").tolist() == [True, False, False, True] * 2


def test_single_images_match_unseen_images_of_their_findings():
    multi = tiny_dataset(multi_label=True, train=200)
    labels = {name: split.labels for name, split in multi.splits.items()}
    of_all = ForgetRequest.from_fraction(0.25, 1, None, multi)
    assert of_all.matches_forget_set(multi, "test").all()
    drawn = ForgetRequest.from_fraction(0.25, 1, ["1", "3"], multi)
    assert drawn.sampled_classes == (1, 3)
    expected_drawn = labels["test"][:, 1].bool() | labels["test"][:, 3].bool()
    assert not expected_drawn.all()
    assert torch.equal(drawn.matches_forget_set(multi, "test"), expected_drawn)
    again = ForgetRequest.from_record(drawn.record())  # as from a model file
    assert torch.equal(again.matches_forget_set(multi, "test"), expected_drawn)
    assert ForgetRequest.from_record(of_all.record()).matches_forget_set(multi, "test").all()
    listed = ForgetRequest((), (0, 5, 17))
    combinations = {tuple(labels["train"][row].tolist()) for row in listed.indices}
    expected = [tuple(row) in combinations for row in labels["test"].tolist()]
    assert any(expected) and not all(expected)
    assert listed.matches_forget_set(multi, "test").tolist() == expected


def test_a_blind_attack_on_images_drawn_from_findings_fails():
    """Their labels distinguish them from all unseen images, but not from matching ones."""
    multi = tiny_dataset(multi_label=True, train=400)
    multi = replace(multi, val=tiny_set(200, multi_label=True, seed=7))
    request = ForgetRequest.from_fraction(0.25, 1, ["1"], multi)
    forget_set, _ = request.split(multi, "train")
    assert blind_attack(forget_set, multi.val).low > 0.6
    found = blind_attack(forget_set, multi.val.subset(request.matches_forget_set(multi, "val")))
    assert found.low < 0.5 < found.high


def test_subsets_are_split_by_position_in_the_subset():
    image_set = tiny_set(20)
    view = image_set.subset(torch.tensor([3, 1, 5, 13, 0]))
    forget_set, retain_set = split_set(ForgetRequest((1,)), view)
    assert forget_set.indices.tolist() == [1, 5, 13]
    assert retain_set.indices.tolist() == [3, 0]
    dataset = replace(tiny_dataset(), train=view)
    forget_set, retain_set = ForgetRequest((), (1, 4)).split(dataset, "train")
    assert forget_set.indices.tolist() == [1, 0]
    assert retain_set.indices.tolist() == [3, 5, 13]


def test_empty_sets_are_refused():
    image_set = tiny_set(8, 2)
    dataset = replace(tiny_dataset(), train=image_set)
    with pytest.raises(UserError, match="class 3 has no training image: nothing to forget"):
        ForgetRequest((3,)).split_for_unlearning(dataset)
    with pytest.raises(UserError, match="classes 2, 3 have no training image"):
        ForgetRequest((2, 3)).split_for_unlearning(dataset)
    alone = replace(dataset, train=image_set.subset(image_set.labels == 1))
    with pytest.raises(UserError, match="every training image is of class 1: nothing remains"):
        ForgetRequest((1,)).split_for_unlearning(alone)
    with pytest.raises(UserError, match="every training image is to be forgotten: nothing remains"):
        ForgetRequest((), tuple(range(8))).split_for_unlearning(dataset)
    forget_set, retain_set = ForgetRequest((1,)).split_for_unlearning(dataset)
    assert (len(forget_set), len(retain_set)) == (4, 4)


def test_kept_classes():
    assert ForgetRequest((1, 3)).kept_classes(5) == [0, 2, 4]
    assert LISTED.kept_classes(3) == [0, 1, 2]


def test_views_of_different_storages_cannot_be_concatenated():
    first, second = tiny_set(4), tiny_set(4)
    with pytest.raises(ValueError, match="views of the same images"):
        first.concat(ImageSet.from_tensors(second.images, first.labels))
