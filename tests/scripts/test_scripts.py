"""Every script by its command line, and what it prints against the model itself."""

import ast
import hashlib
import importlib
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from medmnist.info import INFO
from PIL import Image
from sklearn.metrics import roc_auc_score

from models.checkpoint import load_model, read_record, weights_digest
from tests.helpers.environment import (
    BASE,
    FORGOTTEN,
    GREY_NAMES,
    REPOSITORY,
    TRAIN,
    UNLEARN_ONCE,
    model_flags,
)
from tests.helpers.output import assert_near, cells, line_figure, results_of, table, tables
from tests.helpers.reference import percentage, predictions, reference_figures, softmax
from tests.helpers.small_net import SMALL_ARCH
from unlearn.registry import METHODS

SCRIPTS = (
    "examine_dataset",
    "main_train",
    "main_test",
    "generate_mask",
    "main_unlearn",
    "main_test_unlearn",
    "main_mia",
    "main_walkthrough",
)
FITTING = [method.id for method in METHODS.values() if not method.needs_shards]
PACKAGES = ("utils", "models", "unlearn", "evaluation")
ACCURACIES = ("--measures", "forgetting", "utility")
HEADLINES = {
    "Unlearn Accuracy": "unlearn_accuracy_percent",
    "Remaining Accuracy": "remaining_accuracy_percent",
    "Test Accuracy": "test_accuracy_percent",
}


def table_rows(text):
    """Rows of the one table whose header begins with `class`, `name`."""
    return table(text, "class", "name")[1]


def assert_pictures(text, *paths):
    found = re.findall(r"^picture: (.*)$", text, re.MULTILINE)
    assert found == list(paths)
    for path in paths:
        with Image.open(path) as picture:
            assert picture.format == "PNG"
            colours = picture.convert("RGB").getcolors(2**24)
        assert len(colours) > 4  # something is drawn


# The walkthrough, word for word but for measures that take long and that nobody looks at here, with
# the network that it is about, and the scripts that it is about as processes of their own


@pytest.fixture(scope="module")
def walkthrough_id():
    """What the walkthrough says the model of its own command is called."""
    return "example_blood_model_best_FORGOTTEN_3_RL_WITH_SALUN_mask5_unlearnEpochs5_unlearnlr001"


PROCESSES = ("train",)  # starting one takes seconds
LOOKED_AT = ("examine", "test")  # pictures of the others are drawn elsewhere


def test_the_walkthrough_command_by_command(
    run_script, run_here, workplace, data_files, walkthrough_id, monkeypatch
):
    data, base = ("--dataset", data_files["grey"]), "example_blood_model_best"
    small = ("--seed", "1", "--epochs", "2", "--lr", "0.01", "--batch_size", "50")
    printed = {}
    for step, script, *flags in (
        ("examine", "examine_dataset"),
        ("train", "main_train", "--save_model_id", "example_blood_model", *small),
        ("test", "main_test", "--model_id", base, "--batch_size", "50", "--num_workers", "0"),
        ("mask", "generate_mask", "--model_id", base),
        (
            *("unlearn", "main_unlearn", "--model_id", base, "--unlearn", "RL_with_SalUn"),
            *("--class_to_forget", "3", "--mask_thresh", "0.5", "--unlearn_epochs", "5"),
            *("--unlearn_lr", "0.001", "--unlearn_batch_size", "100"),
        ),
        (
            *("forgotten", "main_test_unlearn", "--model_id", walkthrough_id),
            *("--class_to_forget", "3", "--batch_size", "100"),
        ),
        (
            *("kept", "main_test_unlearn", "--model_id", base),
            *("--class_to_forget", "3", "--batch_size", "100", *ACCURACIES),
        ),
    ):
        with monkeypatch.context() as patch:
            if step not in LOOKED_AT:
                patch.setattr("utils.plots.saving.png_bytes", lambda figure, **kwargs: b"")
            result = (run_script if step in PROCESSES else run_here)(script, *flags, *data)
        assert (result.returncode, result.stderr) == (0, ""), result
        printed[step] = result.stdout

    assert "resnet18 (11,1" in printed["train"]
    weights = {path.name for path in (workplace / "model_weights").iterdir()}
    assert weights == {f"{base}.pt", "example_blood_model_last.pt", f"{walkthrough_id}.pt"}
    masks = sorted(path.name for path in (workplace / "SaliencyMaps" / base).iterdir())
    assert masks == [f"class_{number}.pt" for number in range(4)]
    assert printed["unlearn"].endswith(f"model_id: {walkthrough_id}\n")
    for step, model_id in (("forgotten", walkthrough_id), ("kept", base)):
        check_forgetting(printed[step], model_id, data_files["grey"], 3)
    check_single_label_test(printed["test"], base, data_files["grey"], GREY_NAMES)
    folder = f"pics/{base}"  # no display: the window's picture is saved instead
    assert "no window can be opened here: open the saved pictures instead\n" in printed["test"]
    assert_pictures(printed["test"], f"{folder}/confusion_matrix.png", f"{folder}/predictions.png")
    assert_pictures(printed["examine"], "pics/grey/classes.png", "pics/grey/samples.png")


# What is printed, against the model and the data


def check_forgetting(printed, model_id, data, forgotten):
    """Lines, tables, file and pictures against each model's own files; returns the results."""
    asked = "" if "FORGOTTEN" in model_id else f"_{forgotten}"
    results = results_of(model_id, asked)
    kinds = model_columns(model_id, results)
    shares = {}
    for title, (known_as, prefix) in kinds.items():
        figures, shares[title] = reference_figures(known_as, data, forgotten)
        for key, wanted in figures.items():
            assert results[prefix + key] == pytest.approx(wanted, abs=2e-5), (title, key)
        for number, wanted in enumerate(shares[title]):
            assert results[f"{prefix}taken_for_class_{number}_percent"] == pytest.approx(wanted)
        for label, key in LABELS.items():
            if key in figures and any(
                results[each + key] is not None for _, each in kinds.values()
            ):
                check_cell(cells(printed, label)[title], figures[key])
            elif key in figures:  # undefined for all of them: said once, below the table
                assert re.search(rf"^undefined: (.* )?{label}", printed, re.MULTILINE)
    for name, key in HEADLINES.items():
        assert_near(line_figure(name, printed), results[key])
    titles, rows = table(printed, "class", "name")
    assert titles == list(kinds)
    for row in rows:
        for title, cell in zip(titles, row[2:], strict=True):
            assert_near(cell, shares[title][int(row[0])])
    assert f"results: results/{model_id}{asked}.json\n" in printed
    for name in (*PICTURES, "forgotten"):
        assert f"picture: pics/{model_id}/{name}{asked}.png\n" in printed
        assert Path(f"pics/{model_id}/{name}{asked}.png").exists()
    return results


LABELS = {
    "unlearn accuracy, training images": "unlearn_accuracy_percent",
    "unlearn accuracy, test images": "unlearn_accuracy_test_percent",
    "AUC of the finding, test images": "finding_auc",
    "remaining accuracy, training images": "remaining_accuracy_percent",
    "test accuracy, kept classes": "test_accuracy_percent",
    "AUC, kept classes": "kept_auc",
    "accuracy by MedMNIST's Evaluator": "evaluator_accuracy_percent",
    "AUC by MedMNIST's Evaluator": "evaluator_auc",
}
PICTURES = ("confidence", "features")


def model_columns(model_id, results):
    """Title -> (model id, prefix of its keys) of the models that a test shows beside each other."""
    columns = {"this model": (model_id, "")}
    if results["parent_id"]:
        columns = {"base model": (results["parent_id"], "base_")} | columns
    for retrain in results["retrain_model_ids"][:1]:
        columns["Retrain"] = retrain, "retrain_"
    return columns


def check_cell(cell, wanted):
    """Of a table: a percentage, an area under a curve, or `undefined`."""
    if wanted is None:
        assert cell == "undefined"
    elif cell.endswith("%"):
        assert_near(cell, wanted)
    else:
        assert abs(float(cell) - wanted) <= 0.0005 + 2e-5


def check_single_label_test(printed, model_id, data, names):
    logits, labels = predictions(model_id, data, "test")
    right = logits.argmax(1) == labels
    rows = table_rows(printed)
    assert [row[:3] for row in rows] == [
        [str(number), name, str((labels == number).sum())] for number, name in enumerate(names)
    ]
    for number, row in enumerate(rows):
        assert_near(row[3].rstrip("%"), percentage(right[labels == number]))
    assert_near(line_figure("overall accuracy", printed), percentage(right))
    scores = softmax(logits)
    if len(names) == 2:
        auc = roc_auc_score(labels, scores[:, 1])
    else:
        per_class = [roc_auc_score(labels == n, scores[:, n]) for n in range(len(names))]
        auc = np.mean(per_class)
    assert abs(float(re.search(r"^AUC: ([\d.]+)$", printed, re.MULTILINE)[1]) - auc) < 2e-5


def test_examine_counts_what_is_there(done, workplace, data_files):
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


def test_an_unlearned_model_knows_what_it_forgot(done, trained, data_files, request):
    flags = model_flags(data_files["grey"], FORGOTTEN)
    said = done("main_test_unlearn", *flags, "--class_to_forget", "3")
    drawn = (*PICTURES, "confusion_before_after", "forgotten", "saliency")
    assert_pictures(said, *(f"pics/{FORGOTTEN}/{name}.png" for name in drawn))
    request.getfixturevalue("undrawn")
    assert done("main_test_unlearn", *flags) == said


def test_a_bare_unlearned_model_is_known_by_its_id(done, trained, data_files, undrawn):
    """What its record would tell is all that is missing: the base model, its seconds, its mask."""
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
    for key in whole.keys() - gone:
        assert results[key] == whole[key], key
    assert results["unlearn_seconds_undefined"] == "the model file records no unlearning"
    assert (results["parent_id"], results["method"]) == (None, None)


# Bare weights


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
def test_bare_weights_test_as_their_checkpoint_does(done, trained, data_files, undrawn, wrap):
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


# What is written


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


def test_half_of_the_weights_stayed_as_they_were(trained):
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


PUBLISHED = ("Retrain", "RL", "FT", "GA", "RL_with_SalUn", "FT_with_SalUn", "GA_with_SalUn")


@pytest.mark.parametrize("method", FITTING)
def test_every_method_by_its_id_in_small_letters(done, trained, data_files, method, undrawn):
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
def test_ids_say_what_was_asked_for(done, trained, data_files, undrawn, flags, ending):
    printed = done("main_unlearn", *model_flags(data_files["grey"]), *UNLEARN_ONCE, *flags)
    assert printed.endswith(f"model_id: {BASE}_FORGOTTEN_3_RL_WITH_SALUN_{ending}\n")


# Colour, two classes and multi-label data, through every script


def walk(done, data, name, forgotten, *methods):
    """Train, test, mask, unlearn and test; returns what was printed by step."""
    flags = ("--dataset", data, "--device", "cpu")
    best = f"{name}_best"
    printed = {"examine": done("examine_dataset", "--dataset", data, "--no_window")}
    printed["train"] = done("main_train", "--save_model_id", name, *flags, *TRAIN)
    printed["test"] = done("main_test", "--model_id", best, *flags, "--no_window")
    printed["mask"] = done("generate_mask", "--model_id", best, *flags)
    for method in methods:
        asked = ("--unlearn", method, "--class_to_forget", forgotten, "--unlearn_epochs", "2")
        if method == "Retrain":  # at the base model's rate so few images overflow on some machines
            asked = (*asked, "--unlearn_lr", "0.0001")
        model_id = done("main_unlearn", "--model_id", best, *flags, *asked).split()[-1]
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


def check_multi_label_test(printed, model_id, data, names):
    logits, labels = predictions(model_id, data, "test")
    found = logits > 0
    for number, (row, name) in enumerate(zip(table_rows(printed), names, strict=True)):
        has = labels[:, number] == 1
        assert row[:3] == [str(number), name, str(has.sum())]
        assert_near(row[3].rstrip("%"), percentage(found[has, number]))
        auc = roc_auc_score(labels[:, number], logits[:, number])
        assert abs(float(row[4]) - auc) < 2e-5
    assert_near(line_figure("overall accuracy", printed), percentage(found == labels))


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
    """Its 14 findings, in few and drawn images of its own format and under its own name."""
    rng, arrays = np.random.default_rng(0), {}
    for split in ("train", "val", "test"):
        labels = (rng.random((40, 14)) < 0.2).astype(np.uint8)
        labels[:14] |= np.eye(14, dtype=np.uint8)
        labels[-3:] = 0
        arrays[f"{split}_labels"] = labels
        arrays[f"{split}_images"] = rng.integers(0, 120, (40, 28, 28), dtype=np.uint8)
        arrays[f"{split}_images"] += 120 * labels.repeat(2, axis=1)[:, :, None]  # a band each
    np.savez("chestmnist.npz", **arrays)
    md5 = hashlib.md5(Path("chestmnist.npz").read_bytes()).hexdigest()
    monkeypatch.setitem(INFO["chestmnist"], "MD5", md5)
    data = ("--dataset", "ChestMNIST", "--data_root", ".")
    printed = done("examine_dataset", *data, "--no_window")
    assert "ChestMNIST: multi-label, binary-class, 14 classes" in printed
    assert "13  hernia" in printed
    done("main_train", "--save_model_id", "chest", *data, *TRAIN, "--epochs", "2")
    one_by_one = ("--batch_size", "1", "--no_window")  # as here: AUC feels the last bit of a tie
    printed = done("main_test", "--model_id", "chest_best", *data, *one_by_one)
    names = INFO["chestmnist"]["label"].values()
    check_multi_label_test(printed, "chest_best", "chestmnist.npz", names)
    model = ("--model_id", "chest_best", *data)
    done("generate_mask", *model, "--class_to_forget", "hernia")
    asked = ("--unlearn", "RL_with_SalUn", "--class_to_forget", "13", "--unlearn_epochs", "1")
    model_id = done("main_unlearn", *model, *asked).split()[-1]
    one_by_one = ("--batch_size", "1", *ACCURACIES)
    printed = done("main_test_unlearn", "--model_id", model_id, *data, *one_by_one)
    assert "class 13 hernia" in printed
    check_forgetting(printed, model_id, "chestmnist.npz", 13)


# All of it in one command


WALKED = ("Retrain", "RL_with_SalUn", "GA", "SSD")


def test_all_of_it_in_one_command(done, workplace, data_files, undrawn):
    data = data_files["grey"]
    flags = ("--dataset", data, "--device", "cpu", *TRAIN, "--save_model_id", "all")
    printed = done("main_walkthrough", *flags, "--unlearn", *WALKED)
    commands = re.findall(r"^\$ python (\w+)\.py", printed, re.MULTILINE)
    ids = {path.stem for path in (workplace / "model_weights").glob("*FORGOTTEN*")}
    assert commands == [
        *("examine_dataset", "main_train", "main_test", "generate_mask"),
        *["main_unlearn"] * len(WALKED),  # first of all, so that each has Retrain beside it
        "main_test_unlearn",
        *["main_test_unlearn", "main_test"] * len(ids),
    ]
    assert not re.search(r"--measures .*inside", printed)
    rows, failures = comparison(printed.split("grey, class 3 duct forgotten\n\n")[1])
    assert sorted([*rows, *failures]) == sorted(["base model", *WALKED])
    by_method = {load_model(model_id)[1]["method"]: model_id for model_id in ids}
    assert set(rows) == {"base model", *by_method}
    assert {"RL_with_SalUn", "Retrain"} <= set(rows)
    yardstick = results_of(by_method["Retrain"])
    for method, model_id in ({"base model": "all_best"} | by_method).items():
        row, results = rows[method], results_of(model_id, "" if method in by_method else "_3")
        assert list(row) == COMPARED
        figures, _ = reference_figures(model_id, data, 3)
        for name, key in HEADLINES.items():
            assert_near(row[name.lower()], figures[key])
        assert abs(float(row["attack AUC"]) - attack_auc(model_id, data)) <= 0.0005 + 1e-5
        retrains = [] if method == "Retrain" else [by_method["Retrain"]]
        assert results["retrain_model_ids"] == retrains
        if method == "Retrain":
            assert row["gap to Retrain"] == "-"
        else:
            gaps = [abs(results[key] - yardstick[key]) for key in GAPS]
            assert abs(float(row["gap to Retrain"]) - np.mean(gaps)) <= 0.0005 + 1e-5
        assert abs(float(row["seconds"]) - read_record(model_id)["seconds"]) <= 0.05 + 1e-9
    assert (workplace / "pics" / "all_best" / "comparison_3.png").exists()


COMPARED = [
    *("unlearn accuracy", "remaining accuracy", "test accuracy"),
    *("gap to Retrain", "attack AUC", "seconds"),
]
GAPS = (*HEADLINES.values(), "mia_efficacy_percent")


def attack_auc(model_id, data):
    """Of the loss as a score, class 3 in training against class 3 in val images."""
    losses = []
    for split in ("train", "val"):
        logits, labels = predictions(model_id, data, split)
        losses.append(-np.log(softmax(logits)[labels == 3, 3]))
    truth = np.repeat([0, 1], [len(part) for part in losses])
    return roc_auc_score(truth, np.concatenate(losses))


def comparison(text):
    """({column: cell} by model, methods that failed) of the walkthrough's last table."""
    [(header, rows)] = tables(text)
    failed = re.findall(r"^(\S+) failed: ", text, re.MULTILINE)
    return {row[0]: dict(zip(header[1:], row[1:], strict=True)) for row in rows}, failed


def test_a_base_model_at_hand(done, trained, data_files, undrawn):
    flags = ("--dataset", data_files["grey"], "--base_model_id", BASE, "--class_to_forget", "bone")
    flags = (*flags, "--measures", "forgetting")
    printed = done("main_walkthrough", *flags, "--unlearn", "ft")
    assert "python main_train.py" not in printed
    assert "python generate_mask.py" not in printed  # no method asks for a mask
    rows, failures = comparison(printed.split("class 1 bone forgotten\n\n")[1])
    assert (list(rows), failures) == (["base model", "FT"], [])
    # no Retrain to be compared with, and no attack
    assert list(rows["FT"]) == [*COMPARED[:3], "seconds"]
    assert (trained / "pics" / BASE / "comparison_1.png").exists()


@pytest.mark.parametrize(
    ("base_id", "more", "says"),
    [
        (BASE, ("--epochs", "77", "--arch", "vgg16"), "--epochs, --arch: .*trained already: leave"),
        (BASE, ("--save_model_id", "zzz"), "--save_model_id: .* trained already: leave it out"),
        ("a/b", (), "--base_model_id 'a/b' is not a usable id"),
        ("lost", (), "there is no model model_weights/lost.pt"),
        (FORGOTTEN, (), "is an unlearned model: give its base model's"),
    ],
)
def test_a_base_model_that_cannot_be_taken(refused, trained, data_files, base_id, more, says):
    flags = ("--dataset", data_files["grey"], "--base_model_id", base_id, *more)
    assert refused(says, "main_walkthrough", *flags) == []  # before anything is drawn


# Help, and the house


@pytest.mark.parametrize("script", SCRIPTS)
def test_help(run_here, script):
    result = run_here(script, "--help")
    assert (result.returncode, result.stderr) == (0, "")
    assert f"usage: {script}.py" in result.stdout
    first_line = importlib.import_module(script).__doc__.split("\n")[0]
    assert " ".join(first_line.split()) in " ".join(result.stdout.split())


def offered_flags(help_text):
    return set(re.findall(r"^\s+--(\w+)", help_text, re.MULTILINE))


def parsed(name):
    return ast.parse((REPOSITORY / f"{name}.py").read_text())


def flags_read(tree):
    """Names of the flags that the code reads: `args.name`, `_flags(args, "name")`, helper(args)."""
    helpers = {node.name: node for node in parsed("arg_parser").body if hasattr(node, "name")}
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and getattr(node.value, "id", None) == "args":
            names.add(node.attr)
        elif isinstance(node, ast.Call) and "args" in (getattr(a, "id", None) for a in node.args):
            if getattr(node.func, "id", None) == "_flags":
                names |= {word.value for word in node.args if isinstance(word, ast.Constant)}
            elif getattr(node.func, "id", None) in helpers:
                names |= flags_read(helpers[node.func.id])
    return names


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_offers_only_flags_that_it_uses(run_here, script):
    offered = offered_flags(run_here(script, "--help").stdout)
    assert "dataset" in offered
    assert offered - {"list_methods"} == flags_read(parsed(script))  # that one ends the script


def test_every_flag_of_the_walkthrough_is_there(run_here):
    wanted = {
        "examine_dataset": "dataset",
        "main_train": "save_model_id dataset seed epochs lr batch_size num_workers",
        "main_test": "model_id dataset batch_size num_workers",
        "generate_mask": "model_id dataset",
        "main_unlearn": "model_id dataset unlearn class_to_forget mask_thresh unlearn_epochs "
        "unlearn_lr unlearn_batch_size",
        "main_test_unlearn": "model_id dataset class_to_forget batch_size",
        "main_mia": "model_id dataset class_to_forget shadow_models",
    }
    for script, flags in wanted.items():
        assert set(flags.split()) <= offered_flags(run_here(script, "--help").stdout)


def test_the_list_of_methods_tells_their_defaults(run_here):
    listed = run_here("main_unlearn", "--list_methods")
    assert (listed.returncode, listed.stderr) == (0, "")
    lines = [line for line in listed.stdout.splitlines() if line and line[0] != " "]
    rows = {line.split()[0]: line for line in lines}
    for method in METHODS.values():
        if method.uses_mask:
            continue
        assert f"    {method.name}: {method.paper}" in listed.stdout.splitlines()
        if method.recipe and not method.one_step:
            course = f"{method.recipe.epochs} epochs at {method.recipe.lr:g}"
            assert course in rows[method.id]


def imported_modules(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name.split(".")[0] for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide where they go"
            yield node.module.split(".")[0]


@pytest.mark.parametrize(
    "package, others",
    [
        ("utils", []),
        ("models", ["utils"]),
        ("unlearn", ["models", "utils"]),
        ("evaluation", ["unlearn", "models", "utils"]),
    ],
)
def test_arrows_point_one_way(package, others):
    files = sorted((REPOSITORY / package).glob("*.py"))
    assert len(files) > 2
    house = {*PACKAGES, *SCRIPTS, "arg_parser"}
    for path in files:
        assert set(imported_modules(path)) & house <= {package, *others}, path


@pytest.mark.parametrize("package", PACKAGES)
def test_nothing_but_scripts_reads_args(package):
    for path in (REPOSITORY / package).glob("*.py"):
        names = {n.id for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Name)}
        assert "args" not in names, path


def test_scripts_hold_no_loop_over_batches():
    for script in SCRIPTS:
        source = (REPOSITORY / f"{script}.py").read_text()
        assert not re.search(r"\.backward\(|optimizer\.step|\.batch\(", source), script
