"""The table of methods: a new method is a new file and a row here."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from unlearn.clinical_risk import OPTIONS as CLINICAL_RISK_OPTIONS
from unlearn.clinical_risk import clinical_risk_aware
from unlearn.config import BATCH_SIZE, Option, UnlearnConfig, write_option
from unlearn.fine_tune import fine_tune
from unlearn.gradient_ascent import gradient_ascent
from unlearn.random_label import random_label
from unlearn.retrain import retrain
from unlearn.sisa import sisa
from utils.errors import UserError
from utils.files import nearest
from utils.training import Recipe


@dataclass(frozen=True)
class Method:
    """A row.

    run: (model, forget_set, retain_set, UnlearnConfig) -> model. recipe: the default one; None: the
    base model's own. options: the method's own settings. paper: where it is from. follows_gradient:
    whether there is a variant inside a mask, and uses_mask: whether this is it. one_step: the
    method has neither epochs nor a rate. one_label: it needs exactly one class an image.
    needs_shards: it needs a base model that was trained in shards.
    """

    id: str
    name: str
    run: Callable
    recipe: Recipe | None
    paper: str
    options: Mapping[str, Option] = field(default_factory=dict)
    follows_gradient: bool = True
    one_step: bool = False
    one_label: bool = False
    needs_shards: bool = False
    uses_mask: bool = False


def _recipe(epochs, lr, batch_size=BATCH_SIZE, **others):
    return Recipe(epochs, lr, batch_size, **others)


ONE_STEP = Recipe(epochs=0, lr=0.0, batch_size=BATCH_SIZE)
SALUN_SUFFIX = "_with_SalUn"
SALUN = "Fan et al., ICLR 2024"
_ROWS = [
    Method("Retrain", "Retrain", retrain, None, "the definition", follows_gradient=False),
    Method(
        "RL",
        "Random Labeling",
        random_label,
        _recipe(5, 0.01),
        "Golatkar et al., CVPR 2020",
    ),
    Method(
        "FT",
        "Fine Tuning",
        fine_tune,
        _recipe(5, 0.03),
        "Warnecke et al., NDSS 2023",
    ),
    Method(
        "GA",
        "Gradient Ascent",
        gradient_ascent,
        # Adam would follow a decay wherever the gradient is near zero
        _recipe(5, 3e-6, optimizer="adam", weight_decay=0.0),
        "Thudi et al., EuroS&P 2022",
    ),
    Method(
        "SISA",
        "Exact Unlearning by Shards",
        sisa,
        None,
        "Bourtoule et al., IEEE S&P 2021",
        follows_gradient=False,
        needs_shards=True,
    ),
    Method(
        "CRA",
        "Clinically Risk-Aware Labeling",
        clinical_risk_aware,
        _recipe(5, 0.01),
        "Falcao and Cordeiro, 2026",
        CLINICAL_RISK_OPTIONS,
        one_label=True,
    ),
]
_WITH_SALUN = [
    replace(
        row,
        id=f"{row.id}{SALUN_SUFFIX}",
        name=f"{row.name} with SalUn",
        paper=f"{row.paper}; {SALUN}",
        uses_mask=True,
    )
    for row in _ROWS
    if row.follows_gradient
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

    base_record: the base model's; a method that trains by the base model's recipe takes it from
    there. Raises UserError if it does not tell how the model was trained.
    """
    recipe = base_record.get("recipe")
    options = {name: option.default for name, option in method.options.items()}
    if method.recipe is not None:
        own = replace(method.recipe, seed=recipe["seed"]) if recipe else method.recipe
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
    if method.one_step:
        for name in ("epochs", "lr"):
            if name in settings:
                raise UserError(
                    f"--unlearn_{name}: {method.id} works in one step: leave it out; its own "
                    f"settings are {', '.join(method.options) or 'none'} (--unlearn_options)"
                )
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


def check_task(method, dataset):
    """Raises UserError if the method cannot work on this kind of labels."""
    if method.one_label and dataset.is_multi_label:
        raise UserError(
            f"--unlearn {method.id} needs one class an image, and {dataset.name} is multi-label: "
            "choose another method"
        )


def describe_methods():
    """Rows (id, name, epochs and rate, options, paper) of all methods, for a table."""
    return [
        [row.id, row.name, describe_recipe(row), describe_options(row), row.paper]
        for row in METHODS.values()
    ]


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
            + (f"{nearest(name, method.options)}; it has {known}" if known else ", nor any other")
        )
    try:
        value = option.read(text)
    except ValueError:
        raise UserError(f"--unlearn_options {name}={text}: give {option.kind}") from None
    each = value if isinstance(value, tuple) else (value,)
    if not all(option.low <= number <= option.high for number in each):  # NaN is refused as well
        raise UserError(
            f"--unlearn_options {name}={text}: from {option.low:g} to {option.high:g} makes sense"
        )
    return value
