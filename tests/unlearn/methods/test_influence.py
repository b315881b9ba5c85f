"""Influence unlearning is the leave-out solution where this can be computed."""

import copy
import math

import pytest
import torch
from torch import nn

from models.architectures import Classifier, ModelSpec
from tests.helpers.tiny import SIZE, same_weights, split_set, tiny_set, trained_model, weights_of
from unlearn.engine.config import UnlearnConfig
from unlearn.engine.masking import WeightMask
from unlearn.methods.influence import influence_unlearning, inverse_fisher_product
from unlearn.registry import METHODS
from unlearn.request.request import ForgetRequest
from utils.train.losses import classification_loss
from utils.train.prediction import predict
from utils.train.recipe import Recipe

REQUEST = ForgetRequest((1,))
by_task = pytest.mark.parametrize("multi_label", [False, True], ids=["single", "multi"])


def config_with(batch_size=10, mask=None, **options):
    defaults = {name: option.default for name, option in METHODS["IU"].options.items()}
    recipe = Recipe(0, 0.0, batch_size)
    return UnlearnConfig(REQUEST, recipe, defaults | options, mask=mask, show=False)


def test_woodbury_is_the_inverse_of_the_matrix_itself():
    generator = torch.Generator().manual_seed(0)
    samples = torch.randn(5, 9, generator=generator)
    vector = torch.randn(9, generator=generator)
    matrix = 0.3 * torch.eye(9) + samples.T @ samples / 5
    found = inverse_fisher_product(samples, vector, 0.3)
    torch.testing.assert_close(found, torch.linalg.solve(matrix, vector))


def test_woodbury_is_woodfishers_recursion():
    generator = torch.Generator().manual_seed(1)
    samples, vector = torch.randn(6, 8, generator=generator), torch.ones(8)
    inverse = torch.eye(8) / 0.5
    for sample in samples:
        along = inverse @ sample
        inverse = inverse - torch.outer(along, along) / (len(samples) + sample @ along)
    torch.testing.assert_close(inverse_fisher_product(samples, vector, 0.5), inverse @ vector)


def test_linear_regression_loses_its_images_exactly():
    """Squared error: the samples are the inputs, and one step ends at the solution without them.

    The ridge of the damping is part of the loss, so that the solutions are those of ridge
    regression; its pull counts for all images alike.
    """
    generator = torch.Generator().manual_seed(2)
    inputs = torch.randn(40, 6, generator=generator, dtype=torch.float64)
    targets = inputs.sum(1) + torch.randn(40, generator=generator, dtype=torch.float64)
    ridge = 1e-9

    def solution(inputs, targets):
        matrix = inputs.T @ inputs / len(inputs) + ridge * torch.eye(6, dtype=torch.float64)
        return torch.linalg.solve(matrix, inputs.T @ targets / len(inputs))

    theta = solution(inputs, targets)
    forget, retain = slice(0, 12), slice(12, 40)
    gradient = ((inputs[forget] @ theta - targets[forget])[:, None] * inputs[forget]).sum(0)
    step = inverse_fisher_product(inputs[retain], gradient, ridge) / 28
    expected = solution(inputs[retain], targets[retain])
    assert (theta - expected).norm() > 0.05
    torch.testing.assert_close(theta + step, expected, atol=1e-5, rtol=0)


def linear_classifier():
    network = nn.Sequential(nn.Flatten(), nn.Linear(SIZE * SIZE, 4))
    return Classifier(network, ModelSpec("tiny", 4, 1, SIZE)).eval()


@by_task
def test_the_whole_method_is_the_step_of_its_equation(multi_label):
    """Single images as samples, so that the signs cancel; the matrix is inverted directly.

    In multi-label data the log-likelihood is the sum over all findings, of both sets.
    """
    forget_set, retain_set = split_set(REQUEST, tiny_set(24, multi_label=multi_label))
    findings = 4 if multi_label else 1  # the training loss is their mean
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = linear_classifier()
    reference = copy.deepcopy(model)

    def gradients(image_set):
        rows = []
        for number in range(len(image_set)):
            images, labels = image_set.batch(slice(number, number + 1))
            loss = findings * classification_loss(reference(images), labels)
            parts = torch.autograd.grad(loss, list(reference.parameters()))
            rows.append(torch.cat([part.flatten() for part in parts]))
        return torch.stack(rows)

    rows, towards = gradients(retain_set), gradients(forget_set).sum(0)
    matrix = 0.2 * torch.eye(rows.shape[1]) + rows.T @ rows / len(rows)
    expected = nn.utils.parameters_to_vector(reference.parameters())
    expected = expected + 0.7 * torch.linalg.solve(matrix, towards) / len(retain_set)
    config = config_with(batch_size=1, alpha=0.7, damping=0.2, samples=100)
    influence_unlearning(model, forget_set, retain_set, config)
    weights = nn.utils.parameters_to_vector(model.parameters())
    torch.testing.assert_close(weights, expected, atol=1e-5, rtol=1e-4)


@by_task
def test_the_forget_loss_rises_more_than_the_retain_loss(multi_label):
    image_set = tiny_set(120, multi_label=multi_label)
    forget_set, retain_set = split_set(REQUEST, image_set)
    model = trained_model(multi_label=multi_label)
    before = losses_of(model, forget_set, retain_set)
    influence_unlearning(model, forget_set, retain_set, config_with(alpha=0.05, damping=0.1))
    after = losses_of(model, forget_set, retain_set)
    assert after[0] - before[0] > 2 * max(after[1] - before[1], 0) and after[0] > before[0]


def losses_of(model, forget_set, retain_set):
    forget = REQUEST.losses(predict(model, forget_set), forget_set.labels).mean().item()
    return forget, classification_loss(predict(model, retain_set), retain_set.labels).item()


def test_a_step_of_no_length_changes_nothing_and_statistics_never_change():
    sets, before = split_set(REQUEST, tiny_set()), weights_of(trained_model())
    assert same_weights(
        influence_unlearning(trained_model(), *sets, config_with(alpha=0.0)), before
    )
    after = influence_unlearning(trained_model(), *sets, config_with()).state_dict()
    statistics = [name for name in before if "running" in name or "tracked" in name]
    assert len(statistics) == 3 and not math.isnan(sum(part.sum() for part in after.values()))
    assert all(torch.equal(after[name], before[name]) for name in statistics)


def test_inside_a_mask_the_step_is_the_same():
    sets, model = split_set(REQUEST, tiny_set()), trained_model()
    mask = WeightMask(
        {name: torch.rand_like(part) < 0.5 for name, part in model.named_parameters()}
    )
    free = influence_unlearning(trained_model(), *sets, config_with())
    masked = influence_unlearning(trained_model(), *sets, config_with(mask=mask))
    for name, part in masked.named_parameters():
        open_to, base = mask.changeable[name], model.get_parameter(name)
        assert torch.equal(part, torch.where(open_to, free.get_parameter(name), base))
