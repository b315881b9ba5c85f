"""A probe separates what features separate, and nothing in noise."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.preprocessing import StandardScaler

from evaluation.metrics import accuracy, probe
from evaluation.metrics.probe import probe_accuracy
from evaluation.outputs import compute_outputs
from tests.evaluation.contexts import make_context
from tests.helpers.tiny import tiny_dataset, trained_model
from unlearn.request.request import ForgetRequest


def clusters(count, covered, distance, seed, dimensions=6):
    """(features, labels): normal clusters whose centres are `distance` apart."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) < covered
    features = rng.normal(size=(count, dimensions)).astype(np.float32)
    features[labels, 0] += distance
    return features, labels


@pytest.mark.parametrize("covered", [100, 10])
def test_separable_features_are_separated(covered):
    found = probe_accuracy(*clusters(200, covered, 20, 0), *clusters(80, covered // 2, 20, 1))
    assert found.value == 1


def test_noise_is_guessed():
    found = [
        probe_accuracy(*clusters(200, 40, 0, 2 * seed), *clusters(200, 40, 0, 2 * seed + 1)).value
        for seed in range(20)
    ]
    assert np.mean(found) == pytest.approx(0.5, abs=0.03)
    constant = np.zeros((30, 3)), np.arange(30) < 6
    assert probe_accuracy(*constant, *constant).value == 0.5


def test_against_a_plain_regression():
    train, test = clusters(300, 60, 1.5, 0), clusters(200, 25, 1.5, 1)
    scaler = StandardScaler().fit(train[0])
    plain = LogisticRegression(C=0.1, class_weight="balanced").fit(
        scaler.transform(train[0]), train[1]
    )
    expected = balanced_accuracy_score(test[1], plain.predict(scaler.transform(test[0])))
    assert 0.6 < expected < 0.9
    assert probe_accuracy(*train, *test).value == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize(("covered", "expected"), [(200, 20), (15, 15), (5, 5), (390, 30)])
def test_few_of_many_images_keep_both_sides(covered, expected, monkeypatch):
    monkeypatch.setattr(probe, "MAX_IMAGES", 40)
    fitted = []
    fit = LogisticRegression.fit
    monkeypatch.setattr(
        LogisticRegression, "fit", lambda self, x, y: fitted.append(y) or fit(self, x, y)
    )
    train, test = clusters(400, covered, 20, 0), clusters(80, 40, 20, 1)
    assert probe_accuracy(*train, *test).value == 1
    assert (len(fitted[0]), fitted[0].sum()) == (40, expected)


@pytest.mark.parametrize("multi_label", [False, True])
def test_editing_the_last_layer_hides_nothing_from_the_probe(multi_label):
    dataset, request = tiny_dataset(multi_label=multi_label, train=60), ForgetRequest((2,))
    model, edited = (trained_model(multi_label=multi_label) for _ in range(2))
    with torch.no_grad():
        edited.network[-1].weight[2] = 0
        edited.network[-1].bias[2] = -50
    figures = []
    for each in (model, edited):
        context = make_context(request, compute_outputs(each, dataset, request), task=dataset.task)
        figures.append(accuracy.compute(context) | probe.compute(context))
    before, after = figures
    assert before["unlearn_accuracy_percent"].value < 10
    assert after["unlearn_accuracy_percent"].value == 100
    assert before["probe_accuracy_percent"] == after["probe_accuracy_percent"]
    assert before["probe_accuracy_percent"].value > 90


@pytest.mark.parametrize(
    ("train", "test", "reason"),
    [
        (0, 5, "no training image is covered by the request"),
        (20, 5, "every training image is covered by the request"),
        (5, 0, "no test image is covered by the request"),
        (5, 20, "every test image is covered by the request"),
    ],
)
def test_without_two_sides_there_is_a_reason(train, test, reason):
    found = probe_accuracy(*clusters(20, train, 1, 0), *clusters(20, test, 1, 1))
    assert found.why_undefined == reason
