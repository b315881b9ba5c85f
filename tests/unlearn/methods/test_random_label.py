"""RL draws wrong labels uniformly, again in each epoch, and forgets."""

import pytest
import torch
from scipy.stats import chisquare

from tests.helpers.methods import (
    CONFIG,
    REQUEST,
    accuracy,
    by_task,
    with_recipe,
)
from tests.helpers.tiny import (
    split_set,
    tiny_model,
    tiny_set,
    trained_model,
)
from unlearn.engine import loop as descent
from unlearn.methods.random_label import draw_wrong_labels
from unlearn.registry import METHODS
from unlearn.request.request import ForgetRequest
from utils.train.training import train_epoch


def test_random_labels_are_never_the_true_one():
    generator = torch.Generator().manual_seed(0)
    for num_classes in (2, 3, 8, 14):
        labels = torch.arange(num_classes).repeat(500)
        wrong = draw_wrong_labels(labels, num_classes, ForgetRequest((), (0,)), generator)
        assert (wrong != labels).all()
        assert wrong.min() == 0 and wrong.max() == num_classes - 1
        assert wrong.dtype == torch.int64


@pytest.mark.parametrize("true", range(8))
def test_random_labels_are_uniform_over_the_other_classes(true):
    """Chi-square: one of 10,000 seeds gives a p-value below 1e-4; these seeds are fixed."""
    generator = torch.Generator().manual_seed(true)
    wrong = draw_wrong_labels(torch.full((70_000,), true), 8, ForgetRequest((true,)), generator)
    counts = torch.bincount(wrong, minlength=8)
    assert counts[true] == 0
    assert chisquare(counts[torch.arange(8) != true]).pvalue > 1e-4


def test_multi_label_relabelling_swaps_the_finding_for_another():
    generator = torch.Generator().manual_seed(0)
    labels = tiny_set(40_000, multi_label=True).labels
    labels = labels[labels[:, 1] == 1]
    wrong = draw_wrong_labels(labels, 4, REQUEST, generator)
    assert not wrong[:, 1].any()
    others = [0, 2, 3]
    switched = wrong[:, others] - labels[:, others]
    assert switched.min() == 0 and switched.sum(1).max() == 1  # other findings are only added
    only = labels.sum(1) == 1  # so the added finding is always visible
    assert (switched[only].sum(1) == 1).all()
    assert chisquare(switched[only].sum(0)).pvalue > 1e-4


@by_task
def test_random_labels_are_drawn_in_each_epoch(monkeypatch, multi_label):
    image_set = tiny_set(80, multi_label=multi_label)
    forget_set, retain_set = split_set(REQUEST, image_set)
    seen = []

    def watch(model, epoch_set, *arguments, **named):
        seen.append(epoch_set)
        return train_epoch(model, epoch_set, *arguments, **named)

    monkeypatch.setattr(descent, "train_epoch", watch)
    METHODS["RL"].run(tiny_model(), forget_set, retain_set, CONFIG)
    assert len(seen) == CONFIG.recipe.epochs
    size = len(forget_set)
    for epoch_set in seen:
        assert torch.equal(epoch_set.indices[:size], forget_set.indices)
        assert torch.equal(epoch_set.indices[size:], retain_set.indices)
        assert torch.equal(epoch_set.labels[size:], retain_set.labels)
        assert not REQUEST.has_requested_class(epoch_set.labels).any()
    drawn = [epoch_set.labels[:size] for epoch_set in seen]
    assert not torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[1], drawn[2])


def test_random_labelling_forgets_and_keeps():
    image_set = tiny_set(120)
    model = trained_model()
    forget_set, retain_set = split_set(REQUEST, image_set)
    assert accuracy(model, forget_set) == 1
    METHODS["RL"].run(model, forget_set, retain_set, with_recipe(CONFIG, epochs=15, lr=0.05))
    assert accuracy(model, forget_set) < 0.1
    assert accuracy(model, retain_set) > 0.9
