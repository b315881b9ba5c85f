"""Untrusted records, names, links, request files and command lines are used or refused."""

from pathlib import Path, PureWindowsPath

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from arg_parser import (
    data_flags,
    device_flags,
    evaluation_flags,
    make_parser,
    training_flags,
    unlearning_flags,
)
from models.checkpoint import load_model, model_path, save_model, save_tensors
from models.records import drop_unknown_values, find_record_error
from tests.helpers.environment import BASE, FORGOTTEN, drawn_arrays
from tests.helpers.tiny import tiny_dataset
from unlearn.engine.progress import Progress
from unlearn.request.files import request_from_indices_file, request_from_metadata
from unlearn.request.request import ForgetRequest
from unlearn.saliency import saliency_path
from utils.io.csv_files import read_cost_matrix, read_groups
from utils.io.files import check_id, check_inside, ensure_folder, write_atomically
from utils.runtime.errors import UserError

# Records


def test_a_changed_record_is_refused(trained):
    content = torch.load(f"model_weights/{FORGOTTEN}.pt", weights_only=True)
    content["record"]["forget_words"] = "class 2"
    save_tensors(Path(f"model_weights/{FORGOTTEN}.pt"), content)
    with pytest.raises(UserError, match="the record is not what was saved with it"):
        load_model(FORGOTTEN)


VALID = {
    "kind": "unlearned",
    "model_id": "a",
    "parent_id": "b",
    "parent_digest": "c",
    "method": "GA",
    "train_digest": "d",
    "seconds": 1.5,
    "selection": "best",
    "spec": {"num_classes": 4},
    "settings": {"epochs": 3, "lr": 0.1, "mask_thresh": None, "options": {"alpha": 2.0}},
    "recipe": {"epochs": 3, "lr": 0.1, "batch_size": 50},
    "forget_request": {"class_to_forget": 3},
}


def test_valid_records():
    assert find_record_error(VALID) is None
    assert find_record_error({}) is None
    images = {"class_to_forget": None, "forget_indices": [1, 5], "forget_id": "f1-s1"}
    assert find_record_error(VALID | {"forget_request": images}) is None


@pytest.mark.parametrize(
    "changes",
    [
        {"parent_id": "../b"},
        {"parent_id": "*"},
        {"parent_id": 3},
        {"model_id": "C:\\b"},
        *({"seconds": value} for value in (float("nan"), float("inf"), -1.0, 1e300, 10**400, "1")),
        {"selection": "first"},
        {"settings": {"mask_thresh": "0.5"}},
        {"settings": {"optimizer": ["sgd"]}},
        {"settings": {"options": {"alpha": "x"}}},
        {"settings": {"options": {"alpha": 10**400}}},
        {"recipe": {"epochs": 3}},
        {"recipe": VALID["recipe"] | {"epochs": -1}},
        {"recipe": VALID["recipe"] | {"shell": "x"}},
        {"forget_request": {}},
        {"forget_request": {"class_to_forget": 4}},
        {"forget_request": {"class_to_forget": [2, 1]}},
        {"forget_request": {"class_to_forget": None, "forget_indices": [1], "forget_id": "../x"}},
        {"forget_request": {"class_to_forget": None, "forget_indices": [-1], "forget_id": "x"}},
        {"class_names": 3},
        {3: "x"},
    ],
    ids=lambda changes: str(changes)[:60],
)
def test_invalid_records(changes):
    assert find_record_error(VALID | changes)


@pytest.mark.parametrize("seconds", [0, 0.0, 5e-324])
def test_a_duration_that_is_too_short_to_be_measured_is_unknown(seconds):
    assert find_record_error(VALID | {"seconds": seconds}) is None
    assert "seconds" not in drop_unknown_values(VALID | {"seconds": seconds})
    assert drop_unknown_values(VALID) == VALID


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda part: (
        st.lists(part, max_size=3) | st.dictionaries(st.text(max_size=5), part, max_size=3)
    ),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from(list(VALID)), VALUES, max_size=4))
def test_any_record_is_used_or_refused(changes):
    """A record that passes gives a request whose mask file is in its folder."""
    record = VALID | changes
    if find_record_error(record) is None and record["forget_request"] is not None:
        request = ForgetRequest.from_record(record["forget_request"])
        assert saliency_path(record["parent_id"], request).parts[0] == "SaliencyMaps"


# Names and links

INVALID_IDS = [
    *("CON", "nul", "Aux.pt", "com1", "LPT9.best", "prn.a.b"),
    *("a.", "a..", "a\\b", "..\\a", "C:a", "C:\\a", "a:b", "a\0b", "a\nb", "a/", "\u202ea", "ä"),
]


@pytest.mark.parametrize("model_id", INVALID_IDS)
def test_ids_that_are_invalid_on_some_platform(model_id):
    with pytest.raises(UserError, match="is not a usable id"):
        check_id(model_id, "--model_id")


@pytest.mark.parametrize("model_id", ["CONE", "nullo", "com", "COM10", "a.b", "1", "aux-1", "a_"])
def test_similar_valid_ids(model_id):
    assert check_id(model_id, "--model_id") == model_id


@given(st.text(max_size=20) | st.from_regex(r"[A-Za-z0-9./\\:-]{1,12}", fullmatch=True))
def test_any_id_stays_in_its_folder(text):
    """An id that passes is a single file name, on this platform and on Windows."""
    try:
        check_id(text, "--model_id")
    except UserError:
        return
    for path in (Path(f"folder/{text}.pt"), PureWindowsPath(f"folder\\{text}.pt")):
        assert len(path.parts) == 2 and path.stem == text and not path.is_reserved()


def test_links_out_of_the_folder_are_refused(trained, refused, tmp_path, data_files):
    outside = tmp_path / "outside.pt"
    Path(f"model_weights/{BASE}.pt").rename(outside)
    Path(f"model_weights/{BASE}.pt").symlink_to(outside)
    says = f"model_weights/{BASE}.pt is a link that leads out of model_weights/: copy the file"
    refused(says, "main_test", "--model_id", BASE, "--dataset", data_files["grey"], "--no_window")
    with pytest.raises(UserError, match="is a link that leads out"):
        save_model(BASE, *load_model(FORGOTTEN))
    assert outside.exists()


def test_folders_that_are_links_are_refused(trained, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    Path("SaliencyMaps/other").symlink_to(elsewhere)
    with pytest.raises(UserError, match="is a link that leads out of SaliencyMaps/"):
        saliency_path("other", ForgetRequest((3,)))
    Path("pics").mkdir(exist_ok=True)
    Path("pics/other").symlink_to(elsewhere)
    with pytest.raises(UserError, match="is a link that leads out of pics/"):
        write_atomically(Path("pics/other/a.png"), b"")
    Path("model_weights/unfinished").symlink_to(elsewhere)
    with pytest.raises(UserError, match="is a link that leads out of model_weights/"):
        Progress("tiny", {})
    with pytest.raises(UserError, match="is a link that leads out of model_weights/"):
        ensure_folder(Path("model_weights/unfinished/deeper"))
    assert list(elsewhere.iterdir()) == []


def test_a_top_folder_can_be_a_link(trained, tmp_path):
    Path("model_weights").rename(tmp_path / "big_disk")
    Path("model_weights").symlink_to(tmp_path / "big_disk")
    record = load_model(BASE)[1]
    save_model("copy", load_model(BASE)[0], record)
    assert (tmp_path / "big_disk" / "copy.pt").exists()
    Path("model_weights/alias.pt").symlink_to("copy.pt")  # within the folder
    assert check_inside(model_path("alias")).exists()
    loop = Path("model_weights/loop.pt")
    loop.symlink_to("loop.pt")
    with pytest.raises(UserError, match="cannot read|no model"):
        load_model("loop")


def test_a_data_file_named_dots_writes_no_pictures_elsewhere(workplace, refused):
    np.savez("...npz", **drawn_arrays())
    says = "the name of the file ...npz is not a valid folder name"
    refused(says, "examine_dataset", "--dataset", "...npz", "--no_window")


# Requests and flags

LETTERS = st.sampled_from('0123456789abc",;#\n\r\t .-+eE\0\u00e9\ufeff')
CELLS = st.text(alphabet=LETTERS, max_size=60)
READERS = [
    lambda path, data: request_from_indices_file(path, data),
    lambda path, data: request_from_metadata(path, ["a=1"], data),
    lambda path, data: read_cost_matrix(path, data.class_names),
    lambda path, data: read_groups(path, 5),
]


@pytest.mark.parametrize("number", range(len(READERS)))
@given(text=CELLS, raw=st.binary(max_size=8))
def test_any_request_file_is_read_or_refused(tmp_path, number, text, raw):
    path = tmp_path / "request.csv"
    path.write_bytes(text.encode() + raw)
    try:
        read = READERS[number](path, tiny_dataset())
    except UserError as error:
        assert str(path) in str(error)
    else:
        assert read is not None


@given(st.lists(st.integers(0, 23), min_size=1, unique=True))
def test_a_list_of_indices_gives_that_request(tmp_path, indices):
    path = tmp_path / "list.txt"
    path.write_text("\n".join(map(str, indices)))
    assert request_from_indices_file(path, tiny_dataset()).indices == tuple(sorted(indices))


FLAGS = (
    *("--seed", "--lr", "--epochs", "--dataset", "--class_to_forget", "--unlearn", "--verify"),
    *("--mask_thresh", "--optimizer", "--forget_fraction", "--forget_seed", "--batch_size"),
    *("--unlearn_options", "--measures"),
)
TYPED = (
    *("0", "1", "-1", "1e999", "nan", "inf", "0.5", "0x1", "9" * 20, "a=1", "=", "sgd"),
    *("forgetting", "1_000", "\u0663", "a\rb"),
)
WORDS = st.sampled_from(FLAGS) | st.sampled_from(TYPED) | st.text(max_size=6)
GROUPS = {
    "train": (data_flags, training_flags, device_flags),
    "unlearn": (data_flags, unlearning_flags, device_flags),
    "test": (data_flags, evaluation_flags, device_flags),
}


@pytest.mark.parametrize("name", GROUPS)
@given(words=st.lists(WORDS, max_size=6))
def test_any_command_line_is_read_or_refused_in_one_line(capsys, name, words):
    capsys.readouterr()
    try:
        args = make_parser("", *GROUPS[name]).parse_args(words)
    except SystemExit as end:
        output = capsys.readouterr()
        assert end.code == 0 or (end.code == 2 and len(output.err.strip().splitlines()) == 1), (
            output
        )
    else:
        for flag, highest in {"lr": 100, "weight_decay": 1, "seed": 2**63 - 1}.items():
            value = getattr(args, flag, None)
            assert value is None or 0 <= value <= highest
