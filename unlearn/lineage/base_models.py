"""Checks that several base models differ only in the seed, so that a comparison can average them.

One base model is a sample of one: the seed of its training changes how well a method unlearns it
(Lanyon et al., arXiv:2510.26714). Base models of several seeds are a sample of independent models
only if all else is equal.
"""

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, asdict, fields
from typing import Any

from models.architectures import ModelSpec
from models.checkpoint import read_record
from models.records import describe_differences
from utils.runtime.errors import UserError
from utils.train.recipe import Recipe

SEED_HINT = "main_train.py --seeds 1 2 3 trains base models that differ only in the seed"
SPEC_DEFAULTS = {
    field.name: field.default for field in fields(ModelSpec) if field.default is not MISSING
}


def read_base_records(ids: Sequence[str]) -> dict[str, dict]:
    """Return the records of base models of one recipe and different seeds: id -> record.

    The record of a single model may be empty (bare weights). Raises UserError if a file is missing
    or damaged, and what `check_same_recipe` raises.
    """
    _check_given_once(ids)
    records = [read_record(model_id) for model_id in ids]
    check_same_recipe(ids, records)
    return dict(zip(ids, records, strict=True))


def check_same_recipe(ids: Sequence[str], records: Sequence[Mapping[str, Any]]) -> None:
    """Raise UserError unless the models are base models that differ only in the seed.

    records: in the order of `ids`. The seed of the partition into shards may differ too. Models
    with the same seed are refused even if their weights differ (another device rounds differently):
    equal initial weights and an equal order of the images do not make independent models. A single
    model only has to be a base model.
    """
    _check_given_once(ids)
    for model_id, record in zip(ids, records, strict=True):
        if record.get("kind") == "unlearned":
            raise UserError(f"{model_id} is an unlearned model already: give its base model's id")
        if len(ids) > 1 and not {"recipe", "spec", "train_digest"} <= record.keys():
            raise UserError(
                f"{model_id} has no record of its training, so it cannot be one of several base "
                f"models: {SEED_HINT}"
            )
    for place, (model_id, record) in enumerate(zip(ids, records, strict=True)):
        for other_id, other in zip(ids[:place], records[:place], strict=True):
            _check_pair(model_id, record, other_id, other)


def _check_given_once(ids):
    twice = [model_id for place, model_id in enumerate(ids) if model_id in ids[:place]]
    if twice:
        raise UserError(f"--model_id {twice[0]} is given twice: give each base model once")


def _check_pair(model_id, record, other_id, other):
    own, expected = _training(record), _training(other)
    if not (own["val_digest"] and expected["val_digest"]):  # earlier versions did not save it
        own["val_digest"] = expected["val_digest"] = None
    differences = describe_differences(own, expected)
    if differences:
        raise UserError(
            f"{model_id} differs from {other_id} in more than the seed: {differences}: {SEED_HINT}"
        )
    if record.get("weights_digest") == other.get("weights_digest"):
        raise UserError(f"{model_id} has the same weights as {other_id}: give it once")
    seed = _seed(record)
    if seed == _seed(other):
        raise UserError(f"{model_id} has the same seed as {other_id}, {seed}: {SEED_HINT}")


def _training(record):
    """Return what must be equal: data, architecture, recipe and choice of the epoch, no seeds."""
    spec = {**SPEC_DEFAULTS, **record["spec"], "partition_seed": None}
    recipe = {**asdict(Recipe(**record["recipe"])), "seed": None}
    data = {key: record.get(key) for key in ("train_digest", "val_digest")}
    return {**data, "spec": spec, "recipe": recipe, "selection": record.get("selection")}


def _seed(record):
    return Recipe(**record["recipe"]).seed
