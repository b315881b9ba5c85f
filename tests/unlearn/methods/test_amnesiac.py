"""Amnesiac: wrong labels that are drawn once, with equally many retain images."""

from dataclasses import replace

import pytest
import torch

from tests.helpers.tiny import split_set, tiny_set, trained_model
from unlearn.engine import loop as descent
from unlearn.engine.config import UnlearnConfig
from unlearn.methods import amnesiac
from unlearn.registry import METHODS
from unlearn.request.request import ForgetRequest
from utils.train.losses import classification_loss
from utils.train.prediction import predict
from utils.train.recipe import Recipe
from utils.train.training import train_epoch

REQUEST = ForgetRequest((1,))
RECIPE = Recipe(3, 0.01, 10)
by_task = pytest.mark.parametrize("multi_label", [False, True], ids=["single", "multi"])


def unlearned(model, image_set, recipe=RECIPE):
    config = UnlearnConfig(REQUEST, recipe, show=False)
    return METHODS["Amnesiac"].run(model, *split_set(REQUEST, image_set), config)


@by_task
def test_wrong_labels_are_drawn_once(monkeypatch, multi_label):
    image_set, seen = tiny_set(80, multi_label=multi_label), []
    forget_set, retain_set = split_set(REQUEST, image_set)

    def watch(model, epoch_set, *arguments, **named):
        seen.append((epoch_set.primary.labels.clone(), epoch_set))
        return train_epoch(model, epoch_set, *arguments, **named)

    monkeypatch.setattr(descent, "train_epoch", watch)
    unlearned(trained_model(multi_label=multi_label), image_set)
    assert len(seen) == RECIPE.epochs
    for labels, epoch_set in seen:
        assert torch.equal(labels, seen[0][0])
        assert not REQUEST.has_requested_class(labels).any()
        assert torch.equal(epoch_set.primary.indices, forget_set.indices)
        assert torch.equal(epoch_set.secondary.labels, retain_set.labels)


def test_equally_many_retain_and_forget_images_with_equal_weights(monkeypatch):
    sizes, labels_seen = [], []

    def watch(logits, labels):
        sizes.append(len(logits))
        labels_seen.append(labels)
        return classification_loss(logits, labels)

    monkeypatch.setattr(amnesiac, "classification_loss", watch)
    unlearned(trained_model(), tiny_set(160), replace(RECIPE, epochs=2))
    assert sizes == [20] * 8  # 40 images to forget, 10 at a time with equally many others
    assert not any((labels == REQUEST.classes[0]).any() for labels in labels_seen)


def test_it_memorises_the_labels_and_keeps_the_rest(monkeypatch):
    """Unlike labels drawn in each epoch, the label is learned for its own image."""
    drawn = []

    def keep(*arguments):
        drawn.append(draw(*arguments))
        return drawn[0]

    draw = amnesiac.draw_wrong_labels
    monkeypatch.setattr(amnesiac, "draw_wrong_labels", keep)
    image_set, model = tiny_set(60), trained_model()
    forget_set, retain_set = split_set(REQUEST, image_set)
    unlearned(model, image_set, Recipe(60, 0.1, 10, weight_decay=0.0))
    assert len(drawn) == 1
    assert (predict(model, forget_set).argmax(1) == drawn[0]).float().mean() > 0.8
    assert (predict(model, retain_set).argmax(1) == retain_set.labels).float().mean() > 0.95
