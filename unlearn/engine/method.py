"""What describes an unlearning method; imports no torch, so that methods can be listed quickly."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from utils.train.recipe import Recipe

BATCH_SIZE = 100  # images: default of every method but those that train by the base model's recipe
MAX_BATCHES_PER_STEP = 3  # batches at most: methods put two together
FISHER_BATCH_SIZE = 10  # images: of Fisher and SSD, whose gradients random signs keep apart
ALL = "all"  # every method, where several may be named
EVERY_CLASS = "all"  # how an option that holds classes is written when it is empty


@dataclass(frozen=True)
class Option:
    """A setting of one method: its default, its meaning and its range.

    The default's kind is the setting's: a whole number, a number, or a tuple of class numbers, in
    order and each once, where the empty one stands for all classes.
    """

    default: float | tuple[int, ...]
    meaning: str
    low: float = 0.0
    high: float = float("inf")

    def read(self, text):
        """The value that `text` stands for, such as `0.5`, `3` or `0,3`. ValueError if none."""
        if not isinstance(self.default, tuple):
            return type(self.default)(text)
        if text.lower() == EVERY_CLASS:
            return ()
        return tuple(sorted({int(part) for part in text.split(",")}))

    @property
    def kind(self):
        if isinstance(self.default, tuple):
            return f"class numbers, as 0,3, or {EVERY_CLASS}"
        return "a whole number" if isinstance(self.default, int) else "a number"


def write_option(value):
    """The text that Option.read takes for a value."""
    if isinstance(value, tuple):
        return ",".join(map(str, value)) or EVERY_CLASS
    return f"{value:g}"


@dataclass(frozen=True)
class Method:
    """A row.

    run: (model, forget_set, retain_set, UnlearnConfig) -> model. recipe: the default one; None: the
    base model's own. options: the method's own settings. paper: where it is from. follows_gradient:
    whether there is a variant inside a mask, and uses_mask: whether this is it. one_step: the
    method has neither epochs nor a rate. one_image: it may go by batches of a single image, which
    batch normalisation cannot learn from. ignores: settings of a recipe that have no effect.
    one_label: it needs exactly one class an image. other_class: it needs a class, or finding, other
    than an image's own. last_layer: it needs the one last layer, of which a model in shards has
    many. needs_shards: it needs a base model that was trained in shards.
    """

    id: str
    name: str
    run: Callable
    recipe: Recipe | None
    paper: str
    options: Mapping[str, Option] = field(default_factory=dict, hash=False)
    follows_gradient: bool = True
    one_step: bool = False
    one_image: bool = False
    ignores: tuple[str, ...] = ()
    one_label: bool = False
    other_class: bool = False
    last_layer: bool = False
    needs_shards: bool = False
    uses_mask: bool = False
