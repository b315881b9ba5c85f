"""Files that somebody else made: lies of sizes, bombs, links, names; refused before they cost."""

import io
import os
import pickle
import resource
import struct
import subprocess
import sys
import zipfile
from pathlib import Path, PureWindowsPath

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
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
from models.records import find_record_error
from tests.helpers.environment import BASE, FORGOTTEN, REPOSITORY, drawn_arrays
from tests.helpers.tiny import tiny_dataset
from unlearn.engine.progress import Progress
from unlearn.request.files import request_from_indices_file, request_from_metadata
from unlearn.request.request import ForgetRequest
from unlearn.saliency import saliency_path
from utils.data.npz import read_npz
from utils.io.csv_files import read_cost_matrix, read_groups
from utils.io.files import check_id, check_inside, ensure_folder, write_atomically
from utils.io.pickles import UnsafePickleError, check_pickle
from utils.runtime.errors import UserError

FEW = settings(
    max_examples=60,
    deadline=20_000,  # milliseconds an example: a hang is a failure
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
MEMORY = 600 * 2**20  # bytes that a refusal may take, above what the imports took


# What is refused takes no memory: read in a process that has none to spare


def refused_in_little_memory(reader, path):
    """The message of the UserError of `reader` (an expression of `path`), with MEMORY to spare."""
    code = f"""
import resource, sys
from models.checkpoint import load_model
from utils.runtime.errors import UserError
from utils.data.npz import read_npz
path = {str(path)!r}
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + {MEMORY},) * 2)
try:
    {reader}
except UserError as error:
    print(error)
"""
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    run = [sys.executable, "-c", code]
    done = subprocess.run(run, capture_output=True, text=True, timeout=120, env=environment)
    assert (done.returncode, done.stderr) == (0, ""), done
    return done.stdout


def with_header(array, **changes):
    """The bytes of a .npy file of `array` whose header says something else of its shape."""
    memory = io.BytesIO()
    header = {"descr": "|u1", "fortran_order": False, "shape": array.shape} | changes
    np.lib.format.write_array_header_1_0(memory, header)
    return memory.getvalue() + array.tobytes()


def write_npz(path, kind=zipfile.ZIP_DEFLATED, **changed):
    """A whole data file, but for the members whose bytes are given."""
    members = {}
    for key, array in drawn_arrays().items():
        memory = io.BytesIO()
        np.save(memory, array)
        members[key] = memory.getvalue()
    with zipfile.ZipFile(path, "w", kind) as archive:
        for key, content in (members | changed).items():
            archive.writestr(f"{key}.npy", content)
    return path


def test_an_array_that_claims_to_be_huge(workplace):
    claimed = with_header(np.zeros((96, 12, 12), np.uint8), shape=(10**6, 1000, 1000))
    path = write_npz("huge.npz", train_images=claimed)
    assert "does not have the length of its shape" in refused_in_little_memory(
        "read_npz(path)", path
    )


def test_a_small_file_that_unfolds_into_a_gigabyte(workplace):
    shape = (2**30 // 64, 8, 8)
    with zipfile.ZipFile(write_npz("bomb.npz"), "r") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile("bomb.npz", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, content in members.items():
            if name != "train_images.npy":
                archive.writestr(name, content)
        with archive.open("train_images.npy", "w", force_zip64=True) as member:
            member.write(with_header(np.zeros((0,), np.uint8), shape=shape))
            for _ in range(2**30 // 2**24):
                member.write(bytes(2**24))
    assert os.path.getsize("bomb.npz") < 8 * 2**20
    says = "its arrays would take 1,024 MB, over 200 times as much as the file"
    assert says in refused_in_little_memory("read_npz(path)", "bomb.npz")


@pytest.mark.parametrize(
    "changes",
    [
        {"num_classes": 10**9},
        {"shards": 10**9},
        {"input_size": 10**9},
        {"network_size": 10**9},
        {"channels": 10**9},
        {"num_classes": True},
        {"num_classes": -4},
        {"arch": "vit_h_14"},
    ],
    ids=str,
)
def test_a_spec_that_is_absurd(trained, changes):
    path = Path(f"model_weights/{BASE}.pt")
    content = torch.load(path, weights_only=True)
    content["record"]["spec"].update(changes)
    content.pop("record_digest")
    save_tensors(path, content)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UserError, match="is damaged: its record and its weights disagree"):
        load_model(BASE)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    assert grown < MEMORY


def pickled(*instructions):
    return b"\x80\x02" + b"".join(instructions) + b"."


def tensor_of(items, size, stride, offset=0):
    """Instructions that make a float tensor, of a storage "0" of so many items."""
    numbers = {n: b"J" + struct.pack("<i", n) for n in (items, offset, *size, *stride)}
    shape, strides = (b"(" + b"".join(numbers[n] for n in part) + b"t" for part in (size, stride))
    storage = b"(X\7\0\0\0storagectorch\nFloatStorage\nX\1\0\0\0000X\3\0\0\0cpu" + numbers[items]
    return (
        b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + b"tQ" + numbers[offset] + shape
        + strides + b"\x89}tR"
    )  # fmt: skip


def test_a_tensor_that_fits_its_bytes():
    check_pickle(pickled(tensor_of(12, (3, 4), (4, 1))), {"0": 48})
    check_pickle(pickled(tensor_of(12, (4, 3), (1, 4))), {"0": 48})  # transposed
    check_pickle(pickled(tensor_of(12, (2, 4), (4, 1), 4)), {"0": 48})  # a part of it


@pytest.mark.parametrize(
    "tensor, says",
    [
        (tensor_of(12, (3, 5), (5, 1)), "larger than its bytes"),
        (tensor_of(12, (3, 4), (4, 1), 1), "larger than its bytes"),
        (tensor_of(12, (10**9, 12), (0, 1)), "larger than its bytes"),  # one row, a billion times
        (tensor_of(12, (10**9,), (1,)), "larger than its bytes"),
        (tensor_of(12, (4, 4), (1, 1)), "larger than its bytes"),
        (tensor_of(13, (3, 4), (4, 1)), "differs from that of its bytes"),
        (tensor_of(12, (-3, 4), (4, 1)), "shape of a tensor in it is not valid"),
        (tensor_of(12, (3, 4), (4,)), "shape of a tensor in it is not valid"),
        (b"cbuiltins\nbytearray\n", "more than weights and plain data"),
        (b"ctorch\nTensor\n", "more than weights and plain data"),
        (b"cos\nsystem\nX\4\0\0\0exit\x85R", "more than weights and plain data"),
        (b"}(N\x85Nu", "a key in it is neither a string nor a number"),
        (b"N0", "more than weights and plain data"),
        (b"h\1", "damaged"),
    ],
)
def test_a_tensor_or_name_that_is_not_what_it_seems(tensor, says):
    with pytest.raises(UnsafePickleError, match=says):
        check_pickle(pickled(tensor), {"0": 48})


def test_containers_that_unfold_without_end():
    """Forty lists, each of twice the one before: a terabyte once it is gone through."""
    twice = b"".join(b"q" + bytes([n]) + b"h" + bytes([n]) + b"\x86" for n in range(40))
    with pytest.raises(UnsafePickleError, match="is referenced more than once"):
        check_pickle(pickled(b"N", twice), {})


@given(st.binary(max_size=200))
@FEW
def test_any_bytes_for_a_pickle(content):
    with pytest.raises(UnsafePickleError):
        check_pickle(content + b"!", {"0": 48})


# Zip files


def zip_of(members, path, kind=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", kind) as archive:
        for name, content in members.items():
            archive.writestr(name, content)


@pytest.fixture
def members(trained):
    """The members of a checkpoint, by name."""
    with zipfile.ZipFile(f"model_weights/{BASE}.pt") as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_a_repacked_model_is_the_same(members):
    weights = load_model(BASE)[0].state_dict()
    zip_of(members, "model_weights/again.pt")
    again = load_model("again")[0].state_dict()
    assert all(torch.equal(weights[name], again[name]) for name in weights)


def lie_about_sizes(content):
    """The directory says of the first member that it is longer, packed and unpacked."""
    start = content.index(b"PK\1\2")
    return content[: start + 20] + struct.pack("<2L", 10**9, 10**9) + content[start + 28 :]


def lie_over_another(content):
    """The second member is said to be where the first is."""
    second = content.index(b"PK\1\2", content.index(b"PK\1\2") + 4)
    return content[: second + 42] + struct.pack("<L", 0) + content[second + 46 :]


@pytest.mark.parametrize(
    "damage, says",
    [
        (lie_about_sizes, "extends beyond the end of the file"),
        (lie_over_another, "overlaps another member|header differ"),
        (lambda content: b"#!/bin/sh\n" + content, "its directory has the wrong position"),
        (lambda content: content + b"more", "it does not end like a zip file"),
        (lambda content: content[:-2] + b"\4\0more", "it does not end like a zip file"),
    ],
)
def test_zip_files_that_lie(members, damage, says):
    path = Path("model_weights/liar.pt")
    zip_of(members, path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UserError, match=f"liar.pt is cut short, damaged, .*({says})"):
        load_model("liar")


def test_packed_members_of_a_model(members):
    zip_of(members, "model_weights/packed.pt", zipfile.ZIP_DEFLATED)
    with pytest.raises(UserError, match="has a compression that is not allowed"):
        load_model("packed")


def test_two_members_of_one_name(members):
    with pytest.warns(UserWarning), zipfile.ZipFile("model_weights/twin.pt", "w") as archive:
        for name in [*members, next(iter(members))]:
            archive.writestr(name, members[name])
    with pytest.raises(UserError, match="two of its members have the same name"):
        load_model("twin")


def test_thousands_of_members(workplace):
    path = write_npz("many.npz")
    with zipfile.ZipFile(path, "a") as archive:
        for number in range(2000):
            archive.writestr(f"n{number}", b"")
    with pytest.raises(UserError, match="it has more than 1,000 members"):
        read_npz(path)


def test_a_file_of_an_old_format_says_so(trained):
    weights = torch.load(f"model_weights/{BASE}.pt", weights_only=True)["weights"]
    torch.save(weights, "model_weights/old.pt", _use_new_zipfile_serialization=False)
    with pytest.raises(
        UserError, match="format of PyTorch before version 1.6: load it with torch and save"
    ):
        load_model("old")


@pytest.mark.parametrize("workers", [0, 2])
def test_a_flipped_pixel_of_a_data_file(workplace, workers):
    path = Path(write_npz("flip.npz", zipfile.ZIP_STORED))
    content = bytearray(path.read_bytes())
    image = drawn_arrays()["train_images"][5].tobytes()
    content[content.index(image)] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match="cannot be read as .npz.*CRC"):
        read_npz(path, workers)


def test_objects_in_a_data_file(workplace):
    """numpy would unpickle them."""

    class Bomb:
        def __reduce__(self):
            return os.mkdir, ("broken_in",)

    memory = io.BytesIO()
    np.save(memory, np.array([Bomb()], object), allow_pickle=True)
    path = write_npz("objects.npz", train_labels=memory.getvalue())
    with pytest.raises(UserError, match="holds Python objects"):
        read_npz(path)
    assert not os.path.exists("broken_in")
    pickle.loads(pickle.dumps(Bomb()))
    assert os.path.exists("broken_in")


@pytest.mark.parametrize("name", ["model_weights/x.pt", "x.npz"])
def test_a_pipe_is_not_waited_for(trained, name):
    os.mkfifo(name)
    with pytest.raises(UserError, match="is a device or a pipe, not a file"):
        load_model("x") if name.endswith("pt") else read_npz(name)


# Records


def test_swapped_records_are_refused(trained):
    """The record of one model over the weights of another with the same digests of weights."""
    content = torch.load(f"model_weights/{FORGOTTEN}.pt", weights_only=True)
    content["record"]["forget_words"] = "class 2"
    save_tensors(Path(f"model_weights/{FORGOTTEN}.pt"), content)
    with pytest.raises(UserError, match="the record is not what was saved with it"):
        load_model(FORGOTTEN)


GOOD = {
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


def test_a_good_record_has_no_fault():
    assert find_record_error(GOOD) is None
    assert find_record_error({}) is None
    images = {"class_to_forget": None, "forget_indices": [1, 5], "forget_id": "f1-s1"}
    assert find_record_error(GOOD | {"forget_request": images}) is None


@pytest.mark.parametrize(
    "changes",
    [
        {"parent_id": "../b"},
        {"parent_id": "*"},
        {"parent_id": 3},
        {"model_id": "C:\\b"},
        {"seconds": float("nan")},
        {"selection": "first"},
        {"settings": {"mask_thresh": "0.5"}},
        {"settings": {"optimizer": ["sgd"]}},
        {"settings": {"options": {"alpha": "x"}}},
        {"recipe": {"epochs": 3}},
        {"recipe": GOOD["recipe"] | {"epochs": -1}},
        {"recipe": GOOD["recipe"] | {"shell": "x"}},
        {"forget_request": {}},
        {"forget_request": {"class_to_forget": 4}},
        {"forget_request": {"class_to_forget": [2, 1]}},
        {"forget_request": {"class_to_forget": None, "forget_indices": [1], "forget_id": "../x"}},
        {"forget_request": {"class_to_forget": None, "forget_indices": [-1], "forget_id": "x"}},
        {"class_names": 3},
        {3: "x"},
    ],
    ids=str,
)
def test_a_record_with_a_fault(changes):
    assert find_record_error(GOOD | changes)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda part: (
        st.lists(part, max_size=3) | st.dictionaries(st.text(max_size=5), part, max_size=3)
    ),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from(list(GOOD)), VALUES, max_size=4))
@FEW
def test_any_record_is_used_or_refused(changes):
    """What passes can be used: the request can be made of it, and names a file in its folder."""
    record = GOOD | changes
    if find_record_error(record) is None and record["forget_request"] is not None:
        request = ForgetRequest.from_record(record["forget_request"])
        assert saliency_path(record["parent_id"], request).parts[0] == "SaliencyMaps"


# Names and links

ODD_IDS = [
    *("CON", "nul", "Aux.pt", "com1", "LPT9.best", "prn.a.b"),
    *("a.", "a..", "a\\b", "..\\a", "C:a", "C:\\a", "a:b", "a\0b", "a\nb", "a/", "\u202ea", "ä"),
]


@pytest.mark.parametrize("model_id", ODD_IDS)
def test_ids_that_no_platform_may_see(model_id):
    with pytest.raises(UserError, match="is not a usable id"):
        check_id(model_id, "--model_id")


@pytest.mark.parametrize("model_id", ["CONE", "nullo", "com", "COM10", "a.b", "1", "aux-1", "a_"])
def test_ids_that_are_like_them_are_fine(model_id):
    assert check_id(model_id, "--model_id") == model_id


@given(st.text(max_size=20) | st.from_regex(r"[A-Za-z0-9./\\:-]{1,12}", fullmatch=True))
@FEW
def test_any_id_stays_in_its_folder(text):
    """Whatever passes is one name, on this platform and on Windows."""
    try:
        check_id(text, "--model_id")
    except UserError:
        return
    for path in (Path(f"folder/{text}.pt"), PureWindowsPath(f"folder\\{text}.pt")):
        assert len(path.parts) == 2 and path.stem == text and not path.is_reserved()


def test_links_that_lead_out_are_refused(trained, refused, tmp_path, data_files):
    outside = tmp_path / "outside.pt"
    Path(f"model_weights/{BASE}.pt").rename(outside)
    Path(f"model_weights/{BASE}.pt").symlink_to(outside)
    says = f"model_weights/{BASE}.pt is a link that leads out of model_weights/: copy the file"
    refused(says, "main_test", "--model_id", BASE, "--dataset", data_files["grey"], "--no_window")
    with pytest.raises(UserError, match="is a link that leads out"):
        save_model(BASE, *load_model(FORGOTTEN))
    assert outside.exists()


def test_a_folder_that_is_a_link_leads_out_too(trained, tmp_path):
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


def test_a_whole_folder_may_be_a_link(trained, tmp_path):
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


def test_a_data_file_called_dots_keeps_its_pictures_in_their_folder(workplace, refused):
    write_npz("...npz")
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
@FEW
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
@FEW
def test_a_list_of_images_is_that_request(tmp_path, indices):
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
@FEW
def test_any_command_line_is_read_or_refused_in_one_line(capsys, name, words):
    capsys.readouterr()
    try:
        args = make_parser("", *GROUPS[name]).parse_args(words)
    except SystemExit as end:
        told = capsys.readouterr()
        assert end.code == 0 or (end.code == 2 and len(told.err.strip().splitlines()) == 1), told
    else:
        for flag, highest in {"lr": 100, "weight_decay": 1, "seed": 2**63 - 1}.items():
            value = getattr(args, flag, None)
            assert value is None or 0 <= value <= highest
