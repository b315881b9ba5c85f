"""How a classifier is trained, as plain data; imports no torch, so that flags are read quickly."""

from dataclasses import dataclass

OPTIMIZERS = ("sgd", "adam", "adamw")
AUTO, FLOAT32, BF16 = PRECISIONS = ("auto", "float32", "bf16")
WEIGHT_DECAY = 5e-4
PREDICTION_BATCH = 256  # images: on a CPU the fastest of 50 to 512, on a GPU more gain little
MIN_TRAIN_IMAGES = 2  # images: batch normalisation cannot learn from one


@dataclass(frozen=True)
class Recipe:
    """The settings of a training run.

    epochs: passes over the data. lr: the highest learning rate. batch_size: images per step.
    optimizer: one of OPTIMIZERS. precision: FLOAT32 or BF16. compiled: whether the training passes
    go through torch.compile, which rounds differently.
    """

    epochs: int
    lr: float
    batch_size: int
    optimizer: str = "sgd"
    weight_decay: float = WEIGHT_DECAY
    seed: int = 1
    precision: str = FLOAT32
    compiled: bool = False
