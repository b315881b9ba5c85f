"""Distances are 0 for the same model and elsewhere those of a formula or a loop."""

import numpy as np
import pytest
import torch
from scipy.spatial.distance import jensenshannon

from evaluation.audit import BASE, RETRAIN
from evaluation.figure import Figure, undefined
from evaluation.metrics.distance import (
    GAP_KEYS,
    agreement,
    average_gap,
    gap_of_trials,
    js_divergence,
    warnings,
)
from tests.evaluation.contexts import make_context
from unlearn.request.request import ForgetRequest


def random_logits(seed, count=40, classes=5, scale=3.0):
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(count, classes, generator=generator)


@pytest.mark.parametrize("multi_label", [False, True])
def test_identical_outputs_are_no_way_apart(multi_label):
    logits = random_logits(0)
    assert agreement(logits, logits.clone(), multi_label).value == 1
    assert js_divergence(logits, logits.clone(), multi_label).value == 0


@pytest.mark.parametrize("multi_label", [False, True])
def test_opposite_outputs_are_one_bit_apart(multi_label):
    logits = 2000 * torch.eye(4) - 1000
    other = -logits if multi_label else logits.roll(1, 0)
    assert js_divergence(logits, other, multi_label).value == 1
    assert agreement(logits, other, multi_label).value == 0


def test_agreement_by_a_loop():
    ours, theirs = (random_logits(seed).tolist() for seed in (0, 1))
    same_class = same_findings = 0
    for first, second in zip(ours, theirs, strict=True):
        same_class += first.index(max(first)) == second.index(max(second))
        same_findings += sum((a > 0) == (b > 0) for a, b in zip(first, second, strict=True))
    pair = torch.tensor(ours), torch.tensor(theirs)
    assert agreement(*pair, False).value == pytest.approx(same_class / 40)
    assert agreement(*pair, True).value == pytest.approx(same_findings / 200)


def test_js_divergence_against_scipy():
    p, q = (random_logits(seed).double() for seed in (0, 1))
    expected = np.mean(jensenshannon(p.softmax(1), q.softmax(1), base=2, axis=1) ** 2)
    assert js_divergence(p, q, False).value == pytest.approx(expected)
    yes_no = [np.stack([part.sigmoid(), 1 - part.sigmoid()]) for part in (p, q)]
    expected = np.mean(jensenshannon(*yes_no, base=2, axis=0) ** 2)
    assert js_divergence(p, q, True).value == pytest.approx(expected)
    assert js_divergence(p, q, True) == js_divergence(q, p, True)


def test_of_no_image_nothing_is_said():
    nothing = torch.zeros(0, 3)
    for measure in (agreement, js_divergence):
        assert measure(nothing, nothing, False).why_undefined == "no image"


def test_average_gap_by_hand():
    ours = dict(zip(GAP_KEYS, map(Figure, (90.0, 99.0, 95.0, 70.0)), strict=True))
    theirs = dict(zip(GAP_KEYS, map(Figure, (100.0, 98.0, 95.5, 90.0)), strict=True))
    assert average_gap(ours, theirs).value == (10 + 1 + 0.5 + 20) / 4
    assert average_gap(theirs, ours) == average_gap(ours, theirs)
    assert average_gap(ours, dict(ours)).value == 0


@pytest.mark.parametrize("key", GAP_KEYS)
def test_average_gap_passes_on_why_it_is_undefined(key):
    figures = dict.fromkeys(GAP_KEYS, Figure(50.0))
    broken = figures | {key: undefined("no images")}
    for pair in ((figures, broken), (broken, figures)):
        assert average_gap(*pair).why_undefined == f"{key} is undefined: no images"


def test_a_retrain_that_was_trained_too_little_is_named():
    def lines(base, retrain):
        request, key = ForgetRequest((1,)), "remaining_accuracy_percent"
        others = {
            name: make_context(request, title=title, figures={key: figure})
            for name, title, figure in (("base", BASE, base), ("retrain", RETRAIN, retrain))
            if figure
        }
        return warnings(make_context(request, **others))

    assert lines(Figure(99.0), Figure(95.0)) == []
    [line] = lines(Figure(99.0), Figure(60.0))
    assert "Retrain recognises 60.0% of the kept training images, the base model 99.0%" in line
    assert lines(None, Figure(60.0)) == []
    assert lines(undefined("no images"), Figure(60.0)) == []


def test_gap_of_trials_is_that_of_their_figures():
    ours = dict(zip(GAP_KEYS, (90.0, 99.0, 95.0, 70.0), strict=True))
    theirs = dict(zip(GAP_KEYS, (100.0, 98.0, 95.5, 90.0), strict=True))
    assert gap_of_trials(ours, theirs) == (10 + 1 + 0.5 + 20) / 4
    assert gap_of_trials(ours, None) is None
    assert gap_of_trials(ours | {GAP_KEYS[3]: None}, theirs) is None
