"""What an unlearning method needs besides the model and the two sets."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from unlearn.engine.masking import WeightMask
from unlearn.engine.progress import Progress
from unlearn.request.request import ForgetRequest
from utils.data.datasets import ImageSet
from utils.train.recipe import Recipe


@dataclass(frozen=True)
class UnlearnConfig:
    """Settings of one unlearning run.

    recipe: epochs and so on; a method that works in one step looks at batch size and seed at most.
    options: by name, what this method alone has to be told, as its OPTIONS say. mask: the weights
    that may change, None for all. base_selection ("best" or "last" epoch) is for methods that
    train anew. retain_val, matching_val: validation images that stay, and those of the same
    kind as the forget set, which the model never saw. progress: what is kept of the run, None to
    keep nothing. show: progress in the terminal.
    """

    request: ForgetRequest
    recipe: Recipe
    options: Mapping[str, float | tuple[int, ...]] = field(default_factory=dict)
    mask: WeightMask | None = None
    base_selection: str = "best"
    retain_val: ImageSet | None = None
    matching_val: ImageSet | None = None
    progress: Progress | None = None
    show: bool = True
