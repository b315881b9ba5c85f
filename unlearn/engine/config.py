"""What an unlearning method needs besides the model and the two sets."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from unlearn.engine.masking import WeightMask
from unlearn.engine.progress import Progress
from unlearn.request.request import ForgetRequest
from utils.data.datasets import ImageSet
from utils.train.training import Recipe

BATCH_SIZE = 100  # images: default of every method but those that train by the base model's recipe
MAX_BATCHES_PER_STEP = 3  # batches at most: methods put two together
FISHER_BATCH_SIZE = 10  # images: of Fisher and SSD, whose gradients random signs keep apart


@dataclass(frozen=True)
class UnlearnConfig:
    """Settings of one unlearning run.

    recipe: epochs and so on; a method that works in one step looks at batch size and seed at most.
    options: by name, what this method alone has to be told, as its OPTIONS say. mask: the weights
    that may change, None for all. base_selection ("best" or "last" epoch) is for methods that
    train anew. retain_val, comparable_val: validation images that stay, and those of the same
    kind as the forget set, which the model never saw. progress: what is kept of the run, None to
    keep nothing. show: progress in the terminal.
    """

    request: ForgetRequest
    recipe: Recipe
    options: Mapping[str, float | tuple[int, ...]] = field(default_factory=dict)
    mask: WeightMask | None = None
    base_selection: str = "best"
    retain_val: ImageSet | None = None
    comparable_val: ImageSet | None = None
    progress: Progress | None = None
    show: bool = True


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
