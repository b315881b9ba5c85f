"""Every kind of deletion request through the scripts: made, measured, attacked, and refused."""

import csv
import json
import re
from pathlib import Path

import pytest

from models.checkpoint import load_model, read_record, save_model
from tests.helpers.environment import BASE, TRAIN, model_flags
from tests.helpers.output import results_of
from tests.helpers.reference import arrays_of, model_predictions, percentage

pytestmark = pytest.mark.usefixtures("undrawn")

SINGLE = "the request is of single images, not of a class"
ONCE = ("--unlearn_epochs", "1", "--unlearn_lr", "0.001")
ENDING = "unlearnEpochs1_unlearnlr001"
COLUMNS = ["patient_id", "device"]


@pytest.fixture
def grey(data_files):
    return data_files["grey"]


@pytest.fixture
def files(workplace):
    """12 listed rows, and a metadata file of which patient 17 has the very same."""
    rows = range(0, 96, 8)
    Path("list.txt").write_text("".join(f"{row}\n" for row in rows))
    with open("metadata.csv", "w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(COLUMNS)
        writer.writerows([17 if row in rows else row % 5, "Cirrus 800"] for row in range(96))
    return list(rows)


LISTED = ("--forget_indices", "list.txt")
MATCHING = ("--metadata", "metadata.csv", "--forget_where", "patient_id=17", "device=Cirrus 800")


def unlearn(done, data, method, *options, base=BASE):
    """The id of the model that main_unlearn.py makes."""
    printed = done("main_unlearn", *model_flags(data, base), "--unlearn", method, *options, *ONCE)
    return printed.rpartition("model_id: ")[2].strip()


def test_single_images_from_mask_to_attack(trained, done, grey, files):
    said = done("generate_mask", *model_flags(grey), *LISTED)
    (mask,) = (trained / "SaliencyMaps" / BASE).glob("samples-*.pt")
    assert f"12 listed training images: SaliencyMaps/{BASE}/{mask.name}" in said
    # the same images by another name have the same id, and so the same mask
    model_id = unlearn(done, grey, "RL_with_SalUn", *MATCHING)
    assert model_id == f"{BASE}_FORGOTTEN_{mask.stem}_RL_WITH_SALUN_mask5_{ENDING}"
    record = read_record(model_id)
    assert record["forget_request"]["forget_indices"] == files
    words = "training images with patient_id=17, device=Cirrus 800"
    assert record["forget_words"] == words
    retrain = done("main_unlearn", *model_flags(grey), "--unlearn", "Retrain", *LISTED)
    retrain = retrain.rpartition("model_id: ")[2].strip()
    printed = done("main_test_unlearn", *model_flags(grey, model_id))
    results = results_of(model_id)
    assert f"on GREY, {words}\n".lower() in printed.lower()
    assert "training images to be forgotten, by predicted class:" in printed
    assert results["retrain_model_ids"] == [retrain]
    assert (results["class_to_forget"], results["forget_count"]) == (None, 12)
    assert (results["forget_id"], results["forget_words"]) == (mask.stem, words)
    assert "forget_indices" not in results
    for key in ("unlearn_accuracy_test_percent", "probe_accuracy_percent"):
        assert (results[key], results[f"{key}_undefined"]) == (None, SINGLE)
    model, _ = load_model(model_id)
    logits, labels = model_predictions(model, grey, "train")
    right = logits.argmax(1) == labels
    assert results["unlearn_accuracy_percent"] == pytest.approx(percentage(~right[files]), abs=1e-6)
    logits, labels = model_predictions(model, grey, "test")
    whole = percentage(logits.argmax(1) == labels)  # every class is kept
    assert results["test_accuracy_percent"] == pytest.approx(whole)
    for key in ("attack_loss_auc", "mia_efficacy_percent", "average_gap_points", "relearn_steps"):
        assert results[key] is not None
    assert results["js_divergence_forget"] > 0
    assert (trained / "pics" / model_id / "forgotten.png").exists()
    # again with flags that say the same, and a few measures
    done("main_test_unlearn", *model_flags(grey, model_id), *LISTED, "--measures", "cost")
    assert results_of(model_id)["attack_loss_auc"] == results["attack_loss_auc"]


def test_the_attack_on_single_images(trained, done, grey, files):
    flags = ("--shadow_models", "4")
    model_id = unlearn(done, grey, "FT", *LISTED)
    (part,) = re.findall("samples-[0-9a-f]+", model_id)
    for attacked, options in ((model_id, ()), (BASE, LISTED)):
        done("main_mia", *model_flags(grey, attacked), *options, *flags)
        name = model_id if attacked == model_id else f"{BASE}_{part}"
        with open(f"results/{name}_mia.csv") as stream:
            rows = [(row["split"], int(row["image"])) for row in csv.DictReader(stream)]
        assert sorted(row for split, row in rows if split == "train") == files
        unseen = [row for split, row in rows if split == "val"]
        assert len(unseen) == len(set(unseen)) == len(files)
        kinds = set(arrays_of(grey, "train")[1][files])
        assert set(arrays_of(grey, "val")[1][unseen]) <= kinds
        results = json.loads(Path(f"results/{name}_mia.json").read_text())
        assert 0 <= results["ulira_auc"] <= 1


def test_a_share_and_several_classes(trained, done, grey):
    cases = {
        "f25-s1": ("--forget_fraction", "0.25"),
        "1-3-f5-s4": ("--forget_fraction", "0.5", "--class_to_forget", "3", "bone")
        + ("--forget_seed", "4"),
        "1-3": ("--class_to_forget", "duct", "1"),
    }
    for name, options in cases.items():
        done("generate_mask", *model_flags(grey), *options)
        model_id = unlearn(done, grey, "RL_with_SalUn", *options)
        assert model_id.startswith(f"{BASE}_FORGOTTEN_{name}_RL_WITH_SALUN")
        printed = done("main_test_unlearn", *model_flags(grey, model_id))
        results = results_of(model_id)
        assert results["forget_id"] == name
        assert results["forget_count"] == {"f25-s1": 24, "1-3-f5-s4": 24, "1-3": 48}[name]
        assert results["attack_loss_auc"] is not None
        if name == "1-3":
            assert results["class_to_forget"] == [1, 3]
            assert results["unlearn_accuracy_test_percent"] is not None
            assert results["probe_accuracy_percent"] is not None
            assert "training images of classes 1 bone, 3 duct, by predicted class:" in printed
    done("main_test", *model_flags(grey, model_id), "--no_window")
    done("main_mia", *model_flags(grey, model_id), "--shadow_models", "4")


@pytest.mark.parametrize("options", [("--class_to_forget", "0", "2"), LISTED])
def test_multi_label_data(workplace, done, data_files, files, options):
    data = data_files["multi"]
    flags = ("--dataset", data, "--device", "cpu", "--save_model_id", "multi")
    done("main_train", *flags, *TRAIN, "--epochs", "2")
    done("generate_mask", *model_flags(data, "multi_best"), *options)
    for method in ("RL_with_SalUn", "GA", "FT"):
        model_id = unlearn(done, data, method, *options, base="multi_best")
    done("main_test_unlearn", *model_flags(data, model_id))
    results = results_of(model_id)
    assert results["finding_auc"] is None
    several = "the request is of several findings"
    assert results["finding_auc_undefined"] == (SINGLE if options is LISTED else several)
    for key in ("unlearn_accuracy_percent", "attack_loss_auc", "relearn_steps"):
        assert results[key] is not None
    done("main_mia", *model_flags(data, model_id), "--shadow_models", "4")


def test_results_of_different_requests_never_merge(trained, done, grey, files):
    flags = (*model_flags(grey), "--measures")
    done("main_test_unlearn", *flags, "inside", *LISTED)
    done("main_test_unlearn", *flags, "cost", "--forget_fraction", "0.125")
    assert "relearn_steps" not in results_of(BASE, "_f125-s1")
    (listed,) = Path("results").glob(f"{BASE}_samples-*.json")  # and none takes another's place
    assert "relearn_steps" in json.loads(listed.read_text())
    for shows in ("confidence", "features"):
        assert len(list(Path(f"pics/{BASE}").glob(f"{shows}_*.png"))) == 2


def test_the_walkthrough_passes_the_request_on(trained, done, grey, files):
    flags = ("--dataset", grey, "--base_model_id", BASE, "--measures", "forgetting")
    printed = done("main_walkthrough", *flags, *MATCHING, "--unlearn", "RL_with_SalUn")
    options = "--metadata metadata.csv --forget_where patient_id=17 'device=Cirrus 800'"
    for script in ("generate_mask", "main_unlearn", "main_test_unlearn"):
        (first, *_) = [line for line in printed.splitlines() if f"$ python {script}.py" in line]
        assert options in first
    assert "training images with patient_id=17, device=Cirrus 800 forgotten\n" in printed
    (picture,) = (trained / "pics" / BASE).glob("comparison_samples-*.png")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "nothing to forget: give --class_to_forget, --forget_fraction, --forget_indices, or"),
        (
            ("--metadata", "m.csv"),
            "--metadata FILE and --forget_where COLUMN=VALUE need each other",
        ),
        (("--forget_where", "a=1"), "--metadata FILE and --forget_where .* need each"),
        (
            ("--forget_seed", "2"),
            "--forget_seed is the seed of --forget_fraction: give that as well",
        ),
        ((*LISTED, *MATCHING), "--forget_indices and --metadata exclude each other"),
        (
            (*LISTED, "--class_to_forget", "3"),
            "--class_to_forget and --forget_indices exclude each other: give one of them",
        ),
        (
            (*LISTED, "--forget_fraction", "0.1"),
            "--forget_fraction and --forget_indices exclude each other",
        ),
        (("--forget_fraction", "0"), "0 is out of range: a fraction is above 0 and at most 1"),
        (("--forget_fraction", "1.5"), "1.5 is out of range"),
        (("--forget_fraction", "0.001"), "0.001 of 96 images is no image"),
        (("--forget_fraction", "1"), "every training image is to be forgotten: nothing remains"),
        (("--forget_indices", "no.txt"), "cannot read --forget_indices no.txt: No such file"),
        (
            ("--forget_indices", "bad.txt"),
            "bad.txt, line 2: '96' is not the index of a training image",
        ),
        (
            ("--metadata", "no.csv", "--forget_where", "a=1"),
            "cannot read --metadata no.csv",
        ),
        (
            ("--metadata", "metadata.csv", "--forget_where", "patient=17"),
            r"no such column \(did you mean patient_id\?\)",
        ),
        (
            ("--metadata", "metadata.csv", "--forget_where", "patient_id=18"),
            "no training image has patient_id=18; values: '0', '1', '17', '2', '3', ...",
        ),
        (("--class_to_forget", "3", "7"), "--class_to_forget 7: grey has no such class"),
        (("--class_to_forget", "0", "1", "2", "3"), "names every class of grey: none is kept"),
    ],
)
def test_requests_that_are_refused(trained, refused, grey, files, options, message):
    Path("bad.txt").write_text("0\n96\n")
    assert refused(message, "main_unlearn", *model_flags(grey), "--unlearn", "FT", *options) == []


def test_a_model_that_has_forgotten_other_images(trained, done, refused, grey, files):
    model_id = unlearn(done, grey, "FT", *LISTED)
    flags = model_flags(grey, model_id)
    for options in (("--class_to_forget", "3"), ("--forget_fraction", "0.1")):
        message = (
            r"has forgotten another request \(12 listed training images\): leave out the flags"
        )
        for script in ("main_test_unlearn", "main_mia"):
            assert refused(message, script, *flags, *options) == []


def test_single_images_of_other_data(trained, done, refused, grey, files, data_files):
    model_id = unlearn(done, grey, "FT", *LISTED)
    flags = (*model_flags(data_files["other"], model_id), "--allow_other_data")
    message = "has forgotten single images of its training data, and other is other data"
    assert refused(message, "main_test_unlearn", *flags) == []


def test_a_mask_that_is_missing_is_made_with_the_same_request(trained, refused, grey, files):
    message = (
        f"create it with python generate_mask.py --model_id {BASE} .* --forget_indices list.txt"
    )
    flags = (*model_flags(grey), "--unlearn", "GA_with_SalUn", *LISTED)
    assert refused(message, "main_unlearn", *flags) == []


def test_models_from_before_there_were_kinds_are_read(trained, done, grey):
    """Their record has a class and no words."""
    model_id = unlearn(done, grey, "FT", "--class_to_forget", "3")
    model, record = load_model(model_id)
    assert record["forget_request"] == {"class_to_forget": 3}
    del record["forget_words"]
    save_model(model_id, model, record)
    printed = done("main_test_unlearn", *model_flags(grey, model_id), "--measures", "cost")
    assert "class 3 duct\n" in printed
