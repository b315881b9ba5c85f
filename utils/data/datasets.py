"""A data set as the toolkit holds it: uint8 tensors on one device, and views into them."""

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property
from weakref import WeakValueDictionary

import torch

from utils.data.placement import Placement, format_size
from utils.data.prefetch import max_batches_in_memory

MULTI_LABEL = "multi-label, binary-class"
BINARY = "binary-class"
MULTI_CLASS = "multi-class"
ORDINAL = "ordinal-regression"
CHUNK_SIZE = 1024  # images
TASKS = (MULTI_CLASS, BINARY, ORDINAL, MULTI_LABEL)


@dataclass(frozen=True)
class ImageSet:
    """A view of M images: rows `indices` of a storage that other views share.

    images: (N, C, H, W) uint8, the storage. labels: (M,) int64, or (M, K) int64 of 0 and 1 for
    multi-label data. indices: (M,) int64, rows of `images`, on their device. The labels are on the
    device that works; where the images are not, or are mapped from a file, `workers` threads read
    batches ahead (utils.data.prefetch).
    """

    images: torch.Tensor
    labels: torch.Tensor
    indices: torch.Tensor
    workers: int = 0

    @classmethod
    def from_tensors(cls, images, labels):
        """All of `images` (N, C, H, W) uint8 with their `labels`."""
        return cls(images, labels, torch.arange(len(images), device=images.device))

    def __len__(self):
        return len(self.indices)

    @property
    def device(self):
        """Where the work is done, and batches are brought."""
        return self.labels.device

    def batch(self, positions):
        """Images (B, C, H, W) uint8 and labels at `positions`, (B,) int64 or a slice."""
        return self.rows(positions).to(self.device), self.labels[positions]

    def batch_parts(self, positions):
        """[(ImageSet, positions in it)]: what `collate` needs the batches of."""
        return [(self, positions)]

    def collate(self, pieces, positions):
        """The batch at `positions` from the batches of its plan."""
        (piece,) = pieces
        return piece

    def rows(self, positions, allocate=None):
        """The images at `positions` alone, where the storage is.

        allocate: shape -> uint8 tensor for them, in place of torch's own; positions are (B,) then.
        """
        rows = self._own(positions)
        # files have the channels last: whole images are copied, not single values
        channels_last = not self.images.is_contiguous()
        stored = self.images.permute(0, 2, 3, 1) if channels_last else self.images
        if allocate is None:
            found = stored[rows]
        else:
            there = allocate((len(rows), *stored.shape[1:]))
            found = torch.index_select(stored, 0, rows, out=there)
        return found.permute(0, 3, 1, 2) if channels_last else found

    def subset(self, keep):
        """The view of `keep`: (M,) bool, positions as int64, or a slice."""
        return replace(self, labels=self.labels[keep], indices=self._own(keep))

    def _own(self, positions):
        if torch.is_tensor(positions):
            positions = positions.to(self.indices.device)
        return self.indices[positions]

    def with_labels(self, labels):
        """The same images under other labels."""
        return replace(self, labels=labels)

    def concat(self, other):
        """Both views as one. Raises ValueError if they look into different storages."""
        if self.images is not other.images:
            raise ValueError("only views of the same images can be joined")
        return replace(
            self,
            labels=torch.cat([self.labels, other.labels]),
            indices=torch.cat([self.indices, other.indices]),
        )

    def to(self, device):
        """The view on `device`, storage and all."""
        return ImageSet(*(t.to(device) for t in (self.images, self.labels, self.indices)))

    def stream_to(self, device, workers):
        """The view with its labels on `device`, and the images left where they are."""
        return replace(self, labels=self.labels.to(device), workers=workers)


class CompositeSet:
    """What goes as an epoch's images, and takes each batch from several ImageSets, `parts`.

    A kind of it has `plan` and `collate`, as an ImageSet has.
    """

    @property
    def device(self):
        return self.parts[0].device

    @property
    def workers(self):
        return max(part.workers for part in self.parts)

    def batch(self, positions):
        """Images (B, C, H, W) and labels at `positions`, (B,) int64 or a slice."""
        if isinstance(positions, slice):
            positions = torch.arange(len(self), device=self.device)[positions]
        pieces = [part.batch(own) for part, own in self.batch_parts(positions)]
        return self.collate(pieces, positions)


@dataclass(frozen=True)
class MedicalDataset:
    """Train, val and test split of one data set, with what its classes are called.

    task: one of TASKS, in MedMNIST's words. placement: where the user wants the images.
    memory_mapped: whether they are mapped from files.
    """

    name: str
    task: str
    class_names: tuple[str, ...]
    train: ImageSet
    val: ImageSet
    test: ImageSet
    placement: Placement = Placement()
    memory_mapped: bool = False

    @property
    def splits(self):
        return {"train": self.train, "val": self.val, "test": self.test}

    @property
    def num_classes(self):
        return len(self.class_names)

    @property
    def channels(self):
        return self.train.images.shape[1]

    @property
    def input_size(self):
        """Height and width of an image, in pixels."""
        return self.train.images.shape[-1]

    @property
    def is_multi_label(self):
        return self.task == MULTI_LABEL

    def describe_class(self, number):
        """`3 monocyte`; the number alone where that is all the name there is."""
        name = self.class_names[number]
        return str(number) if name == str(number) else f"{number} {name}"

    @property
    def image_bytes(self):
        """Size of the images of all splits."""
        return sum(split.images.nbytes for split in self.splits.values())

    def to(self, device):
        """The data set with its labels on `device`, and its images as well if they are to be.

        What is there already, because somebody uses it, is not brought again.
        """
        device = torch.device(device)
        moved = self._moved.get(device)
        if moved is None:
            moved = self._moved[device] = self._brought(device)
        return moved

    def _brought(self, device):
        if device.type == "cpu":
            copied = not self.memory_mapped
        else:
            copied = self.placement.on_device(self.image_bytes, device)
        if copied:
            splits = {name: split.to(device) for name, split in self.splits.items()}
        else:
            workers = self.placement.workers
            splits = {name: split.stream_to(device, workers) for name, split in self.splits.items()}
        moved = replace(self, **splits, memory_mapped=self.memory_mapped and not copied)
        vars(moved)["_digests"] = self._digests  # the same images
        return moved

    def describe_placement(self, batch_size):
        """Where the images lie, and how much memory they take, in words."""
        size, images = format_size(self.image_bytes), self.train.images
        if images.device == self.train.device and not self.memory_mapped:
            return f"images: {size}, {'in memory' if images.is_cpu else 'on the GPU'}"
        at_once = max_batches_in_memory(self.train.workers) * batch_size * images[0].nbytes
        return (
            f"images: {size}, {'on disk' if self.memory_mapped else 'in memory'}, read batch by "
            f"batch, at most {format_size(at_once)} at a time"
        )

    def train_digest(self):
        """SHA-256 of the training images and labels: says which data a model was trained on."""
        return self.digest("train")

    def digest(self, split):
        """SHA-256 of the images and labels of a split, worked out once."""
        if split not in self._digests:
            digest = hashlib.sha256()
            for tensor in (self.splits[split].images, self.splits[split].labels):
                digest.update(str(tuple(tensor.shape)).encode())
                for part in tensor.split(CHUNK_SIZE):  # a copy of all may not fit into memory
                    digest.update(part.cpu().contiguous().numpy())
            self._digests[split] = digest.hexdigest()
        return self._digests[split]

    @cached_property
    def _digests(self):
        return {}

    @cached_property
    def _moved(self):
        return WeakValueDictionary()


def class_membership(labels, num_classes):
    """Which image belongs to which class: (N, K) bool, from (N,) or (N, K) labels."""
    if labels.ndim == 2:
        return labels.bool()
    return labels[:, None] == torch.arange(num_classes, device=labels.device)
