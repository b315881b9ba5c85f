"""Requests in records, model ids and results."""

import hashlib

import pytest

from tests.helpers.requests import LISTED, requests_of
from tests.helpers.tiny import tiny_dataset
from unlearn.request.request import ForgetRequest
from unlearn.saliency import saliency_path
from utils.runtime.errors import UserError


def test_record_and_id_of_one_class():
    for number in (0, 3, 10):
        request = ForgetRequest((number,))
        assert request.record() == {"class_to_forget": number}
        assert request.id_part() == str(number)
        assert ForgetRequest.from_record({"class_to_forget": number}) == request
        assert saliency_path("base", request).name == f"class_{number}.pt"


def test_records_and_ids_of_requests():
    dataset = tiny_dataset()
    for request in requests_of(dataset):
        again = ForgetRequest.from_record(request.record())
        assert again == request
        assert again.id_part() == request.id_part()
    assert ForgetRequest((1, 3)).record() == {"class_to_forget": [1, 3]}
    assert LISTED.record()["forget_indices"] == [0, 5, 7, 11]
    ids = [request.id_part() for request in requests_of(dataset)[4:]]
    digest = hashlib.sha256(b"0,5,7,11").hexdigest()[:12]
    assert ids == ["1-3", "f25-s1", "0-2-f5-s2", f"samples-{digest}"]
    names = [saliency_path("base", request).name for request in requests_of(dataset)[4:]]
    assert names == ["class_1-3.pt", "f25-s1.pt", "0-2-f5-s2.pt", f"samples-{digest}.pt"]


def test_summary_for_results():
    dataset = tiny_dataset()
    assert ForgetRequest.from_classes(["2"], dataset).summary(dataset) == {
        "class_to_forget": 2,
        "forget_id": "2",
        "forget_words": "class 2 tissue c",
        "forget_count": 6,
    }
    summary = LISTED.summary(dataset)
    assert (summary["class_to_forget"], summary["forget_count"]) == (None, 4)
    assert summary["forget_words"] == "4 listed training images"


def test_request_of_a_model():
    dataset = tiny_dataset()
    tail = "GA_unlearnEpochs5_unlearnlr001"
    for forgotten, expected in (("3", (3,)), ("0-2", (0, 2))):
        request = ForgetRequest.from_model(f"base_FORGOTTEN_{forgotten}_{tail}", {}, dataset)
        assert request.classes == expected
    for forgotten in ("f1-s1", "3-f1-s1", "samples-0123456789ab"):
        with pytest.raises(UserError, match="no record of which images it has forgotten"):
            ForgetRequest.from_model(f"base_FORGOTTEN_{forgotten}_{tail}", {}, dataset)
    with pytest.raises(UserError, match="has forgotten nothing: give the --class_to_forget"):
        ForgetRequest.from_model("base", {}, dataset)
    old = ForgetRequest.from_model("any", {"forget_request": {"class_to_forget": 3}}, dataset)
    assert (old, old.description) == (ForgetRequest((3,)), "class 3 tissue d")
    record = {
        "forget_request": LISTED.record(),
        "forget_words": "of patient 17",
        "train_digest": dataset.train_digest(),
    }
    listed = ForgetRequest.from_model("any", record, dataset)
    assert (listed, listed.description) == (LISTED, "of patient 17")
    with pytest.raises(UserError, match="Tiny is other data"):
        ForgetRequest.from_model("any", record | {"train_digest": "0"}, dataset)
