"""How well a request was forgotten and what was kept, in the walkthrough's figures."""

import torch

from evaluation.figure import SINGLE_IMAGES, Figure, undefined
from utils.train.metrics import accuracy, finding_auc, medmnist_scores


def forgetting_figures(outputs, request, task):
    """Figures by key of the `outputs` (by split) of a model, base or unlearned.

    unlearn_accuracy_percent: 100 - accuracy on the training images that the request covers.
    remaining_accuracy_percent: on the other training images. test_accuracy_percent: on the test
    images that it does not cover. unlearn_accuracy_test_percent: 100 - accuracy on the test images
    that it does cover; undefined for a request of single images, as finding_auc is. finding_auc
    (multi-label data, one finding): of the finding, over all test images.
    evaluator_accuracy_percent and evaluator_auc: as medmnist's Evaluator defines them, over all
    test images, the forgotten class among them. kept_auc: the same AUC over the classes and the
    test images that are to be kept.
    """
    train, test = outputs["train"], outputs["test"]
    known, kept = _known_and_kept(train, request)
    known_test, kept_test = _known_and_kept(test, request)
    auc, share = medmnist_scores(test.logits, test.labels, task)
    figures = {
        "unlearn_accuracy_percent": _percent(_rest(known), "no training image of the request"),
        "remaining_accuracy_percent": _percent(kept, "no other training image"),
        "test_accuracy_percent": _percent(kept_test, "no other test image"),
        "unlearn_accuracy_test_percent": _percent(
            _rest(known_test), "no test image of the request"
        ),
        "evaluator_accuracy_percent": _percent(share, "no test image"),
        "evaluator_auc": _figure(auc, "a class has no test image, or every one"),
        "kept_auc": _kept_auc(test, request, task),
    }
    if request.indices is not None:
        figures["unlearn_accuracy_test_percent"] = undefined(SINGLE_IMAGES)
        if test.labels.ndim == 2:
            figures["finding_auc"] = undefined(SINGLE_IMAGES)
    elif test.labels.ndim == 2 and len(request.classes) > 1:
        figures["finding_auc"] = undefined("the request is of several findings")
    elif test.labels.ndim == 2:
        found = finding_auc(test.logits, test.labels, request.classes[0])
        figures["finding_auc"] = _figure(found, "no test image has the finding, or every one")
    return figures


def destinations(outputs):
    """(K,) share of the images to be forgotten that are taken for each class, or None.

    In multi-label data, in which each finding is seen. outputs: of one split. None without images.
    """
    covered, _ = outputs.split()
    if len(covered) == 0:
        return None
    if covered.labels.ndim == 2:
        return (covered.logits > 0).float().mean(0).tolist()
    classes = covered.logits.shape[1]
    return (covered.logits.argmax(1).bincount(minlength=classes) / len(covered)).tolist()


def _known_and_kept(outputs, request):
    """(accuracy on what the request covers, accuracy on the rest).

    Multi-label: of images with the finding, the share in which it is found (of several, the
    mean share of those that an image is asked about); of the others, the accuracy over the kept
    findings.
    """
    covered, others = outputs.split()
    recognised = request.correct_fraction(covered.logits, covered.labels)
    known = recognised.double().mean().item() if len(covered) else None
    if others.labels.ndim == 1:
        return known, accuracy(others.logits, others.labels)
    kept = request.kept_classes(others.logits.shape[1])
    return known, accuracy(others.logits[:, kept], others.labels[:, kept])


def _kept_auc(test, request, task):
    _, others = test.split()
    kept = request.kept_classes(test.logits.shape[1])
    logits, labels = others.logits[:, kept], others.labels
    if len(kept) < 2 and labels.ndim == 1:
        return undefined("fewer than two kept classes")
    if labels.ndim == 1:
        found = medmnist_scores(logits, torch.searchsorted(torch.tensor(kept), labels), task)[0]
    elif len(kept) == 1:  # which the Evaluator squeezes away
        found = finding_auc(logits, labels[:, kept], 0)
    else:
        found = medmnist_scores(logits, labels[:, kept], task)[0]
    return _figure(found, "a kept class has no test image, or every one")


def _figure(value, why_not):
    return undefined(why_not) if value is None else Figure(value)


def _percent(share, why_not):
    return _figure(share, why_not).times(100)


def _rest(share):
    return None if share is None else 1 - share
