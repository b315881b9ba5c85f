"""What scripts print about data sets and models, compared with the files themselves."""

import numpy as np
import pytest
import torch

from models.checkpoint import load_model
from tests.helpers.environment import BASE, FORGOTTEN, GREY_NAMES, UNLEARN_ONCE, model_flags
from tests.helpers.output import line_figure, results_of
from tests.helpers.small_net import SMALL_ARCH
from tests.scripts.shared import (
    HEADLINES,
    PICTURES,
    assert_pictures,
    check_forgetting,
    check_single_label_test,
    table_rows,
)


def test_examine_counts_images_by_class(done, workplace, data_files):
    printed = done("examine_dataset", "--dataset", data_files["grey"], "--no_window")
    assert "grey: multi-class, 4 classes\n" in printed
    assert "images: 12x12, 1 channel(s)\n" in printed
    assert "train 96, val 32, test 40, total 168\n" in printed
    assert table_rows(printed) == [
        [str(number), name, "24", "8", "10"] for number, name in enumerate(GREY_NAMES)
    ]
    assert "class 3  duct" not in printed  # no window, no keys
    assert_pictures(printed, "pics/grey/classes.png", "pics/grey/samples.png")


def test_examine_counts_findings(done, workplace, data_files):
    printed = done("examine_dataset", "--dataset", data_files["multi"], "--no_window")
    assert "multi: multi-label, binary-class, 3 classes" in printed
    with np.load(data_files["multi"]) as file:
        labels = [file[f"{split}_labels"] for split in ("train", "val", "test")]
    wanted = [
        [str(number), str(number), *(str(part[:, number].sum()) for part in labels)]
        for number in range(3)
    ]
    assert table_rows(printed) == wanted
    nothing = [(part.sum(1) == 0).sum() for part in labels]
    assert min(nothing) > 0
    line = "images without any finding: train {}, val {}, test {}\n".format(*nothing)
    assert line in printed


def test_examine_resizes(done, workplace, data_files):
    flags = ("--dataset", data_files["colour"], "--input_size", "20", "--no_window")
    assert "images: 20x20, 3 channel(s)\n" in done("examine_dataset", *flags)


def test_class_wise_accuracy(done, trained, data_files):
    printed = done("main_test", *model_flags(data_files["grey"]), "--no_window")
    check_single_label_test(printed, BASE, data_files["grey"], GREY_NAMES)
    folder = f"pics/{BASE}"
    assert_pictures(printed, f"{folder}/confusion_matrix.png", f"{folder}/predictions.png")


@pytest.mark.parametrize("model_id", [BASE, FORGOTTEN])
def test_forgetting_figures(done, trained, data_files, undrawn, model_id):
    flags = (*model_flags(data_files["grey"], model_id), "--class_to_forget", "3")
    printed = done("main_test_unlearn", *flags)
    results = check_forgetting(printed, model_id, data_files["grey"], 3)
    by_name = (*flags[:-1], "DUCT")
    assert done("main_test_unlearn", *by_name) == printed
    done("main_test_unlearn", *flags, "--batch_size", "7", "--measures", "forgetting")
    in_small_batches = results_of(model_id, "_3" if model_id == BASE else "")
    for key in HEADLINES.values():
        assert in_small_batches[key] == results[key]


def test_the_request_is_taken_from_the_record(done, trained, data_files, request):
    flags = model_flags(data_files["grey"], FORGOTTEN)
    said = done("main_test_unlearn", *flags, "--class_to_forget", "3")
    drawn = (*PICTURES, "confusion_before_after", "forgotten", "saliency")
    assert_pictures(said, *(f"pics/{FORGOTTEN}/{name}.png" for name in drawn))
    request.getfixturevalue("undrawn")
    assert done("main_test_unlearn", *flags) == said


def test_the_request_of_bare_weights_is_taken_from_the_id(done, trained, data_files, undrawn):
    """Only what the record holds is missing: the base model, its seconds, its mask."""
    path = trained / "model_weights" / f"{FORGOTTEN}.pt"
    done("main_test_unlearn", *model_flags(data_files["grey"], FORGOTTEN))
    whole, checkpoint = results_of(FORGOTTEN), path.read_bytes()
    torch.save(torch.load(path, weights_only=True)["weights"], path)
    bare = ("--arch", SMALL_ARCH, "--input_size", "12")
    printed = done("main_test_unlearn", *model_flags(data_files["grey"], FORGOTTEN), *bare)
    assert "class 3 duct" in printed
    path.write_bytes(checkpoint)
    results = check_forgetting(printed, FORGOTTEN, data_files["grey"], 3)
    gone = {"parent_id", "method", "weights_digest", "unlearn_seconds", "command"}
    gone |= {key for key in whole if key.startswith("share_of_retrain_time")}
    gone |= {key for key in whole if key.startswith("base_")}
    gone |= {key for key in whole if key.endswith(("_images", "_p_value"))}
    gone |= {key for key in whole if key.startswith("mask_")}
    for key in whole.keys() - gone:
        assert results[key] == whole[key], key
    assert results["unlearn_seconds_undefined"] == "the model file records no unlearning"
    assert (results["parent_id"], results["method"]) == (None, None)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda weights: weights,
        lambda weights: {"state_dict": weights, "epoch": 3},
        lambda weights: {"model": weights},
        lambda weights: {f"module.{name}": part for name, part in weights.items()},
    ],
    ids=["plain", "state_dict", "model", "DataParallel"],
)
def test_bare_weights_test_like_their_checkpoint(done, trained, data_files, undrawn, wrap):
    whole = done("main_test", *model_flags(data_files["grey"]), "--no_window")
    weights = torch.load(trained / "model_weights" / f"{BASE}.pt", weights_only=True)["weights"]
    torch.save(wrap(weights), trained / "model_weights" / "bare.pt")
    bare = ("--arch", SMALL_ARCH, "--input_size", "12", "--no_window")
    printed = done("main_test", *model_flags(data_files["grey"], "bare"), *bare)
    assert printed.replace("bare", BASE) == whole
    assert line_figure("overall accuracy", printed) == line_figure("overall accuracy", whole)


def test_bare_weights_can_be_masked_and_unlearned(done, trained, data_files, undrawn):
    weights = torch.load(trained / "model_weights" / f"{BASE}.pt", weights_only=True)["weights"]
    torch.save(weights, trained / "model_weights" / "bare.pt")
    flags = (*model_flags(data_files["grey"], "bare"), "--arch", SMALL_ARCH, "--input_size", "12")
    done("generate_mask", *flags)
    printed = done("main_unlearn", *flags, *UNLEARN_ONCE)
    made = FORGOTTEN.replace(BASE, "bare")
    assert printed.endswith(f"model_id: {made}\n")
    first, second = (load_model(name)[0].state_dict() for name in (made, FORGOTTEN))
    assert all(torch.equal(first[name], second[name]) for name in first)
