"""Missing, damaged, malicious or unsuitable data files are refused in one line."""

from pathlib import Path

import numpy as np
import pytest

from tests.helpers.environment import drawn_arrays, model_flags, train_flags
from tests.helpers.output import results_of
from tests.robustness.bad_input.shared import READERS, SETTINGS, Bomb


def test_an_unknown_data_set_is_answered_with_a_similar_name(refused):
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
def test_missing_data_sets(refused, dataset, says):
    refused(says, "examine_dataset", "--dataset", dataset)


def test_a_size_that_medmnist_does_not_offer(refused):
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
def test_invalid_arrays(workplace, refused, kind, workers):
    arrays, says = BAD_DATA[kind]
    np.savez("wrong.npz", **arrays)
    flags = ("--dataset", "wrong.npz", "--num_workers", workers)
    assert refused(f"wrong.npz.*{says}", "examine_dataset", *flags) == []


def test_invalid_arrays_in_every_script(trained, refused):
    np.savez("wrong.npz", **changed(train_labels=labels([0, np.nan])))
    says = "wrong.npz: train_labels hold NaN"
    for script in READERS:
        refused(says, script, *model_flags("wrong.npz"), *SETTINGS.get(script, ()))
    refused(says, "main_train", *train_flags("wrong.npz"))
    refused(says, "main_walkthrough", "--dataset", "wrong.npz")


@pytest.mark.parametrize("workers", ["0", "2"])
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("fraction", [0, 0.01, 0.5, 0.99])
def test_truncated_files(workplace, refused, workers, save, fraction):
    save("short.npz", **drawn_arrays())
    whole = Path("short.npz").read_bytes()
    Path("short.npz").write_bytes(whole[: int(fraction * len(whole))])
    flags = ("--dataset", "short.npz", "--num_workers", workers)
    refused("short.npz cannot be read as .npz, it may be cut short", "examine_dataset", *flags)


@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_changed_byte(workplace, refused, workers):
    """Zip files contain checksums."""
    np.savez("bad.npz", **drawn_arrays())
    whole = bytearray(Path("bad.npz").read_bytes())
    whole[5000] ^= 1
    Path("bad.npz").write_bytes(whole)
    refused("bad.npz cannot be read", "examine_dataset", "--dataset", "bad.npz")


@pytest.mark.parametrize("content", [b"\x93NUMPY rubbish", b"PK\x03\x04 rubbish", b'{"a": 1}', b""])
def test_files_that_are_not_archives(workplace, refused, content):
    Path("no.npz").write_bytes(content)
    refused("no.npz cannot be read as .npz", "examine_dataset", "--dataset", "no.npz")


def test_a_single_array_named_npz(workplace, refused):
    with open("one.npz", "wb") as file:
        np.save(file, np.zeros(3))
    refused("one.npz holds a single array", "examine_dataset", "--dataset", "one.npz")


def test_code_in_a_data_file_is_not_executed(workplace, refused):
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
def test_forgetting_the_class_of_all_images(workplace, run_here, refused):
    arrays = drawn_arrays(2)
    arrays["train_labels"][:] = 1
    np.savez("all.npz", **arrays)
    assert run_here("main_train", *train_flags("all.npz", "all"), "--epochs", "1").returncode == 0
    flags = (*model_flags("all.npz", "all_best"), "--class_to_forget", "1", "--unlearn", "FT")
    refused("every training image is of class 1: nothing remains", "main_unlearn", *flags)
