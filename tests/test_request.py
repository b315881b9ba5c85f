"""A request divides the data into what is forgotten and what is kept, and nothing gets lost."""

from dataclasses import replace

import pytest
import torch

from tiny import tiny_dataset, tiny_set
from unlearn.request import ForgetRequest
from utils.errors import UserError


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("number", range(4))
def test_forget_and_retain_sets_partition_the_data(number, multi_label):
    dataset = tiny_dataset(multi_label=multi_label)
    request = ForgetRequest(number)
    for split in dataset.splits.values():
        forget_set, retain_set = request.split(split)
        assert len(forget_set) > 0 and len(retain_set) > 0
        both = torch.cat([forget_set.indices, retain_set.indices])
        assert sorted(both.tolist()) == list(range(len(split)))
        for part in (forget_set, retain_set):
            images, labels = part.batch(torch.arange(len(part)))
            assert torch.equal(images, split.images[part.indices])
            assert torch.equal(labels, split.labels[part.indices])
        of_forgotten, of_kept = (
            part.labels[:, number].bool() if multi_label else part.labels == number
            for part in (forget_set, retain_set)
        )
        assert of_forgotten.all() and not of_kept.any()


def test_a_view_is_divided_as_the_view_it_is():
    image_set = tiny_set(20)
    view = image_set.subset(torch.tensor([3, 1, 5, 13, 0]))
    forget_set, retain_set = ForgetRequest(1).split(view)
    assert forget_set.indices.tolist() == [1, 5, 13]
    assert retain_set.indices.tolist() == [3, 0]


def test_classes_are_named_by_number_or_name():
    dataset = tiny_dataset(names=["Basophil", "eosinophil", "immature cells (all)", "platelet"])
    for number, name in enumerate(dataset.class_names):
        for text in (str(number), f"0{number}", name, name.upper(), name.lower()):
            assert ForgetRequest.parse(text, dataset) == ForgetRequest(number)


def test_a_number_is_a_class_number_even_where_names_are_numbers():
    dataset = tiny_dataset(names=["1", "2", "3", "4"])
    assert [ForgetRequest.parse(str(n), dataset).class_index for n in range(4)] == [0, 1, 2, 3]


@pytest.mark.parametrize(
    "text", ["4", "-1", "1.0", "", " ", "²", "tissue z", "99999999999999999999"]
)
def test_classes_that_are_not_there_are_refused(text):
    with pytest.raises(UserError, match="--class_to_forget .*Tiny has no such class.* 3 tissue d"):
        ForgetRequest.parse(text, tiny_dataset())


def test_the_nearest_name_is_proposed():
    with pytest.raises(UserError, match="did you mean platelet"):
        ForgetRequest.parse("platlet", tiny_dataset(2, names=["basophil", "platelet"]))


def test_a_request_comes_back_from_its_record_and_stands_in_ids():
    for number in (0, 3, 10):
        request = ForgetRequest(number)
        assert ForgetRequest.from_record(request.record()) == request
        assert request.id_part() == str(number)


def test_empty_sets_are_refused():
    image_set = tiny_set(8, 2)
    with pytest.raises(UserError, match="class 3 has no training image: nothing to forget"):
        ForgetRequest(3).split_for_unlearning(image_set)
    alone = image_set.subset(image_set.labels == 1)
    with pytest.raises(UserError, match="every training image is of class 1: nothing remains"):
        ForgetRequest(1).split_for_unlearning(alone)
    forget_set, retain_set = ForgetRequest(1).split_for_unlearning(image_set)
    assert (len(forget_set), len(retain_set)) == (4, 4)


def test_losses_of_what_is_to_be_forgotten_by_hand():
    logits = torch.tensor([[0.0, 2.0], [1.0, -1.0]])
    single = ForgetRequest(1).losses(logits, torch.tensor([1, 1]))
    torch.testing.assert_close(single, -(logits[:, 1].exp() / logits.exp().sum(1)).log())
    multi = ForgetRequest(1).losses(logits, torch.tensor([[0, 1], [1, 1]]))
    torch.testing.assert_close(multi, -logits[:, 1].sigmoid().log())


def test_chance_loss_is_that_of_a_model_without_an_idea():
    for labels in (torch.tensor([1, 1]), torch.tensor([[0, 1, 0, 0], [1, 1, 0, 1]])):
        logits = torch.zeros(2, 4)
        request = ForgetRequest(1)
        chance = torch.full((2,), request.chance_loss(logits, labels))
        torch.testing.assert_close(request.losses(logits, labels), chance)


def test_views_of_other_images_cannot_be_joined():
    first, second = tiny_set(4), tiny_set(4)
    with pytest.raises(ValueError, match="views of the same images"):
        first.joined(replace(first, images=second.images))
