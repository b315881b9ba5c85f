"""read_npz of valid files and some invalid ones; others in robustness/bad_input."""

import numpy as np
import pytest

from tests.helpers.environment import SIDE, SPLIT_SIZES, drawn_arrays
from utils.data.npz import ARRAY_KEYS, SPLITS, read_npz
from utils.runtime.errors import UserError


@pytest.fixture
def saved(tmp_path):
    def save(arrays, writer=np.savez):
        writer(tmp_path / "data.npz", **arrays)
        return tmp_path / "data.npz"

    return save


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("workers", [0, 1, 4])
@pytest.mark.parametrize("writer", [np.savez, np.savez_compressed])
def test_images_are_returned_channels_first_and_unchanged(saved, channels, workers, writer):
    arrays = drawn_arrays(channels=channels)
    read = read_npz(saved(arrays, writer), workers)
    assert set(read) == set(ARRAY_KEYS)
    for split in SPLITS:
        images, saved_images = read[f"{split}_images"], arrays[f"{split}_images"]
        assert images.shape == (SPLIT_SIZES[split], channels, SIDE, SIDE)
        assert images.dtype == np.uint8
        for channel in range(channels):
            expected = saved_images if channels == 1 else saved_images[..., channel]
            np.testing.assert_array_equal(images[:, channel], expected)
        np.testing.assert_array_equal(read[f"{split}_labels"], arrays[f"{split}_labels"][:, 0])


def test_grey_images_can_have_a_channel_axis(saved):
    arrays = drawn_arrays()
    plain = read_npz(saved(arrays))
    arrays |= {f"{split}_images": arrays[f"{split}_images"][..., None] for split in SPLITS}
    for key, array in read_npz(saved(arrays)).items():
        np.testing.assert_array_equal(array, plain[key])


@pytest.mark.parametrize("dtype", ["uint8", "int64", "float32", "float64", ">i4", "uint64"])
@pytest.mark.parametrize("columns", [0, 1])
def test_labels_of_any_numeric_type_with_one_column_or_none(saved, dtype, columns):
    arrays = drawn_arrays()
    expected = {f"{split}_labels": arrays[f"{split}_labels"][:, 0].astype(int) for split in SPLITS}
    given = {key: labels.astype(dtype) for key, labels in expected.items()}
    given = {key: labels[:, None] if columns else labels for key, labels in given.items()}
    read = read_npz(saved(arrays | given))
    for key, labels in expected.items():
        assert read[key].dtype == np.int64
        np.testing.assert_array_equal(read[key], labels)


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.float64])
def test_multi_label_data_keep_all_columns(saved, dtype):
    arrays = drawn_arrays(3, multi_label=True)
    assert (arrays["train_labels"].sum(1) == 0).any()
    for split in SPLITS:
        arrays[f"{split}_labels"] = arrays[f"{split}_labels"].astype(dtype)
    read = read_npz(saved(arrays))
    for split in SPLITS:
        assert read[f"{split}_labels"].dtype == np.int64
        np.testing.assert_array_equal(read[f"{split}_labels"], arrays[f"{split}_labels"])


@pytest.mark.parametrize("workers", [0, 2])
def test_class_names_are_cleaned_and_other_arrays_ignored(saved, workers):
    names = np.array([" a\tb", "ç\n", "d", "e"])
    pickled = np.array([{"not": "read"}], dtype=object)
    read = read_npz(saved(drawn_arrays() | {"class_names": names, "patients": pickled}), workers)
    assert read["class_names"] == ["a b", "ç", "d", "e"]
    assert "patients" not in read


@pytest.mark.parametrize("name", ["\x1b[31mred", "a \ud800 surrogate", "x" * 201, "a\x00b"])
def test_class_names_that_cannot_be_printed(saved, name):
    with pytest.raises(UserError, match="class_names must have at most 200 characters") as refusal:
        read_npz(saved(drawn_arrays() | {"class_names": np.array(["a", name, "c", "d"])}))
    assert str(refusal.value).isprintable()


@pytest.mark.parametrize("order", ["<", ">"])
def test_class_names_of_any_byte_order_and_invalid_code_points(saved, order):
    names = np.array(["artery", "bone", "ç", "duct"]).astype(f"{order}U6")
    read = read_npz(saved(drawn_arrays() | {"class_names": names}))
    assert read["class_names"] == ["artery", "bone", "ç", "duct"]
    swapped = names.view(names.dtype.newbyteorder())  # code points beyond the last one of Unicode
    with pytest.raises(UserError, match="class_names hold invalid characters"):
        read_npz(saved(drawn_arrays() | {"class_names": swapped}))


def test_too_many_class_names(saved):
    with pytest.raises(UserError, match="class_names has 10001 names; at most 10000 are allowed"):
        read_npz(saved(drawn_arrays() | {"class_names": np.array(["a"] * 10001)}))


def test_a_folder_instead_of_a_file(tmp_path):
    with pytest.raises(UserError, match=" cannot be read: Is a directory$"):
        read_npz(tmp_path)


@pytest.mark.parametrize("missing", ARRAY_KEYS)
def test_a_missing_key_is_named(saved, missing):
    arrays = drawn_arrays()
    del arrays[missing]
    with pytest.raises(UserError, match=f"data.npz has no {missing}; MedMNIST's format needs"):
        read_npz(saved(arrays))


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("label, says", [(-1, "the lowest is -1"), (np.nan, "NaN"), (0.5, "frac")])
def test_one_bad_label_in_any_split_is_found(saved, split, label, says):
    arrays = drawn_arrays()
    labels = arrays[f"{split}_labels"].astype(float)
    labels[-1] = label
    with pytest.raises(UserError, match=f"{split}_labels .*{says}"):
        read_npz(saved(arrays | {f"{split}_labels": labels}))


def test_random_damage_gives_user_errors_only(tmp_path):
    path = tmp_path / "data.npz"
    np.savez_compressed(path, **drawn_arrays(sizes={"train": 6, "val": 4, "test": 4}))
    whole, rng = path.read_bytes(), np.random.default_rng(0)
    refused = 0
    for _ in range(300):
        damaged = bytearray(whole)
        for at in rng.integers(0, len(whole), 3):
            damaged[at] = rng.integers(256)
        path.write_bytes(damaged)
        try:
            read_npz(path)
        except UserError as error:
            refused += "data.npz" in str(error)
    assert refused > 200
