"""Example data for tests of pictures."""

import math

CLASS_NAMES = ["basophil", "immature granulocytes(myelocytes, metamyelocytes)", "a$b$"]
HISTORY = [
    {
        "train_loss": 2.0 / epoch,
        "val_loss": 2.5 / epoch,
        "train_accuracy_percent": 50.0 + epoch,
        "val_accuracy_percent": accuracy,
    }
    for epoch, accuracy in enumerate([40.0, 70.0, 60.0, 70.0], start=1)
]
ROWS = [
    {
        "name": "base",
        "unlearn_accuracy_percent": 0.25,
        "remaining_accuracy_percent": 99.93,
        "test_accuracy_percent": 98.42,
        "seconds": None,
    },
    {
        "name": "blood_best_FORGOTTEN_3_RL_WITH_SALUN_mask5_unlearnEpochs5_unlearnlr001",
        "unlearn_accuracy_percent": 66.04,
        "remaining_accuracy_percent": 99.82,
        "test_accuracy_percent": math.nan,
        "seconds": 10436.2,
    },
]
