"""Relative distances: those of vectors, and intervals that contain 1 for a further Retrain."""

import math

import numpy as np
import pytest

from evaluation.retrains import relative
from evaluation.retrains.relative import (
    USUAL_DEGREES,
    degrees_of_freedom,
    mean_between,
    measure_distances,
    relative_distance,
)

NO_FLOOR = 1e-12


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch):
    monkeypatch.setattr(relative, "RESAMPLES", 200)


def squared_distances(vectors):
    """(M, M, N) squared distances of (M, N, D) vectors for each image."""
    return ((vectors[:, None] - vectors[None]) ** 2).sum(-1)


def distances_of(vectors, seed=1):
    """The Distances of models with (M, N, D) vectors, a vector for each image."""
    by_image = squared_distances(vectors)

    def measure(weights):
        return np.einsum("bn,ijn->bij", weights, by_image)

    return measure_distances([measure], vectors.shape[1], seed)[0]


def figure_of(vectors, retrains, floor=NO_FLOOR, power=1.0):
    """The Figure of the first models compared with the last ones, which are the Retrains."""
    count = len(vectors) - retrains
    places = range(count), range(count, len(vectors))
    return relative_distance(distances_of(vectors), *places, floor, power)


def random_models(rng, count, images, directions=None):
    """(M, N, 1) vectors that differ in each image independently, or in a few directions."""
    if directions is None:
        return rng.normal(size=(count, images, 1))
    of_images = rng.normal(size=(directions, images))
    return (rng.normal(size=(count, directions)) @ of_images)[..., None]


@pytest.mark.parametrize(("models", "retrains"), [(1, 2), (1, 5), (3, 4)])
def test_distances_are_those_of_the_analysis_of_variance(models, retrains):
    """|m - r|^2 + (n - 1) / n S^2 over 2 S^2, from the vectors themselves."""
    vectors = np.random.default_rng(3).normal(size=(models + retrains, 7, 2))
    flat = vectors.reshape(len(vectors), -1)
    ours, theirs = flat[:models], flat[models:]
    variance = theirs.var(0, ddof=1).sum()
    far = ((ours - theirs.mean(0)) ** 2).sum(1).mean()
    expected = (far + (retrains - 1) / retrains * variance) / (2 * variance)
    assert figure_of(vectors, retrains).value == pytest.approx(expected)
    between = distances_of(vectors).observed[models:, models:] * vectors.shape[1]
    assert mean_between(between) == pytest.approx(2 * variance)


@pytest.mark.parametrize(("directions", "retrains"), [(8, 2), (8, 3), (8, 5), (300, 3)])
def test_the_mean_ratio_of_a_further_retrain(directions, retrains, monkeypatch):
    """1 + (1 + 1/n) / (v (n - 1) - 2): near 1 where Retrains differ in many directions."""
    monkeypatch.setattr(relative, "RESAMPLES", 1)
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(4000, 1 + retrains, directions))
    ours, theirs = vectors[:, 0], vectors[:, 1:]
    variance = theirs.var(1, ddof=1).sum(-1)
    far = ((ours - theirs.mean(1)) ** 2).sum(-1)
    ratios = (far / variance + (retrains - 1) / retrains) / 2
    expected = 1 + (1 + 1 / retrains) / (directions * (retrains - 1) - 2)
    assert ratios.mean() == pytest.approx(expected, rel=0.03)
    for number in (0, 1, 2):  # each direction as an image
        figure = figure_of(vectors[number, :, :, None], retrains)
        assert figure.value == pytest.approx(ratios[number])


@pytest.mark.parametrize("directions", [None, 8])
@pytest.mark.parametrize(("models", "retrains"), [(1, 2), (1, 3), (1, 5), (3, 3)])
def test_the_interval_contains_1_for_a_further_retrain(models, retrains, directions, monkeypatch):
    monkeypatch.setattr(relative, "RESAMPLES", 100)
    rng, trials = np.random.default_rng(1), 100
    found = [
        figure_of(random_models(rng, models + retrains, 60, directions), retrains)
        for _ in range(trials)
    ]
    contained = sum(figure.low <= 1 <= figure.high for figure in found)
    assert contained >= 0.95 * trials - 2 * math.sqrt(0.95 * 0.05 * trials)


def test_two_retrains_cannot_show_that_they_differ_in_one_direction(monkeypatch):
    """The limit that the docstring of relative_distance states."""
    monkeypatch.setattr(relative, "RESAMPLES", 50)
    rng = np.random.default_rng(1)
    found = [figure_of(random_models(rng, 3, 60, 1), 2) for _ in range(100)]
    assert 35 <= sum(figure.low <= 1 <= figure.high for figure in found) <= 65


def test_more_models_give_narrower_intervals():
    """Of a method far from Retrain, whose models and Retrains differ in eight directions."""

    def width(models, retrains):
        vectors = random_models(np.random.default_rng(5), models + retrains, 300, 8)
        vectors[:models] += 5
        figure = figure_of(vectors, retrains)
        return math.log(figure.high / figure.low)

    assert width(1, 2) > width(1, 4) > width(1, 20) > width(10, 20)


def test_the_retrains_themselves():
    """Each is at distance 0 from itself, so that their mean distance is (n - 1) / n of the mean."""
    retrains = np.random.default_rng(0).normal(size=(4, 30, 1))
    figure = figure_of(np.concatenate([retrains, retrains]), 4)
    assert figure.value == pytest.approx(3 / 4)


@pytest.mark.parametrize("retrains", [2, 3, 50])
@pytest.mark.parametrize("images", [1, 12, 200])
def test_a_far_model_is_far(retrains, images):
    vectors = np.random.default_rng(0).normal(size=(1 + retrains, images, 3))
    vectors[0] += 1e4
    figure = figure_of(vectors, retrains)
    assert 1e3 < figure.low < figure.value < figure.high < 1e12
    nearer = vectors.copy()
    nearer[0] -= 9.99e3
    assert 1 < figure_of(nearer, retrains).low < figure.low


def test_the_floor_takes_the_place_of_a_smaller_distance():
    """Two Retrains are 0.01^2 apart, and the model 0.3^2 from their middle."""
    vectors = np.tile(np.array([0.3, 0.005, -0.005])[:, None, None], (1, 20, 1))
    expected = (0.3**2 + 0.005**2) / 0.01
    figure = figure_of(vectors, 2, floor=0.01)
    assert figure.value == pytest.approx(expected)
    # the floor does not vary, the images are all alike, and the model varies as the Retrains do
    assert expected / 1.2 < figure.low < expected < figure.high < 1.2 * expected
    without = figure_of(vectors, 2)
    assert without.value == pytest.approx(expected * 0.01 / 0.01**2)
    assert without.high / without.low > 5  # the distance of two Retrains varies
    assert figure_of(vectors, 2, floor=0.01**2) == without


def test_retrains_that_do_not_differ():
    """What is left is the uncertainty of the mean over images."""
    rng = np.random.default_rng(0)
    vectors = np.zeros((3, 400, 1))
    assert figure_of(vectors, 2, floor=0.01) == relative.Figure(0.0, 0.0, 0.0)
    vectors[0, :, 0] = rng.normal(size=400)
    squares = vectors[0, :, 0] ** 2
    half = 1.96 * squares.std() / math.sqrt(400) / 0.01
    figure = figure_of(vectors, 2, floor=0.01)
    assert figure.value == pytest.approx(squares.mean() / 0.01)
    assert figure.low == pytest.approx(figure.value - half, abs=half / 3)
    assert figure.high == pytest.approx(figure.value + half, abs=half / 3)


def test_plain_distances_are_the_roots_of_squared_ones():
    vectors = np.random.default_rng(0).normal(size=(4, 10, 1))
    squared, plain = figure_of(vectors, 3), figure_of(vectors, 3, power=0.5)
    for end in ("value", "low", "high"):
        assert getattr(plain, end) == pytest.approx(getattr(squared, end) ** 0.5)


def test_the_places_of_models_and_retrains():
    vectors = np.random.default_rng(0).normal(size=(5, 10, 1))
    distances = distances_of(vectors)
    found = relative_distance(distances, [3], [4, 0, 2], NO_FLOOR)
    assert found.value == pytest.approx(figure_of(vectors[[3, 4, 0, 2]], 3).value)
    with pytest.raises(ValueError, match="1 Retrains cannot give a relative distance"):
        relative_distance(distances, [3], [4], NO_FLOOR)


def test_resamples_of_images(monkeypatch):
    """Weights sum to 1, are the same for all measurements, and do not depend on the memory."""
    seen = []

    def measure(weights):
        seen.append(weights)
        return (weights @ np.arange(30.0))[:, None, None]

    first, second = measure_distances([measure, measure], 30, seed=2)
    weights = np.concatenate(seen[2::2])
    assert weights.shape == (200, 30)
    np.testing.assert_allclose(weights.sum(1), 1)
    np.testing.assert_allclose(first.observed, 14.5)
    assert (first.resampled == second.resampled).all()
    # the mean of 30 images drawn with replacement
    assert first.resampled.std() == pytest.approx(np.arange(30).std() / 30**0.5, rel=0.15)
    monkeypatch.setattr(relative, "CHUNK_VALUES", 100)
    (again,) = measure_distances([measure], 30, seed=2)
    np.testing.assert_allclose(again.resampled, first.resampled)
    assert (measure_distances([measure], 30, seed=3)[0].resampled != again.resampled).any()


@pytest.mark.parametrize("directions", [2, 8, 30])
def test_directions_of_many_retrains_are_found(directions):
    rng, found = np.random.default_rng(0), []
    for _ in range(20):
        vectors = rng.normal(size=(40, 1, directions))
        found.append(degrees_of_freedom(squared_distances(vectors)[..., 0]))
    assert np.mean(found) == pytest.approx(directions, rel=0.1)


def test_directions_of_few_retrains_are_assumed():
    rng = np.random.default_rng(0)
    two, three = (squared_distances(rng.normal(size=(n, 1, 1)))[..., 0] for n in (2, 3))
    assert degrees_of_freedom(two) == pytest.approx(USUAL_DEGREES)
    assert 1 < degrees_of_freedom(three) < USUAL_DEGREES  # they differ in one direction alone
    assert degrees_of_freedom(np.zeros((3, 3))) > USUAL_DEGREES
