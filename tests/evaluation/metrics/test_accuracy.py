"""Accuracies and AUCs are those of medmnist, of scikit-learn, or computed by hand."""

import numpy as np
import pytest
import torch
from medmnist.evaluator import getACC, getAUC
from sklearn.metrics import roc_auc_score

from evaluation.metrics.accuracy import compute
from evaluation.metrics.destinations import destinations
from evaluation.outputs import compute_outputs
from tests.evaluation.contexts import make_context, make_outputs
from tests.helpers.tiny import split_set, tiny_dataset, tiny_model
from unlearn.request.request import ForgetRequest
from utils.data.datasets import BINARY, MULTI_CLASS, MULTI_LABEL, ORDINAL
from utils.train.losses import probabilities
from utils.train.prediction import predict

SINGLE = torch.eye(3) * 4  # logits of a prediction of class k are SINGLE[k]
PERCENT = 100
REQUEST = ForgetRequest((1,))


def outputs_of(train, test, request=REQUEST):
    """Outputs by split from (logits, labels) of training and test images."""
    return {"train": make_outputs(*train, request), "test": make_outputs(*test, request)}


def figures_of(outputs, request, task):
    return compute(make_context(request, outputs, task=task))


def values(figures):
    return {key: figure.value for key, figure in figures.items()}


def made_up(task, seed=0, count=200, classes=5):
    """(logits, labels) that half agree; every class has images."""
    generator = torch.Generator().manual_seed(seed)
    classes = 2 if task == BINARY else classes
    if task == MULTI_LABEL:
        labels = (torch.rand(count, classes, generator=generator) < 0.3).long()
        truth = 2 * labels - 1
    else:
        labels = torch.arange(count) % classes
        truth = torch.nn.functional.one_hot(labels, classes)
    return torch.randn(count, classes, generator=generator) + truth, labels


def test_single_label_figures_by_hand():
    train = SINGLE[[0, 2, 1, 1, 0, 2]], torch.tensor([1, 1, 1, 1, 0, 0])
    test = SINGLE[[1, 0, 0, 2, 1, 0]], torch.tensor([1, 1, 0, 2, 2, 1])
    outputs = outputs_of(train, test)
    figures = values(figures_of(outputs, REQUEST, MULTI_CLASS))
    assert figures["unlearn_accuracy_percent"] == PERCENT * (1 - 2 / 4)
    assert figures["remaining_accuracy_percent"] == PERCENT * 1 / 2
    assert figures["test_accuracy_percent"] == pytest.approx(PERCENT * 2 / 3)
    assert figures["unlearn_accuracy_test_percent"] == pytest.approx(PERCENT * (1 - 1 / 3))
    assert figures["evaluator_accuracy_percent"] == PERCENT * 3 / 6
    assert destinations(outputs["train"]) == [1 / 4, 2 / 4, 1 / 4]
    # images of 0, 2 and 2; the last, predicted as 1, has equal logits of 0 and 2, so it ranks
    # between the others
    assert figures["kept_auc"] == 1
    assert "finding_auc" not in figures


def test_multi_label_figures_by_hand():
    labels = torch.tensor([[1, 1, 0], [0, 1, 0], [0, 1, 1], [0, 0, 1], [1, 0, 0]])
    found = torch.tensor([[1, 1, 0], [1, 0, 0], [0, 1, 0], [1, 1, 1], [1, 1, 1]])
    both = found * 2.0 - 1, labels
    outputs = outputs_of(both, both)
    figures = values(figures_of(outputs, REQUEST, MULTI_LABEL))
    missed = pytest.approx(PERCENT * (1 - 2 / 3))  # found in two of three with it
    assert figures["unlearn_accuracy_percent"] == figures["unlearn_accuracy_test_percent"] == missed
    # without it: images 3 and 4, over findings 0 and 2: wrong are 0 of image 3 and 2 of image 4
    assert figures["remaining_accuracy_percent"] == PERCENT * 2 / 4
    assert figures["test_accuracy_percent"] == PERCENT * 2 / 4
    assert figures["evaluator_accuracy_percent"] == pytest.approx(PERCENT * 8 / 15)
    assert destinations(outputs["train"]) == pytest.approx([2 / 3, 2 / 3, 0])
    # pairs with it x without it: 3 x 2; logits tie in 2 x 2, and are lower with it in 1 x 2
    assert figures["finding_auc"] == pytest.approx((4 * 0.5 + 2 * 0) / 6)
    assert figures["kept_auc"] == 0.5  # images 3 and 4 have the same logits


def test_figures_of_groups_without_images_are_undefined():
    labels = torch.tensor([0, 0, 2])
    outputs = outputs_of(*[(SINGLE[labels], labels)] * 2)
    figures = figures_of(outputs, REQUEST, MULTI_CLASS)
    reasons = {key: figure.why_undefined for key, figure in figures.items()}
    assert reasons["unlearn_accuracy_percent"] == "no training image of the request"
    assert reasons["unlearn_accuracy_test_percent"] == "no test image of the request"
    assert reasons["evaluator_auc"] == "a class has no test image, or every one"
    assert destinations(outputs["train"]) is None
    for key in ("remaining_accuracy_percent", "test_accuracy_percent"):
        assert figures[key].value == PERCENT
    assert figures["kept_auc"].value == 1

    alone = torch.tensor([1, 1])
    figures = figures_of(outputs_of(*[(SINGLE[alone], alone)] * 2), REQUEST, MULTI_CLASS)
    assert figures["remaining_accuracy_percent"].why_undefined == "no other training image"
    assert figures["test_accuracy_percent"].why_undefined == "no other test image"
    assert figures["kept_auc"].why_undefined == "a kept class has no test image, or every one"
    assert figures["unlearn_accuracy_percent"].value == 0

    nobody = torch.tensor([[1, 0, 0], [0, 0, 1]])
    outputs = outputs_of(*[(SINGLE[:2], nobody)] * 2)
    figures = figures_of(outputs, REQUEST, MULTI_LABEL)
    assert not figures["unlearn_accuracy_percent"].is_defined
    assert figures["finding_auc"].why_undefined == "no test image has the finding, or every one"
    assert destinations(outputs["train"]) is None


@pytest.mark.parametrize("multi_label", [False, True])
def test_figures_of_a_model_are_those_of_its_logits(multi_label):
    dataset, model = tiny_dataset(multi_label=multi_label), tiny_model()
    request = ForgetRequest((2,))
    figures = values(
        figures_of(compute_outputs(model, dataset, request, batch_size=5), request, dataset.task)
    )
    forget_set, retain_set = split_set(request, dataset.train)
    if multi_label:
        known = (predict(model, forget_set)[:, 2] > 0).float().mean().item()
        others = [0, 1, 3]
        right = (predict(model, retain_set) > 0) == retain_set.labels.bool()
        kept = right[:, others].float().mean().item()
    else:
        known = (predict(model, forget_set).argmax(1) == 2).float().mean().item()
        kept = (predict(model, retain_set).argmax(1) == retain_set.labels).float().mean().item()
    assert figures["unlearn_accuracy_percent"] == pytest.approx(PERCENT * (1 - known))
    assert figures["remaining_accuracy_percent"] == pytest.approx(PERCENT * kept)


@pytest.mark.parametrize("task", [MULTI_CLASS, ORDINAL, BINARY, MULTI_LABEL])
def test_evaluator_figures_are_medmnists(task):
    logits, labels = made_up(task)
    figures = values(figures_of(outputs_of(*[(logits, labels)] * 2), REQUEST, task))
    scores = probabilities(logits.double(), task == MULTI_LABEL).numpy()
    truth = labels.numpy() if task == MULTI_LABEL else labels[:, None].numpy()
    assert figures["evaluator_auc"] == pytest.approx(getAUC(truth, scores, task))
    assert figures["evaluator_accuracy_percent"] == pytest.approx(
        PERCENT * getACC(truth, scores, task)
    )


@pytest.mark.parametrize("forgotten", range(5))
def test_kept_auc_is_one_against_the_rest_over_kept_classes(forgotten):
    logits, labels = made_up(MULTI_CLASS)
    request = ForgetRequest((forgotten,))
    figures = values(figures_of(outputs_of(*[(logits, labels)] * 2, request), request, MULTI_CLASS))
    images = labels != forgotten
    kept = [number for number in range(5) if number != forgotten]
    scores = logits[images][:, kept].double().softmax(1)
    expected = [
        roc_auc_score(labels[images] == number, scores[:, column])
        for column, number in enumerate(kept)
    ]
    assert figures["kept_auc"] == pytest.approx(np.mean(expected))
    # a forgotten class that is predicted for every image does not count
    pushed = logits + 50 * torch.nn.functional.one_hot(torch.tensor(forgotten), 5)
    figures = values(figures_of(outputs_of(*[(pushed, labels)] * 2, request), request, MULTI_CLASS))
    assert figures["kept_auc"] == pytest.approx(np.mean(expected))


def test_kept_auc_of_findings_is_the_mean_over_kept_ones():
    logits, labels = made_up(MULTI_LABEL)
    figures = values(figures_of(outputs_of(*[(logits, labels)] * 2), REQUEST, MULTI_LABEL))
    images = labels[:, 1] == 0
    expected = [roc_auc_score(labels[images][:, n], logits[images][:, n]) for n in (0, 2, 3, 4)]
    assert figures["kept_auc"] == pytest.approx(np.mean(expected))
    assert figures["finding_auc"] == pytest.approx(roc_auc_score(labels[:, 1], logits[:, 1]))


def test_kept_auc_needs_images_of_every_kept_class():
    logits, labels = made_up(MULTI_CLASS)
    without = labels != 3
    figures = figures_of(
        outputs_of((logits, labels), (logits[without], labels[without])), REQUEST, MULTI_CLASS
    )
    assert figures["kept_auc"].why_undefined == "a kept class has no test image, or every one"
    figures = figures_of(outputs_of(*[made_up(BINARY)] * 2), REQUEST, BINARY)
    assert figures["kept_auc"].why_undefined == "fewer than two kept classes"


def test_kept_auc_of_a_single_kept_finding():
    logits, labels = (part[:, :2] for part in made_up(MULTI_LABEL))
    figures = figures_of(outputs_of(*[(logits, labels)] * 2), REQUEST, MULTI_LABEL)
    images = labels[:, 1] == 0
    expected = roc_auc_score(labels[images, 0], logits[images, 0])
    assert figures["kept_auc"].value == pytest.approx(expected)
    labels[images, 0] = 0
    figures = figures_of(outputs_of(*[(logits, labels)] * 2), REQUEST, MULTI_LABEL)
    assert figures["kept_auc"].why_undefined == "a kept class has no test image, or every one"
