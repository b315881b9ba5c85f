"""Validates and compares records, which may come from other people's files and are not trusted."""

import re
import sys
from collections.abc import Mapping
from typing import Any

from utils.io.files import check_id
from utils.runtime.errors import UserError
from utils.train.recipe import OPTIMIZERS, Recipe

IDS = ("model_id", "parent_id")
DIGESTS = ("weights_digest", "parent_digest", "train_digest", "val_digest", "mask_digest")
TEXTS = (
    "kind",
    "dataset",
    "task",
    "method",
    "forget_words",
    "selection",
    "device",
    "command",
    "saved_at",
)
DICTS = ("spec", "recipe", "settings", "versions", "forget_request", "plugin")
LISTS = ("class_names", "history")
MASK_FRACTIONS = ("mask_zero_fraction", "mask_full_threshold")
DATA_NAMES = {"train_digest": "the training images", "val_digest": "the validation images"}
REQUIRED_WITH = {  # a record with the first key must have the others
    "parent_id": ("parent_digest",),
    "forget_request": ("method", "settings", "train_digest"),
}
MAX_NUMBER = 2**63 - 1
MIN_SECONDS, MAX_SECONDS = 1e-6, 1e10  # of a duration; quotients of two are finite
SHA256 = re.compile("[0-9a-f]{64}")


def drop_unknown_values(record: dict) -> dict:
    """Return a record without a duration of less than MIN_SECONDS.

    Programs that round durations write 0. Without the key, the duration is unknown; a duration of 0
    would be a divisor.
    """
    is_unknown = record.get("seconds", MIN_SECONDS) < MIN_SECONDS
    return {key: value for key, value in record.items() if key != "seconds" or not is_unknown}


def describe_differences(found: Mapping[str, Any], expected: Mapping[str, Any]) -> str:
    """Return where `found` differs from the settings in `expected`, "" if nowhere.

    Written as `epochs 1 (not 12), lr 0.1 (not 0.01)`; nested dicts key by key, data by its name.
    """
    return ", ".join(_differences(found, expected))


def _differences(found, expected):
    for key, value in expected.items():
        own = found.get(key)
        if own == value:
            continue
        if isinstance(value, dict) and isinstance(own, dict):
            yield from _differences(own, {**dict.fromkeys(own), **value})
        else:
            yield DATA_NAMES.get(key) or f"{key} {own} (not {value})"


def find_record_error(record: Any) -> str | None:
    """Return what is wrong with the record of a model, in a few words; None if it is valid."""
    if not isinstance(record, dict) or not all(isinstance(key, str) for key in record):
        return "it has no record"
    for kind, keys in ((str, (*IDS, *DIGESTS, *TEXTS)), (dict, DICTS), (list, LISTS)):
        for key in keys:
            if key in record and not isinstance(record[key], kind):
                return f"the record's {key} is not a {kind.__name__}"
    try:
        for key in IDS:
            if key in record:
                check_id(record[key], key)
    except UserError:
        return "the record contains an invalid model id"
    for key, needs in REQUIRED_WITH.items():
        missing = [need for need in needs if key in record and need not in record]
        if missing:
            return f"the record has {key} but no {missing[0]}"
    for key in MASK_FRACTIONS:
        if key in record and not (_is_number(record[key]) and record[key] <= 1):
            return f"the record's {key} is not a number from 0 to 1"
    seconds = record.get("seconds", 0)
    if not _is_number(seconds) or seconds > MAX_SECONDS:
        return f"the record's seconds are not a number from 0 to {MAX_SECONDS:g}"
    if "plugin" in record and not _is_plugin(record["plugin"]):
        return "the record's plugin is not a file name with a SHA-256 digest"
    if record.get("selection") not in (None, "best", "last"):
        return "the record's selection is neither best nor last"
    return (
        _recipe_fault(record.get("recipe"))
        or _settings_fault(record.get("settings", {}))
        or _request_fault(record.get("forget_request"), record.get("spec", {}).get("num_classes"))
    )


def _is_plugin(plugin):
    file, digest = plugin.get("file"), plugin.get("sha256")
    return isinstance(file, str) and isinstance(digest, str) and bool(SHA256.fullmatch(digest))


def _recipe_fault(recipe):
    if recipe is None:
        return None
    try:
        Recipe(**recipe)
    except TypeError:
        return "the record's recipe is invalid"
    return _settings_fault(recipe)


def _settings_fault(settings):
    ranges = {
        "epochs": (int, 0, MAX_NUMBER),
        "batch_size": (int, 0, MAX_NUMBER),
        "seed": (int, 0, MAX_NUMBER),
        "lr": (float, 0, 100),
        "weight_decay": (float, 0, 1),
        "mask_thresh": (float, 0, 1),
    }
    for key, value in settings.items():
        kind, lowest, highest = ranges.get(key, (None, 0, 0))
        if key == "mask_thresh" and value is None:
            continue
        if kind and not (type(value) in (int, kind) and lowest <= value <= highest):
            return f"the record's {key} is out of range"
        if key == "compiled" and type(value) is not bool:
            return "the record's compiled is not a bool"
        if key == "optimizer" and value not in list(OPTIMIZERS):
            return "the record's optimizer is unknown"
    options = settings.get("options", {})
    if not isinstance(options, dict) or not all(map(_is_option, options.values())):
        return "the record's options are out of range"
    return None


def _is_option(value):
    return _is_number(value) or (
        isinstance(value, list | tuple) and all(type(n) is int for n in value)
    )


def _request_fault(request, num_classes):
    if request is None:
        return None
    classes = request.get("class_to_forget", ())
    images = request.get("forget_indices")
    if classes is None:
        try:
            check_id(request.get("forget_id"), "forget_id")
        except (TypeError, UserError):
            return "the record's request has no valid name"
        return None if _ascending(images) else "the record's request has no valid images"
    classes = [classes] if isinstance(classes, int) else classes
    known = _ascending(classes) and classes[-1] < (num_classes or MAX_NUMBER)
    return None if known else "the record's request has no valid classes"


def _ascending(numbers):
    if not isinstance(numbers, list | tuple) or not numbers:
        return False
    whole = all(type(n) is int and 0 <= n <= MAX_NUMBER for n in numbers)
    return whole and list(numbers) == sorted(set(numbers))


def _is_number(value):
    return type(value) in (int, float) and 0 <= value <= sys.float_info.max
