"""What an unlearning method needs besides the model and the two sets."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from unlearn.masking import WeightMask
from unlearn.request import ForgetRequest
from utils.datasets import ImageSet
from utils.training import Recipe

BATCH_SIZE = 100  # images: default of every method but those that train by the base model's recipe


@dataclass(frozen=True)
class UnlearnConfig:
    """Settings of one unlearning run.

    recipe: epochs and so on; a method that works in one step looks at batch size and seed alone.
    options: by name, what this method alone has to be told, as its OPTIONS say. mask: the weights
    that may change, None for all. base_selection ("best" or "last" epoch) is for methods that
    train anew. retain_val, comparable_val: validation images that stay, and those of the same
    kind as the forget set, which the model never saw. show: progress in the terminal.
    """

    request: ForgetRequest
    recipe: Recipe
    options: Mapping[str, float] = field(default_factory=dict)
    mask: WeightMask | None = None
    base_selection: str = "best"
    retain_val: ImageSet | None = None
    comparable_val: ImageSet | None = None
    show: bool = True


@dataclass(frozen=True)
class Option:
    """A setting of one method: its default, a whole number or not, its range and its meaning."""

    default: float
    meaning: str
    low: float = 0.0
    high: float = float("inf")
