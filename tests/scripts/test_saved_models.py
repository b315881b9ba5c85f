"""Saved models: records, ids, weights that repeat, and every method by its id."""

import pytest
import torch

from models.checkpoint import load_model, weights_digest
from tests.helpers.environment import BASE, FORGOTTEN, GREY_NAMES, TRAIN, UNLEARN_ONCE, model_flags
from tests.helpers.reference import percentage, predictions
from tests.helpers.small_net import SMALL_ARCH
from tests.scripts.shared import ACCURACIES, check_forgetting
from unlearn.registry import METHODS

FITTING = [method.id for method in METHODS.values() if not method.needs_shards]


PUBLISHED = ("Retrain", "RL", "FT", "GA", "RL_with_SalUn", "FT_with_SalUn", "GA_with_SalUn")


def test_the_record_of_a_base_model(trained, data_files):
    best, last = (load_model(f"tiny_{which}")[1] for which in ("best", "last"))
    assert (best["kind"], best["dataset"], best["task"]) == ("base", "grey", "multi-class")
    assert best["class_names"] == list(GREY_NAMES)
    assert best["spec"]["arch"] == SMALL_ARCH
    assert best["recipe"] == {
        "epochs": 6,
        "lr": 0.01,
        "batch_size": 8,
        "optimizer": "sgd",
        "weight_decay": 0.0005,
        "seed": 1,
        "precision": "float32",
        "compiled": False,
    }
    assert len(best["history"]) == 6
    assert (best["selection"], last["selection"], last["epoch"]) == ("best", "last", 6)
    accuracies = [epoch["val_accuracy_percent"] for epoch in best["history"]]
    assert accuracies[best["epoch"] - 1] == max(accuracies)
    logits, labels = predictions(BASE, data_files["grey"], "val")
    assert abs(percentage(logits.argmax(1) == labels) - max(accuracies)) < 1e-3


def test_the_record_of_an_unlearned_model(trained):
    base, record = load_model(BASE)[0], load_model(FORGOTTEN)[1]
    assert record["kind"] == "unlearned"
    assert record["parent_id"] == BASE
    assert record["parent_digest"] == weights_digest(base.network.state_dict())
    assert record["method"] == "RL_with_SalUn"
    assert record["forget_request"] == {"class_to_forget": 3}
    assert record["settings"]["epochs"] == 1
    assert record["settings"]["mask_thresh"] == 0.5
    assert record["settings"]["lr"] == 0.001
    assert record["seconds"] > 0


def test_half_of_the_weights_are_unchanged(trained):
    base, unlearned = (dict(load_model(name)[0].named_parameters()) for name in (BASE, FORGOTTEN))
    same = sum(int((base[name] == unlearned[name]).sum()) for name in base)
    total = sum(part.numel() for part in base.values())
    assert total // 2 <= same < 0.6 * total


def test_the_same_command_gives_the_same_weights(done, trained, data_files, undrawn):
    mask = trained / "SaliencyMaps" / BASE / "class_3.pt"
    percents = torch.load(mask, weights_only=True)["percents"]
    mask.unlink()
    first = {name: load_model(name)[0].state_dict() for name in (BASE, "tiny_last", FORGOTTEN)}
    data = ("--dataset", data_files["grey"], "--device", "cpu")
    done("main_train", "--save_model_id", "tiny", *data, *TRAIN, "--overwrite")
    done("generate_mask", "--model_id", BASE, *data, "--class_to_forget", "3")
    done("main_unlearn", "--model_id", BASE, *data, *UNLEARN_ONCE, "--overwrite")
    for name, weights in first.items():
        again = load_model(name)[0].state_dict()
        assert all(torch.equal(weights[key], again[key]) for key in weights)
    again = torch.load(mask, weights_only=True)["percents"]
    assert all(torch.equal(percents[key], again[key]) for key in percents)


def test_another_seed_gives_other_weights(done, trained, data_files, undrawn):
    data = ("--dataset", data_files["grey"], *TRAIN, "--epochs", "1")
    done("main_train", "--save_model_id", "a", *data, "--seed", "1")
    done("main_train", "--save_model_id", "b", *data, "--seed", "2")
    digests = {load_model(f"{name}_last")[1]["weights_digest"] for name in "ab"}
    assert len(digests) == 2


@pytest.mark.parametrize("method", FITTING)
def test_every_method_by_its_lower_case_id(done, trained, data_files, method, undrawn):
    flags = (*model_flags(data_files["grey"]), "--unlearn", method.lower())
    once = () if METHODS[method].one_step else ("--unlearn_epochs", "1")
    printed = done("main_unlearn", *flags, "--class_to_forget", "artery", *once)
    model_id = printed.splitlines()[-1].removeprefix("model_id: ")
    assert f"_FORGOTTEN_0_{method.upper()}" in model_id
    assert ("_unlearnEpochs1_" in model_id) == bool(once)
    assert ("_mask5" in model_id) == method.endswith("_with_SalUn")
    assert load_model(model_id)[1]["method"] == method
    if method in PUBLISHED:
        tested = (*model_flags(data_files["grey"], model_id), *ACCURACIES)
        check_forgetting(done("main_test_unlearn", *tested), model_id, data_files["grey"], 0)


@pytest.mark.parametrize(
    "flags, ending",
    [
        (("--mask_thresh", "0.25"), "mask25_unlearnEpochs1_unlearnlr001"),
        (("--mask_thresh", "1"), "mask1p0_unlearnEpochs1_unlearnlr001"),
        (("--unlearn_lr", "1e-5"), "mask5_unlearnEpochs1_unlearnlr00001"),
        (("--unlearn_batch_size", "16"), "mask5_unlearnEpochs1_unlearnlr001_batch-16"),
        (("--optimizer", "adam"), "mask5_unlearnEpochs1_unlearnlr001_optim-adam"),
        (("--seed", "7"), "mask5_unlearnEpochs1_unlearnlr001_seed-7"),
    ],
)
def test_ids_name_settings_that_are_not_defaults(done, trained, data_files, undrawn, flags, ending):
    printed = done("main_unlearn", *model_flags(data_files["grey"]), *UNLEARN_ONCE, *flags)
    assert printed.endswith(f"model_id: {BASE}_FORGOTTEN_3_RL_WITH_SALUN_{ending}\n")
