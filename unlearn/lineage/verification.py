"""Verifies the chain of models from an unlearned model to its base model.

Each record names the model's parent and the SHA-256 digests of the parent's weights, the training
images and the saliency mask; a results file names the Retrains that the model was compared with.
All digests are computed again from the existing files and compared.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from models.checkpoint import load_model, model_digest, model_path, read_record, weights_digest
from unlearn.lineage.parents import RETRAIN, find_retrains
from unlearn.mask_threshold import threshold_to_percent
from unlearn.model_ids import parse_unlearned_model_id
from unlearn.request.request import ForgetRequest
from unlearn.saliency import (
    load_saliency_map,
    origin_from_digests,
    saliency_path,
)
from utils.io.files import RESULT_FOLDER, check_inside
from utils.runtime.errors import UserError

if TYPE_CHECKING:
    from utils.data.datasets import MedicalDataset

HOLDS, BREAKS, UNKNOWN = "holds", "BREAKS", "unknown"
MAX_GENERATIONS = 100
SHOWN_DIGITS = 12  # of a digest


@dataclass(frozen=True)
class Finding:
    """The result of one check: state is HOLDS, BREAKS, or UNKNOWN if there is nothing to check."""

    state: str
    text: str


@dataclass(frozen=True)
class _Link:
    model_id: str
    model: torch.nn.Module
    record: dict
    digest: str


def verify(
    model_id: str, load_data: "Callable[[int], MedicalDataset] | None" = None
) -> Iterator[Finding]:
    """Check a model and its ancestors, child before parent; yield a Finding per check.

    load_data: returns the data set for an input size in pixels; None skips checks of the data. A
    damaged ancestor is a Finding. Raises UserError if the model itself is missing, damaged or has
    no record, and what `load_data` raises.
    """
    if not model_path(model_id).exists():
        load_model(model_id)  # raises, and suggests a similar id
    if _has_no_record(model_id):
        raise UserError(
            f"{model_id} has weights but no record, so nothing can be verified: give a model that "
            "main_train.py or main_unlearn.py has saved"
        )
    child, seen, dataset = None, [], None
    while model_id is not None:
        if model_id in seen or len(seen) == MAX_GENERATIONS:
            yield Finding(BREAKS, f"{model_id}: it is one of its own ancestors")
            return
        seen.append(model_id)
        link, reason = _load_link(model_id, child)
        if link is None:
            yield Finding(BREAKS, reason)
            return
        yield from _check_model(link)
        if child:
            yield from _check_parent(child, link)
        if load_data and link.record:
            dataset = dataset or load_data(link.model.spec.input_size)
            yield from _check_data(link, dataset)
        child, model_id = link, link.record.get("parent_id")


def _has_no_record(model_id):
    try:
        return not read_record(model_id)
    except UserError:  # there is a record, but a damaged one
        return False


def _load_link(model_id, child):
    """(_Link, None), or (None, why it cannot be loaded). child: the _Link whose parent it is."""
    try:
        if not model_path(model_id).exists():
            return None, f"parent {model_id}: it is not in model_weights/"
        try:
            model, record = load_model(model_id)
        except UserError:
            if child is None:
                raise
            spec = child.model.spec  # weights without a record have none of their own
            model, record = load_model(
                model_id, arch=spec.arch, input_size=spec.input_size, stem=spec.stem
            )
    except UserError as error:
        return None, str(error)
    return _Link(model_id, model, record, model_digest(model, record)), None


def _check_model(link):
    """Check a model's own file, and the Retrains that it was compared with."""
    record, name = link.record, link.model_id
    if not record:
        yield Finding(UNKNOWN, f"{name}: weights without a record of their origin")
        return
    yield Finding(HOLDS, f"{name}: weights and record are as saved, {_short(link.digest)}")
    own = record.get("model_id", name)
    yield _finding(own == name, f"{name}: has the name that it was saved under", f"it was {own}")
    if "parent_id" not in record:
        yield Finding(HOLDS, f"{name}: a base model, trained on {record.get('dataset')}")
        return
    if "forget_request" not in record:
        yield Finding(BREAKS, f"{name}: its record has a parent but no request")
        return
    request = ForgetRequest.from_record(record["forget_request"])
    parts = parse_unlearned_model_id(own) or {}
    found = (parts.get("base"), parts.get("forgotten"), parts.get("method"))
    expected = (record["parent_id"], request.id_part(), record["method"].upper())
    yield _finding(
        found == expected,
        f"{name}: its id agrees with parent, request and method of the record",
        f"the record has {', '.join(expected)}",
    )
    if record["method"] != RETRAIN:
        yield from _check_retrains(link, request)


def _check_parent(child, parent):
    """Check that `child` can have been unlearned from `parent`."""
    record, name = child.record, f"parent {parent.model_id} of {child.model_id}"
    yield _finding(
        parent.digest == record["parent_digest"],
        f"{name}: has the digest in the record, {_short(record['parent_digest'])}",
        f"it has {_short(parent.digest)}",
    )
    yield _finding(
        parent.model.spec == child.model.spec,
        f"{name}: has the same architecture",
        "it has another",
    )
    if parent.record:
        same = parent.record.get("train_digest") == record.get("train_digest")
        yield _finding(same, f"{name}: was trained on the same images", "it was not")
    threshold = record.get("settings", {}).get("mask_thresh")
    if threshold is not None:
        yield from _check_mask(child, parent, threshold)


def _check_mask(child, parent, threshold):
    record = child.record
    try:
        percent = threshold_to_percent(threshold)
        request = ForgetRequest.from_record(record["forget_request"])
        path = saliency_path(parent.model_id, request)
        origin = origin_from_digests(
            record["parent_digest"], parent.model.spec, record["train_digest"]
        )
        saliency = load_saliency_map(path, parent.model, request, origin, "generate_mask.py")
        percents = saliency.percentiles
    except (UserError, TypeError) as error:
        yield Finding(BREAKS, f"mask of {child.model_id}: {error}")
        return
    recorded, digest = record.get("mask_digest"), weights_digest(percents)
    if recorded is None:
        yield Finding(UNKNOWN, f"mask {path}: the record of {child.model_id} has no digest of it")
    else:
        claim = f"mask {path}: has the digest in the record, {_short(recorded)}"
        yield _finding(digest == recorded, claim, f"it has {_short(digest)}")
    own = dict(child.model.named_parameters())
    moved = sum(
        int((own[name].detach() != before.detach())[percents[name] > percent].sum())
        for name, before in parent.model.named_parameters()
        if own[name].shape == before.shape
    )
    claim = f"mask {path}: all weights outside it are bitwise identical to the parent's"
    yield _finding(moved == 0, claim, f"{moved} are not")


def _check_retrains(link, request):
    """Check the Retrains named in the model's results, or else those that a test would find."""
    path = check_inside(RESULT_FOLDER / f"{link.model_id}.json")
    if path.exists():
        try:
            ids, digests = _read_compared_retrains(path, link)
        except (OSError, ValueError, RecursionError) as error:
            yield Finding(BREAKS, f"results {path}: {error}")
            return
        yield Finding(HOLDS, f"results {path}: belong to these weights")
    else:
        ids = find_retrains(link.model_id, link.record, request)
        digests = [None] * len(ids)
    for retrain_id, digest in zip(ids, digests, strict=True):
        yield from _check_retrain(retrain_id, digest, link, request)
    if not ids:
        yield Finding(UNKNOWN, f"{link.model_id}: was not compared with a Retrain")


def _read_compared_retrains(path, link):
    """(ids, weights digests) of the Retrains in a results file. Raises ValueError."""
    results = json.loads(path.read_bytes())
    if not isinstance(results, dict):
        raise ValueError("it contains no results")
    if results.get("weights_digest") != link.digest:
        raise ValueError("they belong to other weights than the model's")
    ids, digests = results.get("retrain_model_ids"), results.get("retrain_weights_digests")
    lists = isinstance(ids, list) and isinstance(digests, list) and len(ids) == len(digests)
    if not lists or not all(isinstance(text, str) for text in (*ids, *digests)):
        raise ValueError("they do not list their Retrains")
    return ids, digests


def _check_retrain(retrain_id, digest, link, request):
    """Check a Retrain. digest: of its weights at the comparison, None if unknown."""
    name = f"Retrain {retrain_id}"
    try:
        model, record = load_model(retrain_id)
    except UserError as error:
        yield Finding(BREAKS, f"{name}: {error}")
        return
    found = model_digest(model, record)
    if digest is not None:
        claim = f"{name}: has the digest in the results, {_short(digest)}"
        yield _finding(found == digest, claim, f"it has {_short(found)}")
    same = (
        record.get("method") == RETRAIN
        and record.get("parent_digest") == link.record["parent_digest"]
        and record.get("train_digest") == link.record.get("train_digest")
        and ForgetRequest.from_record(record["forget_request"]) == request
    )
    claim = f"{name}: is a Retrain of the same base model, images and request"
    yield _finding(same, claim, "it is not")


def _check_data(link, dataset):
    record, name = link.record, f"data of {link.model_id}"
    found = dataset.train_digest()
    yield _finding(
        record.get("train_digest") == found,
        f"{name}: the training images of {dataset.name} have the digest in the record",
        f"they have {_short(found)}",
    )
    if "forget_request" in record:
        request = ForgetRequest.from_record(record["forget_request"])
        yield _finding(
            request.fits(dataset),
            f"{name}: {dataset.name} has the forgotten classes or images",
            "it has fewer classes or images",
        )


def _finding(holds, claim, otherwise):
    return Finding(HOLDS, claim) if holds else Finding(BREAKS, f"{claim}: no, {otherwise}")


def _short(digest):
    return f"sha256 {digest[:SHOWN_DIGITS]}"
