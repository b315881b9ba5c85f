"""Reads a .npz file in MedMNIST's format, and says plainly what is wrong with one that is not.

The format: `train_images`, `val_images`, `test_images`, uint8, (N, H, W) grey or (N, H, W, 3)
colour, H = W; `train_labels`, ..., whole numbers from 0, (N,) or (N, 1), or (N, K) of 0 and 1 for
multi-label data; optionally `class_names`, K strings. Nothing is ever unpickled.
"""

import zipfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from utils.errors import UserError

SPLITS = ("train", "val", "test")
IMAGE_KEYS = tuple(f"{split}_images" for split in SPLITS)
ARRAY_KEYS = tuple(f"{split}_{what}" for split in SPLITS for what in ("images", "labels"))
SMALLEST_SIDE = 8  # pixels; less holds no picture
LARGEST_SIDE = 8192
MOST_CLASSES = 10_000  # a label beyond it is an error, and a table as long would be of no use


def read_npz(path, workers=0, map_images=None):
    """Arrays of the file by key: `*_images` (N, C, H, W) uint8, `*_labels` (N,) or (N, K) int64.

    `class_names`, if the file has them, is a list of str. workers: threads that unpack the arrays
    side by side; 0 unpacks them in this thread. map_images: (path, keys) -> arrays by key, which
    brings the images where they are not to be read into memory (utils.unpacked). Raises UserError
    for a file that is missing, damaged or not in the format.
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
        with zipfile.ZipFile(path) as archive:
            sizes = {member.filename: member.file_size for member in archive.infolist()}
    except (OSError, zipfile.BadZipFile):
        return 0  # read_npz says what is wrong
    return sum(sizes.get(f"{key}.npy", 0) for key in IMAGE_KEYS)


def _unpack(path, workers, skipped):
    try:
        with open(path, "rb") as stream:  # numpy leaves a file open that it cannot read
            file = np.load(stream, allow_pickle=False)
            if not isinstance(file, np.lib.npyio.NpzFile):
                raise UserError(f"{path} holds a single array; MedMNIST's format is a .npz file")
            missing = [key for key in ARRAY_KEYS if key not in file.files]
            if missing:
                raise UserError(
                    f"{path} has no {', '.join(missing)}; MedMNIST's format needs "
                    f"{', '.join(ARRAY_KEYS)}"
                )
            keys = [key for key in ARRAY_KEYS if key not in skipped]
            keys += ["class_names"] if "class_names" in file.files else []
            if workers == 0:
                return {key: file[key] for key in keys}
        with ThreadPoolExecutor(workers) as pool:  # a handle each: zip files are not thread-safe
            return dict(zip(keys, pool.map(lambda key: _read_one(path, key), keys), strict=True))
    except FileNotFoundError:
        raise UserError(f"there is no file {path}") from None
    except (UserError, MemoryError):
        raise
    except Exception as error:  # numpy and zipfile meet damaged files with nearly any exception
        raise UserError(f"{path} cannot be read as .npz, it may be cut short: {error}") from error


def _read_one(path, key):
    with np.load(path, allow_pickle=False) as file:
        return file[key]


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
    return [str(name) for name in names]
