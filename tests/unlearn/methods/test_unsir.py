"""UNSIR's noise maximises the error, impairs a class, and the repair restores the rest."""

import copy
from dataclasses import replace

import torch
from torch.nn import functional

from tests.helpers.tiny import same_weights, split_set, tiny_set, trained_model, weights_of
from unlearn.engine import loop as descent
from unlearn.engine.config import UnlearnConfig
from unlearn.methods.unsir import as_images, learn_noise
from unlearn.registry import METHODS
from unlearn.request.request import ForgetRequest
from utils.data.datasets import ImageSet
from utils.train.prediction import predict
from utils.train.recipe import Recipe
from utils.train.training import train_epoch

METHOD = METHODS["UNSIR"]
REQUEST = ForgetRequest((1,))
OPTIONS = {"share": 0.5, "lambda": 0.1, "steps": 20, "noise": 6}
CONFIG = UnlearnConfig(REQUEST, Recipe(2, 0.05, 10, weight_decay=0.0), OPTIONS, show=False)


def generator():
    return torch.Generator().manual_seed(3)


def learned(model, classes=(1,), batch_size=100, **changes):
    return learn_noise(model, torch.tensor(classes), OPTIONS | changes, generator(), batch_size)


def normalised(model, noise_set):
    return (noise_set.images / 255 - model.mean) / model.std


def test_noise_starts_standard_normal_and_is_the_networks_input():
    model = trained_model()
    noise_set = learned(model, steps=0)
    drawn = torch.randn(6, 1, 8, 8, generator=generator())
    torch.testing.assert_close(normalised(model, noise_set), drawn, rtol=1e-4, atol=1e-5)
    logits = model.eval().network(drawn)
    torch.testing.assert_close(model(noise_set.images), logits, rtol=1e-4, atol=1e-4)


def test_a_step_of_the_noise_is_adams_on_the_papers_objective():
    model = trained_model().eval()
    noise = torch.randn(6, 1, 8, 8, generator=generator()).requires_grad_()
    loss = -functional.cross_entropy(model(as_images(model, noise)), torch.full((6,), 1))
    (loss + 0.1 * (noise**2).sum() / 6).backward()
    expected = (noise - 0.1 * noise.grad.sign()).detach()  # the first step of Adam
    found = normalised(model, learned(model, steps=1))
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)


def test_noise_maximises_the_error_and_does_not_change_the_model():
    model = trained_model()
    before = weights_of(model)
    noise_set = learned(model, classes=(1, 3), **{"lambda": 0.0})
    assert noise_set.labels.tolist() == [1] * 6 + [3] * 6
    logits = predict(model, noise_set)
    at_first = predict(model, learned(model, classes=(1, 3), steps=0))
    losses = [functional.cross_entropy(part, noise_set.labels) for part in (logits, at_first)]
    assert losses[0] > losses[1] + 1 and (logits.argmax(1) != noise_set.labels).all()
    assert same_weights(model, before)
    assert all(parameter.grad is None for parameter in model.parameters())
    small, large = (learned(model, **{"lambda": weight}) for weight in (10.0, 0.0))
    assert normalised(model, small).norm() < 0.5 * normalised(model, large).norm()


def test_noise_does_not_depend_on_the_batch_size():
    model = trained_model()
    by_batch, at_once = (learned(model, (1, 3), size, steps=3) for size in (5, 100))
    torch.testing.assert_close(by_batch.images, at_once.images, rtol=1e-3, atol=0.1)


def passes_of(monkeypatch, config=CONFIG, image_set=None):
    seen, known = [], []

    def watch(model, epoch_set, *arguments, **named):
        seen.append(epoch_set)
        rate = arguments[1].param_groups[0]["lr"]
        loss = train_epoch(model, epoch_set, *arguments, **named)
        known.append((rate, copy.deepcopy(model)))
        return loss

    monkeypatch.setattr(descent, "train_epoch", watch)
    METHOD.run(trained_model(), *split_set(REQUEST, image_set or tiny_set(120)), config)
    return seen, known


def test_impair_has_noise_and_half_the_retain_set_and_repair_all_of_it(monkeypatch):
    image_set = tiny_set(120)
    (impair, repair), known = passes_of(monkeypatch, image_set=image_set)
    assert len(impair) == len(impair.primary.indices.unique()) == 45
    assert (
        impair.secondary.labels.tolist() == [1] * 6 and impair.secondary.images.is_floating_point()
    )
    assert not REQUEST.has_requested_class(impair.primary.labels).any()
    assert torch.equal(repair.indices, split_set(REQUEST, image_set)[1].indices)
    assert [rate for rate, _ in known] == [0.05, 0.025]


def test_it_forgets_and_the_repair_keeps(monkeypatch):
    image_set = tiny_set(120)
    recipe = replace(CONFIG.recipe, epochs=4, lr=0.1)
    config = replace(CONFIG, recipe=recipe, options=OPTIONS | {"noise": 12})
    _, known = passes_of(monkeypatch, config, image_set)
    right = [
        (predict(known[-1][1], part).argmax(1) == part.labels).float().mean()
        for part in split_set(REQUEST, image_set)
    ]
    assert right[0] < 0.5 and right[1] > 0.9


def test_no_image_of_the_forget_set_is_used():
    forget_set, retain_set = split_set(REQUEST, tiny_set(40))
    other = ImageSet.from_tensors(torch.zeros(10, 1, 8, 8, dtype=torch.uint8), forget_set.labels)
    first, second = (
        METHOD.run(trained_model(), part, retain_set, CONFIG) for part in (forget_set, other)
    )
    assert same_weights(first, second)
