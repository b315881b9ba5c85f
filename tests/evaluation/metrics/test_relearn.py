"""A class that is only hidden is relearned sooner than one that was never seen."""

import math

import pytest
import torch
from torch import nn

from evaluation.metrics import relearn
from evaluation.metrics.relearn import LR, MOMENTUM, relearn_steps
from models.architectures import Classifier, ModelSpec
from tests.helpers.tiny import (
    NUM_CLASSES,
    SIZE,
    same_weights,
    split_set,
    tiny_model,
    tiny_set,
    trained_model,
    weights_of,
)
from unlearn.request.request import ForgetRequest
from utils.train.recipe import Recipe
from utils.train.training import TrainingRun

REQUEST = ForgetRequest((2,))


class Constant(nn.Module):
    """Logits that no image changes."""

    def __init__(self, logits):
        super().__init__()
        self.logits = nn.Parameter(torch.tensor(logits))

    def forward(self, images):
        return self.logits.expand(len(images), -1)


def forget_set(multi_label=False):
    return split_set(REQUEST, tiny_set(120, multi_label=multi_label))[0]


def hidden_model(multi_label=False, push=10.0):
    """Trained on all classes, but predicts class 2 only with a large margin."""
    model = trained_model(multi_label=multi_label)
    with torch.no_grad():
        model.network[-1].bias[2] -= push
    return model


def retrained_model(multi_label=False):
    model = tiny_model()
    sets = (
        split_set(REQUEST, tiny_set(120, multi_label=multi_label, seed=seed))[1] for seed in (0, 1)
    )
    TrainingRun(model, *sets, Recipe(12, 0.05, 10)).run(show=False)
    return model


@pytest.mark.parametrize("multi_label", [False, True])
def test_what_is_known_takes_no_step(multi_label):
    model = trained_model(multi_label=multi_label)
    assert relearn_steps(model, forget_set(multi_label), REQUEST).value == 0


@pytest.mark.parametrize(("multi_label", "push"), [(False, 10), (True, 5)])
def test_what_is_hidden_is_back_sooner_than_what_was_never_seen(multi_label, push):
    images = forget_set(multi_label)
    hidden = relearn_steps(hidden_model(multi_label, push), images, REQUEST)
    never_seen = relearn_steps(retrained_model(multi_label), images, REQUEST)
    assert 0 < 1.3 * hidden.value < never_seen.value


@pytest.mark.parametrize("start", [0.05, 0.3])
def test_steps_of_a_model_so_small_that_a_loop_takes_them_too(start):
    model = Classifier(Constant([start, 0.0]), ModelSpec("constant", 2, 1, SIZE))
    images = tiny_set(30, 2).subset(torch.arange(1, 30, 2))  # all of class 1
    logits, velocity, steps = [start, 0.0], [0.0, 0.0], 0
    while logits[1] <= logits[0]:
        total = sum(map(math.exp, logits))
        gradient = [math.exp(logits[0]) / total, math.exp(logits[1]) / total - 1]
        velocity = [MOMENTUM * v + g for v, g in zip(velocity, gradient, strict=True)]
        logits = [z - LR * v for z, v in zip(logits, velocity, strict=True)]
        steps += 1
    assert steps > 10
    assert relearn_steps(model, images, ForgetRequest((1,))).value == steps


@pytest.mark.parametrize("training", [False, True])
def test_the_model_is_left_as_it_was(training):
    model = hidden_model().train(training)
    before = weights_of(model)
    assert relearn_steps(model, forget_set(), REQUEST).value > 0
    assert same_weights(model, before)
    assert model.training == training
    assert all(weight.grad is None for weight in model.parameters())


def test_dropout_is_off():
    plain, with_dropout = hidden_model(), hidden_model()
    with_dropout.network[5].p = 0.9
    steps = [relearn_steps(each, forget_set(), REQUEST).value for each in (plain, with_dropout)]
    assert steps[0] == steps[1]


def test_same_seed_same_steps():
    steps = [relearn_steps(hidden_model(), forget_set(), REQUEST, seed) for seed in (1, 1)]
    assert steps[0] == steps[1]


def test_one_known_batch_is_not_yet_the_whole_set(monkeypatch):
    """The first batch of one image may be known by luck; 95% of the set has to be."""
    monkeypatch.setattr(relearn, "BATCH_SIZE", 2)
    images = tiny_set(40)  # of all classes, a quarter each
    model = Classifier(
        Constant([1.0] + [0.0] * (NUM_CLASSES - 1)), ModelSpec("constant", NUM_CLASSES, 1, SIZE)
    )
    monkeypatch.setattr(relearn, "MAX_STEPS", 60)
    assert not relearn_steps(model, images, REQUEST).is_defined


def test_limits_are_reasons(monkeypatch):
    needed = relearn_steps(hidden_model(), forget_set(), REQUEST).value
    monkeypatch.setattr(relearn, "MAX_STEPS", needed)
    assert relearn_steps(hidden_model(), forget_set(), REQUEST).value == needed
    monkeypatch.setattr(relearn, "MAX_STEPS", needed - 1)
    found = relearn_steps(hidden_model(), forget_set(), REQUEST)
    assert found.why_undefined == f"not relearned after {needed - 1} steps"
    nobody = tiny_set(8).subset(slice(0, 0))
    reason = relearn_steps(hidden_model(), nobody, REQUEST).why_undefined
    assert reason == "no training image of the request"
