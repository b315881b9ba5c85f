"""What tests of scripts share: tiny data, model ids, flags, and how a script is started."""

import os
import re
import sys
from pathlib import Path

import numpy as np

from tests.helpers.small_net import SMALL_ARCH

REPOSITORY = Path(__file__).resolve().parents[2]
TESTS = REPOSITORY / "tests"
SHARED_DATA = REPOSITORY.parent / "shared" / "data"
SIDE = 12  # pixels
SPLIT_SIZES = {"train": 96, "val": 32, "test": 40}
GREY_NAMES = ("artery", "bone", "cortex", "duct")
NO_DISPLAY = ("DISPLAY", "WAYLAND_DISPLAY", "MPLBACKEND")
BASE = "tiny_best"
FORGOTTEN = "tiny_best_FORGOTTEN_3_RL_WITH_SALUN_mask5_unlearnEpochs1_unlearnlr001"
TRAIN = ("--arch", SMALL_ARCH, "--epochs", "6", "--lr", "0.01", "--batch_size", "8")
TRAIN += ("--precision", "float32")  # whatever the processor has instructions for
UNLEARN = ("--unlearn", "RL_with_SalUn", "--class_to_forget", "3", "--unlearn_lr", "0.001")
UNLEARN_ONCE = (*UNLEARN, "--unlearn_epochs", "1")


def drawn_arrays(num_classes=4, *, channels=1, multi_label=False, seed=0, sizes=SPLIT_SIZES):
    """Return arrays under the keys of a MedMNIST file: noise, and a bright block for each class.

    Labels are (N, 1), or (N, K) for multi-label data, where at least a quarter of the images have
    no finding.
    """
    rng = np.random.default_rng(seed)
    arrays = {}
    for split, count in sizes.items():
        colours = (channels,) if channels > 1 else ()
        images = rng.integers(0, 100, (count, SIDE, SIDE, *colours), dtype=np.uint8)
        if multi_label:
            labels = (rng.random((count, num_classes)) < 0.35).astype(np.uint8)
            labels[:: num_classes + 1] = 0
            labels[1 :: num_classes + 1] = 1
        else:
            labels = rng.permutation(np.arange(count, dtype=np.uint8) % num_classes)[:, None]
        for number in range(num_classes):
            which = labels[:, number] == 1 if multi_label else labels[:, 0] == number
            top, left = divmod(number, 2)
            half = SIDE // 2
            rows, columns = np.ix_(range(top * half, top * half + half), range(half))
            block = (np.flatnonzero(which)[:, None, None], rows, columns + left * half)
            images[block] += 120
        arrays[f"{split}_images"], arrays[f"{split}_labels"] = images, labels
    return arrays


def script_environment(*path):
    """Return the environment of a script on a machine without a display, with SMALL_ARCH.

    path: further folders to import modules from.
    """
    kept = {name: value for name, value in os.environ.items() if name not in NO_DISPLAY}
    path = (
        TESTS / "helpers" / "in_scripts",
        REPOSITORY,
        *path,
        *filter(None, [kept.get("PYTHONPATH")]),
    )
    return kept | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(map(str, path))}


def script_command(name, *args):
    return [sys.executable, str(REPOSITORY / f"{name}.py"), *map(str, args)]


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def assert_one_line(text, says):
    assert text.endswith("\n")
    assert len(text.splitlines()) == 1, text
    assert re.search(says, text), text


def model_flags(data, model_id=BASE):
    return ("--model_id", model_id, "--dataset", data, "--device", "cpu")


def train_flags(data, name="new", *more):
    return ("--save_model_id", name, "--dataset", data, "--device", "cpu", *TRAIN, *more)
