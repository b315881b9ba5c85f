"""Whatever a user can get wrong: exit code 2, one line that says what and how, nothing harmed."""

import errno
import json
import os
import pickle
import shutil
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

import main_train
import utils.train.training
from tests.helpers.environment import (
    BASE,
    FORGOTTEN,
    TRAIN,
    UNLEARN_ONCE,
    assert_one_line,
    contents,
    drawn_arrays,
    model_flags,
    script_command,
    script_environment,
)
from tests.helpers.output import results_of
from tests.helpers.small_net import SMALL_ARCH
from utils.io import files
from utils.io.files import write_atomically
from utils.runtime.errors import UserError
from utils.runtime.errors import run_script as run_main

READERS = ("main_test", "generate_mask", "main_unlearn", "main_test_unlearn", "main_mia")
CLASS = ("--class_to_forget", "3")
SETTINGS = {
    "main_unlearn": UNLEARN_ONCE,
    "main_test_unlearn": CLASS,
    "main_mia": (*CLASS, "--shadow_models", "4"),
}


@pytest.fixture
def grey(data_files):
    return data_files["grey"]


def train_flags(data, name="new"):
    return ("--save_model_id", name, "--dataset", data, "--device", "cpu", *TRAIN)


def unlearn_flags(data, *changes):
    return (*model_flags(data), *UNLEARN_ONCE, *changes)


# Numbers and names that make no sense


@pytest.mark.parametrize(
    "flag, value, says",
    [
        ("--lr", "0", "--lr: 0 makes no sense: a learning rate is above 0"),
        ("--lr", "-1", "--lr: -1 makes no sense: a learning rate is above 0"),
        ("--lr", "nan", "--lr: nan makes no sense"),
        ("--lr", "inf", "--lr: inf makes no sense"),
        ("--lr", "1e400", "--lr: 1e400 makes no sense"),
        ("--lr", "fast", "--lr: 'fast' is not a number"),
        ("--epochs", "0", "--epochs: 0 is out of range: the lowest is 1"),
        ("--epochs", "-1", "--epochs: -1 is out of range: the lowest is 1"),
        ("--epochs", "1.5", "--epochs: '1.5' is not a whole number"),
        ("--epochs", "9" * 30, "--epochs: 9+ is out of range: the highest is"),
        ("--batch_size", "0", "--batch_size: 0 is out of range"),
        ("--batch_size", "9" * 30, "--batch_size: 9+ is out of range: the highest is"),
        ("--seed", "-1", "--seed: -1 is out of range"),
        ("--num_workers", "-1", "--num_workers: -1 is out of range"),
        ("--weight_decay", "-0.1", "--weight_decay: -0.1 makes no sense"),
        ("--weight_decay", "nan", "--weight_decay: nan makes no sense"),
        ("--input_size", "4", "--input_size: 4 is out of range: the lowest is 8"),
        ("--input_size", "1000000", "--input_size: 1000000 is out of range: the highest is"),
        ("--optimizer", "lion", "--optimizer: invalid choice: 'lion'.*adamw"),
        ("--stem", "tiny", "--stem: invalid choice: 'tiny'.*imagenet"),
        ("--stem", "full", "--stem is for ResNets only"),
        (
            "--arch",
            "resnet81",
            r"--arch resnet81: .*no such classifier \(did you mean resnet18\?\)",
        ),
        ("--arch", "", "--arch : .*no such classifier"),
        ("--device", "tpu", "--device tpu is not there: use auto, cpu"),
        ("--device", "hpu", "--device hpu is not there: use auto, cpu"),  # torch knows of it
        ("--device", "cuda:99", "--device cuda:99 is not there: use auto, cpu"),
        ("--learning_rate", "0.1", "unrecognized arguments: --learning_rate"),
    ],
)
def test_training_settings_without_sense(refused, grey, flag, value, says):
    assert refused(says, "main_train", *train_flags(grey), flag, value) in ([], ["model_weights"])


@pytest.mark.parametrize(
    "flag, value, says",
    [
        ("--unlearn_lr", "0", "--unlearn_lr: 0 makes no sense"),
        ("--unlearn_lr", "nan", "--unlearn_lr: nan makes no sense"),
        ("--unlearn_lr", "-inf", "--unlearn_lr: (-inf makes no sense|expected one argument)"),
        ("--unlearn_epochs", "0", "--unlearn_epochs: 0 is out of range: the lowest is 1"),
        ("--unlearn_epochs", "1.5", "--unlearn_epochs: '1.5' is not a whole number"),
        ("--unlearn_batch_size", "0", "--unlearn_batch_size: 0 is out of range"),
        ("--mask_thresh", "0", "--mask_thresh: 0 makes no sense: a threshold is above 0"),
        ("--mask_thresh", "-0.5", "--mask_thresh: -0.5 makes no sense"),
        ("--mask_thresh", "1.5", "--mask_thresh: 1.5 makes no sense: .* at most 1"),
        ("--mask_thresh", "nan", "--mask_thresh: nan makes no sense"),
        ("--mask_thresh", "half", "--mask_thresh: 'half' is not a number"),
        ("--mask_thresh", "0.255", "--mask_thresh 0.255: .*a whole percent, as 0.5 or 0.25"),
        ("--mask_thresh", "0.001", "--mask_thresh 0.001: .*a whole percent"),
        ("--unlearn", "RL_with_Salum", r"no such method \(did you mean RL_with_SalUn\?\)"),
        (
            "--unlearn",
            "retain",
            r"no such method \(did you mean Retrain\?\); choose one of Retrain, RL",
        ),
        ("--unlearn", "", "--unlearn : no such method; choose one of Retrain, RL"),
        ("--class_to_forget", "4", "--class_to_forget 4: grey has no such class.* 3 duct"),
        ("--class_to_forget", "-1", "--class_to_forget -1: grey has no such class"),
        ("--class_to_forget", "1.0", "--class_to_forget 1.0: grey has no such class"),
        ("--class_to_forget", "²", "--class_to_forget ²: grey has no such class"),
        ("--class_to_forget", "arterie", r"no such class \(did you mean artery\?\)"),
    ],
)
def test_unlearning_settings_without_sense(trained, refused, grey, flag, value, says):
    assert refused(says, "main_unlearn", *unlearn_flags(grey, flag, value)) == []


@pytest.mark.parametrize(
    "script, flag, value, says",
    [
        ("main_test_unlearn", "--measures", "all", "--measures: invalid choice: 'all'.*privacy"),
        ("main_test_unlearn", "--measures", None, "--measures: expected at least one argument"),
        ("main_test_unlearn", "--non_members", "train", "--non_members: .*'train'.*val.*test"),
        ("main_test_unlearn", "--seed", "-1", "--seed: -1 is out of range"),
        ("main_test_unlearn", "--batch_size", "0", "--batch_size: 0 is out of range"),
        ("main_test_unlearn", "--retrain_model_id", None, "expected at least one argument"),
        ("main_test_unlearn", "--retrain_model_id", "../x", "'../x' is not a usable id"),
        ("main_test_unlearn", "--seed_model_id", None, "expected at least one argument"),
        ("main_test_unlearn", "--shadow_models", "4", "unrecognized arguments: --shadow_models"),
        ("main_walkthrough", "--measures", "insides", "--measures: .*'insides'.*inside"),
        ("main_mia", "--shadow_models", "5", "--shadow_models: 5 is odd: it must be even"),
        ("main_mia", "--shadow_models", "2", "--shadow_models: 2 is out of range: .*lowest is 4"),
        ("main_mia", "--shadow_models", "-4", "--shadow_models: -4 is out of range"),
        ("main_mia", "--shadow_models", "4.0", "--shadow_models: '4.0' is not a whole number"),
        ("main_mia", "--shadow_models", "9" * 30, "--shadow_models: 9+ is out of range"),
        ("main_mia", "--non_members", "train", "--non_members: .*'train'.*val.*test"),
        ("main_mia", "--seed", "nan", "--seed: 'nan' is not a whole number"),
        ("main_mia", "--retrain_model_id", "lost", "there is no model model_weights/lost.pt"),
    ],
)
def test_measuring_settings_without_sense(trained, refused, grey, script, flag, value, says):
    model = ("--dataset", grey) if script == "main_walkthrough" else model_flags(grey)
    assert refused(says, script, *model, *CLASS, flag, *([value] if value else [])) == []


@pytest.mark.parametrize("script", ["generate_mask", "main_test_unlearn", "main_mia"])
def test_a_class_that_does_not_exist(trained, refused, grey, script):
    says = "--class_to_forget 7: grey has no such class.*0 artery, 1 bone, 2 cortex, 3 duct"
    assert refused(says, script, *model_flags(grey), "--class_to_forget", "7") == []


@pytest.mark.parametrize("script", ["main_test_unlearn", "main_mia"])
def test_the_class_of_a_base_model_must_be_said(trained, refused, grey, script):
    says = f"{BASE} has forgotten nothing: give the --class_to_forget"
    assert refused(says, script, *model_flags(grey)) == []


@pytest.mark.parametrize(
    "script, says",
    [
        ("main_train", "required: --save_model_id"),
        ("main_test", "required: --model_id"),
        ("generate_mask", "required: --model_id"),
        ("main_test_unlearn", "required: --model_id"),
        ("main_mia", "required: --model_id"),
        ("main_unlearn", "required: --model_id, --unlearn"),
    ],
)
def test_a_flag_left_out(refused, script, says):
    refused(says, script)


# Ids


BAD_IDS = ["../x", "a/b", "C:\\x", "", ".hidden", "..", "/etc/x", "-x\n", "a b", "x" * 201]


@pytest.mark.parametrize("bad", BAD_IDS)
def test_ids_that_are_no_plain_names(trained, refused, grey, bad):
    says = "--{} .*is not a usable id"
    name = f"--save_model_id={bad}"  # joined, since a value may begin with a dash
    assert refused(says.format("save_model_id"), "main_train", name, *train_flags(grey)[2:]) == []
    for script in READERS:
        flags = (f"--model_id={bad}", "--dataset", grey, *SETTINGS.get(script, ()))
        assert refused(says.format("model_id"), script, *flags) == []
    if bad:  # no name stands for the default name
        made = refused(says.format("save_model_id"), "main_walkthrough", name, "--dataset", grey)
        assert all(path.startswith("pics/") for path in made)


def test_the_flag_of_a_bad_id_is_named(trained, refused, grey):
    for script in ("main_test_unlearn", "main_mia"):
        flags = (*model_flags(grey), *CLASS, "--retrain_model_id", "a/b")
        assert refused("--retrain_model_id 'a/b' is not a usable id", script, *flags) == []


def test_an_id_too_long_for_its_suffix_is_refused_before_training(refused, grey):
    says = "--save_model_id.*is not a usable id.*200 characters"
    refused(says, "main_train", *train_flags(grey, "x" * 198))


# Models


@pytest.mark.parametrize("script", READERS)
def test_a_missing_model(trained, refused, grey, script):
    flags = (*model_flags(grey, "tiny_bset"), *SETTINGS.get(script, ()))
    says = r"no model model_weights/tiny_bset.pt \(did you mean tiny_best\?\): train one"
    assert refused(says, script, *flags) == []


def cut_short(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def cut_to_nothing(path):
    path.write_bytes(b"")


def random_bytes(path):
    path.write_bytes(np.random.default_rng(0).bytes(5000))


def a_json_file(path):
    path.write_text(json.dumps({"weights": [1, 2, 3]}))


def one_tensor(path):
    torch.save(torch.zeros(3), path)


def no_weights(path):
    torch.save({"epochs": 3, "name": "x"}, path)


def weights_without_convolution(path):
    torch.save({"fc.weight": torch.zeros(4, 10), "fc.bias": torch.zeros(4)}, path)


def weights_under_numbers(path):
    torch.save({1: torch.zeros(4, 1, 3, 3)}, path)


def altered_weights(path):
    content = torch.load(path, weights_only=True)
    content["weights"]["fc.bias"][0] += 1
    torch.save(content, path)


def altered_bytes(path):
    whole = bytearray(path.read_bytes())
    bias = torch.load(path, weights_only=True)["weights"]["fc.weight"]
    at = whole.index(bias.numpy().tobytes())
    whole[at] ^= 1
    path.write_bytes(whole)


def weights_missing(path):
    content = torch.load(path, weights_only=True)
    del content["weights"]["fc.bias"]
    torch.save(content, path)


def record_missing(path):
    content = torch.load(path, weights_only=True)
    torch.save({"format": content["format"], "weights": content["weights"]}, path)


def weights_of_another_architecture(path):
    content = torch.load(path, weights_only=True)
    content["record"]["spec"]["arch"] = "squeezenet1_1"
    torch.save(content, path)


DAMAGES = [
    (cut_short, "is cut short, damaged, or not a model"),
    (cut_to_nothing, "is cut short, damaged, or not a model"),
    (random_bytes, "is cut short, damaged, or not a model"),
    (a_json_file, "is cut short, damaged, or not a model"),
    (one_tensor, "is not a model: it holds a Tensor"),
    (no_weights, "is not a model: it holds no weights"),
    (weights_without_convolution, "is not a model: it holds no weights"),
    (weights_under_numbers, "is not a model: it holds no weights"),
    (altered_weights, "is damaged or altered: the weights are not those"),
    (altered_bytes, "is damaged or altered: the weights are not those|is cut short, damaged"),
    (weights_missing, "is damaged: its record and its weights disagree"),
    (record_missing, "is damaged: its record and its weights disagree"),
    (weights_of_another_architecture, "is damaged: its record and its weights disagree"),
]


@pytest.mark.parametrize("damage, says", DAMAGES)
def test_a_model_file_that_is_damaged_or_no_model(trained, refused, grey, damage, says):
    damage(trained / "model_weights" / f"{BASE}.pt")
    where = f"model_weights/{BASE}.pt"
    assert refused(f"{where} ({says})", "main_test", *model_flags(grey)) == []
    assert refused(f"{where} ({says})", "main_unlearn", *unlearn_flags(grey)) == []


@pytest.mark.parametrize("share", [0.01, 0.1, 0.9, 0.999])
def test_a_model_file_cut_anywhere(trained, refused, grey, share):
    path = trained / "model_weights" / f"{BASE}.pt"
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    refused("is cut short, damaged, or not a model", "main_test", *model_flags(grey))


class Bomb:
    """Writes a file when it is unpickled."""

    def __reduce__(self):
        return Path.write_text, (Path("exploded"), "boom")


@pytest.mark.parametrize("write", [lambda content, path: torch.save(content, path), None])
def test_code_in_a_model_file_does_not_run(trained, refused, grey, write):
    path = trained / "model_weights" / f"{BASE}.pt"
    content = torch.load(path, weights_only=True) | {"more": Bomb()}
    if write:
        write(content, path)
    else:
        path.write_bytes(pickle.dumps(content))
    refused("is cut short, damaged, or not a model", "main_test", *model_flags(grey))
    assert not (trained / "exploded").exists()
    if write:  # the file is a working bomb
        torch.load(path, weights_only=False)
        assert (trained / "exploded").exists()


@pytest.mark.parametrize("script", READERS)
def test_a_model_of_other_classes_or_channels(trained, refused, data_files, script):
    says = f"{BASE} is a model of another data set: it has 4 classes in 1-channel images, {{}} has"
    settings = SETTINGS.get(script, ())
    for name in ("two", "colour", "multi"):
        refused(says.format(name), script, *model_flags(data_files[name]), *settings)


@pytest.mark.parametrize("script", READERS)
@pytest.mark.usefixtures("undrawn")
def test_a_model_of_other_images_asks_for_a_flag(trained, refused, run_here, data_files, script):
    flags = (*model_flags(data_files["other"]), *SETTINGS.get(script, ()))
    says = f"{BASE} is a model of another data set: it was trained on grey.*--allow_other_data"
    assert refused(says, script, *flags) == []
    if script == "main_unlearn":  # its mask must be of these images as well
        allow = (*model_flags(data_files["other"]), "--allow_other_data")
        refused("class_3.pt was made for other weights or data", script, *allow, *UNLEARN_ONCE)
        run_here("generate_mask", *allow, "--class_to_forget", "3", "--overwrite")
    more = {"main_test": ["--no_window"], "generate_mask": ["--overwrite"]}
    more["main_unlearn"] = ["--overwrite"]
    allowed = run_here(script, *flags, *more.get(script, []), "--allow_other_data")
    assert (allowed.returncode, allowed.stderr) == (0, "")


@pytest.mark.usefixtures("undrawn")
def test_a_model_of_another_task(workplace, refused, run_here, data_files, tmp_path):
    """Three classes and three findings: the same shape of model."""
    arrays = drawn_arrays(3)
    np.savez(tmp_path / "three.npz", **arrays)
    flags = train_flags(tmp_path / "three.npz", "three")
    assert run_here("main_train", *flags, "--epochs", "1").returncode == 0
    says = "three_best was trained for multi-class, not for multi-label"
    refused(says, "main_test", *model_flags(data_files["multi"], "three_best"))


def bare_weights(trained, *drop):
    path = trained / "model_weights" / f"{BASE}.pt"
    weights = torch.load(path, weights_only=True)["weights"]
    for name in drop:
        del weights[name]
    torch.save(weights, trained / "model_weights" / "bare.pt")


def test_bare_weights_need_their_architecture(trained, refused, grey):
    bare_weights(trained)
    says = "model_weights/bare.pt holds bare weights: describe .*--arch and --input_size"
    flags = model_flags(grey, "bare")
    refused(says, "main_test", *flags)
    refused(says, "main_test", *flags, "--arch", SMALL_ARCH)
    refused(says, "main_test", *flags, "--input_size", "12")
    size = ("--input_size", "12")
    says = "model_weights/bare.pt holds no weights of --arch resnet18"
    refused(says, "main_test", *flags, *size, "--arch", "resnet18")
    refused("did you mean shufflenet", "main_test", *flags, *size, "--arch", "shuflenet_v2_x0_5")


def test_bare_weights_cannot_be_retrained(trained, refused, grey):
    bare_weights(trained)
    retrain = ("--unlearn", "Retrain", "--class_to_forget", "3")
    bare = ("--arch", SMALL_ARCH, "--input_size", "12")
    says = "--unlearn Retrain: .*does not tell how the model was trained"
    refused(says, "main_unlearn", *model_flags(grey, "bare"), *retrain, *bare)


def test_bare_weights_cannot_be_attacked(trained, refused, grey):
    bare_weights(trained)
    bare = ("--arch", SMALL_ARCH, "--input_size", "12")
    says = "the model file does not tell how the model was trained: no attack"
    assert refused(says, "main_mia", *model_flags(grey, "bare"), *CLASS, *bare) == []


def test_incomplete_bare_weights(trained, refused, grey):
    bare_weights(trained, "fc.bias")
    bare = ("--arch", SMALL_ARCH, "--input_size", "12")
    says = f"holds no weights of --arch {SMALL_ARCH}"
    refused(says, "main_test", *model_flags(grey, "bare"), *bare)


def test_an_unlearned_model_is_no_base_model(trained, refused, grey):
    says = f"{FORGOTTEN} is an unlearned model already: give its base model's id"
    refused(says, "main_unlearn", *model_flags(grey, FORGOTTEN), *UNLEARN_ONCE)


# Masks


def test_a_mask_that_was_never_made(trained, refused, grey):
    shutil.rmtree(trained / "SaliencyMaps")
    says = (
        "there is no mask SaliencyMaps/tiny_best/class_3.pt: make it with "
        f"python generate_mask.py --model_id {BASE} --dataset "
    )
    assert refused(says, "main_unlearn", *unlearn_flags(grey)) == []


@pytest.mark.usefixtures("undrawn")
def test_a_mask_of_another_model(trained, refused, run_here, grey):
    """The base model is trained anew, under its old name, with another seed."""
    again = ("--save_model_id", "tiny", "--dataset", grey, *TRAIN, "--epochs", "1", "--seed", "2")
    assert run_here("main_train", *again, "--overwrite").returncode == 0
    says = "class_3.pt was made for other weights or data: make it anew with python generate_mask"
    refused(says, "main_unlearn", *unlearn_flags(grey))


@pytest.mark.parametrize(
    "damage, says",
    [
        (cut_short, "is cut short, damaged, or not a saliency map"),
        (random_bytes, "is cut short, damaged, or not a saliency map"),
        (no_weights, "is not a saliency map: make it anew with python generate_mask.py"),
        (one_tensor, "is not a saliency map"),
    ],
)
def test_a_damaged_mask(trained, refused, grey, damage, says):
    damage(trained / "SaliencyMaps" / BASE / "class_3.pt")
    refused(f"SaliencyMaps/{BASE}/class_3.pt {says}", "main_unlearn", *unlearn_flags(grey))


def test_a_mask_of_another_architecture(trained, refused, grey):
    path = trained / "SaliencyMaps" / BASE / "class_3.pt"
    content = torch.load(path, weights_only=True)
    content["percents"].popitem()
    torch.save(content, path)
    refused("was made for other weights or data", "main_unlearn", *unlearn_flags(grey))


# Data


def test_an_unknown_data_set_names_the_nearest(refused):
    says = r"unknown data set 'BlodMNIST' \(did you mean BloodMNIST\?\): use SynthBloodMNIST, .*npz"
    assert refused(says, "examine_dataset", "--dataset", "BlodMNIST") == []


@pytest.mark.parametrize(
    "dataset, says",
    [
        ("OrganMNIST3D", "OrganMNIST3D is three-dimensional: use a 2D data set"),
        ("nowhere.npz", "there is no file nowhere.npz"),
        ("a" * 300, "unknown data set"),
        ("a" * 300 + ".npz", "cannot be read"),
        (".", r"\. cannot be read"),
        ("hæmatology\nslides", "unknown data set"),
    ],
)
def test_a_data_set_that_is_not_there(refused, dataset, says):
    refused(says, "examine_dataset", "--dataset", dataset)


def test_a_size_that_medmnist_does_not_have(refused):
    says = "--input_size 32: BloodMNIST comes in 28, 64, 128, 224 pixels"
    refused(says, "examine_dataset", "--dataset", "BloodMNIST", "--input_size", "32")


def changed(**changes):
    return drawn_arrays() | changes


def labels(values):
    values = np.asarray(values)
    return np.resize(values, (96, *values.shape[1:]))


BAD_DATA = {
    "missing key": ({"train_images": np.zeros((4, 12, 12), np.uint8)}, "has no train_labels, val_"),
    "float images": (
        changed(val_images=np.zeros((32, 12, 12))),
        "val_images are float64; they must be uint8",
    ),
    "oblong images": (
        changed(test_images=np.zeros((40, 12, 14), np.uint8)),
        "test_images are 12x14 pixels; they must be square",
    ),
    "minute images": (
        changed(train_images=np.zeros((96, 4, 4), np.uint8)),
        "train_images are 4x4 pixels; .* at least 8x8",
    ),
    "volumes": (
        changed(train_images=np.zeros((96, 12, 12, 12), np.uint8)),
        r"train_images have the shape \(96, 12, 12, 12\); it must be \(N, H, W\)",
    ),
    "one image": (
        changed(train_images=np.zeros((12, 12), np.uint8)),
        r"train_images have the shape \(12, 12\)",
    ),
    "no images": (
        changed(train_images=np.zeros((0, 12, 12), np.uint8), train_labels=np.zeros((0, 1))),
        "train_images are empty",
    ),
    "splits of two sizes": (
        changed(test_images=np.zeros((40, 16, 16), np.uint8)),
        "three splits' images differ in shape",
    ),
    "splits of two colours": (
        changed(test_images=np.zeros((40, 12, 12, 3), np.uint8)),
        "three splits' images differ in shape",
    ),
    "splits of two tasks": (
        changed(test_labels=np.zeros((40, 3), np.uint8)),
        "three splits' labels differ in shape",
    ),
    "too few labels": (
        changed(train_labels=np.zeros((95, 1), np.uint8)),
        r"train_labels have the shape \(95, 1\) for 96 images",
    ),
    "one label for all": (
        changed(train_labels=np.array(3)),
        r"train_labels have the shape \(\) for 96 images",
    ),
    "labels without columns": (
        changed(train_labels=np.zeros((96, 0), np.uint8)),
        r"train_labels have the shape \(96, 0\)",
    ),
    "labels of three dimensions": (
        changed(train_labels=np.zeros((96, 1, 1), np.uint8)),
        r"train_labels have the shape \(96, 1, 1\)",
    ),
    "NaN labels": (changed(train_labels=labels([0, 1, np.nan])), "train_labels hold NaN"),
    "infinite labels": (changed(train_labels=labels([0, np.inf])), "train_labels hold NaN or inf"),
    "fractional labels": (changed(train_labels=labels([0, 1.5])), "train_labels hold fractions"),
    "negative labels": (
        changed(train_labels=labels([0, -1])),
        "train_labels are out of range: the lowest is -1",
    ),
    "enormous labels": (
        changed(train_labels=labels([0, 10**9])),
        "train_labels are out of range: the highest is 1000000000",
    ),
    "unsigned giants": (
        changed(train_labels=labels(np.array([0, 2**64 - 1], np.uint64))),
        "train_labels are out of range: the highest is 18446744073709551615",
    ),
    "text labels": (changed(train_labels=labels(["0", "1"])), "train_labels are <U1"),
    "multi-label beyond 1": (
        {
            **drawn_arrays(3, multi_label=True),
            "train_labels": np.full((96, 3), 2),
        },
        "train_labels are multi-label and out of range: only 0 and 1",
    ),
    "object labels": (changed(train_labels=labels(np.array([0, None]))), "cannot be read as .npz"),
    "fewer names than classes": (
        changed(class_names=np.array(["a", "b"])),
        "labels are out of range: 4 classes, 2 names",
    ),
    "names that are numbers": (
        changed(class_names=np.arange(4)),
        "class_names must be a list of strings",
    ),
    "a single class": (
        {k: v * 0 if "labels" in k else v for k, v in drawn_arrays().items()},
        "has a single class; a classifier needs at least two",
    ),
}


@pytest.mark.parametrize("kind", BAD_DATA)
@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_file_with_wrong_contents(workplace, refused, kind, workers):
    arrays, says = BAD_DATA[kind]
    np.savez("wrong.npz", **arrays)
    flags = ("--dataset", "wrong.npz", "--num_workers", workers)
    assert refused(f"wrong.npz.*{says}", "examine_dataset", *flags) == []


def test_a_file_with_wrong_contents_in_every_script(trained, refused):
    np.savez("wrong.npz", **changed(train_labels=labels([0, np.nan])))
    says = "wrong.npz: train_labels hold NaN"
    for script in READERS:
        refused(says, script, *model_flags("wrong.npz"), *SETTINGS.get(script, ()))
    refused(says, "main_train", *train_flags("wrong.npz"))
    refused(says, "main_walkthrough", "--dataset", "wrong.npz")


@pytest.mark.parametrize("workers", ["0", "2"])
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("share", [0, 0.01, 0.5, 0.99])
def test_a_file_cut_short(workplace, refused, workers, save, share):
    save("short.npz", **drawn_arrays())
    whole = Path("short.npz").read_bytes()
    Path("short.npz").write_bytes(whole[: int(share * len(whole))])
    flags = ("--dataset", "short.npz", "--num_workers", workers)
    refused("short.npz cannot be read as .npz, it may be cut short", "examine_dataset", *flags)


@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_file_with_a_byte_that_changed(workplace, refused, workers):
    """zip files hold a checksum."""
    np.savez("bad.npz", **drawn_arrays())
    whole = bytearray(Path("bad.npz").read_bytes())
    whole[5000] ^= 1
    Path("bad.npz").write_bytes(whole)
    refused("bad.npz cannot be read", "examine_dataset", "--dataset", "bad.npz")


@pytest.mark.parametrize("content", [b"\x93NUMPY rubbish", b"PK\x03\x04 rubbish", b'{"a": 1}', b""])
def test_a_file_that_is_no_archive(workplace, refused, content):
    Path("no.npz").write_bytes(content)
    refused("no.npz cannot be read as .npz", "examine_dataset", "--dataset", "no.npz")


def test_a_single_array_under_the_name_npz(workplace, refused):
    with open("one.npz", "wb") as file:
        np.save(file, np.zeros(3))
    refused("one.npz holds a single array", "examine_dataset", "--dataset", "one.npz")


def test_code_in_a_data_file_does_not_run(workplace, refused):
    bomb = np.empty(96, object)
    bomb[:] = [Bomb() for _ in range(96)]
    np.savez("bomb.npz", **changed(train_labels=bomb))
    refused("bomb.npz cannot be read as .npz", "examine_dataset", "--dataset", "bomb.npz")
    assert not Path("exploded").exists()


@pytest.fixture
def gap_file(workplace):
    """Class 2 has a name and test images, but no training image."""
    arrays = drawn_arrays()
    arrays["train_labels"][arrays["train_labels"] == 2] = 0
    np.savez("gap.npz", **arrays)
    return "gap.npz"


@pytest.mark.usefixtures("undrawn")
def test_a_class_without_training_images(run_here, refused, gap_file):
    assert run_here("main_train", *train_flags(gap_file, "gap"), "--epochs", "1").returncode == 0
    flags = (*model_flags(gap_file, "gap_best"), "--class_to_forget", "2")
    for method in ("FT", "RL_with_SalUn", "Retrain"):
        says = "class 2 has no training image: nothing to forget"
        assert refused(says, "main_unlearn", *flags, "--unlearn", method) == []
    assert refused("class 2 has no training image", "generate_mask", *flags) == []
    says = "class 2 has no training image: nothing to forget"
    assert refused(says, "main_walkthrough", "--dataset", gap_file, "--class_to_forget", "2") == []
    every = run_here("generate_mask", *model_flags(gap_file, "gap_best"))
    assert every.returncode == 0
    assert "class 2: no training image, so no mask" in every.stdout
    made = sorted(path.name for path in Path("SaliencyMaps/gap_best").iterdir())
    assert made == ["class_0.pt", "class_1.pt", "class_3.pt"]
    seen = run_here("main_test_unlearn", *flags)
    assert (seen.returncode, seen.stderr) == (0, "")
    assert "Unlearn Accuracy: undefined\n" in seen.stdout
    results = results_of("gap_best", "_2")
    assert results["unlearn_accuracy_percent"] is None
    assert results["unlearn_accuracy_percent_undefined"] == "no training image of the request"
    assert results["unlearn_accuracy_test_percent"] is not None  # it has test images
    says = "the request covers no training image: there is nothing to attack"
    assert refused(says, "main_mia", *flags) == []


@pytest.mark.usefixtures("undrawn")
def test_a_class_that_is_all_there_is(workplace, run_here, refused):
    arrays = drawn_arrays(2)
    arrays["train_labels"][:] = 1
    np.savez("all.npz", **arrays)
    assert run_here("main_train", *train_flags("all.npz", "all"), "--epochs", "1").returncode == 0
    flags = (*model_flags("all.npz", "all_best"), "--class_to_forget", "1", "--unlearn", "FT")
    refused("every training image is of class 1: nothing remains", "main_unlearn", *flags)


# A loss that is not finite any more


def test_a_rate_that_breaks_the_model_saves_nothing(trained, refused, grey):
    flags = (*model_flags(grey), "--unlearn", "FT", "--class_to_forget", "3", "--unlearn_lr", "100")
    says = "the loss is not finite any more.*this model was not saved; try a lower learning rate"
    assert refused(says, "main_unlearn", *flags, "--unlearn_batch_size", "2") == []


@pytest.mark.usefixtures("undrawn")
def test_gradient_ascent_that_ends_beyond_all_numbers_saves_nothing(run_here, refused, grey):
    """Of a network with many layers, whose outputs are the product of all of their weights."""
    deep = (*train_flags(grey, "deep"), "--arch", "shufflenet_v2_x0_5", "--epochs", "1")
    assert run_here("main_train", *deep).returncode == 0
    flags = (*model_flags(grey, "deep_best"), "--unlearn", "GA", *CLASS, "--unlearn_lr", "100")
    says = "the loss is not finite any more.*this model was not saved; try a lower learning rate"
    assert refused(says, "main_unlearn", *flags, "--unlearn_epochs", "50") == []


# Places that cannot be written to


@pytest.fixture
def full_disk(monkeypatch):
    """Every file that is written from now on meets a full disk when its bytes are to be kept."""

    def no_space(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", no_space)


def test_a_full_disk(trained, refused, grey, full_disk):
    says = "cannot write {}: No space left on device"
    unlearn = unlearn_flags(grey, "--overwrite")
    assert refused(says.format(f"model_weights/{FORGOTTEN}.pt"), "main_unlearn", *unlearn) == []
    state = says.format("model_weights/tiny_resume.pt")
    assert refused(state, "main_train", *train_flags(grey, "tiny"), "--overwrite") == []
    mask = says.format(f"SaliencyMaps/{BASE}/class_0.pt")
    assert refused(mask, "generate_mask", *model_flags(grey)) == []
    picture = says.format(f"pics/{BASE}/confusion_matrix.png")
    assert refused(picture, "main_test", *model_flags(grey)) == []
    results = says.format(f"results/{BASE}_3.json")
    measured = (*model_flags(grey), *CLASS, "--measures", "forgetting")
    assert refused(results, "main_test_unlearn", *measured) == []
    shadow = says.format("model_weights/shadows/[0-9a-f]+/000.pt")
    assert refused(shadow, "main_mia", *model_flags(grey), *SETTINGS["main_mia"]) == []
    assert refused(says.format("pics/grey/classes.png"), "examine_dataset", "--dataset", grey) == []


def test_a_disk_that_is_really_full(small_disk, refused, grey, monkeypatch):
    """What --resume needs takes more than the few pages that are left of it."""
    monkeypatch.chdir(small_disk)
    (small_disk / "model_weights").mkdir()
    old, other = small_disk / "model_weights" / "tiny_resume.pt", small_disk / "other"
    old.write_bytes(b"what was there before")
    other.write_bytes(bytes(2**20 - 20_000))
    says = "cannot write model_weights/tiny_resume.pt: No space left on device"
    refused(says, "main_train", *train_flags(grey, "tiny"), "--overwrite")
    assert contents(small_disk) == {old: b"what was there before", other: other.read_bytes()}


def test_a_full_disk_in_the_middle_of_a_write(tmp_path, monkeypatch):
    path = tmp_path / "model.pt"
    write_atomically(path, b"old")

    class HalfWritten:
        def __init__(self, name, mode):
            self.file = open(name, mode)  # noqa: SIM115 - __exit__ closes it
            self.fileno = self.file.fileno

        def __enter__(self):
            return self

        def __exit__(self, *error):
            self.file.close()

        def write(self, data):
            self.file.write(data[: len(data) // 2])
            self.file.flush()
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files, "open", HalfWritten, raising=False)
    with pytest.raises(UserError, match="cannot write .*model.pt: No space left on device"):
        write_atomically(path, b"newer and longer")
    assert contents(tmp_path) == {path: b"old"}


def test_who_reads_a_file_while_it_is_replaced_reads_the_old_one(tmp_path):
    path = tmp_path / "model.pt"
    write_atomically(path, b"old")
    with open(path, "rb") as reader:
        write_atomically(path, b"new")
        assert reader.read() == b"old"
    assert path.read_bytes() == b"new"


def test_an_interrupted_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "model.pt"
    write_atomically(path, b"old")

    def interrupt(descriptor):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, b"new")
    assert contents(tmp_path) == {path: b"old"}


@pytest.mark.parametrize(
    "in_the_way, script",
    [
        ("model_weights", "main_train"),
        ("pics", "examine_dataset"),
        ("pics", "main_test"),
        ("SaliencyMaps", "generate_mask"),
        ("results", "main_test_unlearn"),
        ("results", "main_mia"),
        ("model_weights/shadows", "main_mia"),
    ],
)
def test_a_file_where_a_folder_should_be(trained, refused, grey, in_the_way, script):
    if (trained / in_the_way).exists():
        shutil.move(trained / in_the_way, trained / "elsewhere")
    (trained / in_the_way).write_text("a file")
    flags = {"main_train": train_flags(grey), "examine_dataset": ("--dataset", grey)}
    flags = flags.get(script, (*model_flags(grey), *SETTINGS.get(script, ())))
    assert refused(f"cannot write .*{in_the_way}", script, *flags) == []


def test_a_folder_without_permission(trained, refused, grey, monkeypatch):
    def forbidden(*args, **kwargs):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(files.tempfile, "TemporaryFile", forbidden)
    says = "cannot write to the folder model_weights: Permission denied"
    assert refused(says, "main_train", *train_flags(grey)) == []
    assert refused(says, "main_unlearn", *unlearn_flags(grey)) == []
    says = f"cannot write to the folder SaliencyMaps/{BASE}: Permission denied"
    assert refused(says, "generate_mask", *model_flags(grey)) == []
    says = "cannot write to the folder results: Permission denied"
    for script in ("main_test_unlearn", "main_mia"):
        assert refused(says, script, *model_flags(grey), *SETTINGS[script]) == []


IS_ROOT = not hasattr(os, "geteuid") or os.geteuid() == 0


@pytest.mark.skipif(IS_ROOT, reason="root may write to any folder")
def test_a_folder_that_is_really_read_only(trained, refused, grey):
    folder = trained / "model_weights"
    folder.chmod(0o500)
    try:
        refused("cannot write to the folder model_weights", "main_train", *train_flags(grey))
    finally:
        folder.chmod(0o700)


# Memory


@pytest.mark.parametrize("error", [MemoryError(), None])
def test_too_little_memory(refused, grey, monkeypatch, error):
    def hungry(*args, **kwargs):
        if error:
            raise error
        torch.zeros(10**15)  # torch's own complaint

    monkeypatch.setattr(main_train, "build_model", hungry)
    refused("out of memory: lower the batch size", "main_train", *train_flags(grey))


def test_a_bug_is_not_taken_for_bad_input(run_here, workplace, grey, monkeypatch):
    def broken(*args, **kwargs):
        raise RuntimeError("a bug")

    monkeypatch.setattr(main_train, "build_model", broken)
    with pytest.raises(RuntimeError, match="a bug"):
        run_here("main_train", *train_flags(grey))


# Ctrl-C


def weights_in(path):
    return torch.load(path, weights_only=True)["weights"]


def assert_same_model(path, other):
    first, second = weights_in(path), weights_in(other)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_ctrl_c_in_training_and_resume_give_the_weights_of_one_run(
    trained_folder, run_script, run_here, workplace, grey
):
    """A real SIGINT, after the second epoch of six has been told of."""
    flags = ("--save_model_id", "tiny", "--dataset", grey, "--device", "cpu", *TRAIN)
    with subprocess.Popen(
        script_command("main_train", *flags),
        cwd=workplace,
        env=script_environment() | {"PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        next(line for line in process.stdout if line.startswith("epoch 2/6"))
        process.send_signal(signal.SIGINT)
        errors = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    says = r"^main_train.py: interrupted: [1-5] of 6 epochs are saved; add --resume to go on$"
    assert_one_line(errors, says)
    assert [path.name for path in (workplace / "model_weights").iterdir()] == ["tiny_resume.pt"]

    again = run_here("main_train", *flags, "--resume")
    assert again.returncode == 0
    assert "epoch 1/6" not in again.stdout
    assert "epoch 6/6" in again.stdout
    for name in ("tiny_best.pt", "tiny_last.pt"):
        assert_same_model(
            workplace / "model_weights" / name, trained_folder / "model_weights" / name
        )
    made = sorted(path.name for path in (workplace / "model_weights").iterdir())
    assert made == ["tiny_best.pt", "tiny_last.pt"]


@pytest.fixture
def interrupt_after(monkeypatch):
    """Ctrl-C in the middle of the epoch after the next `epochs` of a training run."""
    whole_epoch = utils.train.training.train_epoch

    def arm(epochs):
        seen = 0

        def epoch(*args, **kwargs):
            nonlocal seen
            seen += 1
            if seen > epochs:
                raise KeyboardInterrupt
            return whole_epoch(*args, **kwargs)

        monkeypatch.setattr(utils.train.training, "train_epoch", epoch)

    yield arm


@pytest.mark.usefixtures("undrawn")
def test_ctrl_c_twice_and_before_a_single_new_epoch(
    trained_folder, run_here, workplace, grey, interrupt_after
):
    flags = ("--save_model_id", "tiny", "--dataset", grey, "--device", "cpu", *TRAIN)
    for epochs, saved in ((3, "3 of 6"), (0, "3 of 6"), (2, "5 of 6")):
        interrupt_after(epochs)
        resume = [] if saved == "3 of 6" and epochs else ["--resume"]
        stopped = run_here("main_train", *flags, *resume)
        assert stopped.returncode == 130
        says = f"main_train.py: interrupted: {saved} epochs are saved; add --resume"
        assert_one_line(stopped.stderr, says)
    interrupt_after(99)
    assert run_here("main_train", *flags, "--resume").returncode == 0
    name = "model_weights/tiny_best.pt"
    assert_same_model(workplace / name, trained_folder / name)


def test_ctrl_c_in_the_first_epoch_saves_nothing(trained, run_here, grey, interrupt_after):
    before = contents(trained)
    interrupt_after(0)
    stopped = run_here("main_train", *train_flags(grey, "tiny"), "--overwrite")
    assert stopped.returncode == 130
    assert_one_line(stopped.stderr, "main_train.py: interrupted: nothing unfinished was saved")
    assert contents(trained) == before


@pytest.mark.parametrize(
    "script, module, name",
    [
        ("main_unlearn", "unlearn.engine.loop", "train_epoch"),
        ("main_test", "main_test", "predict"),
        ("generate_mask", "generate_mask", "gradient_saliency"),
        ("main_test_unlearn", "evaluation.outputs", "predict_with_features"),
        ("main_test_unlearn", "evaluation.metrics.probe", "compute"),
        ("main_mia", "evaluation.shadows", "TrainingRun"),
        ("examine_dataset", "examine_dataset", "class_counts"),
        ("main_walkthrough", "main_walkthrough", "load_dataset"),
    ],
)
def test_ctrl_c_in_any_other_script(trained, run_here, grey, monkeypatch, script, module, name):
    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    before = contents(trained)
    monkeypatch.setattr(f"{module}.{name}", interrupt)
    plain = ("--dataset", grey)
    flags = model_flags(grey) if script in READERS else plain
    overwrite = ["--overwrite"] if script == "main_unlearn" else []
    stopped = run_here(script, *flags, *SETTINGS.get(script, ()), *overwrite)
    assert stopped.returncode == 130
    assert_one_line(stopped.stderr, f"^{script}.py: interrupted: ")
    assert contents(trained) == before


@pytest.mark.usefixtures("undrawn")
def test_resume_needs_an_interrupted_run_of_the_same_kind(
    trained, refused, run_here, data_files, interrupt_after
):
    flags = train_flags(data_files["grey"])
    interrupt_after(1)
    assert run_here("main_train", *flags).returncode == 130
    for change, what in (
        (("--lr", "0.02"), r"lr 0.01 \(not 0.02\)"),
        (("--arch", "squeezenet1_1"), r"arch small_net \(not squeezenet1_1\), .*"),
        (("--dataset", data_files["other"]), "the training images, the validation images"),
    ):
        says = f"--resume: the interrupted run of this name differs in {what}: repeat its command"
        assert refused(says, "main_train", *flags, *change, "--resume") == []
    says = "was interrupted, model_weights/new_resume.pt: add --resume to go on .*--overwrite"
    assert refused(says, "main_train", *flags) == []
    for damage in (cut_short, random_bytes, no_weights):
        damage(trained / "model_weights" / "new_resume.pt")
        says = "new_resume.pt is (cut short, damaged, or )?not a training state"
        assert refused(says, "main_train", *flags, "--resume") == []
    refused(
        "is not a model: it holds no weights", "main_test", *model_flags(flags[3], "new_resume")
    )


# No display


def test_without_a_display_the_pictures_are_saved(trained, run_script, grey):
    done = run_script("main_test", *model_flags(grey))
    assert (done.returncode, done.stderr) == (0, "")
    for picture in ("confusion_matrix", "predictions"):
        path = f"pics/{BASE}/{picture}.png"
        assert f"picture: {path}\n" in done.stdout
        assert (trained / path).read_bytes().startswith(b"\x89PNG")


# The process itself: exit codes reach the shell


def test_bad_input_ends_the_process_with_code_2(run_script, workplace):
    done = run_script("main_test", "--model_id", "missing")
    assert done.returncode == 2
    assert done.stdout == ""
    assert_one_line(done.stderr, "^main_test.py: error: there is no model model_weights/missing.pt")


def test_a_closed_pipe_is_not_worth_a_word(workplace, grey):
    """As in `examine_dataset.py | head -0`."""
    command = script_command("examine_dataset", "--dataset", grey, "--no_window")
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, env=script_environment(), text=True, **pipes) as process:
        process.stdout.close()
        assert process.stderr.read() == ""


def test_errors_are_told_in_one_line_whatever_they_hold(monkeypatch, capsys):
    def main():
        raise UserError("two\nlines")

    monkeypatch.setattr("sys.argv", ["script.py"])
    with pytest.raises(SystemExit) as end:
        run_main(main)
    assert end.value.code == 2
    assert capsys.readouterr().err == "script.py: error: two lines\n"
