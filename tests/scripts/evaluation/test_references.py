"""Which base model, Retrains and models of other seeds a model is compared with."""

import re
import shlex

import numpy as np
import pytest
import torch

from models.checkpoint import load_model, read_record, save_model
from tests.helpers.environment import BASE, FORGOTTEN, model_flags
from tests.helpers.output import cells, check_plain, results_of
from tests.scripts.evaluation.shared import (
    PEERS,
    RETRAIN,
    RETRAINS,
    SECOND_RETRAIN,
    THIRD_RETRAIN,
    changed_copy,
    forbid_training,
)

NEXT_RETRAIN = f"python main_unlearn.py --model_id {BASE} --dataset {{}} --unlearn Retrain"


def test_retrains_are_found_without_a_flag(family, done, grey):
    flags = (*model_flags(grey, FORGOTTEN), "--measures", "forgetting")
    printed = done("main_test_unlearn", *flags)
    found = f"\nbase model: {BASE}\nRetrain: {RETRAIN}\nRetrains of other seeds: 2, 3\n"
    assert found in printed
    assert results_of(FORGOTTEN)["retrain_model_ids"] == list(RETRAINS)
    (family / "model_weights" / f"{RETRAIN}.pt").unlink()
    printed = done("main_test_unlearn", *flags)
    assert f"\nRetrain: {SECOND_RETRAIN}\nRetrains of other seeds: 3\n" in printed
    results = results_of(FORGOTTEN)
    assert results["retrain_model_ids"] == [SECOND_RETRAIN, THIRD_RETRAIN]
    assert results["warnings"] == []


def test_without_a_retrain(couple, done, grey):
    (couple / "model_weights" / f"{RETRAIN}.pt").unlink()
    flags = (*model_flags(grey, FORGOTTEN), "--measures", "forgetting", "distance", "cost")
    printed = done("main_test_unlearn", *flags)
    assert "distance.png" not in printed
    command = f"{NEXT_RETRAIN.format(grey)} --class_to_forget 3 --seed 1\n"
    assert f"\nRetrain: none available; create one with {command}" in printed
    results = results_of(FORGOTTEN)
    check_plain(results)
    assert (results["retrain_model_ids"], results["retrain_weights_digests"]) == ([], [])
    assert not [key for key in results if re.match("retrain_(?!model_ids|weights_digests)", key)]
    for key in ("average_gap_points", "js_divergence_forget", "share_of_retrain_time_percent"):
        assert results[key] is None
        assert results[f"{key}_undefined"].startswith(
            "no Retrain is available: create one with main_unlearn.py"
        )


def test_the_command_for_a_second_retrain_works(couple, done, grey):
    flags = (*model_flags(grey, FORGOTTEN), "--measures", "distance")
    printed = done("main_test_unlearn", *flags)
    assert "distance.png" not in printed
    command = f"{NEXT_RETRAIN.format(grey)} --class_to_forget 3 --seed 2"
    assert f"no Retrain of another seed is available; create one with {command}\n" in printed
    results = results_of(FORGOTTEN)
    assert results["js_ratio_forget"] is None
    reason = "2 Retrains of different seeds are needed, and there is 1: create more with"
    assert results["js_ratio_forget_undefined"].startswith(reason)
    assert re.search(f"^undefined: JS ratio, forget set and 6 more: {reason}", printed, re.M)
    done("main_unlearn", *shlex.split(command)[2:], "--device", "cpu")
    printed = done("main_test_unlearn", *flags)
    assert "Retrains of other seeds: 2\n" in printed
    assert f"\npicture: pics/{FORGOTTEN}/distance.png\n" in printed
    results = results_of(FORGOTTEN)
    check_plain(results)
    assert 0 < results["js_ratio_forget_low"] < results["js_ratio_forget"]
    assert results["js_ratio_forget"] < results["js_ratio_forget_high"]
    reason = "for the column of Retrain, 3 Retrains of different seeds are needed, and there are 2"
    assert results["retrain_js_ratio_forget_undefined"].startswith(reason)


def test_a_retrain_by_another_recipe_is_used_only_on_request(couple, done, grey):
    flags = (*model_flags(grey, FORGOTTEN), "--measures", "forgetting")
    retrain = ("--unlearn", "Retrain", "--class_to_forget", "3", "--unlearn_epochs", "2")
    other = done("main_unlearn", *model_flags(grey), *retrain).split()[-1]
    printed = done("main_test_unlearn", *flags, "--retrain_model_id", other)
    message = f"Retrain {other} differs from the base model's recipe: epochs 2 (not 6)"
    assert f"\nWARNING: {message}\n" in printed
    results = results_of(FORGOTTEN)
    assert results["warnings"] == [message]
    assert results["retrain_model_ids"] == [other]
    done("main_test_unlearn", *flags)
    assert results_of(FORGOTTEN)["warnings"] == []


def test_a_retrain_of_another_base_model_is_not_used(couple, done, grey):
    """The base model was trained again under its old name, and so was its Retrain."""
    changed_copy(RETRAIN, RETRAIN, 0, parent_digest="0" * 64)
    printed = done("main_test_unlearn", *model_flags(grey, FORGOTTEN), "--measures", "forgetting")
    assert "Retrain: none available" in printed


def test_retrain_is_not_compared_with_itself(couple, done, grey):
    printed = done("main_test_unlearn", *model_flags(grey, RETRAIN))
    assert "Retrain: none available" not in printed
    results = results_of(RETRAIN)
    check_plain(results)
    assert results["method"] == "Retrain"
    assert results["retrain_model_ids"] == []
    assert not [key for key in results if key.startswith("retrain_") and key[8:] in results]
    for key in ("average_gap_points", "js_divergence_forget", "share_of_retrain_time_percent"):
        assert results[key] is None
        assert results[f"{key}_undefined"] == "this model is Retrain"


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"forget_request": {"class_to_forget": 1}}, "other was unlearned by another request"),
        ({"train_digest": "0" * 64}, "other was trained on other images: give one of the same"),
        ({"method": "FT"}, "other is not a Retrain but FT"),
    ],
)
@pytest.mark.parametrize("script", ["main_test_unlearn", "main_mia"])
def test_a_model_that_is_no_retrain_of_the_request(couple, refused, grey, script, changes, message):
    changed_copy(RETRAIN, "other", **changes)
    flags = (*model_flags(grey, FORGOTTEN), "--retrain_model_id")
    assert refused(f"--retrain_model_id {message}", script, *flags, "other") == []
    assert refused(f"--retrain_model_id {message}", script, *flags, RETRAIN, "other") == []


@pytest.mark.parametrize("script", ["main_test_unlearn", "main_mia"])
def test_retrains_that_differ_in_more_than_the_seed(couple, refused, grey, script):
    settings = read_record(RETRAIN)["settings"]
    changed_copy(RETRAIN, "other", settings={**settings, "seed": 5, "epochs": 7})
    flags = (*model_flags(grey, FORGOTTEN), "--retrain_model_id", RETRAIN)
    message = rf"other differs from {RETRAIN} in more than the seed: epochs 7 \(not 6\): give"
    assert refused(message, script, *flags, "other") == []
    changed_copy(RETRAIN, "again")
    message = f"again has the same seed as {RETRAIN}: give Retrains of different seeds"
    assert refused(message, script, *flags, "again") == []


@pytest.mark.parametrize("script", ["main_test_unlearn", "main_mia"])
def test_a_retrain_that_is_given_twice(couple, refused, grey, script):
    message = f"--retrain_model_id {RETRAIN} has the same weights as another model"
    flags = (*model_flags(grey, FORGOTTEN), "--retrain_model_id", RETRAIN, RETRAIN)
    assert refused(message, script, *flags) == []
    itself = (*model_flags(grey, RETRAIN), "--retrain_model_id", RETRAIN)
    assert refused(message, script, *itself) == []


def test_a_model_of_another_seed_that_is_none(couple, refused, grey):
    flags = (*model_flags(grey, FORGOTTEN), "--seed_model_id")
    message = "--seed_model_id {} differs in more than the seed: {}"
    method = "method Retrain (not RL_with_SalUn)"
    assert refused(re.escape(message.format(RETRAIN, method)), *ask(flags, RETRAIN)) == []
    settings = {**read_record(FORGOTTEN)["settings"], "seed": 5, "epochs": 7}
    changed_copy(FORGOTTEN, "other", settings=settings)
    epochs = re.escape(message.format("other", "epochs 7 (not 1)"))
    assert refused(epochs, *ask(flags, PEERS[0], "other")) == []
    assert refused(f"{BASE} was unlearned by another request", *ask(flags, BASE)) == []
    assert refused(f"{PEERS[0]} has the same weights as", *ask(flags, *[PEERS[0]] * 2)) == []
    assert refused(f"{FORGOTTEN} has the same weights as", *ask(flags, FORGOTTEN)) == []
    base = (*model_flags(grey), "--class_to_forget", "3", "--seed_model_id")
    assert (
        refused("--seed_model_id: a base model has no unlearning method", *ask(base, FORGOTTEN))
        == []
    )


def ask(flags, *more):
    return ("main_test_unlearn", *flags, *more)


@pytest.mark.parametrize("script", ["main_test_unlearn", "main_mia"])
def test_another_class_than_the_model_has_forgotten(couple, refused, grey, script):
    flags = (*model_flags(grey, FORGOTTEN), "--class_to_forget", "bone")
    message = rf"class 1 bone: {FORGOTTEN} has forgotten another request \(class 3 duct\): leave"
    assert refused(message, script, *flags) == []


@pytest.mark.parametrize("script", ["main_test_unlearn", "main_mia"])
def test_a_model_whose_outputs_are_not_finite(couple, refused, grey, script, monkeypatch):
    """It is refused before any shadow model is trained."""
    forbid_training(monkeypatch)
    changed_copy(FORGOTTEN, "broken", np.nan)
    message = "the model is broken: its outputs .*are not finite"
    assert refused(message, script, *model_flags(grey, "broken")) == []


def test_a_model_of_other_images_is_warned_of(couple, done, data_files):
    flags = (*model_flags(data_files["other"], FORGOTTEN), "--allow_other_data")
    printed = done("main_test_unlearn", *flags, "--measures", "forgetting")
    results = results_of(FORGOTTEN)
    [warning] = results["warnings"]
    assert warning.startswith("the model was trained on other images: ")
    assert f"\nWARNING: {warning}\n" in printed
    assert results["train_digest"] != read_record(FORGOTTEN)["train_digest"]


def test_without_its_base_model(couple, done, grey):
    flags = (*model_flags(grey, FORGOTTEN), "--measures", "forgetting", "distance", "safety")
    path = couple / "model_weights" / f"{BASE}.pt"
    model, record = load_model(BASE)
    with torch.no_grad():
        next(model.parameters()).mul_(1.01)
    for spoil, message in (
        (lambda: save_model(BASE, model, record), f"{BASE} is no longer the model that this"),
        (path.unlink, f"the base model {BASE} is no longer in model_weights/"),
    ):
        spoil()
        printed = done("main_test_unlearn", *flags)
        assert f"\nnote: {message}" in printed
        results = results_of(FORGOTTEN)
        check_plain(results)
        [note] = results["notes"]
        assert note.startswith(message)
        assert not [key for key in results if key.startswith("base_")]
        assert not [key for key in results if key.endswith("_p_value")]
        assert results["average_gap_points"] is not None  # Retrain is found all the same
        assert list(cells(printed, "unlearn accuracy, test images")) == ["this model", "Retrain"]
