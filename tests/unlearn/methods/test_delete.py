"""DELETE distils the original model's predictions for the other classes on the forget set."""

import copy
from dataclasses import replace

import torch

from tests.helpers.tiny import split_set, tiny_set, trained_model, weights_of
from unlearn.engine.config import UnlearnConfig
from unlearn.methods.delete import masked_probabilities
from unlearn.registry import METHODS
from unlearn.request.request import ForgetRequest
from utils.data.datasets import ImageSet
from utils.train.prediction import predict
from utils.train.recipe import Recipe

METHOD = METHODS["DELETE"]
REQUEST = ForgetRequest((1,))
CONFIG = UnlearnConfig(REQUEST, Recipe(1, 0.1, 1000, weight_decay=0.0), show=False)


def test_targets_are_the_other_classes_in_proportion():
    logits = torch.tensor([[1.0, 2.0, 4.0, 8.0]]).log()
    labels = torch.tensor([1])
    expected = {
        ForgetRequest((1,)): [1 / 13, 0, 4 / 13, 8 / 13],
        ForgetRequest((), (0,)): [1 / 13, 0, 4 / 13, 8 / 13],
        ForgetRequest((1, 2)): [1 / 9, 0, 0, 8 / 9],
    }
    for request, row in expected.items():
        found = masked_probabilities(logits, labels, request)
        torch.testing.assert_close(found, torch.tensor([row]))
    other = masked_probabilities(logits, torch.tensor([3]), ForgetRequest((), (0,)))
    torch.testing.assert_close(other, torch.tensor([[1 / 7, 2 / 7, 4 / 7, 0]]))


def test_one_step_is_the_gradient_of_the_divergence():
    forget_set, retain_set = split_set(REQUEST, tiny_set(40))
    model = trained_model()
    base = copy.deepcopy(model).eval()
    METHOD.run(model, forget_set, retain_set, CONFIG)
    logits = base(forget_set.batch(slice(None))[0])
    others = logits.detach()[:, [0, 2, 3]].log_softmax(1)
    student = logits.log_softmax(1)[:, [0, 2, 3]]
    (others.exp() * (others - student)).sum(1).mean().backward()
    for name, before in base.named_parameters():
        step = 1.9 * 0.1 * before.grad  # Nesterov's momentum of 0.9 in its first step
        after = model.get_parameter(name)
        torch.testing.assert_close(after, before - step, rtol=1e-4, atol=1e-6)


def test_the_retain_set_is_not_used():
    forget_set, retain_set = split_set(REQUEST, tiny_set(40))
    poison = ImageSet.from_tensors(torch.zeros(30, 1, 8, 8, dtype=torch.uint8), retain_set.labels)
    first, second = (
        METHOD.run(trained_model(), forget_set, part, CONFIG) for part in (retain_set, poison)
    )
    torch.testing.assert_close(first.state_dict(), second.state_dict(), rtol=0, atol=0)


def test_it_forgets_and_the_other_classes_keep_their_proportions():
    forget_set, retain_set = split_set(REQUEST, tiny_set(120))
    model = trained_model()
    before, dark = weights_of(model), predict(model, forget_set)[:, [0, 2, 3]].softmax(1)
    recipe = replace(CONFIG.recipe, epochs=10, lr=0.003, batch_size=10)
    METHOD.run(model, forget_set, retain_set, replace(CONFIG, recipe=recipe))
    shares = predict(model, forget_set).softmax(1)
    assert shares[:, 1].max() < 0.1
    assert (shares[:, [0, 2, 3]] - dark).abs().mean() < 0.1
    assert (predict(model, retain_set).argmax(1) == retain_set.labels).float().mean() > 0.9
    statistics = [name for name in before if "running" in name or "tracked" in name]
    assert all(torch.equal(model.state_dict()[name], before[name]) for name in statistics)
