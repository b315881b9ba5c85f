"""Fuzz the readers of model, mask and data files: `python -m tests.helpers.fuzz_files`.

Each case depends on its number only, so a failed one can be repeated: --first 1234 --cases 1. A
damaged file must be refused with a UserError, or give exactly the content that was written.
"""

import argparse
import collections
import hashlib
import io
import os
import random
import resource
import shutil
import signal
import struct
import sys
import tempfile
import time
import zipfile
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from models.architectures import build_model, make_spec
from models.checkpoint import load_model, save_model
from unlearn.request.request import ForgetRequest
from unlearn.saliency import (
    compute_saliency_map,
    load_saliency_map,
    origin_from_digests,
    save_saliency_map,
)
from utils.data.npz import ARRAY_KEYS, read_npz
from utils.io.tensor_files import content_digest
from utils.runtime.errors import UserError

CASE_SECONDS = 10
MEMORY = 4 * 2**30  # bytes that may be allocated in addition to those at the start
SIDE = 8  # pixels
CLASSES = 4
REQUEST = ForgetRequest((1,))
MODEL_IDS = ("first", "second")
DIRECTORY_BYTES = 3000  # at the end of a zip file


class Hang(BaseException):
    """A case took longer than CASE_SECONDS; not an Exception, so that no reader catches it."""


class SampleFiles:
    """Two valid files of each kind in the current folder, with digests of their content."""

    def __init__(self, arch="shufflenet_v2_x0_5"):
        spec = make_spec(arch, CLASSES, 1, SIDE)
        self.masks, self.paths = {}, {}
        for number, model_id in enumerate(MODEL_IDS):
            model = build_model(spec, seed=number)
            record = {"kind": "base", "train_digest": "0" * 64, "class_names": ["a", "b"]}
            path = save_model(model_id, model, record)
            saliency = {name: p.detach().abs() for name, p in model.named_parameters()}
            mask = Path(f"mask_{model_id}.pt")
            origin = origin_from_digests(
                hashlib.sha256(path.read_bytes()).hexdigest(), spec, "0" * 64
            )
            save_saliency_map(mask, compute_saliency_map(saliency), REQUEST, origin)
            self.masks[mask] = model, origin
            for save in (np.savez, np.savez_compressed):
                data = Path(f"data_{model_id}_{save.__name__}.npz")
                save(data, **drawn_arrays(number))
                self.paths.setdefault("data", []).append(data)
            self.paths.setdefault("model", []).append(path)
            self.paths.setdefault("mask", []).append(mask)
        self.whole = {path: path.read_bytes() for kind in self.paths.values() for path in kind}
        self.digests = {
            path: self.read(kind, path) for kind, paths in self.paths.items() for path in paths
        }

    def read(self, kind, path):
        """Read a file of this kind and return a digest of its content."""
        if kind == "model":
            model, record = load_model(path.stem)
            return content_digest({"weights": dict(model.network.state_dict()), "record": record})
        if kind == "mask":
            model, origin = self.masks[path]
            found = load_saliency_map(path, model, REQUEST, origin, "create it")
            return content_digest(vars(found))
        return data_digest(read_npz(path))


def drawn_arrays(seed):
    rng = np.random.default_rng(seed)
    arrays = {"class_names": np.array(["artery", "bone", "cortex", "duct"])}
    for split, count in (("train", 12), ("val", 6), ("test", 6)):
        arrays[f"{split}_images"] = rng.integers(0, 256, (count, SIDE, SIDE), dtype=np.uint8)
        arrays[f"{split}_labels"] = (np.arange(count, dtype=np.uint8) % CLASSES)[:, None]
    return arrays


def data_digest(arrays):
    digest = hashlib.sha256(repr(arrays.get("class_names")).encode())
    for key in ARRAY_KEYS:
        digest.update(f"{key} {arrays[key].shape} {arrays[key].dtype}".encode())
        digest.update(np.ascontiguousarray(arrays[key]))
    return digest.hexdigest()


# Each damage maps the bytes of a file, and of another file of its kind, to damaged bytes.


def random_offset(content, rng):
    """Return an offset anywhere, in the directory at the end, or in the header at the start."""
    kind = rng.randrange(3)
    if kind == 0:
        return rng.randrange(len(content))
    if kind == 1:
        return len(content) - 1 - rng.randrange(min(DIRECTORY_BYTES, len(content)))
    return rng.randrange(min(DIRECTORY_BYTES, len(content)))


def flip_bits(content, other, rng):
    content = bytearray(content)
    for _ in range(rng.choice([1, 1, 1, 2, 8])):
        content[random_offset(content, rng)] ^= rng.randrange(1, 256)
    return bytes(content)


def truncate(content, other, rng):
    return content[: random_offset(content, rng)]


def remove_bytes(content, other, rng):
    offset = random_offset(content, rng)
    return content[:offset] + content[offset + rng.choice([1, 4, 30, 512, 40_000]) :]


def insert_bytes(content, other, rng):
    offset = random_offset(content, rng)
    more = rng.choice([bytes(4), b"PK\5\6" + bytes(18), rng.randbytes(30), other[:5000]])
    return content[:offset] + more + content[offset:]


def splice(content, other, rng):
    offset, length = random_offset(content, rng), rng.choice([1, 8, 64, 4096, len(content)])
    return content[:offset] + other[offset : offset + length] + content[offset + length :]


def swap_member_bytes(content, other, rng):
    """Exchange the bytes of two members; the directory stays."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        first, second = rng.sample(archive.infolist(), 2)
    length = min(first.compress_size, second.compress_size)
    offsets = [data_offset(content, member) for member in (first, second)]
    data = bytearray(content)
    for target, source in (offsets, offsets[::-1]):
        data[target : target + length] = content[source : source + length]
    return bytes(data)


def data_offset(content, member):
    header = member.header_offset
    name_bytes, extra_bytes = struct.unpack_from("<2H", content, header + 26)
    return header + 30 + name_bytes + extra_bytes


def rewrite_members(content, other, rng):
    """Write a zip with valid CRCs and a member swapped, replaced, renamed, removed or changed."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(io.BytesIO(other)) as archive:
        foreign = {name: archive.read(name) for name in archive.namelist()}
    first, second = rng.sample(list(members), 2)
    match rng.randrange(6):
        case 0:
            members[first], members[second] = members[second], members[first]
        case 1:
            members[first] = foreign.get(first, b"")
        case 2:
            members[f"{first}x"] = members.pop(first)
        case 3:
            del members[first]
        case 4:
            members[first] = members[first][: len(members[first]) // 2]
        case 5:
            changed = bytearray(members[first])
            if changed:
                changed[rng.randrange(len(changed))] ^= rng.randrange(1, 256)
            members[first] = bytes(changed)
    memory = io.BytesIO()
    kind = rng.choice([zipfile.ZIP_STORED, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
    with zipfile.ZipFile(memory, "w", kind) as archive:
        for name, part in members.items():
            archive.writestr(name, part)
    return memory.getvalue()


DAMAGES = (
    *(flip_bits,) * 4,
    truncate,
    remove_bytes,
    insert_bytes,
    splice,
    swap_member_bytes,
    rewrite_members,
)


def run_case(number, files):
    """Return (outcome, kind, damage) of a case. Raises AssertionError for wrong content."""
    rng = random.Random(number)
    kind = rng.choice(list(files.paths))
    path, other = rng.sample(files.paths[kind], 2)
    damage = rng.choice(DAMAGES)
    content = damage(files.whole[path], files.whole[other], rng)
    path.write_bytes(content)
    try:
        with time_limit(CASE_SECONDS):
            found = files.read(kind, path)
    except UserError as error:
        assert str(path) in str(error), error
        return "refused", kind, damage.__name__
    finally:
        path.write_bytes(files.whole[path])
    if found == files.digests[path]:
        return "accepted", kind, damage.__name__
    if found == files.digests[other]:  # the whole other file, undamaged
        return "accepted", kind, damage.__name__
    # a zip with valid CRCs is another data set, which a model detects by its train_digest
    assert kind == "data" and damage is rewrite_members, "other content was accepted"
    assert found == data_digest(read_with_numpy(content)), "not the content of the file"
    return "other data", kind, damage.__name__


def read_with_numpy(content):
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        names = file["class_names"].tolist() if "class_names" in file.files else None
        arrays = {key: file[key] for key in ARRAY_KEYS}
    for key, array in arrays.items():
        if key.endswith("images"):
            arrays[key] = array[:, None]
        else:
            arrays[key] = array.astype(np.int64)[:, 0]
    return arrays | {"class_names": names}


@contextmanager
def time_limit(seconds):
    def stop(*_):
        raise Hang(f"more than {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=20_000)
    parser.add_argument("--first", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    folder = tempfile.mkdtemp()
    os.chdir(folder)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY,) * 2)
    files, outcomes, failures, slowest = SampleFiles(), collections.Counter(), 0, 0.0
    for number in range(args.first, args.first + args.cases):
        start = time.perf_counter()
        try:
            outcomes[run_case(number, files)] += 1
        except (Exception, Hang) as error:
            failures += 1
            print(f"case {number}: {type(error).__name__}: {str(error)[:300]}", flush=True)
        slowest = max(slowest, time.perf_counter() - start)
    for outcome, count in sorted(outcomes.items()):
        print(f"{count:6} {' '.join(outcome)}")
    print(f"{args.cases} cases, {failures} failures, the slowest {slowest:.1f} s")
    shutil.rmtree(folder)
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
