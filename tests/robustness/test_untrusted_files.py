"""Files from untrusted sources: wrong sizes, decompression bombs, damage; refused at low cost."""

import io
import os
import pickle
import resource
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.checkpoint import load_model, save_tensors
from tests.helpers.environment import BASE, REPOSITORY, drawn_arrays
from utils.data.npz import read_npz
from utils.io.pickles import UnsafePickleError, check_pickle
from utils.runtime.errors import UserError

MEMORY = 600 * 2**20  # bytes available for refusing a file, in addition to the imports


# Refusing a file takes little memory: read in a process with a memory limit


def refusal_in_little_memory(reader, path):
    """Evaluate `reader`, an expression of `path`, with MEMORY available; return its UserError."""
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
    """Return a .npy file of `array` whose header is changed."""
    memory = io.BytesIO()
    header = {"descr": "|u1", "fortran_order": False, "shape": array.shape} | changes
    np.lib.format.write_array_header_1_0(memory, header)
    return memory.getvalue() + array.tobytes()


def write_npz(path, kind=zipfile.ZIP_DEFLATED, **changed):
    """Write a valid data file, except for the members whose bytes are given."""
    members = {}
    for key, array in drawn_arrays().items():
        memory = io.BytesIO()
        np.save(memory, array)
        members[key] = memory.getvalue()
    with zipfile.ZipFile(path, "w", kind) as archive:
        for key, content in (members | changed).items():
            archive.writestr(f"{key}.npy", content)
    return path


def test_an_array_header_with_a_huge_shape(workplace):
    array = with_header(np.zeros((96, 12, 12), np.uint8), shape=(10**6, 1000, 1000))
    path = write_npz("huge.npz", train_images=array)
    assert "does not have the length of its shape" in refusal_in_little_memory(
        "read_npz(path)", path
    )


def test_a_decompression_bomb(workplace):
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
    assert says in refusal_in_little_memory("read_npz(path)", "bomb.npz")


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
def test_an_absurd_spec(trained, changes):
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
    """Return instructions for a float tensor of the storage "0" with `items` elements."""
    numbers = {n: b"J" + struct.pack("<i", n) for n in (items, offset, *size, *stride)}
    shape, strides = (b"(" + b"".join(numbers[n] for n in part) + b"t" for part in (size, stride))
    storage = b"(X\7\0\0\0storagectorch\nFloatStorage\nX\1\0\0\0000X\3\0\0\0cpu" + numbers[items]
    return (
        b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + b"tQ" + numbers[offset] + shape
        + strides + b"\x89}tR"
    )  # fmt: skip


def test_tensors_within_their_storage():
    check_pickle(pickled(tensor_of(12, (3, 4), (4, 1))), {"0": 48})
    check_pickle(pickled(tensor_of(12, (4, 3), (1, 4))), {"0": 48})  # transposed
    check_pickle(pickled(tensor_of(12, (2, 4), (4, 1), 4)), {"0": 48})  # a slice


@pytest.mark.parametrize(
    "tensor, says",
    [
        (tensor_of(12, (3, 5), (5, 1)), "larger than its bytes"),
        (tensor_of(12, (3, 4), (4, 1), 1), "larger than its bytes"),
        (tensor_of(12, (10**9, 12), (0, 1)), "larger than its bytes"),  # one row, expanded
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
def test_unsafe_tensors_and_names(tensor, says):
    with pytest.raises(UnsafePickleError, match=says):
        check_pickle(pickled(tensor), {"0": 48})


def test_exponentially_nested_containers():
    """Forty tuples, each holding the previous one twice: 2**40 values."""
    doubled = b"".join(b"q" + bytes([n]) + b"h" + bytes([n]) + b"\x86" for n in range(40))
    with pytest.raises(UnsafePickleError, match="is referenced more than once"):
        check_pickle(pickled(b"N", doubled), {})


@given(st.binary(max_size=200))
def test_random_bytes_as_a_pickle(content):
    with pytest.raises(UnsafePickleError):
        check_pickle(content + b"!", {"0": 48})


# Zip files


def zip_of(members, path, kind=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", kind) as archive:
        for name, content in members.items():
            archive.writestr(name, content)


@pytest.fixture
def members(trained):
    """Return the members of a checkpoint by name."""
    with zipfile.ZipFile(f"model_weights/{BASE}.pt") as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_a_repacked_model_is_the_same(members):
    weights = load_model(BASE)[0].state_dict()
    zip_of(members, "model_weights/again.pt")
    again = load_model("again")[0].state_dict()
    assert all(torch.equal(weights[name], again[name]) for name in weights)


def overstate_sizes(content):
    """Give the first member a larger size in the directory, compressed and uncompressed."""
    start = content.index(b"PK\1\2")
    return content[: start + 20] + struct.pack("<2L", 10**9, 10**9) + content[start + 28 :]


def overlap_members(content):
    """Give the second member the position of the first."""
    second = content.index(b"PK\1\2", content.index(b"PK\1\2") + 4)
    return content[: second + 42] + struct.pack("<L", 0) + content[second + 46 :]


@pytest.mark.parametrize(
    "damage, says",
    [
        (overstate_sizes, "extends beyond the end of the file"),
        (overlap_members, "overlaps another member|header differ"),
        (lambda content: b"#!/bin/sh\n" + content, "its directory has the wrong position"),
        (lambda content: content + b"more", "it does not end like a zip file"),
        (lambda content: content[:-2] + b"\4\0more", "it does not end like a zip file"),
    ],
)
def test_inconsistent_zip_files(members, damage, says):
    path = Path("model_weights/wrong.pt")
    zip_of(members, path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UserError, match=f"wrong.pt is cut short, damaged, .*({says})"):
        load_model("wrong")


def test_compressed_members_of_a_model(members):
    zip_of(members, "model_weights/packed.pt", zipfile.ZIP_DEFLATED)
    with pytest.raises(UserError, match="has a compression that is not allowed"):
        load_model("packed")


def test_duplicate_member_names(members):
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


def test_the_legacy_format_of_torch(trained):
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


def test_pickled_objects_in_a_data_file(workplace):

    class Bomb:
        def __reduce__(self):
            return os.mkdir, ("executed",)

    memory = io.BytesIO()
    np.save(memory, np.array([Bomb()], object), allow_pickle=True)
    path = write_npz("objects.npz", train_labels=memory.getvalue())
    with pytest.raises(UserError, match="holds Python objects"):
        read_npz(path)
    assert not os.path.exists("executed")
    pickle.loads(pickle.dumps(Bomb()))
    assert os.path.exists("executed")


@pytest.mark.parametrize("name", ["model_weights/x.pt", "x.npz"])
def test_a_pipe_does_not_block(trained, name):
    os.mkfifo(name)
    with pytest.raises(UserError, match="is a device or a pipe, not a file"):
        load_model("x") if name.endswith("pt") else read_npz(name)
