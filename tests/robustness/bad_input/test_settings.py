"""Flags, values and model ids that are invalid: exit code 2, one line, no file changed."""

import pytest

from tests.helpers.environment import BASE, model_flags, train_flags
from tests.robustness.bad_input.shared import CLASS, READERS, SETTINGS, unlearn_flags


@pytest.mark.parametrize(
    "flag, value, says",
    [
        ("--lr", "0", "--lr: 0 is out of range: a learning rate is above 0"),
        ("--lr", "-1", "--lr: -1 is out of range: a learning rate is above 0"),
        ("--lr", "nan", "--lr: nan is out of range"),
        ("--lr", "inf", "--lr: inf is out of range"),
        ("--lr", "1e400", "--lr: 1e400 is out of range"),
        ("--lr", "fast", "--lr: 'fast' is not a number"),
        ("--epochs", "0", "--epochs: 0 is out of range: the lowest is 1"),
        ("--epochs", "-1", "--epochs: -1 is out of range: the lowest is 1"),
        ("--epochs", "1.5", "--epochs: '1.5' is not a whole number"),
        ("--epochs", "9" * 30, "--epochs: 9+ is out of range: the highest is"),
        ("--batch_size", "0", "--batch_size: 0 is out of range"),
        ("--batch_size", "9" * 30, "--batch_size: 9+ is out of range: the highest is"),
        ("--seed", "-1", "--seed: -1 is out of range"),
        ("--num_workers", "-1", "--num_workers: -1 is out of range"),
        ("--weight_decay", "-0.1", "--weight_decay: -0.1 is out of range"),
        ("--weight_decay", "nan", "--weight_decay: nan is out of range"),
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
        ("--device", "tpu", "--device tpu is not available: use auto, cpu"),
        ("--device", "hpu", "--device hpu is not available: use auto, cpu"),  # torch knows of it
        ("--device", "cuda:99", "--device cuda:99 is not available: use auto, cpu"),
        ("--learning_rate", "0.1", "unrecognized arguments: --learning_rate"),
    ],
)
def test_invalid_training_settings(refused, grey, flag, value, says):
    assert refused(says, "main_train", *train_flags(grey), flag, value) in ([], ["model_weights"])


@pytest.mark.parametrize(
    "flag, value, says",
    [
        ("--unlearn_lr", "0", "--unlearn_lr: 0 is out of range"),
        ("--unlearn_lr", "nan", "--unlearn_lr: nan is out of range"),
        ("--unlearn_lr", "-inf", "--unlearn_lr: (-inf is out of range|expected one argument)"),
        ("--unlearn_epochs", "0", "--unlearn_epochs: 0 is out of range: the lowest is 1"),
        ("--unlearn_epochs", "1.5", "--unlearn_epochs: '1.5' is not a whole number"),
        ("--unlearn_batch_size", "0", "--unlearn_batch_size: 0 is out of range"),
        ("--mask_thresh", "0", "--mask_thresh: 0 is out of range: a threshold is above 0"),
        ("--mask_thresh", "-0.5", "--mask_thresh: -0.5 is out of range"),
        ("--mask_thresh", "1.5", "--mask_thresh: 1.5 is out of range: .* at most 1"),
        ("--mask_thresh", "nan", "--mask_thresh: nan is out of range"),
        ("--mask_thresh", "half", "--mask_thresh: 'half' is not a number"),
        ("--mask_thresh", "0.255", "--mask_thresh 0.255: .*give a whole percent .*as 0.5 or 0.25"),
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
def test_invalid_unlearning_settings(trained, refused, grey, flag, value, says):
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
def test_invalid_measuring_settings(trained, refused, grey, script, flag, value, says):
    model = ("--dataset", grey) if script == "main_walkthrough" else model_flags(grey)
    assert refused(says, script, *model, *CLASS, flag, *([value] if value else [])) == []


@pytest.mark.parametrize("script", ["generate_mask", "main_test_unlearn", "main_mia"])
def test_unknown_class(trained, refused, grey, script):
    says = "--class_to_forget 7: grey has no such class.*0 artery, 1 bone, 2 cortex, 3 duct"
    assert refused(says, script, *model_flags(grey), "--class_to_forget", "7") == []


@pytest.mark.parametrize("script", ["main_test_unlearn", "main_mia"])
def test_a_base_model_needs_a_request(trained, refused, grey, script):
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
def test_missing_required_flag(refused, script, says):
    refused(says, script)


BAD_IDS = ["../x", "a/b", "C:\\x", "", ".hidden", "..", "/etc/x", "-x\n", "a b", "x" * 201]


@pytest.mark.parametrize("bad", BAD_IDS)
def test_ids_that_are_not_plain_file_names(trained, refused, grey, bad):
    says = "--{} .*is not a usable id"
    name = f"--save_model_id={bad}"  # joined: a value may start with a dash
    assert refused(says.format("save_model_id"), "main_train", name, *train_flags(grey)[2:]) == []
    for script in READERS:
        flags = (f"--model_id={bad}", "--dataset", grey, *SETTINGS.get(script, ()))
        assert refused(says.format("model_id"), script, *flags) == []
    if bad:  # an empty name means the default name
        made = refused(says.format("save_model_id"), "main_walkthrough", name, "--dataset", grey)
        assert all(path.startswith("pics/") for path in made)


def test_the_message_names_the_flag_of_a_bad_id(trained, refused, grey):
    for script in ("main_test_unlearn", "main_mia"):
        flags = (*model_flags(grey), *CLASS, "--retrain_model_id", "a/b")
        assert refused("--retrain_model_id 'a/b' is not a usable id", script, *flags) == []


def test_an_id_that_is_too_long_with_its_suffix(refused, grey):
    says = "--save_model_id.*is not a usable id.*200 characters"
    refused(says, "main_train", *train_flags(grey, "x" * 198))
