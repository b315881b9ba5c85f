"""The table of methods: a new method is a new file and a row here."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from unlearn.config import OPTIMIZER, UnlearnConfig
from unlearn.fine_tune import fine_tune
from unlearn.gradient_ascent import gradient_ascent
from unlearn.random_label import random_label
from unlearn.retrain import retrain
from utils.errors import UserError
from utils.files import nearest
from utils.training import WEIGHT_DECAY


@dataclass(frozen=True)
class Method:
    """A row. epochs, lr, optimizer, weight_decay: the defaults; None: the base model's own.

    run: (model, forget_set, retain_set, UnlearnConfig) -> model.
    """

    id: str
    name: str
    run: Callable
    epochs: int | None
    lr: float | None
    optimizer: str | None = OPTIMIZER
    weight_decay: float | None = WEIGHT_DECAY
    uses_mask: bool = False


SALUN_SUFFIX = "_with_SalUn"
_ROWS = [
    Method("Retrain", "Retrain", retrain, epochs=None, lr=None, optimizer=None, weight_decay=None),
    Method("RL", "Random Labeling", random_label, epochs=5, lr=0.01),
    Method("FT", "Fine Tuning", fine_tune, epochs=5, lr=0.03),
    Method(
        "GA",
        "Gradient Ascent",
        gradient_ascent,
        epochs=5,
        lr=3e-6,
        optimizer="adam",
        weight_decay=0.0,  # Adam would follow the decay wherever the gradient is near zero
    ),
]
_WITH_SALUN = [
    replace(row, id=f"{row.id}{SALUN_SUFFIX}", name=f"{row.name} with SalUn", uses_mask=True)
    for row in _ROWS
    if row.run is not retrain
]
METHODS = {row.id: row for row in [*_ROWS, *_WITH_SALUN]}


def find_method(method_id):
    """The row of an id in any letter case. Raises UserError naming the nearest."""
    by_lower = {known.lower(): row for known, row in METHODS.items()}
    if method_id.lower() not in by_lower:
        raise UserError(
            f"--unlearn {method_id}: no such method{nearest(method_id, METHODS)}; "
            f"there are {', '.join(METHODS)}"
        )
    return by_lower[method_id.lower()]


def default_config(method, request, base_record):
    """The UnlearnConfig of a method run without any flag.

    base_record: the base model's; Retrain takes its whole recipe from there. Raises UserError if
    Retrain is asked of a model that does not tell how it was trained.
    """
    recipe = base_record.get("recipe")
    if method.epochs is not None:
        seed = {"seed": recipe["seed"]} if recipe else {}
        return UnlearnConfig(
            request,
            method.epochs,
            method.lr,
            optimizer=method.optimizer,
            weight_decay=method.weight_decay,
            **seed,
        )
    if recipe is None:
        raise UserError(
            f"--unlearn {method.id}: the model file does not tell how the model was trained; "
            "train a base model with main_train.py"
        )
    return UnlearnConfig(request, base_selection=base_record["selection"], **recipe)


def recorded_config(method, request, record):
    """The UnlearnConfig that an unlearned model was made with, by its record; without the mask."""
    settings = {key: value for key, value in record["settings"].items() if key != "mask_thresh"}
    return replace(default_config(method, request, record), **settings)


def describe_defaults():
    """One line with each method's default epochs and rate, for help texts."""
    return ", ".join(
        f"{row.id} {row.epochs} epochs at {row.lr:g}"
        if row.epochs
        else f"{row.id} the base model's"
        for row in METHODS.values()
    )
