"""Fisher information from gradients with random signs, and the methods that use it."""

import copy
import math

import pytest
import torch

from tests.helpers.tiny import same_weights, split_set, tiny_set, trained_model, weights_of
from unlearn.components.fisher import diagonal_fisher, image_losses, signed_gradients
from unlearn.engine.config import UnlearnConfig
from unlearn.methods.fisher_forgetting import FLOOR, own_label_scores
from unlearn.methods.loss_free_dampening import output_sensitivity
from unlearn.methods.synaptic_dampening import dampen
from unlearn.registry import METHODS
from unlearn.request.request import ForgetRequest
from utils.runtime.errors import UserError
from utils.train.losses import classification_loss
from utils.train.recipe import Recipe

REQUEST = ForgetRequest((1,))
by_task = pytest.mark.parametrize("multi_label", [False, True], ids=["single", "multi"])


def config_for(method_id, batch_size=10, **options):
    method = METHODS[method_id]
    defaults = {name: option.default for name, option in method.options.items()}
    recipe = Recipe(0, 0.0, batch_size)
    return UnlearnConfig(REQUEST, recipe, defaults | options, show=False)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def gradients_by_image(model, image_set, loss):
    """One dict of gradients per image, from separate backward passes."""
    model = copy.deepcopy(model).eval()
    found = []
    for number in range(len(image_set)):
        images, labels = image_set.batch(slice(number, number + 1))
        model.zero_grad()
        loss(model(images), labels).backward()
        found.append({name: part.grad.clone() for name, part in model.named_parameters()})
    return found


def mean_square(gradients):
    return {
        name: torch.stack([each[name] for each in gradients]).square().mean(0)
        for name in gradients[0]
    }


@by_task
def test_single_images_give_the_exact_diagonal(multi_label):
    image_set = tiny_set(12, multi_label=multi_label)
    model = trained_model(multi_label=multi_label, dropout=0.3)
    findings = 4 if multi_label else 1  # the training loss is the mean over them, not their sum

    def loss(logits, labels):
        return findings * classification_loss(logits, labels)

    expected = mean_square(gradients_by_image(model, image_set, loss))
    found = diagonal_fisher(model, image_set, image_losses, 1, generator())
    for name, part in found.items():
        torch.testing.assert_close(part, expected[name])


def test_batches_with_signs_are_unbiased():
    """200 draws; without signs the products between images would be added."""
    image_set, model = tiny_set(12, seed=3), trained_model()
    exact = diagonal_fisher(model, image_set, image_losses, 1, generator())
    draws = [diagonal_fisher(model, image_set, image_losses, 6, generator(n)) for n in range(200)]
    for name, part in exact.items():
        mean = torch.stack([draw[name] for draw in draws]).mean(0)
        assert abs(mean.sum() / part.sum() - 1) < 0.2, name


def test_every_image_counts_once():
    sizes = [
        size
        for size, _ in signed_gradients(trained_model(), tiny_set(11), image_losses, 4, generator())
    ]
    assert sizes == [4, 4, 3]


def test_gradients_that_are_not_finite_are_refused():
    model = trained_model()
    with torch.no_grad():
        model.network[6].weight[0, 0] = math.inf
    with pytest.raises(UserError, match="gradients are not finite"):
        diagonal_fisher(model, tiny_set(), image_losses, 10, generator())


# Fisher forgetting


@by_task
def test_scores_have_the_covariance_of_the_models_own_labels(multi_label):
    """In logit space: the mean outer product of the scores' gradients is diag(p) - p p^T."""
    logits = torch.tensor([[1.0, -0.5, 0.3]]).expand(40_000, 3).clone().requires_grad_()
    score = own_label_scores(logits, multi_label, generator())
    (gradient,) = torch.autograd.grad(score.sum(), logits)
    found = gradient.T @ gradient / len(gradient)
    if multi_label:
        p = logits[0].detach().sigmoid()
        expected = torch.diag(p * (1 - p))  # findings are independent
    else:
        p = logits[0].detach().softmax(0)
        expected = torch.diag(p) - torch.outer(p, p)
    torch.testing.assert_close(found, expected, atol=5e-3, rtol=0)


def test_noise_is_large_where_the_fisher_information_is_small():
    """30 draws, against the sum over all labels of each retain image."""
    forget_set, retain_set = split_set(REQUEST, tiny_set(60))
    model = trained_model()
    before = weights_of(model)

    expected = {name: torch.zeros_like(part) for name, part in model.named_parameters()}
    for label in range(4):
        for number in range(len(retain_set)):
            images, _ = retain_set.batch(slice(number, number + 1))
            log_p = model.eval()(images).log_softmax(1)[0, label]
            parts = torch.autograd.grad(log_p, list(model.parameters()))
            for name, part in zip(expected, parts, strict=True):
                expected[name] += log_p.exp().detach() * part.square() / len(retain_set)
    alpha, drawn = 1e-6, {name: [] for name in expected}
    for seed in range(20):
        other = copy.deepcopy(model)
        config = config_for("Fisher", batch_size=1, alpha=alpha)
        config = UnlearnConfig(REQUEST, Recipe(0, 0.0, 1, seed=seed), config.options, show=False)
        METHODS["Fisher"].run(other, forget_set, retain_set, config)
        for name, part in other.named_parameters():
            drawn[name].append(part.detach() - before[name])
    for name, parts in drawn.items():
        deviation = torch.stack(parts).square().mean(0).sqrt()
        wanted = (alpha / expected[name].clamp(min=FLOOR)) ** 0.25
        ratio = (deviation / wanted).mean().item()
        assert 0.85 < ratio < 1.15, (name, ratio)


def test_no_noise_at_all_changes_nothing():
    model, before = trained_model(), weights_of(trained_model())
    METHODS["Fisher"].run(model, *split_set(REQUEST, tiny_set()), config_for("Fisher", alpha=0.0))
    assert same_weights(model, before)


# Selective synaptic dampening


def test_weights_are_dampened_by_the_rule():
    """share 1/2: I_D is the mean of the two importances."""
    model = torch.nn.Linear(5, 1, bias=False)
    torch.nn.init.constant_(model.weight, 8.0)
    of_forget = {"weight": torch.tensor([[6.0, 3.0, 1.0, 0.0, 4.0]])}
    of_retain = {"weight": torch.tensor([[0.0, 1.0, 1.0, 0.0, 2.0]])}
    # I_D = 3, 2, 1, 0, 3 and I_Df / I_D = 2, 1.5, 1, -, 1.33
    dampen(model, of_forget, of_retain, 0.5, {"alpha": 1.4, "dampening": 0.5})
    assert torch.equal(model.weight, torch.tensor([[2.0, 8.0 / 3, 8.0, 8.0, 8.0]]))


def test_dampening_never_enlarges_a_weight():
    model = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.constant_(model.weight, 8.0)
    importances = {"weight": torch.tensor([[6.0]])}, {"weight": torch.tensor([[0.0]])}
    dampen(model, *importances, 0.5, {"alpha": 1.0, "dampening": 5.0})
    assert model.weight.item() == 8.0


@pytest.mark.parametrize("method_id", ["SSD", "LFSSD"])
def test_beyond_the_largest_ratio_nothing_changes(method_id):
    """24 images, 6 of the class: I_Df / I_D is below 4 whatever the model."""
    sets, before = split_set(REQUEST, tiny_set(24)), weights_of(trained_model())
    model = METHODS[method_id].run(trained_model(), *sets, config_for(method_id, alpha=4.0))
    assert same_weights(model, before)
    model = METHODS[method_id].run(trained_model(), *sets, config_for(method_id, alpha=1.2))
    assert not same_weights(model, before)


def test_ssd_dampens_by_squared_gradients_of_single_images():
    sets, model = split_set(REQUEST, tiny_set(24)), trained_model()
    of_forget, of_whole = (
        mean_square(gradients_by_image(model, part, classification_loss))
        for part in (sets[0], tiny_set(24))
    )
    config = config_for("SSD", batch_size=1, alpha=1.5, dampening=0.7)
    dampened = METHODS["SSD"].run(trained_model(), *sets, config)
    for name, weight in dampened.named_parameters():
        ratio = of_forget[name] / of_whole[name]
        beta = torch.where(ratio > 1.5, (0.7 / ratio).clamp(max=1), 1.0)
        torch.testing.assert_close(weight, beta * model.get_parameter(name))


def test_lfssd_uses_absolute_gradients_of_single_images_and_no_labels():
    image_set, model = tiny_set(12), trained_model()
    by_image = gradients_by_image(model, image_set, lambda logits, _: (logits**2).sum())
    found = output_sensitivity(model, image_set, 100, generator())
    for name, part in found.items():
        expected = torch.stack([each[name] for each in by_image]).abs().mean(0)
        torch.testing.assert_close(part, expected)
    forget_set, retain_set = split_set(REQUEST, tiny_set(24))
    results = [
        METHODS["LFSSD"].run(trained_model(), forget_set.with_labels(labels), retain_set, config)
        for labels, config in (
            (forget_set.labels, config_for("LFSSD")),
            (forget_set.labels * 0, config_for("LFSSD")),
        )
    ]
    assert same_weights(*results)
