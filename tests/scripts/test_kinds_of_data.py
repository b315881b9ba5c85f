"""Colour, two-class and multi-label data, through every script."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from medmnist.info import INFO

from tests.helpers.environment import TRAIN
from tests.scripts.shared import (
    ACCURACIES,
    PICTURES,
    check_forgetting,
    check_multi_label_test,
    check_single_label_test,
)


def walk(done, data, name, forgotten, *methods):
    """Train, test, mask, unlearn and test; return the printed text by step."""
    flags = ("--dataset", data, "--device", "cpu")
    best = f"{name}_best"
    printed = {"examine": done("examine_dataset", "--dataset", data, "--no_window")}
    printed["train"] = done("main_train", "--save_model_id", name, *flags, *TRAIN)
    printed["test"] = done("main_test", "--model_id", best, *flags, "--no_window")
    printed["mask"] = done("generate_mask", "--model_id", best, *flags)
    for method in methods:
        options = ("--unlearn", method, "--class_to_forget", forgotten, "--unlearn_epochs", "2")
        if method == "Retrain":  # at the base model's rate, so few images diverge on some machines
            options = (*options, "--unlearn_lr", "0.0001")
        model_id = done("main_unlearn", "--model_id", best, *flags, *options).split()[-1]
        tested = ("--model_id", model_id, *flags, *ACCURACIES)
        printed[model_id] = done("main_test_unlearn", *tested)
        check_forgetting(printed[model_id], model_id, data, int(forgotten))
    done("main_test", "--model_id", model_id, *flags, "--no_window")
    return printed


@pytest.mark.parametrize("name, classes", [("colour", 3), ("two", 2)])
def test_other_single_label_data(done, workplace, data_files, undrawn, name, classes):
    data = data_files[name]
    printed = walk(done, data, name, "1", "RL_with_SalUn", "GA")
    names = [str(number) for number in range(classes)]
    check_single_label_test(printed["test"], f"{name}_best", data, names)
    assert len([key for key in printed if "FORGOTTEN_1" in key]) == 2


def test_multi_label_data(done, workplace, data_files, undrawn):
    methods = ("RL_with_SalUn", "FT", "GA", "Retrain")
    printed = walk(done, data_files["multi"], "multi", "1", *methods)
    check_multi_label_test(printed["test"], "multi_best", data_files["multi"], "012")
    assert len([key for key in printed if "FORGOTTEN_1" in key]) == len(methods)
    assert (workplace / "pics" / "multi_best" / "findings.png").exists()
    made = {path.stem for path in workplace.glob("pics/multi_best_FORGOTTEN*/*.png")}
    drawn = {*PICTURES, "forgotten", "saliency"}  # confusion is of classes only
    assert made == drawn | {"findings", "predictions"}


def test_chestmnist_by_name(done, workplace, undrawn, monkeypatch):
    """A small drawn file with 14 findings, in ChestMNIST's format and under its name."""
    rng, arrays = np.random.default_rng(0), {}
    for split in ("train", "val", "test"):
        labels = (rng.random((40, 14)) < 0.2).astype(np.uint8)
        labels[:14] |= np.eye(14, dtype=np.uint8)
        labels[-3:] = 0
        arrays[f"{split}_labels"] = labels
        arrays[f"{split}_images"] = rng.integers(0, 120, (40, 28, 28), dtype=np.uint8)
        arrays[f"{split}_images"] += 120 * labels.repeat(2, axis=1)[:, :, None]  # bands
    np.savez("chestmnist.npz", **arrays)
    md5 = hashlib.md5(Path("chestmnist.npz").read_bytes()).hexdigest()
    monkeypatch.setitem(INFO["chestmnist"], "MD5", md5)
    data = ("--dataset", "ChestMNIST", "--data_root", ".")
    printed = done("examine_dataset", *data, "--no_window")
    assert "ChestMNIST: multi-label, binary-class, 14 classes" in printed
    assert "13  hernia" in printed
    done("main_train", "--save_model_id", "chest", *data, *TRAIN, "--epochs", "2")
    one_by_one = (
        "--batch_size",
        "1",
        "--no_window",
    )  # as in the reference: rounding breaks ties, which changes the AUC
    printed = done("main_test", "--model_id", "chest_best", *data, *one_by_one)
    names = INFO["chestmnist"]["label"].values()
    check_multi_label_test(printed, "chest_best", "chestmnist.npz", names)
    model = ("--model_id", "chest_best", *data)
    done("generate_mask", *model, "--class_to_forget", "hernia")
    options = ("--unlearn", "RL_with_SalUn", "--class_to_forget", "13", "--unlearn_epochs", "1")
    model_id = done("main_unlearn", *model, *options).split()[-1]
    one_by_one = ("--batch_size", "1", *ACCURACIES)
    printed = done("main_test_unlearn", "--model_id", model_id, *data, *one_by_one)
    assert "class 13 hernia" in printed
    check_forgetting(printed, model_id, "chestmnist.npz", 13)
