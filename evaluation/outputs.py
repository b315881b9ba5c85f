"""What a model says of every image of a data set: all that most measures need of it."""

from dataclasses import dataclass
from functools import cached_property

import torch

from models.features import predict_with_features
from utils.runtime.errors import UserError
from utils.train.prediction import PREDICTION_BATCH


@dataclass(frozen=True)
class Answers:
    """logits (N, K) and labels (N,) or (N, K) of N images, on the CPU."""

    logits: torch.Tensor
    labels: torch.Tensor

    def __len__(self):
        return len(self.labels)


@dataclass(frozen=True)
class Outputs(Answers):
    """The same of a whole split, with features (N, D).

    covered: (N,) bool, the images that are to be forgotten. comparable: (N,) bool, in a split that
    no model was trained on those of the forget set's kind.
    """

    features: torch.Tensor
    covered: torch.Tensor
    comparable: torch.Tensor

    def split(self):
        """Answers (of images that are to be forgotten, of the others)."""
        return self._parts

    def comparable_answers(self):
        """Answers of the comparable images."""
        return self._subset(self.comparable)

    @cached_property
    def _parts(self):
        return self._subset(self.covered), self._subset(~self.covered)

    def _subset(self, keep):
        return Answers(self.logits[keep], self.labels[keep])


def compute_outputs(model, dataset, request, batch_size=PREDICTION_BATCH):
    """Outputs of `model` by split name; each image is gone through once.

    Raises UserError if they are not finite: such a model has nothing to be measured.
    """
    outputs = {}
    for name, split in dataset.splits.items():
        logits, features = predict_with_features(model, split, batch_size)
        if not logits.isfinite().all():
            raise UserError(f"the model is broken: its outputs for {name} images are not finite")
        covered, comparable = request.covered(dataset, name), request.comparable(dataset, name)
        outputs[name] = Outputs(
            logits, split.labels.cpu(), features, covered.cpu(), comparable.cpu()
        )
    return outputs
