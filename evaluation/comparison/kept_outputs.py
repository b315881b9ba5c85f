"""Files of the outputs of models, so that a table can be made again without predicting.

results/outputs/{model_id}.pt holds the logits of all training and test images, float32: 4 bytes for
each image and class. It is valid for one model and one data set, whatever is to be forgotten.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from models.checkpoint import load_with_digest, save_with_digest
from utils.io.files import RESULT_FOLDER, check_inside
from utils.runtime.errors import UserError

if TYPE_CHECKING:
    import torch

    from utils.data.datasets import MedicalDataset

FORMAT = "medical-unlearning-outputs-1"
FOLDER = RESULT_FOLDER / "outputs"
SPLITS = ("train", "test")


def outputs_path(model_id: str) -> Path:
    """Return the path of the file of a model's outputs."""
    return check_inside(FOLDER / f"{model_id}.pt")


def save_outputs(
    model_id: str,
    weights_digest: str,
    dataset: MedicalDataset,
    logits: Mapping[str, torch.Tensor],
) -> None:
    """Write the outputs of a model for SPLITS: (N, K) logits. Raises UserError if it fails."""
    content = _origin(weights_digest, dataset)
    content |= {split: logits[split].float().contiguous() for split in SPLITS}
    save_with_digest(outputs_path(model_id), content)


def load_outputs(
    model_id: str, weights_digest: str, dataset: MedicalDataset
) -> dict[str, torch.Tensor] | None:
    """Return the (N, K) logits of a model by split, None if they have to be predicted.

    That is where the file is missing or damaged, or belongs to other weights or other data.
    """
    path = outputs_path(model_id)
    try:
        content = load_with_digest(path, "file of outputs", "it is made again")
    except UserError:
        return None
    origin = _origin(weights_digest, dataset)
    if any(content.get(key) != value for key, value in origin.items()):
        return None
    logits = {split: content.get(split) for split in SPLITS}
    for split, found in logits.items():
        shape = (len(dataset.splits[split]), dataset.num_classes)
        if getattr(found, "shape", None) != shape:
            return None
    return logits


def _origin(weights_digest, dataset):
    digests = {f"{split}_digest": dataset.digest(split) for split in SPLITS}
    return {"format": FORMAT, "weights_digest": weights_digest, **digests}
