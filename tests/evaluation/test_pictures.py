"""The picture of distances from Retrain has the figures of the audit, and each Retrain left out."""

from types import SimpleNamespace

import pytest
import torch

from evaluation.audit import BASE, MODEL
from evaluation.figure import Figure, undefined
from evaluation.measure import SETS
from evaluation.metrics.ratio import comparable_sets, left_out_figures
from evaluation.pictures import distances_from_retrain
from evaluation.retrains import relative
from tests.evaluation.contexts import make_context, make_outputs
from unlearn.request.request import ForgetRequest

REQUEST = ForgetRequest((2,))


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch):
    monkeypatch.setattr(relative, "RESAMPLES", 50)


def retrain_context(seed):
    generator, labels = torch.Generator().manual_seed(seed), torch.arange(40) % 4
    outputs = {
        split: make_outputs(torch.randn(40, 4, generator=generator), labels, REQUEST)
        for split in ("train", "test")
    }
    return make_context(REQUEST, outputs)


def audit_of(figures, retrains, base_figures=None):
    contexts = {MODEL: SimpleNamespace(figures=figures, base=None, seed=1)}
    contexts[MODEL].retrains = lambda: retrains
    if base_figures:
        contexts[MODEL].base = SimpleNamespace(figures=base_figures)
    return SimpleNamespace(contexts=contexts)


def ratios(value):
    return {f"js_ratio_{name}": Figure(value, value / 2, 2 * value) for name in SETS}


def drawn(figure):
    """Panel -> {name of the row: value}."""
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    found = {}
    for axes in figure.axes:
        marks = [line for line in axes.lines if line.get_marker() in ("o", "*")]
        places = {names[int(line.get_ydata()[0])]: line.get_xdata()[0] for line in marks}
        found[axes.get_title()] = places
    return found


def test_each_retrain_is_compared_with_the_others():
    retrains = [retrain_context(seed) for seed in range(3)]
    figure = distances_from_retrain(audit_of(ratios(3.0), retrains, ratios(9.0)), [1, 4, 2], "GA")
    found = drawn(figure)
    assert list(found) == [f"{name} set" for name in SETS]
    left_out = left_out_figures([comparable_sets(each) for each in retrains])
    for name in SETS:
        expected = {BASE: 9.0, MODEL: 3.0}
        for seed, figures in zip((1, 4, 2), left_out, strict=True):
            expected[f"Retrain, seed {seed}"] = figures[f"js_ratio_{name}"].value
        assert found[f"{name} set"] == pytest.approx(expected)


def test_two_retrains_cannot_be_left_out():
    retrains = [retrain_context(seed) for seed in range(2)]
    no_test_images = ratios(3.0) | {"js_ratio_test": undefined("no image")}
    found = drawn(distances_from_retrain(audit_of(no_test_images, retrains), [1, 2], "GA"))
    assert found == {"forget set": {MODEL: 3.0}, "retain set": {MODEL: 3.0}, "test set": {}}


def test_without_ratios_there_is_no_picture():
    too_few = {key: undefined("too few") for key in ratios(1.0)}
    for figures in ({}, too_few):
        assert distances_from_retrain(audit_of(figures, [retrain_context(0)]), [1], "GA") is None
