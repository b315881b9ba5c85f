"""The walkthrough, command by command and in one command."""

import re

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from models.checkpoint import load_model, read_record
from tests.helpers.environment import BASE, FORGOTTEN, GREY_NAMES, TRAIN, assert_one_line
from tests.helpers.output import assert_near, results_of, tables
from tests.helpers.reference import predictions, reference_figures, softmax
from tests.scripts.shared import (
    ACCURACIES,
    HEADLINES,
    assert_pictures,
    check_forgetting,
    check_single_label_test,
)

PROCESSES = ("train",)  # steps run in a process of their own, which takes seconds to start
DRAWN = ("examine", "test")  # steps whose pictures are drawn; other tests draw the others


@pytest.fixture(scope="module")
def walkthrough_id():
    """Return the id that the walkthrough gives for the model of its command."""
    return "example_blood_model_best_FORGOTTEN_3_RL_WITH_SALUN_mask5_unlearnEpochs5_unlearnlr001"


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
            if step not in DRAWN:
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
    folder = f"pics/{base}"  # no display: the picture of the window is saved instead
    assert "no window can be opened here: open the saved pictures instead\n" in printed["test"]
    assert_pictures(printed["test"], f"{folder}/confusion_matrix.png", f"{folder}/predictions.png")
    assert_pictures(printed["examine"], "pics/grey/classes.png", "pics/grey/samples.png")


WALKED = ("Retrain", "RL_with_SalUn", "GA", "SSD")
COMPARED = [
    *("unlearn accuracy", "remaining accuracy", "test accuracy"),
    *("gap to Retrain", "attack AUC", "seconds"),
]


GAPS = (*HEADLINES.values(), "mia_efficacy_percent")


def attack_auc(model_id, data):
    """Return the AUC of the loss as a score: class 3 in training against class 3 in val images."""
    losses = []
    for split in ("train", "val"):
        logits, labels = predictions(model_id, data, split)
        losses.append(-np.log(softmax(logits)[labels == 3, 3]))
    truth = np.repeat([0, 1], [len(part) for part in losses])
    return roc_auc_score(truth, np.concatenate(losses))


def comparison(text):
    """Return ({column: cell} by model, methods that failed) of the walkthrough's last table."""
    [(header, rows)] = tables(text)
    failed = re.findall(r"^(\S+) failed: ", text, re.MULTILINE)
    return {row[0]: dict(zip(header[1:], row[1:], strict=True)) for row in rows}, failed


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ((), "continues"),
        (
            ("--overwrite",),
            "repeats them, and without --overwrite models and masks of the same settings are kept",
        ),
    ],
)
def test_an_interrupted_walkthrough_says_what_the_same_command_does(
    run_here, workplace, data_files, monkeypatch, flags, message
):
    def interrupted(argv):
        raise KeyboardInterrupt

    monkeypatch.setattr("examine_dataset.main", interrupted)
    result = run_here("main_walkthrough", "--dataset", data_files["grey"], *flags)
    assert result.returncode == 130
    expected = f"interrupted: finished steps are saved; the same command {message}"
    assert_one_line(result.stderr, expected)


def test_all_of_it_in_one_command(done, workplace, data_files, undrawn):
    data = data_files["grey"]
    flags = ("--dataset", data, "--device", "cpu", *TRAIN, "--save_model_id", "all")
    printed = done("main_walkthrough", *flags, "--unlearn", *WALKED)
    commands = re.findall(r"^\$ python (\w+)\.py", printed, re.MULTILINE)
    ids = {path.stem for path in (workplace / "model_weights").glob("*FORGOTTEN*")}
    assert commands == [
        *("examine_dataset", "main_train", "main_test", "generate_mask"),
        *["main_unlearn"] * len(WALKED),  # before any test, so that each is compared with Retrain
        "main_test_unlearn",
        *["main_test_unlearn", "main_test"] * len(ids),
    ]
    assert not re.search(r"--measures .*inside", printed)
    rows, failures = comparison(printed.split("grey, class 3 duct forgotten\n\n")[1])
    assert sorted([*rows, *failures]) == sorted(["base model", *WALKED])
    by_method = {load_model(model_id)[1]["method"]: model_id for model_id in ids}
    assert set(rows) == {"base model", *by_method}
    assert {"RL_with_SalUn", "Retrain"} <= set(rows)
    retrain_results = results_of(by_method["Retrain"])
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
            gaps = [abs(results[key] - retrain_results[key]) for key in GAPS]
            assert abs(float(row["gap to Retrain"]) - np.mean(gaps)) <= 0.0005 + 1e-5
        assert abs(float(row["seconds"]) - read_record(model_id)["seconds"]) <= 0.05 + 1e-9
    assert (workplace / "pics" / "all_best" / "comparison_3.png").exists()


def test_an_existing_base_model(done, trained, data_files, undrawn):
    flags = ("--dataset", data_files["grey"], "--base_model_id", BASE, "--class_to_forget", "bone")
    flags = (*flags, "--measures", "forgetting")
    printed = done("main_walkthrough", *flags, "--unlearn", "ft")
    assert "python main_train.py" not in printed
    assert "python generate_mask.py" not in printed  # no method needs a mask
    rows, failures = comparison(printed.split("class 1 bone forgotten\n\n")[1])
    assert (list(rows), failures) == (["base model", "FT"], [])
    # no Retrain to compare with, and no attack
    assert list(rows["FT"]) == [*COMPARED[:3], "seconds"]
    assert (trained / "pics" / BASE / "comparison_1.png").exists()


@pytest.mark.parametrize(
    ("base_id", "more", "message"),
    [
        (BASE, ("--epochs", "77", "--arch", "vgg16"), "--epochs, --arch: .*trained already: leave"),
        (BASE, ("--save_model_id", "zzz"), "--save_model_id: .* trained already: leave it out"),
        ("a/b", (), "--base_model_id 'a/b' is not a usable id"),
        ("lost", (), "there is no model model_weights/lost.pt"),
        (FORGOTTEN, (), "is an unlearned model: give its base model's"),
    ],
)
def test_an_unusable_base_model_is_refused(refused, trained, data_files, base_id, more, message):
    flags = ("--dataset", data_files["grey"], "--base_model_id", base_id, *more)
    assert refused(message, "main_walkthrough", *flags) == []  # before the first step
