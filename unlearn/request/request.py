"""Deletion requests: which classes, or which single training images, a model has to forget."""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import torch

from unlearn.model_ids import encode_number, parse_unlearned_model_id
from unlearn.request.scoring import RequestScoring
from utils.io.files import suggest_name
from utils.runtime.devices import to_device_async
from utils.runtime.errors import UserError

if TYPE_CHECKING:
    from utils.data.datasets import ImageSet, MedicalDataset

DIGEST_DIGITS = 12  # hexadecimal digits of the SHA-256 in an id


@dataclass(frozen=True)
class ForgetRequest(RequestScoring):
    """A request to forget all images of some classes, or single images of the training split.

    classes: ascending class indices, () if single images are requested. In multi-label data classes
    are findings, and an image with any of them belongs to the forget set.
    indices: ascending positions in the training split, None if classes are requested.
    description: the request in words, for people.
    sample_id: for images that were drawn at random, their part of a model id.
    sampled_classes: the classes that random images were drawn from, () for all images.
    Raises ValueError unless exactly one of classes and indices is given, sorted and unique.
    """

    classes: tuple[int, ...] = ()
    indices: tuple[int, ...] | None = None
    description: str = field(default="", compare=False)
    sample_id: str | None = field(default=None, compare=False)
    sampled_classes: tuple[int, ...] = field(default=(), compare=False)

    def __post_init__(self):
        if bool(self.classes) == bool(self.indices):
            raise ValueError("a request needs either classes or single images")
        for numbers in (self.classes, self.indices or ()):
            if list(numbers) != sorted(set(numbers)):
                raise ValueError("classes and indices must be sorted and unique")
        if not self.description:
            object.__setattr__(self, "description", _describe(self.classes, self.indices))

    @classmethod
    def from_classes(cls, texts: Iterable[str], dataset: "MedicalDataset") -> "ForgetRequest":
        """Return the request for classes given by number or name.

        Raises UserError for an unknown or ambiguous class, and if no class would be kept.
        """
        classes = tuple(sorted({class_index(text, dataset) for text in texts}))
        if len(classes) == dataset.num_classes > 1:
            raise UserError(f"--class_to_forget names every class of {dataset.name}: none is kept")
        return cls(classes, description=_describe_classes(classes, dataset))

    @classmethod
    def from_fraction(
        cls,
        fraction: float,
        seed: int,
        texts: Iterable[str] | None,
        dataset: "MedicalDataset",
    ) -> "ForgetRequest":
        """Return the request for a random fraction of the training images.

        fraction: in (0, 1]. seed: of the random permutation that selects the images. texts: numbers
        or names of classes whose images are drawn from, None for all images. All images of some
        classes are a request for these classes. Raises UserError if the fraction rounds to no
        image.
        """
        rows, source = torch.arange(len(dataset.train)), "the training images"
        sample_id, sampled_classes = f"f{encode_number(fraction)}-s{seed}", ()
        if texts:
            sampled_classes = tuple(sorted({class_index(text, dataset) for text in texts}))
            whole = cls(sampled_classes)
            rows = whole.has_requested_class(dataset.train.labels.cpu()).nonzero()[:, 0]
            source += f" of {_describe_classes(whole.classes, dataset)}"
            sample_id = f"{whole.id_part()}-{sample_id}"
        count = round(fraction * len(rows))
        if count == 0:
            raise UserError(
                f"--forget_fraction {fraction:g} of {len(rows)} images is no image: give a larger "
                "fraction"
            )
        order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))
        if texts and count == len(rows):
            return cls.from_classes(texts, dataset)
        description = f"{100 * fraction:g}% of {source}, drawn with seed {seed}"
        chosen = tuple(rows[order[:count]].sort().values.tolist())
        return cls((), chosen, description, sample_id, sampled_classes)

    @classmethod
    def from_model(cls, model_id: str, record: dict, dataset: "MedicalDataset") -> "ForgetRequest":
        """Return what a model has forgotten, from its record or, without one, from its id.

        Raises UserError if it has forgotten nothing, if its images are unknown, or if the request
        does not fit the data set.
        """
        if "forget_request" in record:
            request = cls.from_record(record["forget_request"])
            if not request.fits(dataset):
                raise UserError(
                    f"{model_id} has forgotten classes or images that {dataset.name} does not "
                    "have: give the data set that the model was trained on"
                )
            if request.indices is None:
                return replace(request, description=_describe_classes(request.classes, dataset))
            if record.get("train_digest") != dataset.train_digest():
                raise UserError(
                    f"{model_id} has forgotten single images of its training data, and "
                    f"{dataset.name} is other data: give the data set that it was trained on"
                )
            return replace(request, description=record.get("forget_words", ""))
        parts = parse_unlearned_model_id(model_id)
        if parts is None:
            raise UserError(
                f"{model_id} has forgotten nothing: give the --class_to_forget to test, or other "
                "images to forget"
            )
        numbers = parts["forgotten"].split("-")
        if not all(number.isdigit() for number in numbers):
            raise UserError(
                f"{model_id} has no record of which images it has forgotten: give the flags of the "
                "request that it was unlearned with"
            )
        return cls.from_classes(numbers, dataset)

    @classmethod
    def from_record(cls, record: dict) -> "ForgetRequest":
        """Return the request that `record()` stored in a model's record."""
        found = record["class_to_forget"]
        if found is not None:
            return cls((found,) if isinstance(found, int) else tuple(found))
        indices = tuple(record["forget_indices"])
        request = cls((), indices)
        name = record["forget_id"]
        if name == request.id_part():
            return request
        of_classes = re.match(r"[0-9-]+(?=-f)", name)
        sampled_classes = map(int, of_classes[0].split("-")) if of_classes else ()
        return cls((), indices, sample_id=name, sampled_classes=tuple(sampled_classes))

    def record(self) -> dict:
        """Return the request as plain data for a model's record."""
        if self.indices is None:
            one = len(self.classes) == 1
            return {"class_to_forget": self.classes[0] if one else list(self.classes)}
        return {
            "class_to_forget": None,
            "forget_indices": list(self.indices),
            "forget_id": self.id_part(),
        }

    def fits(self, dataset: "MedicalDataset") -> bool:
        """Return whether the data set has all requested classes or images."""
        last = self.classes[-1] if self.indices is None else self.indices[-1]
        return last < (dataset.num_classes if self.indices is None else len(dataset.train))

    def summary(self, dataset: "MedicalDataset") -> dict:
        """Return the request as plain data for results, without the list of images."""
        return {
            "class_to_forget": self.record()["class_to_forget"],
            "forget_id": self.id_part(),
            "forget_words": self.description,
            "forget_count": int(self.in_forget_set(dataset, "train").sum()),
        }

    def id_part(self) -> str:
        """Return the part of a model id after FORGOTTEN_; it depends on listed images only."""
        if self.indices is None:
            return "-".join(map(str, self.classes))
        if self.sample_id:
            return self.sample_id
        digest = hashlib.sha256(",".join(map(str, self.indices)).encode())
        return f"samples-{digest.hexdigest()[:DIGEST_DIGITS]}"

    def has_requested_class(self, labels: torch.Tensor) -> torch.Tensor:
        """Return (N,) bool: which images have a requested class. labels: (N,) or (N, K)."""
        if labels.ndim == 2:
            return labels[:, list(self.classes)].bool().any(1)
        return torch.isin(labels, torch.tensor(self.classes, device=labels.device))

    def in_forget_set(self, dataset: "MedicalDataset", split: str) -> torch.Tensor:
        """Return (N,) bool on the labels' device: which images of a split are to be forgotten."""
        labels = dataset.splits[split].labels
        if self.indices is None:
            return self.has_requested_class(labels)
        found = torch.zeros(len(labels), dtype=torch.bool, device=labels.device)
        if split == "train":
            found[torch.tensor(self.indices, device=labels.device)] = True
        return found

    def matches_forget_set(self, dataset: "MedicalDataset", split: str) -> torch.Tensor:
        """Return (N,) bool: which images of an unseen split have the classes of the forget set.

        Membership attacks compare the forget set with these images. For requested classes they are
        the images of these classes; for single images, those of any class that occurs among them.
        In multi-label data, single images drawn at random from some findings match images with any
        of these findings, those drawn from all images match every image, and listed images match
        images with exactly the findings of one of them.
        """
        labels = dataset.splits[split].labels
        if self.indices is None:
            return self.has_requested_class(labels)
        own = dataset.train.labels[torch.tensor(self.indices, device=labels.device)]
        if labels.ndim == 1:
            return torch.isin(labels, own.unique())
        if self.sampled_classes:
            return labels[:, list(self.sampled_classes)].bool().any(1)
        if self.sample_id:
            return torch.ones(len(labels), dtype=torch.bool, device=labels.device)
        combinations = torch.cat([own, labels]).unique(dim=0, return_inverse=True)[1]
        return torch.isin(combinations[len(own) :], combinations[: len(own)])

    def kept_classes(self, num_classes: int) -> list[int]:
        """Return the indices of the classes, or findings, that are not to be forgotten."""
        return [number for number in range(num_classes) if number not in self.classes]

    def excluded_classes(self, labels: torch.Tensor, num_classes: int) -> torch.Tensor:
        """Return (M, K) bool: classes that must not replace an image's own. labels: (M,).

        These are the image's own class and all classes to forget: otherwise an image could be moved
        into a class that has to be forgotten as well.
        """
        forgotten = torch.ones(num_classes, dtype=torch.bool)
        forgotten[self.kept_classes(num_classes)] = False
        excluded = to_device_async(forgotten, labels.device).expand(len(labels), num_classes)
        return excluded.scatter(1, labels[:, None], True)

    def split(self, dataset: "MedicalDataset", split: str) -> tuple["ImageSet", "ImageSet"]:
        """Return (forget_set, retain_set) of a split; every image is in exactly one of them."""
        images, forget = dataset.splits[split], self.in_forget_set(dataset, split)
        return images.subset(forget), images.subset(~forget)

    def split_for_unlearning(self, dataset: "MedicalDataset") -> tuple["ImageSet", "ImageSet"]:
        """Return `split` of the training images. Raises UserError if one of the sets is empty."""
        forget_set, retain_set = self.split(dataset, "train")
        if len(forget_set) == 0:
            have = "has" if len(self.classes) == 1 else "have"
            raise UserError(f"{self.description} {have} no training image: nothing to forget")
        if len(retain_set) == 0:
            what = "to be forgotten" if self.indices else f"of {self.description}"
            raise UserError(f"every training image is {what}: nothing remains")
        return forget_set, retain_set


def class_index(text: str, dataset: "MedicalDataset") -> int:
    """Return the index of a class given by number or name; letter case matters only if ambiguous.

    Raises UserError if there is no such class, or more than one.
    """
    digits = text.lstrip("0") or text[:1]
    if digits in map(str, range(dataset.num_classes)):  # numbers first: a class may be named "3"
        return int(digits)
    names = dataset.class_names
    found = [number for number, name in enumerate(names) if name == text]
    found = found or [n for n, name in enumerate(names) if name.lower() == text.lower()]
    if len(found) > 1:
        raise UserError(
            f"--class_to_forget {text}: {dataset.name} has {len(found)} classes of this name: give "
            f"a number, one of {', '.join(map(str, found))}"
        )
    if found:
        return found[0]
    listed = ", ".join(map(dataset.describe_class, range(dataset.num_classes)))
    raise UserError(
        f"--class_to_forget {text}: {dataset.name} has no such class"
        f"{suggest_name(text, dataset.class_names)}; it has {listed}"
    )


def _describe_classes(classes, dataset):
    return _join_classes(dataset.describe_class(number) for number in classes)


def _describe(classes, indices):
    """A description that needs no data set, and so has no class names."""
    if indices is None:
        return _join_classes(map(str, classes))
    return f"{len(indices)} listed training image{'s' if len(indices) != 1 else ''}"


def _join_classes(classes):
    names = list(classes)
    return f"class{'es' if len(names) != 1 else ''} {', '.join(names)}"
