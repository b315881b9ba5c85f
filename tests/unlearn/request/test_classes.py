"""Classes are given by number or name, and invalid requests are refused."""

import pytest

from tests.helpers.tiny import tiny_dataset
from unlearn.request.request import ForgetRequest, class_index
from utils.runtime.errors import UserError


def test_classes_are_given_by_number_or_name():
    dataset = tiny_dataset(names=["Basophil", "eosinophil", "immature cells (all)", "platelet"])
    for number, name in enumerate(dataset.class_names):
        for text in (str(number), f"0{number}", name, name.upper(), name.lower()):
            assert ForgetRequest.from_classes([text], dataset) == ForgetRequest((number,))
    several = ForgetRequest.from_classes(["platelet", "1", "01"], dataset)
    assert several == ForgetRequest((1, 3))
    assert several.description == "classes 1 eosinophil, 3 platelet"


def test_a_number_is_an_index_even_if_names_are_numbers():
    dataset = tiny_dataset(names=["1", "2", "3", "4"])
    assert [class_index(str(n), dataset) for n in range(4)] == [0, 1, 2, 3]


def test_an_ambiguous_name_is_refused():
    dataset = tiny_dataset(names=["cyst", "Cyst", "scar", "scar"])
    assert [class_index(text, dataset) for text in ("cyst", "Cyst")] == [0, 1]
    for text, numbers in (("scar", "2, 3"), ("CYST", "0, 1")):
        with pytest.raises(UserError, match=f"has 2 classes of this name: .*one of {numbers}$"):
            class_index(text, dataset)


@pytest.mark.parametrize(
    "text", ["4", "-1", "1.0", "", " ", "²", "tissue z", "99999999999999999999"]
)
def test_unknown_classes_are_refused(text):
    with pytest.raises(UserError, match="--class_to_forget .*Tiny has no such class.* 3 tissue d"):
        ForgetRequest.from_classes(["0", text], tiny_dataset())


def test_a_similar_name_is_suggested():
    with pytest.raises(UserError, match="did you mean platelet"):
        class_index("platlet", tiny_dataset(2, names=["basophil", "platelet"]))


def test_a_request_for_every_class_is_refused():
    with pytest.raises(UserError, match="names every class of Tiny: none is kept"):
        ForgetRequest.from_classes(["0", "1", "2", "3"], tiny_dataset())


@pytest.mark.parametrize(
    ("classes", "indices"),
    [((), None), ((), ()), ((1,), (2,)), ((3, 1), None), ((1, 1), None), ((), (4, 2))],
)
def test_invalid_requests(classes, indices):
    with pytest.raises(ValueError):
        ForgetRequest(classes, indices)
