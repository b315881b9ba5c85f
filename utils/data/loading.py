"""From what a user calls a data set to the data set itself."""

import os
from functools import partial
from pathlib import Path
from weakref import WeakValueDictionary

import torch
from medmnist.info import INFO
from torchvision.transforms.v2 import functional as transforms

from utils.data import datasets, disk_cache, medmnist_files, synthetic
from utils.data.datasets import ImageSet, MedicalDataset
from utils.data.npz import IMAGE_KEYS, SPLITS, image_bytes, read_npz
from utils.data.placement import Placement
from utils.io.files import suggest_name
from utils.runtime.errors import UserError
from utils.text import encodable

SYNTHETIC = "SynthBloodMNIST"
NAMES = (SYNTHETIC, *medmnist_files.DATASETS)
DRAWN_SEED = 0  # one and the same SynthBloodMNIST for everybody
LARGEST_DRAWN = 1024  # pixels
CHUNK_SIZE = 1024  # images that are resized or compared
FREELY = Placement()

_in_use = WeakValueDictionary()  # data sets by what they were loaded from, or the size drawn


def load_dataset(name, *, input_size=None, data_root=None, placement=FREELY):
    """The data set `name`: a MedMNIST class name in any letter case, SynthBloodMNIST, or a path.

    input_size: height and width in pixels; by default 28, or a .npz file's own. A file's images
    of another size are resized. data_root: where MedMNIST's files lie, by default medmnist's
    cache. placement: where the images are to lie. A file that has not changed since it was loaded
    is not read again as long as the data set is in use. Raises UserError for anything a user can
    mend.
    """
    by_lower = {known.lower(): known for known in NAMES}
    known = by_lower.get(name.lower())
    if known == SYNTHETIC:
        size = input_size or medmnist_files.SIZES[0]
        if not medmnist_files.SIZES[0] <= size <= LARGEST_DRAWN:
            raise UserError(
                f"--input_size {size}: {SYNTHETIC} is drawn from {medmnist_files.SIZES[0]} to "
                f"{LARGEST_DRAWN} pixels"
            )
        dataset = _in_use.get(size)
        if dataset is None:
            dataset = _in_use[size] = _drawn(size)
        return dataset
    if known:
        return _load_medmnist(known, input_size, data_root, placement)
    if name.lower().endswith(".npz") or os.path.exists(name):
        return _once(_load_file, Path(name), input_size, placement)
    if name.lower() in (other.lower() for other in medmnist_files.DATASETS_3D):
        raise UserError(f"--dataset {name} is three-dimensional; only 2D sets can be used")
    raise UserError(
        f"unknown data set {name!r}{suggest_name(name, NAMES)}: use {', '.join(NAMES)}, "
        "or the path of a .npz file"
    )


def check_images_differ(dataset):
    """Raises UserError if all training images are the same: losses would only grow on them."""
    images = dataset.train.images
    parts = images.split(CHUNK_SIZE)
    if all(torch.equal(part, images[:1].expand_as(part)) for part in parts):
        raise UserError(
            f"all training images of {dataset.name} are the same: there is nothing to learn from "
            "them; look at how they were made"
        )


def _drawn(size):
    drawn = synthetic.make_synth_blood(size, DRAWN_SEED)
    arrays = {
        key: array.transpose(0, 3, 1, 2) if key.endswith("images") else array[:, 0]
        for key, array in drawn.items()
    }
    return _assemble(SYNTHETIC, datasets.MULTI_CLASS, synthetic.CLASS_NAMES, arrays)


def _load_medmnist(known, input_size, data_root, placement):
    size = input_size or medmnist_files.SIZES[0]
    if size not in medmnist_files.SIZES:
        sizes = ", ".join(map(str, medmnist_files.SIZES))
        raise UserError(f"--input_size {size}: {known} comes in {sizes} pixels")
    path = medmnist_files.fetch_medmnist_file(medmnist_files.DATASETS[known], size, data_root)
    return _once(_assemble_medmnist, path, size, known, placement)


def _once(load, path, input_size, *settings):
    """load(path, input_size, *settings), or what it gave before if the file is the same."""
    try:
        file = os.stat(path)
    except OSError:  # load says what is wrong
        return load(path, input_size, *settings)
    version = file.st_dev, file.st_ino, file.st_size, file.st_mtime_ns, file.st_ctime_ns
    key = (load, os.path.abspath(path), *version, *settings)
    for size in (input_size, None):  # the file's own size may be the one that is asked for
        dataset = _in_use.get((*key, size))
        if dataset is not None and input_size in (None, dataset.input_size):
            return dataset
    dataset = _in_use[(*key, input_size)] = load(path, input_size, *settings)
    return dataset


def _assemble_medmnist(path, _, known, placement):
    info = INFO[medmnist_files.DATASETS[known]]
    arrays, memory_mapped = _read(path, placement)
    names = tuple(info["label"][str(number)] for number in range(len(info["label"])))
    return _assemble(known, info["task"], names, arrays, placement, memory_mapped)


def _load_file(path, input_size, placement):
    arrays, memory_mapped = _read(path, placement)
    if not path.stem.strip("."):
        raise UserError(f"the name of the file {path} cannot be the name of a folder: rename it")
    labels = [arrays[f"{split}_labels"] for split in SPLITS]
    multi_label = labels[0].ndim == 2
    found = labels[0].shape[1] if multi_label else 1 + max(int(part.max()) for part in labels)
    names = arrays.get("class_names") or [str(number) for number in range(found)]
    if len(names) < found or (multi_label and len(names) != found):
        raise UserError(f"{path}: labels are out of range: {found} classes, {len(names)} names")
    if len(names) < 2:
        raise UserError(f"{path} has a single class; a classifier needs at least two")
    task = datasets.BINARY if len(names) == 2 else datasets.MULTI_CLASS
    task = datasets.MULTI_LABEL if multi_label else task
    own_size = arrays["train_images"].shape[-1]
    if input_size not in (None, own_size):
        needed = sum(arrays[key].nbytes for key in IMAGE_KEYS) * input_size**2 // own_size**2
        memory_mapped = not placement.in_memory(needed)
        for key in IMAGE_KEYS:
            arrays[key] = _resized(arrays[key], input_size, path, key, placement, memory_mapped)
    return _assemble(encodable(path.stem), task, names, arrays, placement, memory_mapped)


def _read(path, placement):
    """(arrays of read_npz, whether the images are mapped from the disk)."""
    if placement.in_memory(image_bytes(path)):
        return read_npz(path, placement.workers), False
    mapped = partial(disk_cache.map_arrays, cache=placement.cache)
    return read_npz(path, placement.workers, mapped), True


def _assemble(name, task, class_names, arrays, placement=FREELY, memory_mapped=False):
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


def _resized(images, size, path, key, placement, memory_mapped):
    """Bilinear with antialiasing, as an image viewer would, once and not batch by batch."""
    parts = (
        transforms.resize(part, [size, size], antialias=True).permute(0, 2, 3, 1)
        for part in torch.as_tensor(images).split(CHUNK_SIZE)
    )
    count, channels = images.shape[:2]
    shape = (count, size, size, channels)
    if memory_mapped:
        whole = disk_cache.map_chunks(path, f"{key}_{size}", parts, shape, placement.cache)
    else:
        whole = torch.cat(list(parts)).numpy()
    return whole.transpose(0, 3, 1, 2)
