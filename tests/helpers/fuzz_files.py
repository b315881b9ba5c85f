"""Damages real model, mask and data files at random, and reads them: `python -m tests.fuzz_files`.

Each case is drawn by its number alone, so that one that failed can be repeated: --first 1234
--cases 1. A file must be refused in one line, or read as the very content that was written.
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
    compute_percentiles,
    load_percentiles,
    origin_from_digests,
    save_percentiles,
)
from utils.data.npz import ARRAY_KEYS, read_npz
from utils.io.tensor_files import content_digest
from utils.runtime.errors import UserError

CASE_SECONDS = 10
MEMORY = 4 * 2**30  # bytes more than at the start: a reader that asks for more has believed a lie
SIDE = 8  # pixels
CLASSES = 4
REQUEST = ForgetRequest((1,))
MODEL_IDS = ("first", "second")
DIRECTORY_BYTES = 3000  # at the end of a zip, where its directory is


class Hang(BaseException):
    """A case took longer than CASE_SECONDS; no `except Exception` may swallow it."""


class Files:
    """Two of each kind of file in the current folder, and what reading a whole one gives."""

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
            save_percentiles(mask, compute_percentiles(saliency), REQUEST, origin)
            self.masks[mask] = model, origin
            for pack in (np.savez, np.savez_compressed):
                data = Path(f"data_{model_id}_{pack.__name__}.npz")
                pack(data, **drawn_arrays(number))
                self.paths.setdefault("data", []).append(data)
            self.paths.setdefault("model", []).append(path)
            self.paths.setdefault("mask", []).append(mask)
        self.whole = {path: path.read_bytes() for kind in self.paths.values() for path in kind}
        self.digests = {
            path: self.read(kind, path) for kind, paths in self.paths.items() for path in paths
        }

    def read(self, kind, path):
        """A digest of what a file of this kind gives."""
        if kind == "model":
            model, record = load_model(path.stem)
            return content_digest({"weights": dict(model.network.state_dict()), "record": record})
        if kind == "mask":
            model, origin = self.masks[path]
            return content_digest(load_percentiles(path, model, REQUEST, origin, "make it"))
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


# Damages: bytes of a file and of another of its kind -> bytes


def place_in(content, draw):
    """A byte anywhere, or in the directory at the end or the header at the beginning."""
    kind = draw.randrange(3)
    if kind == 0:
        return draw.randrange(len(content))
    if kind == 1:
        return len(content) - 1 - draw.randrange(min(DIRECTORY_BYTES, len(content)))
    return draw.randrange(min(DIRECTORY_BYTES, len(content)))


def flipped(content, other, draw):
    content = bytearray(content)
    for _ in range(draw.choice([1, 1, 1, 2, 8])):
        content[place_in(content, draw)] ^= draw.randrange(1, 256)
    return bytes(content)


def cut(content, other, draw):
    return content[: place_in(content, draw)]


def without_a_part(content, other, draw):
    place = place_in(content, draw)
    return content[:place] + content[place + draw.choice([1, 4, 30, 512, 40_000]) :]


def with_more(content, other, draw):
    place = place_in(content, draw)
    more = draw.choice([bytes(4), b"PK\5\6" + bytes(18), draw.randbytes(30), other[:5000]])
    return content[:place] + more + content[place:]


def spliced(content, other, draw):
    place, length = place_in(content, draw), draw.choice([1, 8, 64, 4096, len(content)])
    return content[:place] + other[place : place + length] + content[place + length :]


def members_swapped_in_place(content, other, draw):
    """The bytes of two members change places; the directory stays."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        first, second = draw.sample(archive.infolist(), 2)
    length = min(first.compress_size, second.compress_size)
    begins = [data_begins(content, member) for member in (first, second)]
    data = bytearray(content)
    for begin, source in (begins, begins[::-1]):
        data[begin : begin + length] = content[source : source + length]
    return bytes(data)


def data_begins(content, member):
    header = member.header_offset
    name_bytes, extra_bytes = struct.unpack_from("<2H", content, header + 26)
    return header + 30 + name_bytes + extra_bytes


def members_changed(content, other, draw):
    """A new zip, all CRCs right, with members swapped, of the other file, renamed or altered."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(io.BytesIO(other)) as archive:
        foreign = {name: archive.read(name) for name in archive.namelist()}
    first, second = draw.sample(list(members), 2)
    match draw.randrange(6):
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
            altered = bytearray(members[first])
            if altered:
                altered[draw.randrange(len(altered))] ^= draw.randrange(1, 256)
            members[first] = bytes(altered)
    memory = io.BytesIO()
    kind = draw.choice([zipfile.ZIP_STORED, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
    with zipfile.ZipFile(memory, "w", kind) as archive:
        for name, part in members.items():
            archive.writestr(name, part)
    return memory.getvalue()


DAMAGES = (
    *(flipped,) * 4,
    cut,
    without_a_part,
    with_more,
    spliced,
    members_swapped_in_place,
    members_changed,
)


def run_case(number, files):
    """("refused" or "accepted", kind, damage); raises AssertionError for a wrong content."""
    draw = random.Random(number)
    kind = draw.choice(list(files.paths))
    path, other = draw.sample(files.paths[kind], 2)
    damage = draw.choice(DAMAGES)
    content = damage(files.whole[path], files.whole[other], draw)
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
    if found == files.digests[other]:  # all of the other file lies there: no damage
        return "accepted", kind, damage.__name__
    # a zip with right CRCs is a data set of its own, and a model tells it by its train_digest
    assert kind == "data" and damage is members_changed, "another content is taken for this one"
    assert found == data_digest(as_numpy_reads(content)), "not what the file holds"
    return "other data", kind, damage.__name__


def as_numpy_reads(content):
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
    def too_long(*_):
        raise Hang(f"more than {seconds} s")

    before = signal.signal(signal.SIGALRM, too_long)
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
    files, outcomes, failures, slowest = Files(), collections.Counter(), 0, 0.0
    for number in range(args.first, args.first + args.cases):
        began = time.perf_counter()
        try:
            outcomes[run_case(number, files)] += 1
        except (Exception, Hang) as error:
            failures += 1
            print(f"case {number}: {type(error).__name__}: {str(error)[:300]}", flush=True)
        slowest = max(slowest, time.perf_counter() - began)
    for outcome, count in sorted(outcomes.items()):
        print(f"{count:6} {' '.join(outcome)}")
    print(f"{args.cases} cases, {failures} failures, the slowest {slowest:.1f} s")
    shutil.rmtree(folder)
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
