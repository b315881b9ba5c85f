"""Load torch.save files from untrusted sources, and compute digests of their content.

torch.load(weights_only=True) does the loading. It runs no code of the file, but it neither checks
CRCs nor bounds the memory that a file makes it allocate; the checks here do both.
"""

import hashlib
import zipfile
from pathlib import PurePosixPath
from typing import Any, BinaryIO

import numpy as np
import torch

from utils.io.archives import open_checked_zip, read_member, repack
from utils.io.pickles import check_pickle
from utils.runtime.errors import UserError

MAX_MEMBERS = 100_000  # tensors of an ensemble of many networks
MAX_VALUES = 20_000_000  # numbers, strings and tensors
LEGACY_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19"  # start of files before PyTorch 1.6


class TensorFileError(Exception):
    """The file is not one that torch.save of PyTorch 1.6 or later writes."""


def read_tensors(stream: BinaryIO) -> Any:
    """Return what torch.save wrote to `stream`, on the CPU.

    No code of the file runs, every CRC is checked, and memory is bounded by the file's size.
    Raises TensorFileError, UnsafePickleError, BadZipFile, or any error of torch.load.
    """
    if stream.read(len(LEGACY_MAGIC)) == LEGACY_MAGIC:
        raise TensorFileError(
            "it is in the format of PyTorch before version 1.6: load it with torch and save it "
            "again"
        )
    archive = open_checked_zip(stream, MAX_MEMBERS, compressions=(zipfile.ZIP_STORED,))
    paths = [PurePosixPath(name).parts for name in archive.namelist()]
    if len({parts[0] for parts in paths if parts}) != 1:
        raise TensorFileError("it is a zip file, but not of torch.save")
    members = {parts[1:]: m for parts, m in zip(paths, archive.infolist(), strict=True)}
    lengths = {parts[1]: m.file_size for parts, m in members.items() if parts[:1] == ("data",)}
    if ("data.pkl",) not in members:
        raise TensorFileError("it is a zip file, but not of torch.save")
    check_pickle(read_member(archive, members[("data.pkl",)]), lengths)
    return torch.load(repack(archive), map_location="cpu", weights_only=True)


def content_digest(content: Any) -> str:
    """Return the SHA-256 of plain data and tensors, nested in dicts, lists and tuples, in order.

    A list and a tuple of the same values have the same digest. Raises UserError for other types.
    """
    digest, remaining = hashlib.sha256(), [MAX_VALUES]
    _update(digest.update, content, remaining)
    return digest.hexdigest()


def tensor_bytes(tensor: torch.Tensor) -> np.ndarray:
    """Return the bytes of a tensor's elements in order: one-dimensional, uint8."""
    return tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy()


def _update(update, value, remaining):
    """Pass the type, length and bytes of a value to `update`, recursively."""
    remaining[0] -= 1
    if remaining[0] < 0:
        raise UserError("a record holds too many values")
    match value:
        case dict():
            update(f"dict {len(value)} ".encode())
            for key, part in value.items():
                _update(update, key, remaining)
                _update(update, part, remaining)
        case list() | tuple():
            update(f"list {len(value)} ".encode())
            for part in value:
                _update(update, part, remaining)
        case torch.Tensor():
            update(f"tensor {value.dtype} {tuple(value.shape)} ".encode())
            update(tensor_bytes(value))
        case str():
            text = value.encode()
            update(f"str {len(text)} ".encode() + text)
        case None | bool() | int() | float():
            update(f"{type(value).__name__} {value!r} ".encode())
        case _:
            raise UserError(f"a record cannot hold a {type(value).__name__}")
