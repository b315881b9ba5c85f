"""How well a request was forgotten and what was kept: accuracies and AUCs, as in SalUn.

Fan et al., "SalUn", ICLR 2024: unlearn, remaining and test accuracy. The Evaluator's accuracy and
AUC are those of Yang et al., "MedMNIST v2", Scientific Data 2023.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from evaluation.figure import SINGLE_IMAGES, Figure, undefined
from evaluation.measure import Column, Measure, Row
from utils.train.metrics import accuracy, finding_auc, medmnist_scores

if TYPE_CHECKING:
    from evaluation.audit import Context


def compute(context: Context) -> dict[str, Figure]:
    """Return the Figures by key of any model.

    unlearn_accuracy_percent: 100 - accuracy on the training images that the request covers.
    remaining_accuracy_percent: on the other training images. test_accuracy_percent: on the test
    images that it does not cover. unlearn_accuracy_test_percent: 100 - accuracy on the test images
    that it covers; undefined for a request of single images, as finding_auc is. finding_auc
    (multi-label data, one finding): of the finding, over all test images.
    evaluator_accuracy_percent and evaluator_auc: as medmnist's Evaluator defines them, over all
    test images, including the forgotten class. kept_auc: the same AUC over the classes and the
    test images to be kept.
    """
    request, task = context.request, context.dataset.task
    train, test = context.outputs["train"], context.outputs["test"]
    covered, kept = _covered_and_kept(train, request)
    covered_test, kept_test = _covered_and_kept(test, request)
    auc, overall = medmnist_scores(test.logits, test.labels, task)
    figures = {
        "unlearn_accuracy_percent": _percent(
            _complement(covered), "no training image of the request"
        ),
        "remaining_accuracy_percent": _percent(kept, "no other training image"),
        "test_accuracy_percent": _percent(kept_test, "no other test image"),
        "unlearn_accuracy_test_percent": _percent(
            _complement(covered_test), "no test image of the request"
        ),
        "evaluator_accuracy_percent": _percent(overall, "no test image"),
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


def _covered_and_kept(outputs, request):
    """(accuracy on the images that the request covers, accuracy on the others).

    Multi-label: of images with the finding, the fraction in which it is found (of several, the
    mean fraction of those that an image is tested for); of the others, the accuracy over the kept
    findings.
    """
    covered, others = outputs.split()
    correct = request.correct_fraction(covered.logits, covered.labels)
    known = correct.double().mean().item() if len(covered) else None
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
    elif len(kept) == 1:  # the Evaluator drops this dimension
        found = finding_auc(logits, labels[:, kept], 0)
    else:
        found = medmnist_scores(logits, labels[:, kept], task)[0]
    return _figure(found, "a kept class has no test image, or every one")


def _figure(value, why_undefined):
    return undefined(why_undefined) if value is None else Figure(value)


def _percent(fraction, why_undefined):
    return _figure(fraction, why_undefined).times(100)


def _complement(fraction):
    return None if fraction is None else 1 - fraction


MEASURE = Measure(
    name="accuracy and AUC",
    group="forgetting",
    explanation="The best unlearn accuracy is Retrain's, which need not be 100%. The figures of "
    "MedMNIST's Evaluator count every class, so that forgetting one lowers them.",
    compute=compute,
    rows=(
        Row("unlearn_accuracy_percent", "unlearn accuracy, training images"),
        Row("unlearn_accuracy_test_percent", "unlearn accuracy, test images"),
        Row("finding_auc", "AUC of the finding, test images"),
        Row("remaining_accuracy_percent", "remaining accuracy, training images", "utility"),
        Row("test_accuracy_percent", "test accuracy, kept classes", "utility"),
        Row("kept_auc", "AUC, kept classes", "utility"),
        Row("evaluator_accuracy_percent", "accuracy by MedMNIST's Evaluator", "utility"),
        Row("evaluator_auc", "AUC by MedMNIST's Evaluator", "utility"),
    ),
    columns=(
        Column("unlearn_accuracy_percent", "unlearn accuracy"),
        Column("remaining_accuracy_percent", "remaining accuracy"),
        Column("test_accuracy_percent", "test accuracy"),
    ),
    always=True,
)
