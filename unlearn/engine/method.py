"""The description of an unlearning method. Imports no torch, so that methods are listed quickly."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from utils.train.recipe import Recipe

BATCH_SIZE = 100  # images: the default, except where the base model's recipe is used
MAX_BATCHES_PER_STEP = 3  # that any method combines
FISHER_BATCH_SIZE = 10  # images, whose gradients are separated by random signs: Fisher, SSD, SFRon
ONE_STEP = Recipe(epochs=0, lr=0.0, batch_size=BATCH_SIZE)  # of a method without epochs
ONE_STEP_IGNORES = ("epochs", "lr", "optimizer", "weight_decay", "precision")
ALL_CLASSES = "all"  # the text of an empty tuple of classes


@dataclass(frozen=True)
class Option:
    """An option of one method: its default, description and range.

    The type of the default is the type of the option: int, float, or a tuple of class numbers,
    sorted and unique; an empty tuple stands for all classes.
    """

    default: float | tuple[int, ...]
    description: str
    low: float = 0.0
    high: float = float("inf")

    def parse(self, text: str) -> float | tuple[int, ...]:
        """Return the value of a text such as `0.5`, `3` or `0,3`. Raises ValueError."""
        if not isinstance(self.default, tuple):
            return type(self.default)(text)
        if text.lower() == ALL_CLASSES:
            return ()
        return tuple(sorted({int(part) for part in text.split(",")}))

    @property
    def expected_value(self) -> str:
        """What has to be given, for messages."""
        if isinstance(self.default, tuple):
            return f"class numbers, such as 0,3, or {ALL_CLASSES}"
        return "a whole number" if isinstance(self.default, int) else "a number"


def format_option(value: float | tuple[int, ...]) -> str:
    """Return the text that `Option.parse` reads as this value."""
    if isinstance(value, tuple):
        return ",".join(map(str, value)) or ALL_CLASSES
    return f"{value:g}"


@dataclass(frozen=True)
class Method:
    """Description of one unlearning method.

    id: what `--unlearn` takes; used in model ids. name: the technique. run: (model, forget_set,
    retain_set, UnlearnConfig) -> model. recipe: default settings; None for the base model's own.
    paper: its source. family, summary: group and one line for lists of methods. options: the
    method's own settings by name. supports_mask: whether there is a variant inside a saliency mask;
    uses_mask: whether this is it. one_step: the method has neither epochs nor a learning rate.
    allows_batch_of_one: it accepts batches of a single image, which batch normalisation cannot
    train on. ignored_settings: settings of the recipe without effect. single_label_only: it needs
    exactly one class per image. needs_other_class: it needs a class (or finding) other than an
    image's own. needs_last_layer: it needs a single last layer, of which a sharded model has
    several. needs_shards: it needs a base model that was trained in shards. plugin: `file` and
    `sha256` of the plug-in file that declares it, None for a built-in method.
    """

    id: str
    name: str
    run: Callable
    recipe: Recipe | None
    paper: str
    family: str
    summary: str
    options: Mapping[str, Option] = field(default_factory=dict, hash=False)
    supports_mask: bool = True
    one_step: bool = False
    allows_batch_of_one: bool = False
    ignored_settings: tuple[str, ...] = ()
    single_label_only: bool = False
    needs_other_class: bool = False
    needs_last_layer: bool = False
    needs_shards: bool = False
    uses_mask: bool = False
    plugin: Mapping[str, str] | None = field(default=None, hash=False)


def describe_recipe(method: Method) -> str:
    """Return the default settings in words, such as `5 epochs at 3e-06, adam`."""
    if method.recipe is None:
        return "the base model's"
    if method.one_step:
        return "one step"
    optimizer = "" if method.recipe.optimizer == "sgd" else f", {method.recipe.optimizer}"
    return f"{method.recipe.epochs} epochs at {method.recipe.lr:g}{optimizer}"


def describe_options(method: Method) -> str:
    """Return the method's own options with their defaults, such as `alpha=10 lambda=1`."""
    return " ".join(
        f"{name}={format_option(option.default)}" for name, option in method.options.items()
    )
