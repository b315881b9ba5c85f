"""Damaged, altered and malicious files are refused, and their code never runs."""

import os
import pickle
import random

import pytest
import torch

from models import checkpoint
from models.checkpoint import (
    load_model,
    model_path,
    save_model,
)
from tests.helpers.tiny import same_weights
from tests.models.saved_models import RECORD, small_model
from utils.runtime.errors import UserError

pytestmark = pytest.mark.usefixtures("empty_folder")


def test_a_missing_model_is_an_error_with_a_suggestion():
    with pytest.raises(UserError, match="there is no model model_weights/first.pt: train one"):
        load_model("first")
    save_model("first_best", small_model(), {})
    with pytest.raises(UserError, match="first_bset.pt .did you mean first_best"):
        load_model("first_bset")


@pytest.mark.parametrize("model_id", ["../first", "a/b", "", ".hidden", "a b", "x" * 201, "/etc/a"])
def test_ids_stay_in_their_folder(model_id):
    with pytest.raises(UserError, match="not a usable id"):
        save_model(model_id, small_model(), {})
    with pytest.raises(UserError, match="not a usable id"):
        load_model(model_id)


def alter(change):
    """Apply `change` to the content of a saved model's file."""
    path = save_model("first", small_model(), RECORD)
    content = torch.load(path, weights_only=True)
    change(content)
    torch.save(content, path)


def test_altered_weights_are_refused():
    def change_a_weight(content):
        next(iter(content["weights"].values())).view(-1)[0] += 1e-6

    alter(change_a_weight)
    with pytest.raises(UserError, match="damaged or altered: the weights are not those"):
        load_model("first")


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content.pop("weights"),
        lambda content: content.pop("record"),
        lambda content: content["record"].pop("spec"),
        lambda content: content["record"].pop("weights_digest"),
        lambda content: content["record"]["spec"].update(num_classes=5),
        lambda content: content["record"]["spec"].update(arch="resnet18"),
        lambda content: content["record"]["spec"].update(arch="../x"),
        lambda content: content["record"]["spec"].update(arch="resnet18", stem="odd"),
        lambda content: content["record"]["spec"].pop("channels"),
        lambda content: content["weights"].popitem(),
        lambda content: content.update(weights=3),
        lambda content: content.update(record=[1]),
        lambda content: content["record"].update(spec=None),
    ],
)
def test_a_record_that_does_not_fit_is_refused(change):
    alter(change)
    with pytest.raises(UserError, match="first.pt is damaged: its record and its weights disagree"):
        load_model("first")


def test_damaged_files_are_refused_or_load_unchanged():
    """Cut anywhere, or with one byte changed."""
    model = small_model()
    path = save_model("first", model, RECORD)
    whole = path.read_bytes()
    rng = random.Random(1)
    places = [rng.randrange(len(whole)) for _ in range(15)]
    table = min(20_000, len(whole))  # bytes at the end of the file
    ends = [len(whole) - 1 - rng.randrange(table) for _ in range(25)]
    for cut in [0, 1, 100, *places, *ends]:
        path.write_bytes(whole[:cut])
        with pytest.raises(UserError, match="first.pt"):
            load_model("first")
    for place in [*range(0, 2000, 40), *places, *ends]:
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
        try:
            loaded, _ = load_model("first")
        except UserError as error:
            assert "first.pt" in str(error)
        else:
            assert same_weights(loaded, model)


@pytest.mark.parametrize(
    "content", [b"", b"<html>404</html>", b"PK\x03\x04", b"\x80\x04", bytes(99)]
)
def test_files_of_another_format_are_refused(content):
    model_path("first").parent.mkdir()
    model_path("first").write_bytes(content)
    with pytest.raises(UserError, match="first.pt is cut short, damaged, or not a model"):
        load_model("first")


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"state_dict": {}},
        {"epoch": 3, "lr": 0.1},
        {"mask": torch.zeros(3)},
        {0: torch.zeros(3, 3), 1: torch.zeros(2, 2, 2, 2)},
        {"weight": torch.zeros(3, 3), "bias": torch.zeros(3)},
        [torch.zeros(3, 3)],
        torch.zeros(3, 3),
    ],
)
def test_files_of_other_tensors_are_refused(content):
    model_path("first").parent.mkdir()
    torch.save(content, model_path("first"))
    with pytest.raises(UserError, match="first.pt .*(not a model|no weights)"):
        load_model("first", arch="resnet18", input_size=28)


class Malicious:
    """Creates a folder when it is unpickled."""

    def __reduce__(self):
        return os.mkdir, ("created_by_pickle",)


@pytest.mark.parametrize("as_zip", [True, False])
def test_code_in_a_file_does_not_run(as_zip):
    model_path("first").parent.mkdir()
    content = {"format": checkpoint.FORMAT, "weights": {}, "record": Malicious()}
    if as_zip:
        torch.save(content, model_path("first"))
    else:
        model_path("first").write_bytes(pickle.dumps(content))
    with pytest.raises(UserError, match="first.pt is cut short, damaged, or not a model"):
        load_model("first")
    assert not os.path.exists("created_by_pickle")
    pickle.loads(pickle.dumps(Malicious()))  # unpickling would have run it
    assert os.path.exists("created_by_pickle")
