"""AMUN trains on adversarial examples that are close and that the model misclassifies."""

import copy
from dataclasses import replace

import pytest
import torch

from tests.helpers.tiny import same_weights, split_set, tiny_set, trained_model, weights_of
from unlearn.engine.concatenated import ConcatenatedSets
from unlearn.engine.config import UnlearnConfig
from unlearn.methods.amun import adversarial_examples
from unlearn.registry import METHODS
from unlearn.request.request import ForgetRequest
from utils.data.datasets import ImageSet
from utils.runtime.errors import UserError
from utils.train.losses import classification_loss
from utils.train.prediction import predict
from utils.train.recipe import Recipe

REQUEST = ForgetRequest((1,))
ONE = ForgetRequest((), (0,))  # excludes only an image's own class
OPTIONS = {"steps": 20, "keep": 0}
CONFIG = UnlearnConfig(REQUEST, Recipe(4, 0.02, 7), OPTIONS, show=False)
run = METHODS["AMUN"].run


def distances(examples, image_set):
    return (examples.images - image_set.images[image_set.indices]).flatten(1).norm(dim=1) / 255


def test_examples_have_the_predicted_labels_and_these_are_wrong():
    model, image_set = trained_model(), tiny_set(40)
    before = weights_of(model)
    examples = adversarial_examples(model, image_set, 20, ONE, 16)
    assert len(examples) == len(image_set)
    assert torch.equal(predict(model, examples).argmax(1), examples.labels)
    assert (examples.labels != image_set.labels).all()
    assert examples.images.min() >= 0 and examples.images.max() <= 255
    assert same_weights(model, before)


def test_examples_are_nearly_the_closest_on_their_line():
    """At three quarters of the distance the model is still correct for most of them."""
    model, image_set = trained_model(), tiny_set(40)
    examples = adversarial_examples(model, image_set, 20, ONE, 16)
    images = image_set.images.float()
    nearer = ImageSet.from_tensors(images + 0.75 * (examples.images - images), image_set.labels)
    right = predict(model, nearer).argmax(1) == image_set.labels
    assert right.float().mean() > 0.9
    assert distances(examples, image_set).max() < 3.0


def test_no_example_is_predicted_as_a_forgotten_class():
    """With classes 0, 1 and 3 forgotten only 2 remains, although others are nearer to some."""
    model, request = trained_model(), ForgetRequest((0, 1, 3))
    forget_set, _ = split_set(request, tiny_set(40))
    examples = adversarial_examples(model, forget_set, 20, request, 16)
    assert len(examples) == len(forget_set)
    assert examples.labels.unique().tolist() == [2]
    assert predict(model, examples).argmax(1).unique().tolist() == [2]
    assert adversarial_examples(model, forget_set, 20, ONE, 16).labels.unique().tolist() != [2]


def test_a_misclassified_image_is_its_own_example():
    model, image_set = trained_model(), tiny_set(12)
    mislabelled = image_set.with_labels((image_set.labels + 1) % 4)
    examples = adversarial_examples(model, mislabelled, 20, ONE, 16)
    assert torch.equal(examples.images, image_set.images.float())
    assert torch.equal(examples.labels, image_set.labels)


def test_a_model_without_boundaries_is_refused_in_one_line():
    model = trained_model()
    with torch.no_grad():
        model.network[6].weight.zero_()
        model.network[6].bias.copy_(torch.tensor([0.0, 9.0, 0.0, 0.0]))
    with pytest.raises(UserError, match="no image of the forget set has an adversarial example"):
        run(model, *split_set(REQUEST, tiny_set()), CONFIG)


def test_combined_gives_each_image_its_own_label_in_any_order():
    first, second = tiny_set(10).subset(torch.tensor([7, 2, 5])), tiny_set(4, seed=1)
    both = ConcatenatedSets(first, second)
    order = torch.tensor([6, 0, 3, 2, 5])
    images, labels = both.batch(order)
    expected = torch.cat([first.batch(slice(None))[0], second.images])[order]
    assert torch.equal(images, expected) and images.dtype == torch.uint8
    assert torch.equal(labels, torch.cat([first.labels, second.labels])[order])
    assert torch.equal(both.batch(slice(2, 4))[1], both.batch(torch.tensor([2, 3]))[1])


@pytest.mark.parametrize("keep", [0, 1])
def test_an_epoch_is_plain_training_on_the_sets_of_the_paper(keep):
    forget_set, retain_set = split_set(REQUEST, tiny_set())
    model = trained_model()
    examples = adversarial_examples(model, forget_set, 20, ONE, 16)
    natural = forget_set.concat(retain_set) if keep else retain_set
    images = torch.cat([natural.batch(slice(None))[0].float(), examples.images])
    labels = torch.cat([natural.labels, examples.labels])
    plain = copy.deepcopy(model).train()
    optimizer = torch.optim.SGD(
        plain.parameters(), 0.02, momentum=0.9, nesterov=True, weight_decay=5e-4
    )
    for part in torch.randperm(len(images), generator=torch.Generator().manual_seed(1)).split(12):
        optimizer.zero_grad()
        classification_loss(plain(images[part]), labels[part]).backward()
        optimizer.step()
    recipe = replace(CONFIG.recipe, epochs=1, batch_size=12)
    config = replace(CONFIG, recipe=recipe, options={**OPTIONS, "keep": keep})
    run(model, forget_set, retain_set, config)
    for ours, theirs in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_it_loses_confidence_in_the_forget_set_and_keeps_the_rest():
    forget_set, retain_set = split_set(REQUEST, tiny_set(120))
    model = trained_model()
    before = predict(model, forget_set).softmax(1)[:, 1].mean()
    run(model, forget_set, retain_set, CONFIG)
    assert predict(model, forget_set).softmax(1)[:, 1].mean() < before - 0.05
    kept = predict(model, retain_set).argmax(1) == retain_set.labels
    assert kept.float().mean() > 0.9
