"""Predictions of a model before it is changed, as targets for distillation."""

import torch

from models.architectures import Classifier
from utils.data.datasets import ImageSet
from utils.train.losses import probabilities
from utils.train.prediction import predict


def teacher_logits(model: Classifier, image_set: ImageSet) -> torch.Tensor:
    """Return the logits (M, K) of `model` for an ImageSet."""
    return predict(model, image_set).clone()  # out of inference mode


def teacher_probabilities(
    model: Classifier, image_set: ImageSet, temperature: float = 1.0
) -> torch.Tensor:
    """Return probabilities (M, K) at a temperature, to be used as labels (`with_labels`)."""
    multi_label = image_set.labels.ndim == 2
    return probabilities(teacher_logits(model, image_set) / temperature, multi_label)
