"""Finds the base model of an unlearned model, and the models that it is compared with."""

from collections.abc import Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING

from models.checkpoint import load_model, model_digest, model_path, read_record
from models.records import describe_differences
from unlearn.model_ids import FORGOTTEN
from unlearn.request.request import ForgetRequest
from utils.io.files import MODEL_FOLDER, check_id
from utils.runtime.errors import UserError

if TYPE_CHECKING:
    import torch

    from models.architectures import Classifier, ModelSpec
    from utils.data.datasets import MedicalDataset

RETRAIN = "Retrain"  # its id in unlearn.registry
EXACT_METHODS = ("SISA",)  # ids of methods whose weights may equal those of Retrain

Loaded = dict[str, tuple["Classifier", dict]]  # model id -> (model, record)


def load_parent(
    record: dict, spec: "ModelSpec", device: "torch.device | str"
) -> tuple["Classifier | None", str | None]:
    """Return (base model of an unlearned model, None), or (None, why it is not available).

    record, spec: of the unlearned model; a base model without a record is built by this spec.
    Returns (None, None) for a model that is not unlearned.
    """
    parent_id = record.get("parent_id")
    if parent_id is None:
        return None, None
    if not model_path(parent_id).exists():
        return None, f"the base model {parent_id} is no longer in {MODEL_FOLDER}/"
    bare = {}
    if not read_record(parent_id):
        bare = {"arch": spec.arch, "input_size": spec.input_size, "stem": spec.stem}
    base, base_record = load_model(parent_id, device, **bare)
    if model_digest(base, base_record) != record["parent_digest"]:
        return None, f"{parent_id} is no longer the model that this one was unlearned from"
    return base, None


def find_retrains(model_id: str, record: dict, request: ForgetRequest) -> list[str]:
    """Return the ids of the Retrains of the same base model, data and request.

    They have the base model's recipe and differ in the seed only; others have to be given by their
    id. The one with the base model's seed is the first, the others follow by their seeds. Of
    several with the same seed it is one.
    """
    base_id = record.get("parent_id", model_id)
    digest = record.get("parent_digest", record.get("weights_digest"))
    recipe = record.get("recipe", {})
    by_seed = {}
    for path in sorted(MODEL_FOLDER.glob(f"{base_id}{FORGOTTEN}{request.id_part()}_*.pt")):
        if RETRAIN.upper() not in path.stem or path.stem == model_id:
            continue
        found = read_record(path.stem)
        is_same_kind = (
            found.get("method") == RETRAIN
            and found.get("parent_digest") == digest
            and found.get("train_digest") == record.get("train_digest", found.get("train_digest"))
            and not describe_setting_differences(found, _without_seed(recipe))
        )
        is_another = (
            found.get("weights_digest") != record.get("weights_digest")
            or record.get("method") in EXACT_METHODS
        )
        if is_same_kind and is_another:
            by_seed.setdefault(seed_of(found), path.stem)
    seeds = sorted(by_seed, key=lambda seed: (seed != recipe.get("seed"), seed is None, seed or 0))
    return [by_seed[seed] for seed in seeds]


def seed_of(record: dict) -> int | None:
    """Return the seed that a model was unlearned with, None if its record has none."""
    return record.get("settings", {}).get("seed")


def describe_setting_differences(record: dict, settings: dict) -> str:
    """Return how an unlearned model's settings differ: `epochs 1 (not 12)`, or ""."""
    return describe_differences(record.get("settings", {}), settings)


def describe_recipe_differences(record: dict, base_record: dict) -> str:
    """Return how a Retrain's settings differ from the base model's recipe in more than the seed."""
    return describe_setting_differences(record, _without_seed(base_record.get("recipe", {})))


def load_retrains(
    ids: Iterable[str] | None,
    model_id: str,
    model: "Classifier",
    record: dict,
    request: ForgetRequest,
    dataset: "MedicalDataset",
) -> Loaded:
    """Load the Retrains that a model is compared with: id -> (model, record).

    ids: None for those that `find_retrains` finds. Raises UserError if a model is not a Retrain of
    the same request and data, if one has the weights of another one or of the model itself (only
    an exact method may have the weights of its Retrain), or if they do not differ in the seed and
    in nothing else.
    """
    if ids is None:
        ids = find_retrains(model_id, record, request)
    seen = set() if record.get("method") in EXACT_METHODS else {model_digest(model, record)}
    loaded = _load_distinct(ids, "--retrain_model_id", seen, record, request, dataset)
    for name, (_, other) in loaded.items():
        if other.get("method") != RETRAIN:
            raise UserError(f"--retrain_model_id {name} is not a Retrain but {other.get('method')}")
    _check_seeds_only(loaded)
    return loaded


def load_seed_models(
    ids: Iterable[str],
    model: "Classifier",
    record: dict,
    request: ForgetRequest,
    dataset: "MedicalDataset",
) -> Loaded:
    """Load models that differ from `model` only in the seed: id -> (model, record).

    Raises UserError if a model differs in more than the seed, or has the weights of another one.
    """
    if ids and record.get("kind") != "unlearned":
        raise UserError(
            "--seed_model_id: a base model has no unlearning method whose seeds could be compared: "
            "leave the flag out"
        )
    seen = {model_digest(model, record)}
    loaded = _load_distinct(ids, "--seed_model_id", seen, record, request, dataset)
    settings = _without_seed(record.get("settings", {}))
    for name, (_, other) in loaded.items():
        differing = describe_setting_differences(other, settings)
        if other.get("method") != record.get("method"):
            differing = f"method {other.get('method')} (not {record.get('method')})"
        if differing:
            raise UserError(f"--seed_model_id {name} differs in more than the seed: {differing}")
    return loaded


def _check_seeds_only(loaded):
    """Raise UserError if Retrains differ in more than the seed, or two have the same seed."""
    first, by_seed = next(iter(loaded), None), {}
    # the specification of the model, because records of earlier versions lack newer fields of it
    training = {
        name: {**_without_seed(record["settings"]), "spec": asdict(model.spec)}
        for name, (model, record) in loaded.items()
    }
    for name, (_, record) in loaded.items():
        differing = describe_differences(training[name], training[first])
        if differing:
            raise UserError(
                f"--retrain_model_id {name} differs from {first} in more than the seed: "
                f"{differing}: give Retrains of one recipe"
            )
        other = by_seed.setdefault(seed_of(record), name)
        if other != name:
            raise UserError(
                f"--retrain_model_id {name} has the same seed as {other}: give Retrains of "
                "different seeds"
            )


def _without_seed(settings):
    return {key: value for key, value in settings.items() if key != "seed"}


def _load_distinct(ids, flag, seen, record, request, dataset):
    device, loaded = dataset.train.device, {}
    for name in ids:
        check_id(name, flag)
        other, other_record = load_model(name, device)
        forgotten = other_record.get("forget_request")
        if forgotten is None or ForgetRequest.from_record(forgotten) != request:
            raise UserError(
                f"{flag} {name} was unlearned by another request: give one of the same request"
            )
        expected = record.get("train_digest", dataset.train_digest())
        if other_record.get("train_digest") != expected:
            raise UserError(f"{flag} {name} was trained on other images: give one of the same data")
        if other_record["weights_digest"] in seen:
            raise UserError(f"{flag} {name} has the same weights as another model: give it once")
        seen = seen | {other_record["weights_digest"]}
        loaded[name] = other, other_record
    return loaded
