"""Distances of two models by hand, by a loop and by SciPy."""

import numpy as np
import pytest
import torch
from scipy.spatial.distance import jensenshannon

from evaluation.retrains.pairwise import (
    confusion_distances,
    disagreements,
    js_divergences,
    mean_distances,
)


def random_logits(seed, count=12, classes=5, scale=3.0):
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(count, classes, generator=generator)


def certain(predicted, classes=3):
    """Logits of a model that predicts these classes."""
    return 10 * torch.eye(classes)[torch.tensor(predicted)]


def equal_weights(count):
    return np.full((1, count), 1 / count)


def test_js_divergence_of_each_image_against_scipy():
    p, q = (random_logits(seed).double() for seed in (0, 1))
    expected = jensenshannon(p.softmax(1), q.softmax(1), base=2, axis=1) ** 2
    np.testing.assert_allclose(js_divergences(p, q, False), expected, atol=1e-12)
    both = [np.stack([part.sigmoid(), 1 - part.sigmoid()]) for part in (p, q)]
    expected = (jensenshannon(*both, base=2, axis=0) ** 2).mean(1)
    np.testing.assert_allclose(js_divergences(p, q, True), expected, atol=1e-12)
    assert js_divergences(p, q, False).shape == (12,)
    assert (js_divergences(p, p.clone(), False) == 0).all()


def test_disagreements_by_hand():
    first, second = certain([0, 1, 2, 2]), certain([0, 2, 2, 1])
    assert disagreements(first, second, False).tolist() == [0, 1, 0, 1]
    findings = torch.tensor([[1.0, -1, -1, 3], [-2, -2, 5, 5]])
    others = torch.tensor([[1.0, 1, -1, -3], [-2, -2, 5, 0.1]])
    assert disagreements(findings, others, True).tolist() == [0.5, 0]


@pytest.mark.parametrize("distance", [js_divergences, disagreements])
@pytest.mark.parametrize("multi_label", [False, True])
def test_mean_distances_by_a_loop(distance, multi_label):
    outputs = [random_logits(seed) for seed in range(4)]
    weights = np.random.default_rng(0).dirichlet(np.ones(12), 3)
    found = mean_distances(distance, outputs, multi_label)(weights)
    assert found.shape == (3, 4, 4)
    for resample in range(3):
        for i in range(4):
            for j in range(4):
                by_image = distance(outputs[i], outputs[j], multi_label)
                expected = sum(w * d for w, d in zip(weights[resample], by_image, strict=True))
                assert found[resample, i, j] == pytest.approx(expected, abs=1e-12)


def test_confusions_of_two_true_classes_by_hand():
    """Of four images, in quarters, by true and predicted class:

    first model:  00 01 12 12
    second model: 00 02 12 11, which is 1/4 elsewhere in 01, 02, 12 and 11: 4/4 over 2.
    third model:  01 00 12 12, as the first one, though two images changed places.
    fourth model: 02 02 10 10, elsewhere with every image.
    """
    labels = torch.tensor([0, 0, 2, 2])  # classes that no image has do not matter
    outputs = [certain(each) for each in ([0, 1, 2, 2], [0, 2, 2, 1], [1, 0, 2, 2], [2, 2, 0, 0])]
    (found,) = confusion_distances(outputs, labels, False)(equal_weights(4))
    assert found[0].tolist() == [0, 0.5**2, 0, 1]
    assert found[1].tolist() == [0.5**2, 0, 0.5**2, 0.75**2]
    np.testing.assert_array_equal(found, found.T)
    # images of different true classes that change places are not the same confusion
    swapped = [certain([0, 1]), certain([1, 0])]
    (found,) = confusion_distances(swapped, torch.tensor([0, 1]), False)(equal_weights(2))
    assert found.tolist() == [[0, 1], [1, 0]]


def test_confusions_of_weighted_images_by_hand():
    outputs = [certain([0, 1]), certain([0, 2])]
    measure = confusion_distances(outputs, torch.tensor([0, 0]), False)
    found = measure(np.array([[1, 0], [0.25, 0.75], [0, 1]]))[:, 0, 1]
    np.testing.assert_allclose(found, [0, 0.75**2, 1])


def test_confusions_of_findings_by_hand():
    """Predicted for 2/4 and 1/4 of the images, and for 1/4 and 3/4: (1/4 + 2/4) / 2."""
    first = torch.tensor([[1, 1], [1, -1], [-1, -1], [-1, -1]]).float()
    second = torch.tensor([[-1, 1], [-1, 1], [1, 1], [-1, -1]]).float()
    labels = torch.ones(4, 2, dtype=torch.long)
    (found,) = confusion_distances([first, second], labels, True)(equal_weights(4))
    np.testing.assert_allclose(found, np.array([[0, 1], [1, 0]]) * 0.375**2)
