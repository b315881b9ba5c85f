"""Methods by id, their defaults, and the settings that a user chooses."""

from dataclasses import replace

from unlearn.engine.config import UnlearnConfig
from unlearn.engine.method import ALL, write_option
from unlearn.method_table import ROWS, STEPS
from utils.io.files import suggest_name
from utils.runtime.errors import UserError
from utils.text import format_table
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
SALUN_SUFFIX = "_with_SalUn"
SALUN = "Fan et al., ICLR 2024"
_WITH_SALUN = [
    replace(
        row,
        id=f"{row.id}{SALUN_SUFFIX}",
        name=f"{row.name} with SalUn",
        paper=f"{row.paper}; {SALUN}",
        uses_mask=True,
    )
    for row in ROWS
    if row.follows_gradient
]
METHODS = {row.id: row for row in [*ROWS, *_WITH_SALUN]}


def find_method(method_id):
    """The row of an id in any letter case. Raises UserError naming the nearest."""
    by_lower = {known.lower(): row for known, row in METHODS.items()}
    if method_id.lower() not in by_lower:
        raise UserError(
            f"--unlearn {method_id}: no such method{suggest_name(method_id, METHODS)}; "
            f"there are {', '.join(row.id for row in ROWS)}, most of them {SALUN_SUFFIX} too"
        )
    return by_lower[method_id.lower()]


def find_methods(method_ids, *, shards=False):
    """The rows of several ids, each once; ALL among them stands for every method.

    shards: whether the base model was trained in shards, which some methods need.
    """
    if ALL in (method_id.lower() for method_id in method_ids):
        return [row for row in METHODS.values() if shards or not row.needs_shards]
    return list(dict.fromkeys(map(find_method, method_ids)))


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


def chosen_config(method, config, settings, options=()):
    """`config` with the `settings` (by name, of its recipe) and options that were asked for.

    options: (name, text) pairs. Raises UserError if the method has no such setting.
    """
    for name in method.ignores:
        if name in settings:
            raise UserError(
                f"{FLAGS[name]} has no effect on {method.id}"
                f"{', which works in one step' if name in STEPS else ''}: leave it out; its own "
                f"settings are {', '.join(method.options)} (--unlearn_options)"
            )
    if settings.get("batch_size", MIN_TRAIN_IMAGES) < MIN_TRAIN_IMAGES and not method.one_image:
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


def recorded_config(method, request, record):
    """The UnlearnConfig that an unlearned model was made with, by its record; without the mask."""
    settings = {key: value for key, value in record["settings"].items() if key != "mask_thresh"}
    options = settings.pop("options", {})
    config = default_config(method, request, record)
    recipe = replace(config.recipe, **settings)
    return replace(config, recipe=recipe, options={**config.options, **options})


def check_task(method, dataset, shards=0):
    """Raises UserError if the method cannot work on this kind of labels, or on so many shards."""
    if method.needs_shards and not shards:
        raise UserError(
            f"--unlearn {method.id} needs a base model that was trained in shards: train one with "
            "main_train.py --sisa_shards 5"
        )
    if method.last_layer and shards:
        raise UserError(
            f"--unlearn {method.id} needs the one last layer, and a model in shards has {shards}: "
            "choose another method, or a base model trained without --sisa_shards"
        )
    if method.other_class and dataset.num_classes < 2:
        raise UserError(
            f"--unlearn {method.id} needs another class than that of an image, and {dataset.name} "
            "has one only: choose another method"
        )
    if method.one_label and dataset.is_multi_label:
        raise UserError(
            f"--unlearn {method.id} needs one class an image, and {dataset.name} is multi-label: "
            "choose another method"
        )


def describe_methods():
    """The list of methods as lines of a table, with the name and the paper below each."""
    headers = ["--unlearn", "SalUn", "default", "--unlearn_options"]
    rows = [
        [
            row.id,
            "yes" if row.follows_gradient else "-",
            describe_recipe(row),
            describe_options(row),
        ]
        for row in ROWS
    ]
    heading, rule, *lines = format_table(headers, rows).splitlines()
    papers = (f"    {row.name}: {row.paper}" for row in ROWS)
    listed = [part for pair in zip(lines, papers, strict=True) for part in pair]
    note = f"SalUn yes: there is a variant inside the saliency mask, as RL{SALUN_SUFFIX} ({SALUN})."
    return "\n".join([heading, rule, *listed, "", note])


def describe_recipe(method):
    """`5 epochs at 3e-06, adam`: what a method does without any flag."""
    if method.recipe is None:
        return "the base model's"
    if method.one_step:
        return "one step"
    optimizer = "" if method.recipe.optimizer == "sgd" else f", {method.recipe.optimizer}"
    return f"{method.recipe.epochs} epochs at {method.recipe.lr:g}{optimizer}"


def describe_options(method):
    """`alpha=10 lambda=1`: the options of a method with their defaults."""
    return " ".join(
        f"{name}={write_option(option.default)}" for name, option in method.options.items()
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
        value = option.read(text)
    except ValueError:
        raise UserError(f"--unlearn_options {name}={text}: give {option.kind}") from None
    each = value if isinstance(value, tuple) else (value,)
    high = min(option.high, HIGHEST)
    if not all(option.low <= number <= high for number in each):  # NaN is refused as well
        raise UserError(
            f"--unlearn_options {name}={text}: from {option.low:g} to {high:g} makes sense"
        )
    return value
