"""Model ids of unlearned models, which are their file names and show what was done.

    {base}_FORGOTTEN_{class}_{METHOD}_mask{5}_unlearnEpochs{5}_unlearnlr{001}

One-step methods have neither epochs nor a learning rate, and methods without a mask no mask part.
In place of a class there may be: several classes, `3-5`; a random fraction of 0.1 drawn with seed
2, `f1-s2`; such a fraction of classes, `3-5-f1-s2`; or `samples-` and a digest of listed images.
Settings that are not the method's defaults follow, so that two requests never have the same id.
"""

import re
from collections.abc import Iterable
from decimal import Decimal

FORGOTTEN = "_FORGOTTEN_"  # between the base model's id and the request
CLASSES = r"\d+(?:-\d+)*"
FRACTION = r"f\d+(?:p\d+)?-s\d+"
PATTERN = re.compile(
    rf"(?P<base>.+){FORGOTTEN}"
    rf"(?P<forgotten>{CLASSES}|(?:{CLASSES}-)?{FRACTION}|samples-[0-9a-f]+)_"
    r"(?P<method>[A-Z0-9]+(?:_[A-Z0-9]+)*)"
    r"(?:_mask(?P<mask_thresh>\d+(?:p\d+)?))?"
    r"(?:_unlearnEpochs(?P<epochs>\d+)_unlearnlr(?P<lr>\d+(?:p\d+)?))?"
    r"(?P<others>(?:_[A-Za-z]+-[A-Za-z0-9]+)*)"
)


def encode_number(number: float) -> str:
    """Return a number as part of an id: 0.001 -> '001', 0.5 -> '5', 1.5 -> '1p5'."""
    text = format(Decimal(repr(float(number))), "f")
    whole, _, fraction = text.partition(".")
    fraction = fraction.rstrip("0") or "0"
    return fraction if whole == "0" else f"{whole}p{fraction}"


def decode_number(digits: str) -> float:
    """Return the number that `encode_number` has encoded."""
    return float(digits.replace("p", ".") if "p" in digits else f"0.{digits}")


def unlearned_model_id(
    base: str,
    forgotten: str,
    method_id: str,
    epochs: int = 0,
    lr: float = 0.0,
    mask_thresh: float | None = None,
    others: Iterable[tuple[str, object]] = (),
) -> str:
    """Return the id of a model that is unlearned from a base model.

    forgotten: ForgetRequest.id_part(). epochs: 0 for one-step methods. mask_thresh: None for
    methods without a mask. others: (name, value) of further settings that are not defaults, such as
    ("batch", 50); a tuple of classes (0, 3) is written 0x3.
    """
    mask = "" if mask_thresh is None else f"_mask{encode_number(mask_thresh)}"
    schedule = f"_unlearnEpochs{epochs}_unlearnlr{encode_number(lr)}" if epochs else ""
    tail = "".join(f"_{name}-{_value_part(value)}" for name, value in others)
    return f"{base}{FORGOTTEN}{forgotten}_{method_id.upper()}{mask}{schedule}{tail}"


def _value_part(value):
    if isinstance(value, tuple):
        return "x".join(map(str, value)) or "all"
    return encode_number(value) if isinstance(value, float) else value


def parse_unlearned_model_id(model_id: str) -> dict | None:
    """Return the parts of an unlearned model's id, None if it is not such an id.

    Keys: base, forgotten (str), method (upper case), mask_thresh, epochs, lr (None if missing),
    others (dict of str).
    """
    match = PATTERN.fullmatch(model_id)
    if not match:
        return None
    parts = match.groupdict()
    epochs = parts["epochs"]
    mask, lr = (parts[key] and decode_number(parts[key]) for key in ("mask_thresh", "lr"))
    return {
        **parts,
        "mask_thresh": mask,
        "epochs": epochs and int(epochs),
        "lr": lr,
        "others": dict(part.split("-") for part in parts["others"].split("_") if part),
    }
