"""Model ids of unlearned models: what was asked for, in the name of the file.

    {base}_FORGOTTEN_{class}_{METHOD}_mask{5}_unlearnEpochs{5}_unlearnlr{001}

Methods that work in one step have neither epochs nor rate.
In the place of a class: `3-5` several, `f1-s2` a share of 0.1 drawn with seed 2, `3-5-f1-s2` such a
share of classes, `samples-` and a digest of the images where they were named one by one.
Settings that are not the method's defaults follow, so that two requests never share an id.
"""

import re
from decimal import Decimal

FORGOTTEN = "_FORGOTTEN_"  # between the base model's id and what was forgotten
CLASSES = r"\d+(?:-\d+)*"
SHARE = r"f\d+(?:p\d+)?-s\d+"
PATTERN = re.compile(
    rf"(?P<base>.+){FORGOTTEN}"
    rf"(?P<forgotten>{CLASSES}|(?:{CLASSES}-)?{SHARE}|samples-[0-9a-f]+)_"
    r"(?P<method>[A-Z0-9]+(?:_[A-Z0-9]+)*)"
    r"(?:_mask(?P<mask_thresh>\d+(?:p\d+)?))?"
    r"(?:_unlearnEpochs(?P<epochs>\d+)_unlearnlr(?P<lr>\d+(?:p\d+)?))?"
    r"(?P<others>(?:_[A-Za-z]+-[A-Za-z0-9]+)*)"
)


def encode_number(number):
    """Digits of a number for an id: 0.001 -> '001', 0.5 -> '5', 1e-05 -> '00001', 1.5 -> '1p5'."""
    text = format(Decimal(repr(float(number))), "f")
    whole, _, fraction = text.partition(".")
    fraction = fraction.rstrip("0") or "0"
    return fraction if whole == "0" else f"{whole}p{fraction}"


def decode_number(digits):
    """The number that `encode_number` wrote."""
    return float(digits.replace("p", ".") if "p" in digits else f"0.{digits}")


def unlearned_model_id(base, forgotten, method_id, epochs=0, lr=0.0, mask_thresh=None, others=()):
    """The id of a base model's unlearned descendant.

    forgotten: ForgetRequest.id_part(). epochs: 0 for methods that work in one step. mask_thresh:
    None for methods without a mask. others: (name, value) of further settings that are not
    defaults, as ("batch", 50); a tuple of classes (0, 3) is written 0x3.
    """
    mask = "" if mask_thresh is None else f"_mask{encode_number(mask_thresh)}"
    course = f"_unlearnEpochs{epochs}_unlearnlr{encode_number(lr)}" if epochs else ""
    tail = "".join(f"_{name}-{_value_part(value)}" for name, value in others)
    return f"{base}{FORGOTTEN}{forgotten}_{method_id.upper()}{mask}{course}{tail}"


def _value_part(value):
    if isinstance(value, tuple):
        return "x".join(map(str, value)) or "all"
    return encode_number(value) if isinstance(value, float) else value


def parse_unlearned_model_id(model_id):
    """The parts of such an id as a dict, None if it is not one.

    Keys: base, forgotten (str), method (upper case), mask_thresh, epochs, lr (None where it has
    none), others (dict of str).
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
