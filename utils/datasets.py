"""A data set as the toolkit holds it: uint8 tensors on one device, and views into them."""

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property

import torch

MULTI_LABEL = "multi-label, binary-class"
BINARY = "binary-class"
MULTI_CLASS = "multi-class"
ORDINAL = "ordinal-regression"
TASKS = (MULTI_CLASS, BINARY, ORDINAL, MULTI_LABEL)


@dataclass(frozen=True)
class ImageSet:
    """A view of M images: rows `indices` of a storage that other views share.

    images: (N, C, H, W) uint8, the storage. labels: (M,) int64, or (M, K) int64 of 0 and 1 for
    multi-label data. indices: (M,) int64, rows of `images`.
    """

    images: torch.Tensor
    labels: torch.Tensor
    indices: torch.Tensor

    @classmethod
    def of(cls, images, labels):
        """All of `images` (N, C, H, W) uint8 with their `labels`."""
        return cls(images, labels, torch.arange(len(images), device=images.device))

    def __len__(self):
        return len(self.indices)

    @property
    def device(self):
        return self.images.device

    def batch(self, positions):
        """Images (B, C, H, W) uint8 and labels at `positions`, (B,) int64 or a slice."""
        return self.images[self.indices[positions]], self.labels[positions]

    def subset(self, keep):
        """The view of `keep`: (M,) bool, positions as int64, or a slice."""
        return ImageSet(self.images, self.labels[keep], self.indices[keep])

    def with_labels(self, labels):
        """The same images under other labels."""
        return replace(self, labels=labels)

    def joined(self, other):
        """Both views as one. Raises ValueError if they look into different storages."""
        if self.images is not other.images:
            raise ValueError("only views of the same images can be joined")
        return ImageSet(
            self.images,
            torch.cat([self.labels, other.labels]),
            torch.cat([self.indices, other.indices]),
        )

    def to(self, device):
        """The view on `device`, storage and all."""
        return ImageSet(*(t.to(device) for t in (self.images, self.labels, self.indices)))


@dataclass(frozen=True)
class MedicalDataset:
    """Train, val and test split of one data set, with what its classes are called.

    task: one of TASKS, in MedMNIST's words.
    """

    name: str
    task: str
    class_names: tuple[str, ...]
    train: ImageSet
    val: ImageSet
    test: ImageSet

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

    def to(self, device):
        """The data set with its images and labels on `device`."""
        moved = replace(self, **{name: split.to(device) for name, split in self.splits.items()})
        vars(moved)["_digests"] = self._digests  # the same images
        return moved

    def train_digest(self):
        """SHA-256 of the training images and labels: says which data a model was trained on."""
        return self.digest("train")

    def digest(self, split):
        """SHA-256 of the images and labels of a split, worked out once."""
        if split not in self._digests:
            digest = hashlib.sha256()
            for tensor in (self.splits[split].images, self.splits[split].labels):
                digest.update(str(tuple(tensor.shape)).encode())
                digest.update(tensor.cpu().contiguous().numpy())
            self._digests[split] = digest.hexdigest()
        return self._digests[split]

    @cached_property
    def _digests(self):
        return {}


def class_members(labels, num_classes):
    """Which image belongs to which class: (N, K) bool, from (N,) or (N, K) labels."""
    if labels.ndim == 2:
        return labels.bool()
    return labels[:, None] == torch.arange(num_classes, device=labels.device)
