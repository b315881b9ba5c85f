"""The settings of a training run. Imports no torch, so that arguments are parsed quickly."""

from dataclasses import dataclass

OPTIMIZERS = ("sgd", "adam", "adamw")
AUTO, FLOAT32, BF16 = PRECISIONS = ("auto", "float32", "bf16")
WEIGHT_DECAY = 5e-4
PREDICTION_BATCH = 256  # images: the fastest of 50 to 512 on a CPU; a GPU gains little from more
MIN_TRAIN_IMAGES = 2  # images: batch normalisation cannot train on one


@dataclass(frozen=True)
class Recipe:
    """The settings of a training run.

    epochs: passes over the data. lr: the maximum learning rate. batch_size: images per step.
    optimizer: one of OPTIMIZERS. precision: FLOAT32 or BF16. compiled: whether training uses
    torch.compile, which rounds differently.
    """

    epochs: int
    lr: float
    batch_size: int
    optimizer: str = "sgd"
    weight_decay: float = WEIGHT_DECAY
    seed: int = 1
    precision: str = FLOAT32
    compiled: bool = False
