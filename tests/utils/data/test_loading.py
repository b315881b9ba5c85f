"""load_dataset: all names, kinds of labels and image sizes."""

import hashlib
import os
import shutil
import weakref

import numpy as np
import pytest
import torch
from medmnist.info import INFO
from PIL import Image

from arg_parser import command_line
from tests.helpers.environment import GREY_NAMES, SIDE, SPLIT_SIZES, drawn_arrays
from utils.data import synthetic
from utils.data.loading import NAMES, load_dataset
from utils.data.medmnist_files import DATASETS
from utils.data.placement import Placement
from utils.runtime.errors import UserError

TASKS = {
    "ChestMNIST": "multi-label, binary-class",
    "BreastMNIST": "binary-class",
    "PneumoniaMNIST": "binary-class",
    "RetinaMNIST": "ordinal-regression",
}
CLASSES = {
    "PathMNIST": (9, 3, "adipose"),
    "ChestMNIST": (14, 1, "atelectasis"),
    "DermaMNIST": (7, 3, "actinic keratoses and intraepithelial carcinoma"),
    "OCTMNIST": (4, 1, "choroidal neovascularization"),
    "PneumoniaMNIST": (2, 1, "normal"),
    "RetinaMNIST": (5, 3, "0"),
    "BreastMNIST": (2, 1, "malignant"),
    "BloodMNIST": (8, 3, "basophil"),
    "TissueMNIST": (8, 1, "Collecting Duct, Connecting Tubule"),
    "OrganAMNIST": (11, 1, "bladder"),
    "OrganCMNIST": (11, 1, "bladder"),
    "OrganSMNIST": (11, 1, "bladder"),
}


def fake_file(monkeypatch, folder, name, size=28):
    """Write a tiny file in place of a MedMNIST file, and replace the published MD5 by its own."""
    num_classes, channels, _ = CLASSES[name]
    rng = np.random.default_rng(0)
    arrays = {}
    for split, count in (("train", 30), ("val", 28), ("test", 29)):
        shape = (count, size, size) + ((3,) if channels == 3 else ())
        arrays[f"{split}_images"] = rng.integers(0, 256, shape, dtype=np.uint8)
        labels = np.arange(count) % num_classes
        one_hot = name == "ChestMNIST"
        arrays[f"{split}_labels"] = (
            np.eye(num_classes)[labels] if one_hot else labels[:, None]
        ) * 1
    flag, suffix = DATASETS[name], "" if size == 28 else f"_{size}"
    path = folder / f"{flag}{suffix}.npz"
    np.savez(path, **arrays)
    md5 = hashlib.md5(path.read_bytes()).hexdigest()
    monkeypatch.setitem(INFO[flag], f"MD5{suffix}", md5)
    return arrays


@pytest.mark.parametrize("name", CLASSES)
def test_every_2d_medmnist_set(monkeypatch, tmp_path, name):
    arrays = fake_file(monkeypatch, tmp_path, name)
    dataset = load_dataset(name, data_root=tmp_path)
    num_classes, channels, first = CLASSES[name]
    assert dataset.name == name
    assert dataset.task == TASKS.get(name, "multi-class")
    assert dataset.is_multi_label == (name == "ChestMNIST")
    assert dataset.num_classes == len(dataset.class_names) == num_classes
    assert dataset.class_names[0] == first
    assert (dataset.channels, dataset.input_size) == (channels, 28)
    for split, part in dataset.splits.items():
        labels = arrays[f"{split}_labels"]
        labels = labels if name == "ChestMNIST" else labels[:, 0]
        assert part.labels.dtype == torch.int64
        np.testing.assert_array_equal(part.labels, labels)
        images = arrays[f"{split}_images"].reshape(len(part), 28, 28, channels)
        assert part.images.dtype == torch.uint8
        np.testing.assert_array_equal(part.images.permute(0, 2, 3, 1), images)


def test_class_names_are_ordered_by_number(monkeypatch, tmp_path):
    fake_file(monkeypatch, tmp_path, "OrganAMNIST")
    names = load_dataset("OrganAMNIST", data_root=tmp_path).class_names
    assert names[1:3] == ("femur-left", "femur-right")
    assert names[9:] == ("pancreas", "spleen")


@pytest.mark.parametrize("size", [64, 128, 224])
def test_larger_sizes_have_their_own_files(monkeypatch, tmp_path, size):
    fake_file(monkeypatch, tmp_path, "BloodMNIST", size)
    dataset = load_dataset("BloodMNIST", input_size=size, data_root=str(tmp_path))
    assert dataset.input_size == size
    assert tuple(dataset.train.images.shape) == (30, 3, size, size)


@pytest.mark.parametrize("spelling", ["bloodmnist", "BLOODMNIST", "bLoodMnist"])
def test_any_letter_case(monkeypatch, tmp_path, spelling):
    fake_file(monkeypatch, tmp_path, "BloodMNIST")
    assert load_dataset(spelling, data_root=tmp_path).name == "BloodMNIST"


@pytest.mark.parametrize(
    "name, meant",
    [
        ("BlodMNIST", "BloodMNIST"),
        ("organamist", "OrganAMNIST"),
        ("Synthblood", "SynthBloodMNIST"),
        ("chest", "ChestMNIST"),
    ],
)
def test_the_nearest_name_is_suggested(name, meant):
    with pytest.raises(UserError, match=rf"unknown data set '{name}' \(did you mean {meant}\?\)"):
        load_dataset(name)


def test_an_unfamiliar_name_gets_the_whole_list():
    with pytest.raises(UserError) as refused:
        load_dataset("xyz")
    assert "did you mean" not in str(refused.value)
    assert all(name in str(refused.value) for name in NAMES)


@pytest.mark.parametrize("name", ["OrganMNIST3D", "noduleMNIST3d"])
def test_3d_data_sets_are_refused(name):
    with pytest.raises(UserError, match=f"{name} is three-dimensional"):
        load_dataset(name)


@pytest.mark.parametrize("size", [27, 32, 100])
def test_sizes_that_medmnist_lacks_are_refused(tmp_path, size):
    says = f"--input_size {size}: PathMNIST comes in 28, 64, 128, 224 pixels"
    with pytest.raises(UserError, match=says):
        load_dataset("PathMNIST", input_size=size, data_root=tmp_path)


def test_a_file_with_class_names(data_files):
    dataset = load_dataset(data_files["grey"])
    assert dataset.name == "grey"
    assert dataset.task == "multi-class"
    assert dataset.class_names == GREY_NAMES
    assert dataset.describe_class(2) == "2 cortex"
    assert (dataset.channels, dataset.input_size) == (1, SIDE)
    assert {split: len(part) for split, part in dataset.splits.items()} == SPLIT_SIZES


@pytest.mark.parametrize(
    "name, task, classes, channels",
    [
        ("colour", "multi-class", 3, 3),
        ("two", "binary-class", 2, 1),
        ("multi", "multi-label, binary-class", 3, 1),
    ],
)
def test_a_file_without_class_names(data_files, name, task, classes, channels):
    dataset = load_dataset(data_files[name], placement=Placement(workers=2))
    assert dataset.task == task
    assert dataset.class_names == tuple(str(number) for number in range(classes))
    assert dataset.describe_class(1) == "1"
    assert dataset.channels == channels


def test_multi_label_files_can_name_their_findings(tmp_path):
    arrays = drawn_arrays(3, multi_label=True)
    np.savez(tmp_path / "named.npz", **arrays, class_names=np.array(["a", "b", "c"]))
    assert load_dataset(str(tmp_path / "named.npz")).class_names == ("a", "b", "c")
    for names in (["a", "b"], ["a", "b", "c", "d"]):
        np.savez(tmp_path / "named.npz", **arrays, class_names=np.array(names))
        with pytest.raises(UserError, match=f"3 classes, {len(names)} names"):
            load_dataset(str(tmp_path / "named.npz"))


@pytest.mark.skipif(os.name == "nt", reason="names are bytes on POSIX only")
def test_a_file_name_that_cannot_be_decoded(tmp_path):
    path = os.fsdecode(os.fsencode(tmp_path / "scans") + b"\xe4.npz")
    np.savez(path, **drawn_arrays())
    assert load_dataset(path).name == "scans\\udce4"
    assert command_line(["--dataset", path], "main.py").endswith("scans\\udce4.npz'")


def test_class_numbers_can_have_gaps_and_end_in_any_split(tmp_path):
    arrays = drawn_arrays()
    for split in SPLIT_SIZES:
        labels = arrays[f"{split}_labels"]
        labels[labels == 1] = 5
    arrays["test_labels"][0] = 7
    np.savez(tmp_path / "gaps.npz", **arrays)
    dataset = load_dataset(str(tmp_path / "gaps.npz"))
    assert dataset.num_classes == 8
    assert set(dataset.train.labels.tolist()) == {0, 2, 3, 5}


def test_more_names_than_classes_with_images(tmp_path):
    names = np.array([*GREY_NAMES, "epithelium"])
    np.savez(tmp_path / "more.npz", **drawn_arrays(), class_names=names)
    assert load_dataset(str(tmp_path / "more.npz")).num_classes == 5


@pytest.mark.parametrize("name, channels", [("grey", 1), ("colour", 3)])
@pytest.mark.parametrize("size", [8, 24])
def test_images_of_a_file_are_resized_on_request(data_files, name, channels, size):
    small, plain = load_dataset(data_files[name], input_size=size), load_dataset(data_files[name])
    assert small.input_size == size
    assert small.name == plain.name
    for split, part in small.splits.items():
        assert tuple(part.images.shape) == (SPLIT_SIZES[split], channels, size, size)
        assert part.images.dtype == torch.uint8
        assert torch.equal(part.labels, plain.splits[split].labels)
        for image, before in zip(part.images, plain.splits[split].images, strict=True):
            picture = Image.fromarray(before.permute(1, 2, 0).squeeze().numpy())
            expected = np.asarray(picture.resize((size, size), Image.Resampling.BILINEAR), int)
            found = image.permute(1, 2, 0).squeeze().numpy()
            assert abs(found - expected).max() <= 1  # of 255


def test_images_of_the_requested_size_are_not_resized(data_files):
    plain, same = load_dataset(data_files["grey"]), load_dataset(data_files["grey"], input_size=12)
    assert torch.equal(plain.train.images, same.train.images)
    assert plain.train_digest() == same.train_digest()


def test_the_digest_depends_on_images_and_labels(data_files, tmp_path):
    arrays = drawn_arrays() | {"class_names": np.array(GREY_NAMES)}
    digest = load_dataset(data_files["grey"]).train_digest()
    np.savez_compressed(tmp_path / "same.npz", **arrays)
    assert load_dataset(str(tmp_path / "same.npz")).train_digest() == digest
    for key, at in (("train_images", (0, 0, 0)), ("train_labels", (0, 0))):
        changed = arrays[key].copy()
        changed[at] ^= 1
        np.savez(tmp_path / "changed.npz", **(arrays | {key: changed}))
        assert load_dataset(str(tmp_path / "changed.npz")).train_digest() != digest


def test_the_digest_of_a_split_is_computed_once(data_files, monkeypatch):
    computed = []
    monkeypatch.setattr(
        "utils.data.datasets.hashlib.sha256", lambda: computed.append(1) or hashlib.new("sha256")
    )
    dataset = load_dataset(data_files["grey"])
    before = len(computed)
    digests = {split: dataset.digest(split) for split in dataset.splits}
    assert len(set(digests.values())) == 3
    assert dataset.train_digest() == digests["train"]
    moved = dataset.to("cpu")
    assert {split: moved.digest(split) for split in SPLIT_SIZES} == digests
    assert len(computed) - before == 3
    early = load_dataset(data_files["grey"])
    assert early.to("cpu").digest("val") == early.digest("val") == digests["val"]
    other = load_dataset(data_files["other"])
    assert all(other.digest(split) != digests[split] for split in SPLIT_SIZES)


def test_a_file_is_read_once_while_its_data_set_is_in_use(data_files, tmp_path):
    path = tmp_path / "data.npz"
    shutil.copy(data_files["grey"], path)
    first = load_dataset(str(path))
    assert load_dataset(str(path)) is first
    assert load_dataset(str(path), input_size=SIDE) is first
    assert load_dataset(str(path), input_size=16) is not first
    moved = first.to("meta")
    assert first.to("meta") is moved and load_dataset(str(path)).to("meta") is moved
    shutil.copy(data_files["other"], tmp_path / "new.npz")
    os.replace(tmp_path / "new.npz", path)
    second = load_dataset(str(path))
    assert second.train_digest() != first.train_digest()


def test_the_synthetic_set_is_created_once_while_in_use(monkeypatch):
    first = load_dataset("SynthBloodMNIST")
    monkeypatch.setattr(synthetic, "make_synth_blood", None)
    assert load_dataset("synthbloodmnist") is first
    with pytest.raises(TypeError):
        load_dataset("SynthBloodMNIST", input_size=32)


def test_a_file_rewritten_with_the_same_time_is_read_again(data_files, tmp_path):
    path = tmp_path / "data.npz"
    shutil.copy(data_files["grey"], path)
    first, times = load_dataset(str(path)), os.stat(path)
    path.write_bytes(path.read_bytes())
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert os.stat(path).st_mtime_ns == times.st_mtime_ns
    assert load_dataset(str(path)) is not first


def test_unused_data_sets_are_freed(data_files):
    dataset = load_dataset(data_files["grey"])
    images = weakref.ref(dataset.train.images)
    moved = weakref.ref(dataset.to("meta").train.images)
    assert moved() is None and images() is not None
    del dataset
    assert images() is None


def test_a_path_without_the_suffix_npz(data_files, tmp_path):
    plain = tmp_path / "archive"
    shutil.copy(data_files["grey"], plain)
    assert load_dataset(str(plain)).class_names == GREY_NAMES


def test_the_synthetic_set(monkeypatch):
    sizes = {"train": 24, "val": 10, "test": 12}
    arrays = synthetic.make_synth_blood(30, 0, sizes)
    calls = []
    monkeypatch.setattr(
        synthetic, "make_synth_blood", lambda size, seed: calls.append((size, seed)) or arrays
    )
    dataset = load_dataset("synthbloodmnist", input_size=30)
    assert calls == [(30, 0)]
    assert dataset.name == "SynthBloodMNIST"
    assert dataset.class_names == synthetic.CLASS_NAMES
    assert (dataset.num_classes, dataset.channels, dataset.input_size) == (8, 3, 30)
    np.testing.assert_array_equal(dataset.test.images.permute(0, 2, 3, 1), arrays["test_images"])
    np.testing.assert_array_equal(dataset.val.labels, arrays["val_labels"][:, 0])


@pytest.mark.parametrize("size", [27, 1025])
def test_the_synthetic_set_has_size_limits(size):
    with pytest.raises(
        UserError, match=f"--input_size {size}: SynthBloodMNIST comes in 28 to 1024 pixels"
    ):
        load_dataset("SynthBloodMNIST", input_size=size)


@pytest.mark.parametrize(
    "file, classes, sizes",
    [("mednist.npz", 6, (8400, 1200, 2400)), ("brain_mri.npz", 4, (2583, 287, 394))],
)
def test_real_scans(shared_data, file, classes, sizes):
    dataset = load_dataset(str(shared_data / file), placement=Placement(workers=2))
    assert (dataset.num_classes, dataset.channels, dataset.input_size) == (classes, 1, 28)
    assert tuple(len(part) for part in dataset.splits.values()) == sizes
