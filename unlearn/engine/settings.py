"""Builds the settings of an unlearning run from defaults, flags and records."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from unlearn.engine.config import UnlearnConfig
from unlearn.engine.method import ONE_STEP_IGNORES, Method
from utils.io.files import suggest_name
from utils.runtime.errors import UserError
from utils.train.recipe import MIN_TRAIN_IMAGES, Recipe

if TYPE_CHECKING:
    from unlearn.request.request import ForgetRequest
    from utils.data.datasets import MedicalDataset

MAX_OPTION_VALUE = 1_000_000
SHARED_SETTINGS = ("seed", "precision")  # settings that a method takes from the base model's recipe
FLAGS = {
    "epochs": "--unlearn_epochs",
    "lr": "--unlearn_lr",
    "batch_size": "--unlearn_batch_size",
    "optimizer": "--optimizer",
    "weight_decay": "--weight_decay",
    "precision": "--precision",
}


def default_config(method: Method, request: "ForgetRequest", base_record: dict) -> UnlearnConfig:
    """Return the settings of a method run without any flag.

    base_record: of the base model; methods without a recipe of their own use its recipe. Raises
    UserError if they need it and it is unknown.
    """
    recipe = base_record.get("recipe")
    options = {name: option.default for name, option in method.options.items()}
    if method.recipe is not None:
        shared = {key: recipe[key] for key in SHARED_SETTINGS if key in recipe} if recipe else {}
        own = replace(method.recipe, **shared)
        return UnlearnConfig(request, own, options)
    if recipe is None:
        raise UserError(
            f"--unlearn {method.id}: the model file has no record of how the model was trained: "
            "train a base model with main_train.py"
        )
    selection = base_record["selection"]
    return UnlearnConfig(request, Recipe(**recipe), options, base_selection=selection)


def override_config(
    method: Method,
    config: UnlearnConfig,
    settings: Mapping[str, object],
    options: Iterable[tuple[str, str]] = (),
) -> UnlearnConfig:
    """Return `config` with other settings and options.

    settings: values of Recipe fields by name. options: (name, text) pairs of the method's own
    options. Raises UserError for a setting without effect, and for an option that does not exist,
    is out of range, or is given twice.
    """
    for name in method.ignored_settings:
        if name in settings:
            raise UserError(
                f"{FLAGS[name]} has no effect on {method.id}"
                f"{', which works in one step' if name in ONE_STEP_IGNORES else ''}: leave it out; "
                f"its options are {', '.join(method.options)} (--unlearn_options)"
            )
    if (
        settings.get("batch_size", MIN_TRAIN_IMAGES) < MIN_TRAIN_IMAGES
        and not method.allows_batch_of_one
    ):
        raise UserError(
            f"--unlearn_batch_size {settings['batch_size']}: {method.id} trains batch "
            f"normalisation, which cannot train on one image: give {MIN_TRAIN_IMAGES} or more"
        )
    for name, text in options:
        if [other for other, _ in options].count(name) > 1:
            raise UserError(f"--unlearn_options {name}={text}: {name} is given twice: give it once")
    own = {name: _parse_option(method, name, text) for name, text in options}
    return replace(
        config, recipe=replace(config.recipe, **settings), options={**config.options, **own}
    )


def config_from_record(method: Method, request: "ForgetRequest", record: dict) -> UnlearnConfig:
    """Return the settings in an unlearned model's record, without the mask."""
    settings = {key: value for key, value in record["settings"].items() if key != "mask_thresh"}
    options = settings.pop("options", {})
    config = default_config(method, request, record)
    recipe = replace(config.recipe, **settings)
    return replace(config, recipe=recipe, options={**config.options, **options})


def check_applicable(method: Method, dataset: "MedicalDataset", shards: int = 0) -> None:
    """Raise UserError if a method cannot be applied to a data set or a base model.

    shards: number of shards of the base model, 0 for a single network.
    """
    if method.needs_shards and not shards:
        raise UserError(
            f"--unlearn {method.id} needs a base model trained in shards: train one with "
            "main_train.py --sisa_shards 5"
        )
    if method.needs_last_layer and shards:
        raise UserError(
            f"--unlearn {method.id} needs a single last layer, and a sharded model has several: "
            "choose another method, or a base model trained without --sisa_shards"
        )
    if method.needs_other_class and dataset.num_classes < 2:
        raise UserError(
            f"--unlearn {method.id} needs a second class, and {dataset.name} has only one: choose "
            "another method"
        )
    if method.single_label_only and dataset.is_multi_label:
        raise UserError(
            f"--unlearn {method.id} needs one class per image, and {dataset.name} is multi-label: "
            "choose another method"
        )


def _parse_option(method, name, text):
    option = method.options.get(name)
    if option is None:
        known = ", ".join(method.options)
        raise UserError(
            f"--unlearn_options {name}={text}: {method.id} has no option {name}"
            + (
                f"{suggest_name(name, method.options)}; it has {known}"
                if known
                else ", nor any other"
            )
        )
    try:
        value = option.parse(text)
    except ValueError:
        raise UserError(f"--unlearn_options {name}={text}: give {option.expected_value}") from None
    numbers = value if isinstance(value, tuple) else (value,)
    high = min(option.high, MAX_OPTION_VALUE)
    if not all(option.low <= number <= high for number in numbers):  # NaN is refused as well
        raise UserError(
            f"--unlearn_options {name}={text}: it is out of range: give {option.low:g} to {high:g}"
        )
    return value
