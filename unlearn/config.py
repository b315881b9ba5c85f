"""What an unlearning method needs besides the model and the two sets."""

from dataclasses import dataclass

from unlearn.masking import WeightMask
from unlearn.request import ForgetRequest
from utils.datasets import ImageSet
from utils.training import WEIGHT_DECAY

BATCH_SIZE = 100  # images: defaults of every method but Retrain
OPTIMIZER = "sgd"


@dataclass(frozen=True)
class UnlearnConfig:
    """Settings of one unlearning run.

    optimizer: a key of utils.training.OPTIMIZERS. mask: the weights that may change, None for
    all. base_selection ("best" or "last" epoch) and retain_val, the validation images that stay,
    are asked for by Retrain alone. show: progress in the terminal.
    """

    request: ForgetRequest
    epochs: int
    lr: float
    batch_size: int = BATCH_SIZE
    optimizer: str = OPTIMIZER
    weight_decay: float = WEIGHT_DECAY
    seed: int = 1
    mask: WeightMask | None = None
    base_selection: str = "best"
    retain_val: ImageSet | None = None
    show: bool = True
