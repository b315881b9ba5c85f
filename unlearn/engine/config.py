"""The settings and inputs of an unlearning run besides the model, forget set and retain set."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from unlearn.engine.masking import WeightMask
    from unlearn.engine.progress import Progress
    from unlearn.request.request import ForgetRequest
    from utils.data.datasets import ImageSet
    from utils.train.recipe import Recipe


@dataclass(frozen=True)
class UnlearnConfig:
    """Settings of one unlearning run.

    recipe: epochs, learning rate and so on; one-step methods use its batch size and seed at most.
    options: values of the method's own options by name. mask: which weights may change, None for
    all. base_selection: "best" or "last", the epoch that methods which train from scratch select.
    retain_val: validation images that are not to be forgotten. matching_val: validation images with
    the classes of the forget set, which no model was trained on. progress: saves the run after each
    epoch; None saves nothing. show: whether to print progress in the terminal.
    """

    request: "ForgetRequest"
    recipe: "Recipe"
    options: Mapping[str, float | tuple[int, ...]] = field(default_factory=dict)
    mask: "WeightMask | None" = None
    base_selection: str = "best"
    retain_val: "ImageSet | None" = None
    matching_val: "ImageSet | None" = None
    progress: "Progress | None" = None
    show: bool = True
