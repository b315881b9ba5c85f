"""What is to be forgotten: whole classes, or single training images."""

import hashlib
import re
from dataclasses import dataclass, field, replace

import torch

from unlearn.model_ids import encode_number, parse_unlearned_model_id
from unlearn.request.scoring import RequestScoring
from utils.io.files import suggest_name
from utils.runtime.devices import to_device_async
from utils.runtime.errors import UserError

DIGEST_DIGITS = 12  # of the SHA-256 in an id


@dataclass(frozen=True)
class ForgetRequest(RequestScoring):
    """Forget all images of some classes, or single images of the training split.

    classes: class indices, ascending; in multi-label data findings, and an image that has any of
    them is covered. () if single images are asked for. indices: their rows in the training split,
    ascending; None if classes are asked for. description: the request in words, for people.
    sample_id: what stands in an id for images that were drawn at random. sampled_classes: the
    classes of which they were drawn, () if of all images.
    """

    classes: tuple[int, ...] = ()
    indices: tuple[int, ...] | None = None
    description: str = field(default="", compare=False)
    sample_id: str | None = field(default=None, compare=False)
    sampled_classes: tuple[int, ...] = field(default=(), compare=False)

    def __post_init__(self):
        if bool(self.classes) == bool(self.indices):
            raise ValueError("a request is of classes or of single images")
        for numbers in (self.classes, self.indices or ()):
            if list(numbers) != sorted(set(numbers)):
                raise ValueError("a request's numbers are ascending, each there once")
        if not self.description:
            object.__setattr__(self, "description", _describe(self.classes, self.indices))

    @classmethod
    def from_classes(cls, texts, dataset):
        """The request for classes by number or name. UserError if one is not there, or all are."""
        classes = tuple(sorted({class_index(text, dataset) for text in texts}))
        if len(classes) == dataset.num_classes > 1:
            raise UserError(f"--class_to_forget names every class of {dataset.name}: none is kept")
        return cls(classes, description=_describe_classes(classes, dataset))

    @classmethod
    def from_fraction(cls, fraction, seed, texts, dataset):
        """The request for a share of the training images, or of those of the classes `texts`.

        Drawn by `seed` alone. All images of classes are the classes themselves, of which nothing is
        left to keep. Raises UserError if it comes to no image.
        """
        rows, of = torch.arange(len(dataset.train)), "the training images"
        name, sampled_classes = f"f{encode_number(fraction)}-s{seed}", ()
        if texts:
            sampled_classes = tuple(sorted({class_index(text, dataset) for text in texts}))
            wanted = cls(sampled_classes)
            rows = wanted.has_requested_class(dataset.train.labels.cpu()).nonzero()[:, 0]
            of += f" of {_describe_classes(wanted.classes, dataset)}"
            name = f"{wanted.id_part()}-{name}"
        count = round(fraction * len(rows))
        if count == 0:
            raise UserError(
                f"--forget_fraction {fraction:g} of {len(rows)} images is no image: ask for more"
            )
        order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))
        if texts and count == len(rows):
            return cls.from_classes(texts, dataset)
        words = f"{100 * fraction:g}% of {of}, drawn with seed {seed}"
        chosen = tuple(rows[order[:count]].sort().values.tolist())
        return cls((), chosen, words, name, sampled_classes)

    @classmethod
    def from_model(cls, model_id, record, dataset):
        """What a model has forgotten, by its record or else its id.

        Raises UserError if it is nothing, or if it is images that are not told, or not here.
        """
        if "forget_request" in record:
            request = cls.from_record(record["forget_request"])
            if not request.fits(dataset):
                raise UserError(
                    f"{model_id} has forgotten classes or images that {dataset.name} has not: it "
                    "is a model of other data"
                )
            if request.indices is None:
                return replace(request, description=_describe_classes(request.classes, dataset))
            if record.get("train_digest") != dataset.train_digest():
                raise UserError(
                    f"{model_id} has forgotten single images of the data that it was trained on, "
                    f"and {dataset.name} is other data: test it on its own"
                )
            return replace(request, description=record.get("forget_words", ""))
        parts = parse_unlearned_model_id(model_id)
        if parts is None:
            raise UserError(
                f"{model_id} has forgotten nothing: say which --class_to_forget to test, or which "
                "images"
            )
        numbers = parts["forgotten"].split("-")
        if not all(number.isdigit() for number in numbers):
            raise UserError(
                f"{model_id} has no record of which images it has forgotten: name them as when it "
                "forgot them"
            )
        return cls.from_classes(numbers, dataset)

    @classmethod
    def from_record(cls, record):
        """The request that an unlearned model's record tells of."""
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

    def record(self):
        """Plain data for the model's record."""
        if self.indices is None:
            one = len(self.classes) == 1
            return {"class_to_forget": self.classes[0] if one else list(self.classes)}
        return {
            "class_to_forget": None,
            "forget_indices": list(self.indices),
            "forget_id": self.id_part(),
        }

    def fits(self, dataset):
        """Whether the data set has all the classes or images that the request names."""
        last = self.classes[-1] if self.indices is None else self.indices[-1]
        return last < (dataset.num_classes if self.indices is None else len(dataset.train))

    def summary(self, dataset):
        """Plain data for results, without the list of images."""
        return {
            "class_to_forget": self.record()["class_to_forget"],
            "forget_id": self.id_part(),
            "forget_words": self.description,
            "forget_count": int(self.in_forget_set(dataset, "train").sum()),
        }

    def id_part(self):
        """What stands in a model id after FORGOTTEN_; the same for the same listed images."""
        if self.indices is None:
            return "-".join(map(str, self.classes))
        if self.sample_id:
            return self.sample_id
        digest = hashlib.sha256(",".join(map(str, self.indices)).encode())
        return f"samples-{digest.hexdigest()[:DIGEST_DIGITS]}"

    def has_requested_class(self, labels):
        """Which images are of the request's classes: (N,) bool from (N,) or (N, K) labels."""
        if labels.ndim == 2:
            return labels[:, list(self.classes)].bool().any(1)
        return torch.isin(labels, torch.tensor(self.classes, device=labels.device))

    def in_forget_set(self, dataset, split):
        """Which images of a split are to be forgotten: (N,) bool on the labels' device."""
        labels = dataset.splits[split].labels
        if self.indices is None:
            return self.has_requested_class(labels)
        found = torch.zeros(len(labels), dtype=torch.bool, device=labels.device)
        if split == "train":
            found[torch.tensor(self.indices, device=labels.device)] = True
        return found

    def matches_forget_set(self, dataset, split):
        """Which images of an unseen split are of the forget set's kind: (N,) bool.

        Attacks compare the forget set with them. Those of the request's classes; for single images
        those of any class that is among them. Of multi-label data those with any of the findings
        that the images were drawn from, all if they were drawn from all; those with the very
        findings of one of them if they were not drawn.
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
        kinds = torch.cat([own, labels]).unique(dim=0, return_inverse=True)[1]
        return torch.isin(kinds[len(own) :], kinds[: len(own)])

    def kept_classes(self, num_classes):
        """Indices of the classes, or findings, that are not to be forgotten."""
        return [number for number in range(num_classes) if number not in self.classes]

    def excluded_classes(self, labels, num_classes):
        """Which classes an image must not be given in place of its own: (M, K) bool of (M,) labels.

        Its own, and all that are to be forgotten: an image would else be moved into one of them.
        """
        forgotten = torch.ones(num_classes, dtype=torch.bool)
        forgotten[self.kept_classes(num_classes)] = False
        barred = to_device_async(forgotten, labels.device).expand(len(labels), num_classes)
        return barred.scatter(1, labels[:, None], True)

    def split(self, dataset, split):
        """(forget_set, retain_set) of a split: every image is in exactly one of them."""
        images, forget = dataset.splits[split], self.in_forget_set(dataset, split)
        return images.subset(forget), images.subset(~forget)

    def split_for_unlearning(self, dataset):
        """The same of the training images. Raises UserError if one of the two sets is empty."""
        forget_set, retain_set = self.split(dataset, "train")
        if len(forget_set) == 0:
            have = "has" if len(self.classes) == 1 else "have"
            raise UserError(f"{self.description} {have} no training image: nothing to forget")
        if len(retain_set) == 0:
            what = "to be forgotten" if self.indices else f"of {self.description}"
            raise UserError(f"every training image is {what}: nothing remains")
        return forget_set, retain_set


def class_index(text, dataset):
    """The index of a class by its number or name. Raises UserError unless there is just one."""
    digits = text.lstrip("0") or text[:1]
    if digits in map(str, range(dataset.num_classes)):  # before names: "3" may be one
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
    return _named(dataset.describe_class(number) for number in classes)


def _describe(classes, indices):
    """What can be said of a request without its data set."""
    if indices is None:
        return _named(map(str, classes))
    return f"{len(indices)} listed training image{'s' if len(indices) != 1 else ''}"


def _named(classes):
    names = list(classes)
    return f"class{'es' if len(names) != 1 else ''} {', '.join(names)}"
