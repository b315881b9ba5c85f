"""Load a trained model together with its data set."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from models.checkpoint import load_model
from utils.data.loading import DEFAULT_PLACEMENT, load_dataset
from utils.runtime import processes
from utils.runtime.errors import UserError

if TYPE_CHECKING:
    from models.architectures import Classifier
    from utils.data.datasets import MedicalDataset
    from utils.data.placement import Placement


def load_model_and_data(
    model_id: str,
    dataset_name: str,
    device: torch.device | str,
    *,
    arch: str | None = None,
    input_size: int | None = None,
    stem: str | None = None,
    data_root: str | Path | None = None,
    placement: "Placement" = DEFAULT_PLACEMENT,
    allow_other_data: bool = False,
) -> tuple["Classifier", dict, "MedicalDataset"]:
    """Return (model, record, data set), both on `device`, images at the model's input size.

    arch, input_size and stem are for files without a record. Raises UserError if the digest of the
    training images is not the one in the record, unless `allow_other_data`.
    """
    model, record = load_model(model_id, device, arch=arch, input_size=input_size, stem=stem)
    dataset = load_dataset(
        dataset_name, input_size=model.spec.input_size, data_root=data_root, placement=placement
    )
    _check_fit(model_id, model.spec, dataset)
    if record and not allow_other_data:
        _check_same_data(model_id, record, dataset)
    check_ranks_have_same_data(dataset, record.get("weights_digest"))
    return model, record, dataset.to(device)


def dataset_record(dataset: "MedicalDataset") -> dict:
    """Return the part of a model's record that describes its training data, as plain data."""
    return {
        "dataset": dataset.name,
        "task": dataset.task,
        "class_names": list(dataset.class_names),
        "train_digest": dataset.train_digest(),
    }


def check_ranks_have_same_data(dataset: "MedicalDataset", *others: Any) -> None:
    """Raise UserError unless all ranks have the same training images and the same `others`.

    others: plain data.
    """
    if processes.world_size() > 1 and not processes.all_ranks_equal(
        (dataset.train_digest(), *others)
    ):
        raise UserError(
            "two machines read different files under the same names: give all of them the same "
            "data and models"
        )


def _check_fit(model_id, spec, dataset):
    expected = f"{spec.num_classes} classes in {spec.channels}-channel images"
    found = f"{dataset.num_classes} classes in {dataset.channels}-channel images"
    if expected != found:
        raise UserError(
            f"{model_id} is a model of another data set: it has {expected}, "
            f"{dataset.name} has {found}"
        )


def _check_same_data(model_id, record, dataset):
    if record.get("task") != dataset.task:
        raise UserError(f"{model_id} was trained for {record.get('task')}, not for {dataset.task}")
    if record.get("train_digest") != dataset.train_digest():
        raise UserError(
            f"{model_id} is a model of another data set: it was trained on "
            f"{record.get('dataset')}, and {dataset.name}'s training images are not the same; "
            "to use it anyway, add --allow_other_data"
        )
