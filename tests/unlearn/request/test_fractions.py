"""Requests for a random fraction of the training images."""

import itertools

import pytest
import torch

from tests.helpers.tiny import tiny_dataset
from unlearn.request.request import ForgetRequest
from utils.runtime.errors import UserError


def test_a_fraction_is_drawn_by_its_seed():
    dataset = tiny_dataset(train=200)
    first = ForgetRequest.from_fraction(0.1, 1, None, dataset)
    assert first == ForgetRequest.from_fraction(0.1, 1, None, dataset)
    assert first != ForgetRequest.from_fraction(0.1, 2, None, dataset)
    assert len(first.indices) == 20
    order = torch.randperm(200, generator=torch.Generator().manual_seed(1))
    assert first.indices == tuple(sorted(order[:20].tolist()))
    assert first.description == "10% of the training images, drawn with seed 1"
    of_class = ForgetRequest.from_fraction(0.5, 1, ["tissue d", "1"], dataset)
    assert len(of_class.indices) == 50
    assert {index % 4 for index in of_class.indices} == {1, 3}
    description = "50% of the training images of classes 1 tissue b, 3 tissue d, drawn with seed 1"
    assert of_class.description == description
    with pytest.raises(UserError, match="--forget_fraction 0.001 of 200 images is no image"):
        ForgetRequest.from_fraction(0.001, 1, None, dataset)


def test_fractions_have_distinct_ids():
    dataset = tiny_dataset()
    arguments = itertools.product(
        (0.1, 0.11, 0.1 + 1e-9, 0.25, 0.5, 0.9), (0, 1, 11), (None, ["1"], ["1", "3"])
    )
    ids = [ForgetRequest.from_fraction(*each, dataset).id_part() for each in arguments]
    ids += [ForgetRequest(classes).id_part() for classes in ((1,), (1, 3), (11,), (13,))]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("multi_label", [False, True])
def test_all_images_of_a_class_are_a_request_for_the_class(multi_label):
    dataset = tiny_dataset(multi_label=multi_label)
    for texts in (["3"], ["tissue b", "3"]):
        whole = ForgetRequest.from_fraction(1.0, 1, texts, dataset)
        assert whole == ForgetRequest.from_classes(texts, dataset)
        assert whole.id_part() == "-".join(map(str, whole.classes))
        assert 3 not in whole.kept_classes(dataset.num_classes)
    assert ForgetRequest.from_fraction(1.0, 1, None, dataset).indices == tuple(range(24))
