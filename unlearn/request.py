"""What is to be forgotten."""

import math
from dataclasses import dataclass

import torch
from torch.nn import functional

from unlearn.ids import parse_unlearned_model_id
from utils.errors import UserError
from utils.files import nearest


@dataclass(frozen=True)
class ForgetRequest:
    """Forget one class: all its images; in multi-label data, all images with the finding."""

    class_index: int

    @classmethod
    def parse(cls, text, dataset):
        """The request for a class number or class name. Raises UserError if it is not there."""
        digits = text.lstrip("0") or text[:1]
        if digits in map(str, range(dataset.num_classes)):  # before names: "3" may be one
            return cls(int(digits))
        names = [name.lower() for name in dataset.class_names]
        if text.lower() in names:
            return cls(names.index(text.lower()))
        listed = ", ".join(map(dataset.describe_class, range(dataset.num_classes)))
        raise UserError(
            f"--class_to_forget {text}: {dataset.name} has no such class"
            f"{nearest(text, dataset.class_names)}; it has {listed}"
        )

    @classmethod
    def of_model(cls, model_id, record, dataset):
        """What a model has forgotten, by its record or else its id. UserError if it is nothing."""
        if "forget_request" in record:
            return cls.from_record(record["forget_request"])
        parts = parse_unlearned_model_id(model_id)
        if parts is None:
            raise UserError(
                f"{model_id} has forgotten nothing: say which --class_to_forget to test"
            )
        return cls.parse(parts["forgotten"], dataset)

    @classmethod
    def from_record(cls, record):
        """The request that an unlearned model's record tells of."""
        return cls(record["class_to_forget"])

    def record(self):
        """Plain data for the model's record."""
        return {"class_to_forget": self.class_index}

    def id_part(self):
        """What stands in a model id after FORGOTTEN_."""
        return str(self.class_index)

    def members(self, labels):
        """Which images the request covers: (N,) bool from (N,) or (N, K) labels."""
        if labels.ndim == 2:
            return labels[:, self.class_index].bool()
        return labels == self.class_index

    def kept_classes(self, num_classes):
        """Indices of the classes, or findings, that are not to be forgotten."""
        return [number for number in range(num_classes) if number != self.class_index]

    def split(self, image_set):
        """(forget_set, retain_set): every image is in exactly one of them."""
        forget = self.members(image_set.labels)
        return image_set.subset(forget), image_set.subset(~forget)

    def split_for_unlearning(self, train):
        """The same of the training images. Raises UserError if one of the two sets is empty."""
        forget_set, retain_set = self.split(train)
        if len(forget_set) == 0:
            raise UserError(f"class {self.class_index} has no training image: nothing to forget")
        if len(retain_set) == 0:
            raise UserError(f"every training image is of class {self.class_index}: nothing remains")
        return forget_set, retain_set

    def recognised(self, logits, labels):
        """(B,) bool: whether the model is right in what the request is about.

        The image's class; for multi-label data whether it has the one finding.
        """
        if labels.ndim == 2:
            return (logits[:, self.class_index] > 0) == labels[:, self.class_index].bool()
        return logits.argmax(1) == labels

    def question(self, logits, labels):
        """(B, K) logits and (B,) labels of a single choice: what the request is about.

        For multi-label data the two answers no and yes to the one finding, as logits (0, z).
        """
        if labels.ndim == 1:
            return logits, labels
        found = logits[:, self.class_index]
        return torch.stack([torch.zeros_like(found), found], 1), labels[:, self.class_index]

    def losses(self, logits, labels):
        """How little the model knows of each image what it is to forget: (B,).

        Cross entropy; for multi-label data the binary cross entropy of the one finding, because
        the images' other findings are not to be forgotten.
        """
        return functional.cross_entropy(*self.question(logits, labels), reduction="none")

    def chance_loss(self, logits, labels):
        """The loss of a model that has no idea: of one that gives each answer the same chance."""
        answers = 2 if labels.ndim == 2 else logits.shape[1]
        return math.log(answers)
