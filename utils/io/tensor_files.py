"""Files of torch.save from elsewhere: checked before they are loaded, told apart by a digest."""

import hashlib
import zipfile
from pathlib import PurePosixPath

import torch

from utils.io.archives import open_checked_zip, read_member, repack
from utils.io.pickles import check_pickle
from utils.runtime.errors import UserError

MOST_MEMBERS = 100_000  # a tensor each, of an ensemble of many networks
MOST_VALUES = 20_000_000  # numbers and texts beside the tensors
LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19"  # how files began before PyTorch 1.6


class TensorFileError(Exception):
    """The file cannot be trusted; says why."""


def read_tensors(stream):
    """What torch.save wrote to `stream`, on the CPU: nothing in the file is run or believed.

    Every byte of the file is covered by a CRC of the zip that it is. Raises UnsafePickleError,
    BadZipFile, or whatever torch meets in files of other kinds.
    """
    if stream.read(len(LEGACY)) == LEGACY:
        raise TensorFileError(
            "it is in PyTorch's format from before version 1.6: load it there, and save it anew"
        )
    archive = open_checked_zip(stream, MOST_MEMBERS, kinds=(zipfile.ZIP_STORED,))
    paths = [PurePosixPath(name).parts for name in archive.namelist()]
    if len({parts[0] for parts in paths if parts}) != 1:
        raise TensorFileError("it is a zip file of another kind")
    members = {parts[1:]: m for parts, m in zip(paths, archive.infolist(), strict=True)}
    lengths = {parts[1]: m.file_size for parts, m in members.items() if parts[:1] == ("data",)}
    if ("data.pkl",) not in members:
        raise TensorFileError("it is a zip file of another kind")
    check_pickle(read_member(archive, members[("data.pkl",)]), lengths)
    return torch.load(repack(archive), map_location="cpu", weights_only=True)


def content_digest(content):
    """SHA-256 of plain data and tensors: of nested dicts, lists and tuples of them, in order.

    Lists and tuples are the same. Raises UserError for anything else.
    """
    digest, left = hashlib.sha256(), [MOST_VALUES]
    _feed(digest.update, content, left)
    return digest.hexdigest()


def tensor_bytes(tensor):
    """The bytes of a tensor's elements, in order, for a digest."""
    return tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy()


def _feed(update, value, left):
    left[0] -= 1
    if left[0] < 0:
        raise UserError("a record holds too many values")
    match value:
        case dict():
            update(f"dict {len(value)} ".encode())
            for key, part in value.items():
                _feed(update, key, left)
                _feed(update, part, left)
        case list() | tuple():
            update(f"list {len(value)} ".encode())
            for part in value:
                _feed(update, part, left)
        case torch.Tensor():
            update(f"tensor {value.dtype} {tuple(value.shape)} ".encode())
            update(tensor_bytes(value))
        case str():
            text = value.encode()
            update(f"str {len(text)} ".encode() + text)
        case None | bool() | int() | float():
            update(f"{type(value).__name__} {value!r} ".encode())
        case _:
            raise UserError(f"a record can hold no {type(value).__name__}")
