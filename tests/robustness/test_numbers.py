"""Losses and weights that are not finite, and extreme data sets."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

import utils.train.training
from tests.helpers.environment import drawn_arrays, model_flags
from tests.helpers.methods import REQUEST
from tests.helpers.small_net import SMALL_ARCH
from tests.helpers.tiny import split_set, tiny_model, tiny_set, trained_model
from unlearn.engine.config import UnlearnConfig
from unlearn.engine.loop import EpochPlan, run_epochs
from unlearn.engine.progress import Progress
from utils.runtime.errors import NotFiniteError, UserError
from utils.train.losses import classification_loss
from utils.train.recipe import Recipe
from utils.train.training import check_finite_weights, gradient_step

RECIPE = Recipe(3, 0.01, 8)
QUICK = ("--arch", SMALL_ARCH, "--epochs", "1", "--batch_size", "16", "--lr", "0.001")
ONCE = ("--unlearn_epochs", "1", "--unlearn_lr", "0.0001")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", ["network.0.weight", "network.1.running_var"])
def test_weights_and_statistics_that_are_not_finite_are_refused(name, value):
    model = tiny_model()
    check_finite_weights(model)
    model.state_dict()[name].view(-1)[-1] = value
    with pytest.raises(NotFiniteError, match="after the last step: .* try a lower learning rate"):
        check_finite_weights(model)


def test_unlearning_stops_at_the_epoch_that_breaks_the_model(workplace):
    """The last step of epoch 2 breaks the weights, before any loss is infinite."""
    model, image_set = trained_model(), tiny_set()
    forget_set, retain_set = split_set(REQUEST, image_set)

    def step(model, optimizer, images, labels):
        loss = gradient_step(classification_loss)(model, optimizer, images, labels)
        steps.append(loss)
        if len(steps) == 6:  # of three an epoch
            with torch.no_grad():
                next(model.parameters()).fill_(math.inf)
        return loss

    steps, progress = [], Progress("model", {})
    config = UnlearnConfig(REQUEST, RECIPE, progress=progress, show=False)
    with pytest.raises(NotFiniteError, match="any more in epoch 2 of 3, after the last step: this"):
        run_epochs(model, lambda _: (EpochPlan(retain_set, step) for _ in range(3)), config)
    assert len(steps) == 6
    progress.wait()
    assert progress.saved_epochs == 1


def test_a_diverging_training_run_keeps_the_last_finite_epoch(
    workplace, refused, run_here, data_files, monkeypatch
):
    flags = ("--save_model_id", "new", "--dataset", data_files["grey"], "--device", "cpu", *QUICK)
    flags, whole_epoch, seen = (*flags, "--epochs", "3"), utils.train.training.train_epoch, []

    def breaking(*arguments, **settings):
        seen.append(1)
        if len(seen) == 3:
            raise NotFiniteError("at step 2 of 6")
        return whole_epoch(*arguments, **settings)

    with monkeypatch.context() as patch:
        patch.setattr(utils.train.training, "train_epoch", breaking)
        says = (
            "not finite any more in epoch 3 of 3, at step 2 of 6: this model was not saved; try a "
            "lower learning rate with --overwrite: --resume would continue after epoch 2, which is "
            "saved in model_weights/new_resume.pt"
        )
        assert refused(says, "main_train", *flags) == ["model_weights/new_resume.pt"]
    says = "--resume: the interrupted run of this name differs in lr .*--overwrite"
    assert refused(says, "main_train", *flags, "--lr", "0.0001", "--resume") == []
    again = run_here("main_train", *flags, "--lr", "0.0001", "--overwrite")
    assert again.returncode == 0, again


# Extreme data sets


@pytest.fixture
def odd_data(workplace):
    """Return a function that writes odd.npz: drawn_arrays, changed by `change(arrays)`."""

    def write(change, **settings):
        arrays = drawn_arrays(sizes={"train": 40, "val": 16, "test": 16}, **settings)
        change(arrays)
        np.savez("odd.npz", **arrays)
        return "odd.npz"

    return write


def constant_images(arrays):
    for split in ("train", "val", "test"):
        arrays[f"{split}_images"][:] = 7


def few_grey_levels(arrays):
    """Make each image constant, with a value that depends on its class."""
    for split in ("train", "val", "test"):
        labels = arrays[f"{split}_labels"].reshape(-1, 1, 1)
        arrays[f"{split}_images"][:] = 60 * labels


def one_image_of_class_3(arrays):
    labels = arrays["train_labels"]
    members = np.flatnonzero(labels == 3)
    labels[members[1:]] = 0


def gaps_between_ids(arrays):
    """Use classes 0, 2, 3 and 6; classes 1, 4 and 5 have no image."""
    for split in ("train", "val", "test"):
        labels = arrays[f"{split}_labels"]
        labels[labels == 1] = 6


def no_class_3_to_test(arrays):
    for split in ("val", "test"):
        labels = arrays[f"{split}_labels"]
        labels[labels == 3] = 0


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize(
    "change", [one_image_of_class_3, gaps_between_ids, no_class_3_to_test, few_grey_levels]
)
def test_extreme_data_sets_work_in_every_script(done, odd_data, change):
    data = odd_data(change)
    done("main_train", "--save_model_id", "odd", "--dataset", data, "--device", "cpu", *QUICK)
    flags = (*model_flags(data, "odd_best"), "--class_to_forget", "3")
    done("generate_mask", *flags)
    for method in ("RL_with_SalUn", "GA", "NegGradPlus"):
        printed = done("main_unlearn", *flags, "--unlearn", method, *ONCE)
    tested = model_flags(data, printed.split()[-1])
    assert "Unlearn Accuracy: " in done("main_test_unlearn", *tested, "--measures", "forgetting")


def test_identical_images_are_refused(refused, odd_data):
    flags = ("--save_model_id", "odd", "--dataset", odd_data(constant_images), "--device", "cpu")
    says = "all training images of odd are the same, nothing can be learned from them"
    assert refused(says, "main_train", *flags, *QUICK) == []


@pytest.mark.usefixtures("undrawn")
def test_requests_for_no_image_and_for_all_images_are_refused(done, refused, odd_data):
    data = odd_data(gaps_between_ids)
    done("main_train", "--save_model_id", "odd", "--dataset", data, "--device", "cpu", *QUICK)
    flags = (*model_flags(data, "odd_best"), "--unlearn", "FT", "--class_to_forget")
    says = "class 1 has no training image: nothing to forget"
    assert refused(says, "main_unlearn", *flags, "1") == []
    says = "every training image is .*: nothing remains|none is kept"
    assert refused(says, "main_unlearn", *flags, "0", "2", "3", "6") == []


def test_a_batch_of_one_is_refused(refused):
    says = "--batch_size: 1 is out of range: the lowest is 2"
    assert refused(says, "main_train", "--save_model_id", "new", "--batch_size", "1") == []


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_training_images_are_refused(count):
    model, image_set = trained_model(), tiny_set()
    few = image_set.subset(torch.arange(count))
    config = UnlearnConfig(REQUEST, replace(RECIPE, epochs=1), show=False)
    with pytest.raises(
        UserError, match=f"{count} training images are too few; at least 2 are needed"
    ):
        run_epochs(model, lambda _: [EpochPlan(few, gradient_step(classification_loss))], config)
