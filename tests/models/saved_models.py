"""A small model and a record for tests of checkpoints."""

from dataclasses import asdict

from models.architectures import build_model, make_spec
from tests.helpers.small_net import SMALL_ARCH
from tests.helpers.tiny import SIZE
from utils.train.recipe import Recipe

RECORD = {
    "kind": "base",
    "dataset": "SynthBloodMNIST",
    "class_names": ["basophil", "Лейкоцит"],
    "recipe": asdict(Recipe(3, 0.01, 50)),
    "history": [{"val_loss": 0.1 + 0.2, "val_accuracy_percent": 1 / 3}],
    "nothing": None,
    "seed": 2**63 - 1,
}


def small_model(seed=1, **changes):
    arguments = {"arch": SMALL_ARCH, "num_classes": 4, "channels": 1, "input_size": SIZE}
    return build_model(make_spec(**(arguments | changes)), seed=seed)
