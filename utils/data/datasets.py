"""Data sets as uint8 tensors on one device, and views of them."""

import hashlib
from collections.abc import Callable
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
TASKS = (MULTI_CLASS, BINARY, ORDINAL, MULTI_LABEL)
CHUNK_SIZE = 1024  # images


@dataclass(frozen=True)
class ImageSet:
    """A view of M images: rows `indices` of a storage that other views share.

    images: (N, C, H, W) uint8, the storage. labels: (M,) int64, or (M, K) int64 of 0 and 1 for
    multi-label data, on the compute device. indices: (M,) int64, rows of `images`, on their device.
    workers: threads that read batches ahead if the images are on another device or memory-mapped
    (utils.data.prefetch).
    """

    images: torch.Tensor
    labels: torch.Tensor
    indices: torch.Tensor
    workers: int = 0

    @classmethod
    def from_tensors(cls, images: torch.Tensor, labels: torch.Tensor) -> "ImageSet":
        """Return a view of all `images` (N, C, H, W) uint8 with their `labels`."""
        return cls(images, labels, torch.arange(len(images), device=images.device))

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def device(self) -> torch.device:
        """The compute device, on which `batch` returns images and labels."""
        return self.labels.device

    def batch(self, positions: torch.Tensor | slice) -> tuple[torch.Tensor, torch.Tensor]:
        """Return images (B, C, H, W) uint8 and labels at `positions`, (B,) int64 or a slice."""
        return self.read_images(positions).to(self.device), self.labels[positions]

    def batch_parts(self, positions: torch.Tensor) -> list[tuple["ImageSet", torch.Tensor]]:
        """Return the (ImageSet, positions in it) whose batches `collate` combines."""
        return [(self, positions)]

    def collate(
        self, pieces: list[tuple[torch.Tensor, torch.Tensor]], positions: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the batch at `positions`, given the batches of its `batch_parts`."""
        (piece,) = pieces
        return piece

    def read_images(
        self,
        positions: torch.Tensor | slice,
        allocate: Callable[[tuple[int, ...]], torch.Tensor] | None = None,
    ) -> torch.Tensor:
        """Return the images at `positions`, on the device of the storage.

        allocate: returns an uint8 tensor of a given shape to write to; then `positions` must be
        (B,) int64.
        """
        rows = self._rows(positions)
        # arrays of files are channels-last: index them as stored, so that whole images are copied
        channels_last = not self.images.is_contiguous()
        stored = self.images.permute(0, 2, 3, 1) if channels_last else self.images
        if allocate is None:
            images = stored[rows]
        else:
            out = allocate((len(rows), *stored.shape[1:]))
            images = torch.index_select(stored, 0, rows, out=out)
        return images.permute(0, 3, 1, 2) if channels_last else images

    def subset(self, keep: torch.Tensor | slice) -> "ImageSet":
        """Return the view of `keep`: (M,) bool, positions as int64, or a slice."""
        return replace(self, labels=self.labels[keep], indices=self._rows(keep))

    def _rows(self, positions):
        if torch.is_tensor(positions):
            positions = positions.to(self.indices.device)
        return self.indices[positions]

    def with_labels(self, labels: torch.Tensor) -> "ImageSet":
        """Return the same images with other labels."""
        return replace(self, labels=labels)

    def concat(self, other: "ImageSet") -> "ImageSet":
        """Return both views as one. Raises ValueError if they have different storages."""
        if self.images is not other.images:
            raise ValueError("only views of the same images can be concatenated")
        return replace(
            self,
            labels=torch.cat([self.labels, other.labels]),
            indices=torch.cat([self.indices, other.indices]),
        )

    def to(self, device: torch.device | str) -> "ImageSet":
        """Return the view on `device`, with a copy of the storage."""
        return ImageSet(*(t.to(device) for t in (self.images, self.labels, self.indices)))

    def stream_to(self, device: torch.device | str, workers: int) -> "ImageSet":
        """Return the view with labels on `device`, whose images are copied batch by batch."""
        return replace(self, labels=self.labels.to(device), workers=workers)


class CompositeSet:
    """Base of sets that combine each batch from several ImageSets.

    Subclasses define `parts`, `__len__`, and `batch_parts` and `collate` as ImageSet does.
    """

    @property
    def device(self) -> torch.device:
        """The compute device."""
        return self.parts[0].device

    @property
    def workers(self) -> int:
        """The largest number of reading threads of the parts."""
        return max(part.workers for part in self.parts)

    def batch(self, positions: torch.Tensor | slice) -> tuple[torch.Tensor, torch.Tensor]:
        """Return images (B, C, H, W) and labels at `positions`, (B,) int64 or a slice."""
        if isinstance(positions, slice):
            positions = torch.arange(len(self), device=self.device)[positions]
        pieces = [part.batch(own) for part, own in self.batch_parts(positions)]
        return self.collate(pieces, positions)


@dataclass(frozen=True)
class MedicalDataset:
    """The train, val and test splits of a data set, with its class names.

    task: one of TASKS, as MedMNIST names them. placement: the user's settings for storing images.
    memory_mapped: whether the images are mapped from files.
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
    def splits(self) -> dict[str, ImageSet]:
        """The splits by name."""
        return {"train": self.train, "val": self.val, "test": self.test}

    @property
    def num_classes(self) -> int:
        """Number of classes, or of findings in multi-label data."""
        return len(self.class_names)

    @property
    def channels(self) -> int:
        """1 for grey images, 3 for colour."""
        return self.train.images.shape[1]

    @property
    def input_size(self) -> int:
        """Height and width of an image, in pixels."""
        return self.train.images.shape[-1]

    @property
    def is_multi_label(self) -> bool:
        """Whether an image can have several labels."""
        return self.task == MULTI_LABEL

    def describe_class(self, number: int) -> str:
        """Return `3 monocyte`, or only the number if the class has no other name."""
        name = self.class_names[number]
        return str(number) if name == str(number) else f"{number} {name}"

    @property
    def image_bytes(self) -> int:
        """Bytes of the images of all splits."""
        return sum(split.images.nbytes for split in self.splits.values())

    def to(self, device: torch.device | str) -> "MedicalDataset":
        """Return the data set with labels on `device`, and the images too if `placement` says so.

        A copy on the device that is still in use is returned again.
        """
        device = torch.device(device)
        moved = self._copies.get(device)
        if moved is None:
            moved = self._copies[device] = self._move_to(device)
        return moved

    def _move_to(self, device):
        if device.type == "cpu":
            copy_images = not self.memory_mapped
        else:
            copy_images = self.placement.uses_device(self.image_bytes, device)
        if copy_images:
            splits = {name: split.to(device) for name, split in self.splits.items()}
        else:
            workers = self.placement.workers
            splits = {name: split.stream_to(device, workers) for name, split in self.splits.items()}
        moved = replace(self, **splits, memory_mapped=self.memory_mapped and not copy_images)
        vars(moved)["_digests"] = self._digests  # the images are the same
        return moved

    def describe_placement(self, batch_size: int) -> str:
        """Return one line: where the images are stored and how much memory they take."""
        size, images = format_size(self.image_bytes), self.train.images
        if images.device == self.train.device and not self.memory_mapped:
            return f"images: {size}, {'in memory' if images.is_cpu else 'on the GPU'}"
        resident = max_batches_in_memory(self.train.workers) * batch_size * images[0].nbytes
        return (
            f"images: {size}, {'on disk' if self.memory_mapped else 'in memory'}, read batch by "
            f"batch, at most {format_size(resident)} at a time"
        )

    def train_digest(self) -> str:
        """Return the SHA-256 of the training split, which identifies a model's training data."""
        return self.digest("train")

    def digest(self, split: str) -> str:
        """Return the SHA-256 of the images and labels of a split; computed once."""
        if split not in self._digests:
            digest = hashlib.sha256()
            for tensor in (self.splits[split].images, self.splits[split].labels):
                digest.update(str(tuple(tensor.shape)).encode())
                for chunk in tensor.split(CHUNK_SIZE):  # a copy of all may not fit into memory
                    digest.update(chunk.cpu().contiguous().numpy())
            self._digests[split] = digest.hexdigest()
        return self._digests[split]

    @cached_property
    def _digests(self):
        return {}

    @cached_property
    def _copies(self):
        return WeakValueDictionary()


def class_membership(labels: torch.Tensor, num_classes: int) -> torch.Tensor:
    """Return which image belongs to which class: (N, K) bool, from (N,) or (N, K) labels."""
    if labels.ndim == 2:
        return labels.bool()
    return labels[:, None] == torch.arange(num_classes, device=labels.device)
