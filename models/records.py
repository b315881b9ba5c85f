"""What a record may hold: it comes with a file from elsewhere, and names files and sizes."""

import re

from utils.errors import UserError
from utils.files import check_id

DIGEST = re.compile("[0-9a-f]{64}")
IDS = ("model_id", "parent_id")
DIGESTS = ("weights_digest", "parent_digest", "train_digest", "mask_digest")
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
DICTS = ("spec", "recipe", "settings", "versions", "forget_request")
LISTS = ("class_names", "history")
ASKED = {  # of a record that has the first: what it cannot be without
    "parent_id": ("parent_digest",),
    "forget_request": ("method", "settings", "train_digest"),
}
LARGEST_NUMBER = 2**63 - 1


def record_fault(record):
    """What is wrong with the record of a model, in a few words; None if it can be used."""
    if not isinstance(record, dict) or not all(isinstance(key, str) for key in record):
        return "it has no record"
    for kind, keys in ((str, (*IDS, *DIGESTS, *TEXTS)), (dict, DICTS), (list, LISTS)):
        for key in keys:
            if key in record and not isinstance(record[key], kind):
                return f"the record's {key} is no {kind.__name__}"
    for key in DIGESTS:
        if key in record and not DIGEST.fullmatch(record[key]):
            return f"the record's {key} is no SHA-256"
    try:
        for key in IDS:
            if key in record:
                check_id(record[key], key)
    except UserError:
        return "the record names a model that cannot be one"
    for key, needs in ASKED.items():
        missing = [need for need in needs if key in record and need not in record]
        if missing:
            return f"the record has {key} but no {missing[0]}"
    if not _is_number(record.get("seconds", 0)):
        return "the record's seconds are no number"
    for key in ("recipe", "settings"):
        if not all(isinstance(name, str) for name in record.get(key, {})):
            return f"the record's {key} has no names"
    return _request_fault(record.get("forget_request"))


def _request_fault(request):
    if request is None:
        return None
    classes = request.get("class_to_forget", ())
    images = request.get("forget_indices")
    if classes is None:
        try:
            check_id(request.get("forget_id"), "forget_id")
        except (TypeError, UserError):
            return "the record's request has no name"
        return None if _ascending(images) else "the record's request names no images"
    classes = [classes] if isinstance(classes, int) else classes
    return None if _ascending(classes) else "the record's request names no classes"


def _ascending(numbers):
    if not isinstance(numbers, list | tuple) or not numbers:
        return False
    whole = all(type(n) is int and 0 <= n <= LARGEST_NUMBER for n in numbers)
    return whole and list(numbers) == sorted(set(numbers))


def _is_number(value):
    return type(value) in (int, float) and 0 <= value < float("inf")
