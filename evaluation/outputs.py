"""Outputs of a model for every image of a data set, which most measures are computed from."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch

from evaluation.measure import SETS
from models.features import predict_with_features
from utils.runtime.errors import UserError
from utils.train.prediction import PREDICTION_BATCH

if TYPE_CHECKING:
    from torch import nn

    from unlearn.request.request import ForgetRequest
    from utils.data.datasets import MedicalDataset


@dataclass(frozen=True)
class LabelledLogits:
    """logits (N, K) and labels (N,), or (N, K) for multi-label data, of N images, on the CPU."""

    logits: torch.Tensor
    labels: torch.Tensor

    def __len__(self):
        return len(self.labels)

    def predictions(self) -> np.ndarray:
        """Return the (N,) int top classes, or (N, K) of 0 and 1 for multi-label data."""
        if self.labels.ndim == 2:
            return (self.logits > 0).long().numpy()
        return self.logits.argmax(1).numpy()


@dataclass(frozen=True)
class Outputs(LabelledLogits):
    """The outputs for a whole split, with features (N, D), or None where they are not kept.

    covered: (N,) bool, the images that the request covers. comparable: (N,) bool, in a split that
    no model was trained on, the images of the same kind as the forget set.
    """

    features: torch.Tensor | None
    covered: torch.Tensor
    comparable: torch.Tensor

    def split(self) -> tuple[LabelledLogits, LabelledLogits]:
        """Return the outputs for (the images that the request covers, the other images)."""
        return self._parts

    def comparable_part(self) -> LabelledLogits:
        """Return the outputs for the comparable images."""
        return self._subset(self.comparable)

    @cached_property
    def _parts(self):
        return self._subset(self.covered), self._subset(~self.covered)

    def _subset(self, keep):
        return LabelledLogits(self.logits[keep], self.labels[keep])


def compute_outputs(
    model: nn.Module,
    dataset: MedicalDataset,
    request: ForgetRequest,
    batch_size: int = PREDICTION_BATCH,
) -> dict[str, Outputs]:
    """Return the Outputs of `model` by split name; each image is predicted once.

    Raises UserError if they are not finite: such a model cannot be measured.
    """
    outputs = {}
    for name, split in dataset.splits.items():
        logits, features = predict_with_features(model, split, batch_size)
        if not logits.isfinite().all():
            raise UserError(f"the model is broken: its outputs for {name} images are not finite")
        outputs[name] = label_outputs(logits, features, dataset, request, name)
    return outputs


def label_outputs(
    logits: torch.Tensor,
    features: torch.Tensor | None,
    dataset: MedicalDataset,
    request: ForgetRequest,
    split: str,
) -> Outputs:
    """Return the Outputs for a split. logits (N, K) and features (N, D): on the CPU."""
    masks = request.in_forget_set(dataset, split), request.matches_forget_set(dataset, split)
    labels = dataset.splits[split].labels
    return Outputs(logits, labels.cpu(), features, *(mask.cpu() for mask in masks))


def sets_of(outputs: dict[str, Outputs]) -> dict[str, LabelledLogits]:
    """Return the outputs for the forget, retain and test set by the names of SETS.

    outputs: by split. The test set is without the images that the request covers.
    """
    forget, retain = outputs["train"].split()
    return dict(zip(SETS, (forget, retain, outputs["test"].split()[1]), strict=True))


def class_members(classes: np.ndarray, number: int) -> np.ndarray:
    """Return (N,) bool: the images of class `number`, or with that finding.

    classes: (N,) int, or (N, K) of 0 and 1 for multi-label data.
    """
    return classes == number if classes.ndim == 1 else classes[:, number] == 1
