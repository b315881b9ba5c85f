"""Read and validate .npz files in MedMNIST's format.

The format: `train_images`, `val_images`, `test_images`, uint8, (N, H, W) grey or (N, H, W, 3)
colour, H = W; `train_labels`, ..., whole numbers from 0, (N,) or (N, 1), or (N, K) of 0 and 1 for
multi-label data; optionally `class_names`, K strings. Nothing is unpickled.
"""

import math
import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from reprlib import repr as quoted  # shortens long strings
from unicodedata import category
from zipfile import BadZipFile

import numpy as np
from numpy.lib.format import (
    MAGIC_LEN,
    MAGIC_PREFIX,
    read_array_header_1_0,
    read_array_header_2_0,
    read_magic,
)

from utils.data.settings import MIN_SIDE
from utils.io.archives import CHUNK_SIZE, open_checked_zip, open_regular_file
from utils.runtime.errors import UserError

SPLITS = ("train", "val", "test")
IMAGE_KEYS = tuple(f"{split}_images" for split in SPLITS)
ARRAY_KEYS = tuple(f"{split}_{what}" for split in SPLITS for what in ("images", "labels"))
MAX_MEMBERS = 1000  # members with other names are ignored
MAX_HEADER_BYTES = 10_000  # shape and dtype of an array
HEADERS = {(1, 0): read_array_header_1_0, (2, 0): read_array_header_2_0}
ALWAYS_ALLOWED_BYTES = 2**28  # of arrays, whatever the size of the file
MAX_COMPRESSION_RATIO = 200  # images reach 10; deflate can reach 1000
MAX_NAME_LENGTH = 200  # characters of a class name
FORBIDDEN_CATEGORIES = ("Cc", "Cs")  # Unicode: control characters and surrogates
MAX_CLASSES = 10_000  # larger labels are most likely an error


def read_npz(
    path: str | Path,
    workers: int = 0,
    map_images: Callable[[str | Path, tuple[str, ...]], dict[str, np.ndarray]] | None = None,
) -> dict[str, np.ndarray | list[str]]:
    """Return the arrays of a file by key.

    `*_images` are (N, C, H, W) uint8, `*_labels` (N,) or (N, K) int64; `class_names`, if the file
    has them, is a list of str.

    workers: threads that decompress arrays; 0 uses the calling thread. map_images: called with path
    and keys, returns memory-mapped images instead of reading them (utils.data.disk_cache). Raises
    UserError if the file is missing, damaged or in another format.
    """
    arrays = _read_arrays(path, workers, skipped=IMAGE_KEYS if map_images else ())
    if map_images:
        arrays |= map_images(path, IMAGE_KEYS)
    names = arrays.pop("class_names", None)
    read = {}
    for split in SPLITS:
        images, labels = arrays.pop(f"{split}_images"), arrays.pop(f"{split}_labels")
        read[f"{split}_images"] = _check_images(images, f"{path}: {split}_images")
        read[f"{split}_labels"] = _check_labels(labels, len(images), f"{path}: {split}_labels")
    for what in ("images", "labels"):
        shapes = {read[f"{split}_{what}"].shape[1:] for split in SPLITS}
        if len(shapes) > 1:
            raise UserError(f"{path}: the three splits' {what} differ in shape: {sorted(shapes)}")
    if names is not None:
        read["class_names"] = _check_names(names, f"{path}: class_names")
    return read


def image_bytes(path: str | Path) -> int:
    """Return the bytes of all images by the zip directory of the file; 0 if it is damaged."""
    try:
        with open_regular_file(path) as stream:
            members = open_checked_zip(stream, MAX_MEMBERS).infolist()
    except (OSError, BadZipFile):
        return 0  # read_npz raises a UserError
    sizes = {member.filename: member.file_size for member in members}
    return sum(sizes.get(f"{key}.npy", 0) for key in IMAGE_KEYS)


def _read_arrays(path, workers, skipped):
    try:
        with open_regular_file(path) as stream:
            start = stream.read(MAGIC_LEN)
            if start[:-2] == MAGIC_PREFIX and tuple(start[-2:]) in HEADERS:
                raise UserError(f"{path} holds a single array; MedMNIST's format is a .npz file")
            archive = open_checked_zip(stream, MAX_MEMBERS)
            keys, headers = _find_keys(path, archive), {}
            for key in keys:
                headers[key] = _read_header(archive, f"{key}.npy")
            _check_size(headers.values(), os.fstat(stream.fileno()).st_size)
            keys = [key for key in keys if key not in skipped]
            if workers == 0:
                return {key: _read_array(archive, key, *headers[key]) for key in keys}
        with ThreadPoolExecutor(workers) as pool:  # one handle each: ZipFile is not thread-safe
            results = pool.map(lambda key: _read_one(path, key, *headers[key]), keys)
            return dict(zip(keys, results, strict=True))
    except FileNotFoundError:
        raise UserError(f"there is no file {path}") from None
    except (UserError, MemoryError):
        raise
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from error
    except Exception as error:  # for damaged files, numpy and zipfile raise almost any type
        raise UserError(f"{path} cannot be read as .npz, it may be cut short: {error}") from error


def _find_keys(path, archive):
    existing = {name.removesuffix(".npy") for name in archive.namelist()}
    missing = [key for key in ARRAY_KEYS if key not in existing]
    if missing:
        raise UserError(
            f"{path} has no {', '.join(missing)}; MedMNIST's format needs {', '.join(ARRAY_KEYS)}"
        )
    return [*ARRAY_KEYS, *(["class_names"] if "class_names" in existing else [])]


def _read_header(archive, name):
    """Return (shape, whether in Fortran order, dtype, bytes of the header) of a member.

    Raises BadZipFile unless the member has the length that its header implies. Then the array takes
    as much memory as the zip directory states, and reading it reaches the end, where the CRC is
    checked.
    """
    member = archive.getinfo(name)
    with archive.open(member) as part:
        version = read_magic(part)
        if version not in HEADERS:
            raise BadZipFile(f"{name} has the unknown format version {version}")
        shape, is_fortran, dtype = HEADERS[version](part, max_header_size=MAX_HEADER_BYTES)
        header = part.tell()
    if dtype.hasobject:
        raise BadZipFile(f"{name} holds Python objects (pickle), which are never loaded")
    if not all(count >= 0 for count in shape):
        raise BadZipFile(f"{name} has the invalid shape {shape}")
    if header + math.prod(shape) * dtype.itemsize != member.file_size:
        raise BadZipFile(f"{name} does not have the length of its shape {shape}")
    return shape, is_fortran, dtype, header


def _check_size(headers, file_size):
    """Refuse arrays that are many times larger than the file, before decompressing them."""
    array_size = sum(math.prod(shape) * dtype.itemsize for shape, _, dtype, _ in headers)
    if array_size > max(ALWAYS_ALLOWED_BYTES, MAX_COMPRESSION_RATIO * file_size):
        raise BadZipFile(
            f"its arrays would take {array_size / 2**20:,.0f} MB, over {MAX_COMPRESSION_RATIO} "
            "times as much as the file: if they are real images, save them uncompressed, "
            "with np.savez"
        )


def _read_one(path, key, *header):
    with open(path, "rb") as stream:
        return _read_array(open_checked_zip(stream, MAX_MEMBERS), key, *header)


def _read_array(archive, key, shape, is_fortran, dtype, header):
    array = np.empty(math.prod(shape), dtype)
    content = memoryview(array.view(np.uint8)) if array.nbytes else memoryview(b"")
    with archive.open(f"{key}.npy") as part:
        part.read(header)
        filled = 0
        while filled < len(content):
            count = part.readinto(content[filled : filled + CHUNK_SIZE])
            if not count:
                raise BadZipFile(f"{key} is cut short")
            filled += count
        part.read(1)  # at the end, zipfile compares the CRC
    return array.reshape(shape[::-1]).T if is_fortran else array.reshape(shape)


def _check_images(images, where):
    if images.dtype != np.uint8:
        raise UserError(f"{where} are {images.dtype}; they must be uint8, 0 to 255")
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4 or images.shape[3] not in (1, 3):
        raise UserError(
            f"{where} have the shape {images.shape}; it must be (N, H, W) or (N, H, W, 3)"
        )
    if len(images) == 0:
        raise UserError(f"{where} are empty")
    height, width = images.shape[1:3]
    if height != width or height < MIN_SIDE:
        raise UserError(
            f"{where} are {height}x{width} pixels; they must be square and at least "
            f"{MIN_SIDE}x{MIN_SIDE}: crop or pad them"
        )
    return images.transpose(0, 3, 1, 2)  # a view; a copy may not fit into memory


def _check_labels(labels, images, where):
    if labels.ndim not in (1, 2) or len(labels) != images or labels.size == 0:
        raise UserError(
            f"{where} have the shape {labels.shape} for {images} images; it must be ({images}, 1), "
            f"or ({images}, classes) for multi-label data"
        )
    if labels.dtype.kind not in "biuf":
        raise UserError(f"{where} are {labels.dtype}; they must be whole numbers")
    if labels.dtype.kind == "f" and not np.isfinite(labels).all():
        raise UserError(f"{where} hold NaN or infinity; every image needs a label")
    if labels.dtype.kind == "f" and (labels != np.floor(labels)).any():
        raise UserError(f"{where} hold fractions; they must be whole numbers")
    if labels.min() < 0:
        raise UserError(f"{where} are out of range: the lowest is {labels.min()}, it must be 0")
    if labels.max() >= MAX_CLASSES:
        raise UserError(
            f"{where} are out of range: the highest is {labels.max()}, it must be below "
            f"{MAX_CLASSES}"
        )
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim == 2 and labels.max() > 1:
        raise UserError(f"{where} are multi-label and out of range: only 0 and 1 are allowed")
    return labels.astype(np.int64)


def _check_names(names, where):
    if names.ndim != 1 or names.dtype.kind != "U":
        raise UserError(f"{where} must be a list of strings, not {names.dtype} {names.shape}")
    if len(names) > MAX_CLASSES:
        raise UserError(f"{where} has {len(names)} names; at most {MAX_CLASSES} are allowed")
    native = np.ascontiguousarray(names.astype(names.dtype.newbyteorder("=")))
    if native.nbytes and native.view(np.uint32).max() > sys.maxunicode:
        raise UserError(f"{where} hold invalid characters: save them as strings")
    cleaned = [" ".join(name.split()) for name in names.tolist()]
    for name in cleaned:
        if len(name) > MAX_NAME_LENGTH or any(
            category(character) in FORBIDDEN_CATEGORIES for character in name
        ):
            raise UserError(
                f"{where} must have at most {MAX_NAME_LENGTH} characters and no control "
                f"characters: {quoted(name)} does not fit"
            )
    return cleaned
