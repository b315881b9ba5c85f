"""Missing, damaged, malicious or unsuitable model and mask files are refused in one line."""

import pickle
import shutil

import numpy as np
import pytest
import torch

from tests.helpers.environment import (
    BASE,
    FORGOTTEN,
    TRAIN,
    UNLEARN_ONCE,
    drawn_arrays,
    model_flags,
    train_flags,
)
from tests.helpers.small_net import SMALL_ARCH
from tests.robustness.bad_input.shared import (
    CLASS,
    READERS,
    SETTINGS,
    Bomb,
    a_json_file,
    altered_bytes,
    altered_weights,
    cut_short,
    cut_to_nothing,
    no_weights,
    one_tensor,
    random_bytes,
    record_missing,
    unlearn_flags,
    weights_missing,
    weights_of_another_architecture,
    weights_under_numbers,
    weights_without_convolution,
)


@pytest.mark.parametrize("script", READERS)
def test_missing_model(trained, refused, grey, script):
    flags = (*model_flags(grey, "tiny_bset"), *SETTINGS.get(script, ()))
    says = r"no model model_weights/tiny_bset.pt \(did you mean tiny_best\?\): train one"
    assert refused(says, script, *flags) == []


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
def test_damaged_model_files(trained, refused, grey, damage, says):
    damage(trained / "model_weights" / f"{BASE}.pt")
    where = f"model_weights/{BASE}.pt"
    assert refused(f"{where} ({says})", "main_test", *model_flags(grey)) == []
    assert refused(f"{where} ({says})", "main_unlearn", *unlearn_flags(grey)) == []


@pytest.mark.parametrize("fraction", [0.01, 0.1, 0.9, 0.999])
def test_truncated_model_files(trained, refused, grey, fraction):
    path = trained / "model_weights" / f"{BASE}.pt"
    whole = path.read_bytes()
    path.write_bytes(whole[: int(fraction * len(whole))])
    refused("is cut short, damaged, or not a model", "main_test", *model_flags(grey))


@pytest.mark.parametrize("write", [lambda content, path: torch.save(content, path), None])
def test_code_in_a_model_file_is_not_executed(trained, refused, grey, write):
    path = trained / "model_weights" / f"{BASE}.pt"
    content = torch.load(path, weights_only=True) | {"more": Bomb()}
    if write:
        write(content, path)
    else:
        path.write_bytes(pickle.dumps(content))
    refused("is cut short, damaged, or not a model", "main_test", *model_flags(grey))
    assert not (trained / "exploded").exists()
    if write:  # the code in the file works
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
def test_a_model_of_other_images_needs_a_flag(trained, refused, run_here, data_files, script):
    flags = (*model_flags(data_files["other"]), *SETTINGS.get(script, ()))
    says = f"{BASE} is a model of another data set: it was trained on grey.*--allow_other_data"
    assert refused(says, script, *flags) == []
    if script == "main_unlearn":  # its mask must be of the same images
        allow = (*model_flags(data_files["other"]), "--allow_other_data")
        refused("class_3.pt belongs to other weights or data", script, *allow, *UNLEARN_ONCE)
        run_here("generate_mask", *allow, "--class_to_forget", "3", "--overwrite")
    more = {"main_test": ["--no_window"], "generate_mask": ["--overwrite"]}
    more["main_unlearn"] = ["--overwrite"]
    allowed = run_here(script, *flags, *more.get(script, []), "--allow_other_data")
    assert (allowed.returncode, allowed.stderr) == (0, "")


@pytest.mark.usefixtures("undrawn")
def test_a_model_of_another_task(workplace, refused, run_here, data_files, tmp_path):
    """Three classes and three findings have models of the same shape."""
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
    says = "--unlearn Retrain: .*has no record of how the model was trained"
    refused(says, "main_unlearn", *model_flags(grey, "bare"), *retrain, *bare)


def test_bare_weights_cannot_be_attacked(trained, refused, grey):
    bare_weights(trained)
    bare = ("--arch", SMALL_ARCH, "--input_size", "12")
    says = "the model file has no record of how the model was trained: train one with main_train.py"
    assert refused(says, "main_mia", *model_flags(grey, "bare"), *CLASS, *bare) == []


def test_incomplete_bare_weights(trained, refused, grey):
    bare_weights(trained, "fc.bias")
    bare = ("--arch", SMALL_ARCH, "--input_size", "12")
    says = f"holds no weights of --arch {SMALL_ARCH}"
    refused(says, "main_test", *model_flags(grey, "bare"), *bare)


def test_an_unlearned_model_is_not_a_base_model(trained, refused, grey):
    says = f"{FORGOTTEN} is an unlearned model already: give its base model's id"
    refused(says, "main_unlearn", *model_flags(grey, FORGOTTEN), *UNLEARN_ONCE)


def test_missing_mask(trained, refused, grey):
    shutil.rmtree(trained / "SaliencyMaps")
    says = (
        "there is no mask SaliencyMaps/tiny_best/class_3.pt: create it with "
        f"python generate_mask.py --model_id {BASE} --dataset "
    )
    assert refused(says, "main_unlearn", *unlearn_flags(grey)) == []


@pytest.mark.usefixtures("undrawn")
def test_a_mask_of_another_model(trained, refused, run_here, grey):
    """The base model is trained again under the same name, with another seed."""
    again = ("--save_model_id", "tiny", "--dataset", grey, *TRAIN, "--epochs", "1", "--seed", "2")
    assert run_here("main_train", *again, "--overwrite").returncode == 0
    says = "class_3.pt belongs to other weights or data: create it again with python generate_mask"
    refused(says, "main_unlearn", *unlearn_flags(grey))


@pytest.mark.parametrize(
    "damage, says",
    [
        (cut_short, "is cut short, damaged, or not a saliency map"),
        (random_bytes, "is cut short, damaged, or not a saliency map"),
        (no_weights, "is not a saliency map: create it with python generate_mask.py"),
        (one_tensor, "is not a saliency map"),
    ],
)
def test_damaged_mask(trained, refused, grey, damage, says):
    damage(trained / "SaliencyMaps" / BASE / "class_3.pt")
    refused(f"SaliencyMaps/{BASE}/class_3.pt {says}", "main_unlearn", *unlearn_flags(grey))


def test_a_mask_of_another_architecture(trained, refused, grey):
    path = trained / "SaliencyMaps" / BASE / "class_3.pt"
    content = torch.load(path, weights_only=True)
    content["percents"].popitem()
    torch.save(content, path)
    refused("belongs to other weights or data", "main_unlearn", *unlearn_flags(grey))
