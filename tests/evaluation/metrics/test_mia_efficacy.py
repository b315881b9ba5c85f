"""The efficacy is that of a plain classifier, and obvious where confidences are separate."""

import numpy as np
import pytest
import torch
from sklearn.svm import SVC

from evaluation.metrics import mia_efficacy as module
from evaluation.metrics.mia_efficacy import mia_efficacy


def with_confidence(values):
    """(logits, labels) of images whose true class has these probabilities; classes alternate."""
    p, labels = torch.as_tensor(values), torch.arange(len(values)) % 2
    true, other = p.log(), (1 - p).log()
    first = torch.where(labels == 0, true, other)
    return torch.stack([first, true + other - first], 1), labels


def drawn(low, high, count, seed):
    return np.random.default_rng(seed).uniform(low, high, count)


def efficacy(retain, non_members, forget, seed=1):
    return mia_efficacy(*map(with_confidence, (retain, non_members, forget)), seed=seed)


def test_known_where_sets_are_apart():
    retain, test = drawn(0.9, 0.999, 150, 0), drawn(0.3, 0.6, 60, 1)
    assert efficacy(retain, test, drawn(0.3, 0.6, 50, 2)).value == 1
    assert efficacy(retain, test, drawn(0.9, 0.999, 50, 3)).value == 0
    half = np.concatenate([drawn(0.3, 0.6, 30, 2), drawn(0.9, 0.999, 10, 3)])
    assert efficacy(retain, test, half).value == 30 / 40


def test_members_need_not_be_the_surer_ones():
    retain, test = drawn(0.3, 0.6, 80, 0), drawn(0.9, 0.999, 80, 1)
    assert efficacy(retain, test, drawn(0.9, 0.999, 50, 2)).value == 1


@pytest.mark.parametrize("seed", range(4))
def test_equal_sets_give_the_figure_of_a_plain_classifier(seed):
    rng = np.random.default_rng(seed)
    retain, test, forget = rng.beta(4, 1, 90), rng.beta(2, 1.5, 90), rng.beta(2, 1, 400)
    plain = SVC(C=3, gamma="auto").fit(np.concatenate([retain, test])[:, None], [1] * 90 + [0] * 90)
    expected = np.mean(plain.predict(forget[:, None]) == 0)
    assert 0.1 < expected < 0.9
    assert efficacy(retain, test, forget).value == pytest.approx(expected, abs=0.01)


def test_order_of_images_does_not_matter():
    rng = np.random.default_rng(0)
    retain, test, forget = rng.beta(4, 1, 100), rng.beta(2, 1.5, 100), rng.beta(2, 1, 300)
    first = efficacy(retain, test, forget)
    assert efficacy(retain, test, forget) == first
    turned = efficacy(retain[::-1].copy(), np.sort(test), forget[::-1].copy())
    assert turned.value == pytest.approx(first.value, abs=0.01)


def test_members_are_not_the_first_of_a_sorted_set():
    """Of 2000 retained images 200 are drawn; the first 200 look like test images."""
    retain = np.concatenate([drawn(0.3, 0.6, 200, 0), drawn(0.9, 0.999, 1800, 1)])
    test = drawn(0.3, 0.6, 200, 2)
    assert efficacy(retain, test, drawn(0.3, 0.6, 50, 3)).value == 1
    assert efficacy(retain, test, drawn(0.9, 0.999, 50, 3)).value == 0


def test_large_sets_are_judged_by_a_part_of_them(monkeypatch):
    monkeypatch.setattr(module, "MAX_IMAGES", 20)
    seen = []
    fit = SVC.fit
    monkeypatch.setattr(
        SVC, "fit", lambda self, x, y: seen.append((len(x), sum(y))) or fit(self, x, y)
    )
    sets = drawn(0.9, 0.999, 300, 0), drawn(0.3, 0.6, 70, 1), drawn(0.3, 0.6, 50, 2)
    assert efficacy(*sets).value == 1
    assert seen == [(40, 20)]


@pytest.mark.parametrize(("empty", "name"), [(0, "retained"), (1, "non-member"), (2, "forgotten")])
def test_an_empty_set_is_a_reason(empty, name):
    sets = [drawn(0.2, 0.9, 20, seed) for seed in range(3)]
    sets[empty] = sets[empty][:0]
    assert efficacy(*sets).why_undefined == f"no {name} image"
