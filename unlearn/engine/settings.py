"""Builds the settings of an unlearning run from defaults, flags and records."""

from dataclasses import replace

from unlearn.engine.config import UnlearnConfig
from unlearn.engine.method import ONE_STEP_IGNORES
from utils.io.files import suggest_name
from utils.runtime.errors import UserError
from utils.train.recipe import MIN_TRAIN_IMAGES, Recipe

HIGHEST = 1_000_000  # that any option takes
SHARED = ("seed", "precision")  # settings that a method takes from the base model's recipe
FLAGS = {
    "epochs": "--unlearn_epochs",
    "lr": "--unlearn_lr",
    "batch_size": "--unlearn_batch_size",
    "optimizer": "--optimizer",
    "weight_decay": "--weight_decay",
    "precision": "--precision",
}


def default_config(method, request, base_record):
    """The UnlearnConfig of a method run without any flag.

    base_record: the base model's; a method that trains by the base model's recipe takes it from
    there. Raises UserError if it does not tell how the model was trained.
    """
    recipe = base_record.get("recipe")
    options = {name: option.default for name, option in method.options.items()}
    if method.recipe is not None:
        shared = {key: recipe[key] for key in SHARED if key in recipe} if recipe else {}
        own = replace(method.recipe, **shared)
        return UnlearnConfig(request, own, options)
    if recipe is None:
        raise UserError(
            f"--unlearn {method.id}: the model file does not tell how the model was trained; "
            "train a base model with main_train.py"
        )
    selection = base_record["selection"]
    return UnlearnConfig(request, Recipe(**recipe), options, base_selection=selection)


def override_config(method, config, settings, options=()):
    """`config` with the `settings` (by name, of its recipe) and options that were asked for.

    options: (name, text) pairs. Raises UserError if the method has no such setting.
    """
    for name in method.ignored_settings:
        if name in settings:
            raise UserError(
                f"{FLAGS[name]} has no effect on {method.id}"
                f"{', which works in one step' if name in ONE_STEP_IGNORES else ''}: leave it out; "
                f"its own settings are {', '.join(method.options)} (--unlearn_options)"
            )
    if (
        settings.get("batch_size", MIN_TRAIN_IMAGES) < MIN_TRAIN_IMAGES
        and not method.allows_batch_of_one
    ):
        raise UserError(
            f"--unlearn_batch_size {settings['batch_size']}: {method.id} trains batch "
            f"normalisation, which cannot learn from one image: give {MIN_TRAIN_IMAGES} or more"
        )
    for name, text in options:
        if [other for other, _ in options].count(name) > 1:
            raise UserError(f"--unlearn_options {name}={text}: {name} is there twice: give it once")
    own = {name: _read_option(method, name, text) for name, text in options}
    return replace(
        config, recipe=replace(config.recipe, **settings), options={**config.options, **own}
    )


def config_from_record(method, request, record):
    """The UnlearnConfig that an unlearned model was made with, by its record; without the mask."""
    settings = {key: value for key, value in record["settings"].items() if key != "mask_thresh"}
    options = settings.pop("options", {})
    config = default_config(method, request, record)
    recipe = replace(config.recipe, **settings)
    return replace(config, recipe=recipe, options={**config.options, **options})


def check_applicable(method, dataset, shards=0):
    """Raises UserError if the method cannot work on this kind of labels, or on so many shards."""
    if method.needs_shards and not shards:
        raise UserError(
            f"--unlearn {method.id} needs a base model that was trained in shards: train one with "
            "main_train.py --sisa_shards 5"
        )
    if method.needs_last_layer and shards:
        raise UserError(
            f"--unlearn {method.id} needs the one last layer, and a model in shards has {shards}: "
            "choose another method, or a base model trained without --sisa_shards"
        )
    if method.needs_other_class and dataset.num_classes < 2:
        raise UserError(
            f"--unlearn {method.id} needs another class than that of an image, and {dataset.name} "
            "has one only: choose another method"
        )
    if method.single_label_only and dataset.is_multi_label:
        raise UserError(
            f"--unlearn {method.id} needs one class an image, and {dataset.name} is multi-label: "
            "choose another method"
        )


def _read_option(method, name, text):
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
    each = value if isinstance(value, tuple) else (value,)
    high = min(option.high, HIGHEST)
    if not all(option.low <= number <= high for number in each):  # NaN is refused as well
        raise UserError(
            f"--unlearn_options {name}={text}: from {option.low:g} to {high:g} makes sense"
        )
    return value
