"""Reads a .npz file in MedMNIST's format, and says plainly what is wrong with one that is not.

The format: `train_images`, `val_images`, `test_images`, uint8, (N, H, W) grey or (N, H, W, 3)
colour, H = W; `train_labels`, ..., whole numbers from 0, (N,) or (N, 1), or (N, K) of 0 and 1 for
multi-label data; optionally `class_names`, K strings. Nothing is ever unpickled.
"""

import math
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from reprlib import repr as quoted  # cuts long strings short
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

from utils.io.archives import CHUNK_SIZE, open_checked_zip, open_regular_file
from utils.runtime.errors import UserError

SPLITS = ("train", "val", "test")
IMAGE_KEYS = tuple(f"{split}_images" for split in SPLITS)
ARRAY_KEYS = tuple(f"{split}_{what}" for split in SPLITS for what in ("images", "labels"))
SMALLEST_SIDE = 8  # pixels; less holds no picture
LARGEST_SIDE = 8192
MOST_MEMBERS = 1000  # of the file; those of other names are left alone
LONGEST_HEADER = 10_000  # bytes, of an array's shape and kind
HEADERS = {(1, 0): read_array_header_1_0, (2, 0): read_array_header_2_0}
ALWAYS_UNPACKED = 2**28  # bytes, however small the file
LARGEST_RATIO = 200  # of unpacked to packed; pictures reach 10, and deflate 1000
LONGEST_NAME = 200  # characters, of a class
NO_SIGNS = ("Cc", "Cs")  # of Unicode: what steers a terminal, and halves of signs
MOST_CLASSES = 10_000  # a label beyond it is an error, and a table as long would be of no use


def read_npz(path, workers=0, map_images=None):
    """Arrays of the file by key: `*_images` (N, C, H, W) uint8, `*_labels` (N,) or (N, K) int64.

    `class_names`, if the file has them, is a list of str. workers: threads that unpack the arrays
    side by side; 0 unpacks them in this thread. map_images: (path, keys) -> arrays by key, which
    brings the images where they are not to be read into memory (utils.data.disk_cache). Raises
    UserError for a file that is missing, damaged or not in the format.
    """
    arrays = _unpack(path, workers, skipped=IMAGE_KEYS if map_images else ())
    if map_images:
        arrays |= map_images(path, IMAGE_KEYS)
    names = arrays.pop("class_names", None)
    read = {}
    for split in SPLITS:
        images, labels = arrays.pop(f"{split}_images"), arrays.pop(f"{split}_labels")
        read[f"{split}_images"] = _checked_images(images, f"{path}: {split}_images")
        read[f"{split}_labels"] = _checked_labels(labels, len(images), f"{path}: {split}_labels")
    for what, axes in (("images", slice(1, None)), ("labels", slice(1, None))):
        shapes = {read[f"{split}_{what}"].shape[axes] for split in SPLITS}
        if len(shapes) > 1:
            raise UserError(f"{path}: the three splits' {what} differ in shape: {sorted(shapes)}")
    if names is not None:
        read["class_names"] = _checked_names(names, f"{path}: class_names")
    return read


def image_bytes(path):
    """What the images of the file take in memory, by its table of contents; 0 if it has none."""
    try:
        with open_regular_file(path) as stream:
            members = open_checked_zip(stream, MOST_MEMBERS).infolist()
    except (OSError, BadZipFile):
        return 0  # read_npz says what is wrong
    sizes = {member.filename: member.file_size for member in members}
    return sum(sizes.get(f"{key}.npy", 0) for key in IMAGE_KEYS)


def _unpack(path, workers, skipped):
    try:
        with open_regular_file(path) as stream:
            start = stream.read(MAGIC_LEN)
            if start[:-2] == MAGIC_PREFIX and tuple(start[-2:]) in HEADERS:
                raise UserError(f"{path} holds a single array; MedMNIST's format is a .npz file")
            archive = open_checked_zip(stream, MOST_MEMBERS)
            keys, headers = _wanted_keys(path, archive), {}
            for key in keys:
                headers[key] = _read_header(archive, f"{key}.npy")
            _check_size(headers.values(), os.fstat(stream.fileno()).st_size)
            keys = [key for key in keys if key not in skipped]
            if workers == 0:
                return {key: _read_array(archive, key, *headers[key]) for key in keys}
        with ThreadPoolExecutor(workers) as pool:  # a handle each: zip files are not thread-safe
            read = pool.map(lambda key: _read_one(path, key, *headers[key]), keys)
            return dict(zip(keys, read, strict=True))
    except FileNotFoundError:
        raise UserError(f"there is no file {path}") from None
    except (UserError, MemoryError):
        raise
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from error
    except Exception as error:  # numpy and zipfile meet damaged files with nearly any exception
        raise UserError(f"{path} cannot be read as .npz, it may be cut short: {error}") from error


def _wanted_keys(path, archive):
    held = {name.removesuffix(".npy") for name in archive.namelist()}
    missing = [key for key in ARRAY_KEYS if key not in held]
    if missing:
        raise UserError(
            f"{path} has no {', '.join(missing)}; MedMNIST's format needs {', '.join(ARRAY_KEYS)}"
        )
    return [*ARRAY_KEYS, *(["class_names"] if "class_names" in held else [])]


def _read_header(archive, name):
    """(shape, whether it is in Fortran's order, dtype, bytes of the header) of a member.

    Raises BadZipFile unless the member is as long as its header says: then an array takes as much
    memory as the directory of the file tells, and all of it, CRC and all, is read with the array.
    """
    member = archive.getinfo(name)
    with archive.open(member) as part:
        version = read_magic(part)
        if version not in HEADERS:
            raise BadZipFile(f"{name} is in a version {version} that numpy does not write")
        shape, is_fortran, dtype = HEADERS[version](part, max_header_size=LONGEST_HEADER)
        header = part.tell()
    if dtype.hasobject:
        raise BadZipFile(f"{name} holds Python objects (pickle), which are not read")
    if not all(count >= 0 for count in shape):
        raise BadZipFile(f"{name} has the shape {shape}")
    if header + math.prod(shape) * dtype.itemsize != member.file_size:
        raise BadZipFile(f"{name} is not as long as its shape {shape} says")
    return shape, is_fortran, dtype, header


def _check_size(headers, packed):
    """Refuse arrays that unfold into many times the file, before they do."""
    unpacked = sum(math.prod(shape) * dtype.itemsize for shape, _, dtype, _ in headers)
    if unpacked > max(ALWAYS_UNPACKED, LARGEST_RATIO * packed):
        raise BadZipFile(
            f"its arrays would take {unpacked / 2**20:,.0f} MB, over {LARGEST_RATIO} times as much "
            "as the file: if they are pictures all the same, save them with np.savez, unpacked"
        )


def _read_one(path, key, *header):
    with open(path, "rb") as stream:
        return _read_array(open_checked_zip(stream, MOST_MEMBERS), key, *header)


def _read_array(archive, key, shape, is_fortran, dtype, header):
    array = np.empty(math.prod(shape), dtype)
    content = memoryview(array.view(np.uint8)) if array.nbytes else memoryview(b"")
    with archive.open(f"{key}.npy") as part:
        part.read(header)
        filled = 0
        while filled < len(content):
            got = part.readinto(content[filled : filled + CHUNK_SIZE])
            if not got:
                raise BadZipFile(f"{key} is cut short")
            filled += got
        part.read(1)  # the CRC is compared at the end
    return array.reshape(shape[::-1]).T if is_fortran else array.reshape(shape)


def _checked_images(images, where):
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
    if height != width or height < SMALLEST_SIDE:
        raise UserError(
            f"{where} are {height}x{width} pixels; they must be square and at least "
            f"{SMALLEST_SIDE}x{SMALLEST_SIDE}: crop or pad them"
        )
    return images.transpose(0, 3, 1, 2)  # a view: a copy might not fit into memory


def _checked_labels(labels, images, where):
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
    if labels.max() >= MOST_CLASSES:
        raise UserError(
            f"{where} are out of range: the highest is {labels.max()}, it must be below "
            f"{MOST_CLASSES}"
        )
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim == 2 and labels.max() > 1:
        raise UserError(f"{where} are multi-label and out of range: only 0 and 1 are allowed")
    return labels.astype(np.int64)


def _checked_names(names, where):
    if names.ndim != 1 or names.dtype.kind != "U":
        raise UserError(f"{where} must be a list of strings, not {names.dtype} {names.shape}")
    if len(names) > MOST_CLASSES:
        raise UserError(f"{where} are {len(names)} names; there must be {MOST_CLASSES} at most")
    native = np.ascontiguousarray(names.astype(names.dtype.newbyteorder("=")))
    if native.nbytes and native.view(np.uint32).max() > sys.maxunicode:
        raise UserError(f"{where} hold numbers that are no letters: save them as strings")
    tidy = [" ".join(name.split()) for name in names.tolist()]
    for name in tidy:
        if len(name) > LONGEST_NAME or any(category(sign) in NO_SIGNS for sign in name):
            raise UserError(
                f"{where} must be of {LONGEST_NAME} characters at most, without control "
                f"characters: {quoted(name)} is not"
            )
    return tidy
