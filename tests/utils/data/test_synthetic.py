"""SynthBloodMNIST is reproducible, the same at every size, and neither trivial nor too hard."""

import numpy as np
import pytest

from utils.data.synthetic import (
    CLASS_FRACTIONS,
    CLASS_NAMES,
    SPLIT_SIZES,
    draw_labels,
    make_synth_blood,
)

SMALL = {"train": 160, "val": 80, "test": 80}


@pytest.fixture(scope="module")
def full():
    """The data set at its default size."""
    return make_synth_blood()


@pytest.mark.parametrize("size", [28, 64])
def test_arrays_are_in_medmnist_format(size):
    data = make_synth_blood(size, split_sizes=SMALL)
    assert set(data) == {f"{split}_{part}" for split in SMALL for part in ("images", "labels")}
    for split, count in SMALL.items():
        images, labels = data[f"{split}_images"], data[f"{split}_labels"]
        assert images.shape == (count, size, size, 3) and images.dtype == np.uint8
        assert labels.shape == (count, 1) and labels.dtype == np.uint8
        assert images.min() < 100 and images.max() > 230  # stained nuclei on a bright slide
        assert 120 < images.mean() < 240


def test_same_seed_gives_the_same_data_and_another_seed_does_not():
    first, again, other = (make_synth_blood(seed=s, split_sizes=SMALL) for s in (3, 3, 4))
    for key in first:
        np.testing.assert_array_equal(first[key], again[key])
        assert not np.array_equal(first[key], other[key])


def test_a_split_does_not_depend_on_the_others():
    data = make_synth_blood(split_sizes=SMALL)
    resized = make_synth_blood(split_sizes={"test": 80, "train": 40})
    np.testing.assert_array_equal(resized["test_images"], data["test_images"])
    np.testing.assert_array_equal(resized["test_labels"], data["test_labels"])


def test_splits_have_no_image_in_common(full):
    seen = [image.tobytes() for split in SPLIT_SIZES for image in full[f"{split}_images"]]
    assert len(set(seen)) == len(seen)


def test_class_fractions_hold_in_every_split(full):
    for split, count in SPLIT_SIZES.items():
        counts = np.bincount(full[f"{split}_labels"].ravel(), minlength=len(CLASS_NAMES))
        np.testing.assert_allclose(counts, np.multiply(CLASS_FRACTIONS, count), atol=1)


def test_even_a_tiny_split_has_every_class():
    labels = draw_labels(16, np.random.default_rng(0))
    assert set(labels.tolist()) == set(range(len(CLASS_NAMES)))


def test_an_empty_split():
    data = make_synth_blood(split_sizes={"train": 0})
    assert data["train_images"].shape == (0, 28, 28, 3)


@pytest.mark.parametrize("factor", [2, 8])
def test_scene_is_the_same_at_every_size(factor):
    sizes = {"test": 16}
    small = make_synth_blood(28, split_sizes=sizes)["test_images"].astype(float)
    large = make_synth_blood(28 * factor, split_sizes=sizes)["test_images"].astype(float)
    averaged = large.reshape(16, 28, factor, 28, factor, 3).mean((2, 4))
    for one, other in zip(small, averaged, strict=True):
        assert np.corrcoef(one.ravel(), other.ravel())[0, 1] > 0.95


def test_a_simple_classifier_is_far_above_chance_and_far_from_perfect(full):
    def features(split):
        """(N, 18): mean and standard deviation of each colour in three rings around the centre."""
        images = full[f"{split}_images"].astype(float)
        axis = np.linspace(-1, 1, images.shape[1])
        distance = np.hypot(axis, axis[:, None])
        rings = [(low <= distance) & (distance < low + 0.25) for low in (0, 0.25, 0.5)]
        parts = [(images[:, ring].mean(1), images[:, ring].std(1)) for ring in rings]
        return np.concatenate([values for part in parts for values in part], 1)

    train, test = features("train"), features("test")
    centre, scale = train.mean(0), train.std(0)
    train, test = (train - centre) / scale, (test - centre) / scale
    labels = full["train_labels"].ravel()
    centroids = np.stack([train[labels == c].mean(0) for c in range(len(CLASS_NAMES))])
    nearest = np.linalg.norm(test[:, None] - centroids, axis=2).argmin(1)
    accuracy = (nearest == full["test_labels"].ravel()).mean()
    assert 0.5 < accuracy < 0.95  # chance is 0.16
