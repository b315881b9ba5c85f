"""Load a data set by its name or by the path of a .npz file."""

import os
from functools import partial
from pathlib import Path
from weakref import WeakValueDictionary

import torch
from torchvision.transforms.v2 import functional as transforms

from utils.data import datasets, disk_cache, medmnist_files, synthetic
from utils.data.datasets import ImageSet, MedicalDataset
from utils.data.medmnist_files import INFO
from utils.data.npz import IMAGE_KEYS, SPLITS, image_bytes, read_npz
from utils.data.placement import Placement
from utils.data.settings import SYNTHETIC
from utils.io.files import suggest_name
from utils.runtime.errors import UserError
from utils.text import encodable

NAMES = (SYNTHETIC, *medmnist_files.DATASETS)
SYNTHETIC_SEED = 0
MAX_SYNTHETIC_SIZE = 1024  # pixels
CHUNK_SIZE = 1024  # images resized or compared at a time
DEFAULT_PLACEMENT = Placement()

_loaded = WeakValueDictionary()  # data sets in use, by source file or synthetic size


def load_dataset(
    name: str,
    *,
    input_size: int | None = None,
    data_root: str | Path | None = None,
    placement: Placement = DEFAULT_PLACEMENT,
) -> MedicalDataset:
    """Return the data set `name`.

    name: a MedMNIST class name or SynthBloodMNIST, in any letter case, or the path of a .npz file.
    input_size: height and width in pixels; by default 28, or the size in the .npz file, whose
    images are resized to any other. data_root: folder of MedMNIST's files, by default medmnist's
    cache. placement: where images are stored.

    While a data set is in use, its file is read again only if it has changed. Raises UserError.
    """
    by_lower = {known.lower(): known for known in NAMES}
    known = by_lower.get(name.lower())
    if known == SYNTHETIC:
        size = input_size or medmnist_files.SIZES[0]
        if not medmnist_files.SIZES[0] <= size <= MAX_SYNTHETIC_SIZE:
            raise UserError(
                f"--input_size {size}: {SYNTHETIC} comes in {medmnist_files.SIZES[0]} to "
                f"{MAX_SYNTHETIC_SIZE} pixels"
            )
        dataset = _loaded.get(size)
        if dataset is None:
            dataset = _loaded[size] = _make_synthetic(size)
        return dataset
    if known:
        return _load_medmnist(known, input_size, data_root, placement)
    if name.lower().endswith(".npz") or os.path.exists(name):
        return _load_cached(_load_file, Path(name), input_size, placement)
    if name.lower() in (other.lower() for other in medmnist_files.DATASETS_3D):
        raise UserError(f"--dataset {name} is three-dimensional: use a 2D data set")
    raise UserError(
        f"unknown data set {name!r}{suggest_name(name, NAMES)}: use {', '.join(NAMES)}, "
        "or the path of a .npz file"
    )


def check_images_differ(dataset: MedicalDataset) -> None:
    """Raise UserError if all training images are identical: nothing can be learned from them."""
    images = dataset.train.images
    chunks = images.split(CHUNK_SIZE)
    if all(torch.equal(chunk, images[:1].expand_as(chunk)) for chunk in chunks):
        raise UserError(
            f"all training images of {dataset.name} are the same, nothing can be learned from "
            "them: check how the file was created"
        )


def _make_synthetic(size):
    data = synthetic.make_synth_blood(size, SYNTHETIC_SEED)
    arrays = {
        key: array.transpose(0, 3, 1, 2) if key.endswith("images") else array[:, 0]
        for key, array in data.items()
    }
    return _assemble(SYNTHETIC, datasets.MULTI_CLASS, synthetic.CLASS_NAMES, arrays)


def _load_medmnist(known, input_size, data_root, placement):
    size = input_size or medmnist_files.SIZES[0]
    if size not in medmnist_files.SIZES:
        sizes = ", ".join(map(str, medmnist_files.SIZES))
        raise UserError(f"--input_size {size}: {known} comes in {sizes} pixels")
    path = medmnist_files.fetch_medmnist_file(medmnist_files.DATASETS[known], size, data_root)
    return _load_cached(_assemble_medmnist, path, size, known, placement)


def _load_cached(load, path, input_size, *settings):
    """Return load(path, input_size, *settings), or its earlier result if the file is the same."""
    try:
        file = os.stat(path)
    except OSError:  # `load` raises a UserError
        return load(path, input_size, *settings)
    version = file.st_dev, file.st_ino, file.st_size, file.st_mtime_ns, file.st_ctime_ns
    key = (load, os.path.abspath(path), *version, *settings)
    for size in (input_size, None):  # the requested size may be that of the file
        dataset = _loaded.get((*key, size))
        if dataset is not None and input_size in (None, dataset.input_size):
            return dataset
    dataset = _loaded[(*key, input_size)] = load(path, input_size, *settings)
    return dataset


def _assemble_medmnist(path, _, known, placement):
    info = INFO[medmnist_files.DATASETS[known]]
    arrays, memory_mapped = _read(path, placement)
    names = tuple(info["label"][str(number)] for number in range(len(info["label"])))
    return _assemble(known, info["task"], names, arrays, placement, memory_mapped)


def _load_file(path, input_size, placement):
    arrays, memory_mapped = _read(path, placement)
    if not path.stem.strip("."):
        raise UserError(f"the name of the file {path} is not a valid folder name: rename it")
    labels = [arrays[f"{split}_labels"] for split in SPLITS]
    multi_label = labels[0].ndim == 2
    count = labels[0].shape[1] if multi_label else 1 + max(int(part.max()) for part in labels)
    names = arrays.get("class_names") or [str(number) for number in range(count)]
    if len(names) < count or (multi_label and len(names) != count):
        raise UserError(f"{path}: labels are out of range: {count} classes, {len(names)} names")
    if len(names) < 2:
        raise UserError(f"{path} has a single class; a classifier needs at least two")
    task = datasets.BINARY if len(names) == 2 else datasets.MULTI_CLASS
    task = datasets.MULTI_LABEL if multi_label else task
    own_size = arrays["train_images"].shape[-1]
    if input_size not in (None, own_size):
        needed = sum(arrays[key].nbytes for key in IMAGE_KEYS) * input_size**2 // own_size**2
        memory_mapped = not placement.uses_host_memory(needed)
        for key in IMAGE_KEYS:
            arrays[key] = _resize(arrays[key], input_size, path, key, placement, memory_mapped)
    return _assemble(encodable(path.stem), task, names, arrays, placement, memory_mapped)


def _read(path, placement):
    """Return (arrays of read_npz, whether the images are memory-mapped)."""
    if placement.uses_host_memory(image_bytes(path)):
        return read_npz(path, placement.workers), False
    map_images = partial(disk_cache.map_arrays, cache=placement.cache)
    return read_npz(path, placement.workers, map_images), True


def _assemble(name, task, class_names, arrays, placement=DEFAULT_PLACEMENT, memory_mapped=False):
    splits = {
        split: ImageSet.from_tensors(
            torch.as_tensor(arrays[f"{split}_images"]),
            torch.as_tensor(arrays[f"{split}_labels"]).long(),
        )
        for split in SPLITS
    }
    if memory_mapped:
        splits = {key: part.stream_to("cpu", placement.workers) for key, part in splits.items()}
    return MedicalDataset(
        name, task, tuple(class_names), **splits, placement=placement, memory_mapped=memory_mapped
    )


def _resize(images, size, path, key, placement, memory_mapped):
    """Resize bilinearly with antialiasing: (N, C, size, size) uint8."""
    chunks = (
        transforms.resize(chunk, [size, size], antialias=True).permute(0, 2, 3, 1)
        for chunk in torch.as_tensor(images).split(CHUNK_SIZE)
    )
    count, channels = images.shape[:2]
    shape = (count, size, size, channels)
    if memory_mapped:
        resized = disk_cache.map_chunks(path, f"{key}_{size}", chunks, shape, placement.cache)
    else:
        resized = torch.cat(list(chunks)).numpy()
    return resized.transpose(0, 3, 1, 2)
