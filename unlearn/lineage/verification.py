"""Does an unlearned model come from where it says? Its chain, from itself to the base model.

Each model's record names its parent and the digest of the parent's weights, the digest of the
training images, and the digest of the mask; the results of a test name the Retrains that it was
compared with. All of it is worked out anew from the files that are there.
"""

import json
from dataclasses import dataclass

import torch

from models.checkpoint import load_model, model_digest, model_path, read_record, weights_digest
from unlearn.lineage.parents import RETRAIN, find_retrain
from unlearn.model_ids import parse_unlearned_model_id
from unlearn.request.request import ForgetRequest
from unlearn.saliency import (
    load_percentiles,
    origin_from_digests,
    saliency_path,
    threshold_to_percent,
)
from utils.io.files import RESULT_FOLDER, check_inside
from utils.runtime.errors import UserError

HOLDS, BREAKS, UNKNOWN = "holds", "BREAKS", "unknown"
MOST_GENERATIONS = 100
SHOWN_DIGITS = 12  # of a digest


@dataclass(frozen=True)
class Finding:
    """One link of a chain. state: HOLDS, BREAKS, or UNKNOWN where nothing tells."""

    state: str
    text: str


@dataclass(frozen=True)
class _Link:
    model_id: str
    model: torch.nn.Module
    record: dict
    digest: str


def verify(model_id, load_data=None):
    """Yield a Finding for each thing that the chain of a model stands on, child before parent.

    load_data: input size in pixels -> MedicalDataset to compare the records with; None to leave
    the data out. A damaged model is a finding. Raises UserError if the model asked about is not
    there or has no record, or if the data cannot be loaded.
    """
    if not model_path(model_id).exists():
        load_model(model_id)  # says what there is instead
    if _is_bare(model_id):
        raise UserError(f"{model_id} holds bare weights: it has no record to be verified")
    child, seen, dataset = None, [], None
    while model_id is not None:
        if model_id in seen or len(seen) == MOST_GENERATIONS:
            yield Finding(BREAKS, f"{model_id}: it is among its own ancestors")
            return
        seen.append(model_id)
        link, why = _opened(model_id, child)
        if link is None:
            yield Finding(BREAKS, why)
            return
        yield from _findings_of(link)
        if child:
            yield from _findings_between(child, link)
        if load_data and link.record:
            dataset = dataset or load_data(link.model.spec.input_size)
            yield from _findings_in_data(link, dataset)
        child, model_id = link, link.record.get("parent_id")


def _is_bare(model_id):
    try:
        return not read_record(model_id)
    except UserError:  # a damaged record is one that was there
        return False


def _opened(model_id, child):
    """(_Link, None), or (None, why there is none). child: the _Link that names the model."""
    try:
        if not model_path(model_id).exists():
            return None, f"parent {model_id}: it is not in model_weights/"
        try:
            model, record = load_model(model_id)
        except UserError:
            if child is None:
                raise
            spec = child.model.spec  # bare weights do not tell it themselves
            model, record = load_model(
                model_id, arch=spec.arch, input_size=spec.input_size, stem=spec.stem
            )
    except UserError as error:
        return None, str(error)
    return _Link(model_id, model, record, model_digest(model, record)), None


def _findings_of(link):
    """What a model's file says by itself, and of the Retrain that it was compared with."""
    record, name = link.record, link.model_id
    if not record:
        yield Finding(UNKNOWN, f"{name}: bare weights, without a record of where they come from")
        return
    yield Finding(HOLDS, f"{name}: weights and record are those saved, {_short(link.digest)}")
    own = record.get("model_id", name)
    yield _judged(own == name, f"{name}: has the name that it was saved under", f"it was {own}")
    if "parent_id" not in record:
        yield Finding(HOLDS, f"{name}: a base model, trained on {record.get('dataset')}")
        return
    if "forget_request" not in record:
        yield Finding(BREAKS, f"{name}: its record has a parent but no request")
        return
    request = ForgetRequest.from_record(record["forget_request"])
    parts = parse_unlearned_model_id(own) or {}
    told = (parts.get("base"), parts.get("forgotten"), parts.get("method"))
    wanted = (record["parent_id"], request.id_part(), record["method"].upper())
    yield _judged(
        told == wanted,
        f"{name}: its id tells parent, request and method of the record",
        f"the record says {', '.join(wanted)}",
    )
    if record["method"] != RETRAIN:
        yield from _findings_of_retrains(link, request)


def _findings_between(child, parent):
    """Whether `child` can have come out of `parent`."""
    record, name = child.record, f"parent {parent.model_id} of {child.model_id}"
    yield _judged(
        parent.digest == record["parent_digest"],
        f"{name}: has the digest that the record names, {_short(record['parent_digest'])}",
        f"it has {_short(parent.digest)}",
    )
    yield _judged(
        parent.model.spec == child.model.spec, f"{name}: is the same network", "it is another"
    )
    if parent.record:
        same = parent.record.get("train_digest") == record.get("train_digest")
        yield _judged(same, f"{name}: was trained on the same images", "it was not")
    threshold = record.get("settings", {}).get("mask_thresh")
    if threshold is not None:
        yield from _findings_of_mask(child, parent, threshold)


def _findings_of_mask(child, parent, threshold):
    record = child.record
    try:
        percent = threshold_to_percent(threshold)
        request = ForgetRequest.from_record(record["forget_request"])
        path = saliency_path(parent.model_id, request)
        origin = origin_from_digests(
            record["parent_digest"], parent.model.spec, record["train_digest"]
        )
        percents = load_percentiles(path, parent.model, request, origin, "generate_mask.py")
    except (UserError, TypeError) as error:
        yield Finding(BREAKS, f"mask of {child.model_id}: {error}")
        return
    named, digest = record.get("mask_digest"), weights_digest(percents)
    if named is None:
        yield Finding(UNKNOWN, f"mask {path}: the record of {child.model_id} names no digest")
    else:
        says = f"mask {path}: has the digest that the record names, {_short(named)}"
        yield _judged(digest == named, says, f"it has {_short(digest)}")
    own = dict(child.model.named_parameters())
    moved = sum(
        int((own[name].detach() != before.detach())[percents[name] > percent].sum())
        for name, before in parent.model.named_parameters()
        if own[name].shape == before.shape
    )
    says = f"mask {path}: all weights outside it are the parent's, bit for bit"
    yield _judged(moved == 0, says, f"{moved} are not")


def _findings_of_retrains(link, request):
    """The Retrains in the model's results, or else the one that a test would find."""
    path = check_inside(RESULT_FOLDER / f"{link.model_id}.json")
    if path.exists():
        try:
            ids, digests = _compared_with(path, link)
        except (OSError, ValueError, RecursionError) as error:
            yield Finding(BREAKS, f"results {path}: {error}")
            return
        yield Finding(HOLDS, f"results {path}: are of these weights")
    else:
        found = find_retrain(link.model_id, link.record, request)
        ids, digests = ([], []) if found is None else ([found], [None])
    for each, digest in zip(ids, digests, strict=True):
        yield from _findings_of_retrain(each, digest, link, request)
    if not ids:
        yield Finding(UNKNOWN, f"{link.model_id}: was compared with no Retrain")


def _compared_with(path, link):
    """(ids, digests of their weights) of the Retrains in a file of results; ValueError."""
    results = json.loads(path.read_bytes())
    if not isinstance(results, dict):
        raise ValueError("it holds no results")
    if results.get("weights_digest") != link.digest:
        raise ValueError("they are of other weights than the model has")
    ids, digests = results.get("retrain_model_ids"), results.get("retrain_weights_digests")
    lists = isinstance(ids, list) and isinstance(digests, list) and len(ids) == len(digests)
    if not lists or not all(isinstance(text, str) for text in (*ids, *digests)):
        raise ValueError("they do not name their Retrains")
    return ids, digests


def _findings_of_retrain(retrain_id, digest, link, request):
    """digest: of the weights that it was compared with, None if nothing tells."""
    name = f"Retrain {retrain_id}"
    try:
        model, record = load_model(retrain_id)
    except UserError as error:
        yield Finding(BREAKS, f"{name}: {error}")
        return
    found = model_digest(model, record)
    if digest is not None:
        says = f"{name}: has the digest that the results name, {_short(digest)}"
        yield _judged(found == digest, says, f"it has {_short(found)}")
    same = (
        record.get("method") == RETRAIN
        and record.get("parent_digest") == link.record["parent_digest"]
        and record.get("train_digest") == link.record.get("train_digest")
        and ForgetRequest.from_record(record["forget_request"]) == request
    )
    says = f"{name}: is a Retrain of the same base model, images and request"
    yield _judged(same, says, "it is not")


def _findings_in_data(link, dataset):
    record, name = link.record, f"data of {link.model_id}"
    found = dataset.train_digest()
    yield _judged(
        record.get("train_digest") == found,
        f"{name}: the training images of {dataset.name} have the digest of the record",
        f"they have {_short(found)}",
    )
    if "forget_request" in record:
        request = ForgetRequest.from_record(record["forget_request"])
        yield _judged(
            request.fits(dataset),
            f"{name}: {dataset.name} has what was forgotten",
            "it has not as many classes or images",
        )


def _judged(holds, says, otherwise):
    return Finding(HOLDS, says) if holds else Finding(BREAKS, f"{says}: no, {otherwise}")


def _short(digest):
    return f"sha256 {digest[:SHOWN_DIGITS]}"
