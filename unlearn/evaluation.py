"""How well a class was forgotten and what was kept, in the walkthrough's figures."""

from dataclasses import dataclass

from utils.metrics import accuracy, finding_auc
from utils.prediction import PREDICTION_BATCH, predict


@dataclass(frozen=True)
class ForgettingFigures:
    """Shares, 0 to 1; None where there is no image to measure on.

    unlearn_accuracy: 1 - accuracy on the forget request's training images. remaining_accuracy: on
    the other training images. test_accuracy: on the test images that the request does not cover.
    unlearn_accuracy_test: 1 - accuracy on the test images that it does cover. destinations: (K,)
    share of the request's training images now taken for each class; in multi-label data, in which
    each finding is seen. finding_auc_test: AUC of the finding over all test images, multi-label
    data only.
    """

    unlearn_accuracy: float | None
    remaining_accuracy: float | None
    test_accuracy: float | None
    unlearn_accuracy_test: float | None
    destinations: list[float] | None
    finding_auc_test: float | None = None


def forgetting_figures(model, dataset, request, batch_size=PREDICTION_BATCH):
    """The figures of `model`, base or unlearned, for `request`."""
    train = predict(model, dataset.train, batch_size)
    test = predict(model, dataset.test, batch_size)
    return figures_from_logits(train, dataset.train.labels, test, dataset.test.labels, request)


def destinations(model, forget_set, batch_size=PREDICTION_BATCH):
    """(K,) share of the forget set's images that `model` takes for each class, None if empty."""
    return _destinations(predict(model, forget_set, batch_size), forget_set.labels)


def figures_from_logits(train_logits, train_labels, test_logits, test_labels, request):
    """The same from (N, K) logits of all training and test images and their labels."""
    known_train, kept_train = _known_and_kept(train_logits, train_labels, request)
    known_test, kept_test = _known_and_kept(test_logits, test_labels, request)
    forgotten = request.members(train_labels)
    auc = None
    if test_labels.ndim == 2:
        auc = finding_auc(test_logits, test_labels, request.class_index)
    return ForgettingFigures(
        unlearn_accuracy=None if known_train is None else 1 - known_train,
        remaining_accuracy=kept_train,
        test_accuracy=kept_test,
        unlearn_accuracy_test=None if known_test is None else 1 - known_test,
        destinations=_destinations(train_logits[forgotten], train_labels[forgotten]),
        finding_auc_test=auc,
    )


def _known_and_kept(logits, labels, request):
    """(accuracy on what the request covers, accuracy on the rest).

    Multi-label: of images with the finding, the share in which it is found; of images without it,
    the accuracy over the other findings.
    """
    covered = request.members(labels)
    if labels.ndim == 1:
        return accuracy(logits[covered], labels[covered]), accuracy(
            logits[~covered], labels[~covered]
        )
    own = request.class_index
    others = [number for number in range(labels.shape[1]) if number != own]
    known = accuracy(logits[covered][:, [own]], labels[covered][:, [own]])
    return known, accuracy(logits[~covered][:, others], labels[~covered][:, others])


def _destinations(logits, labels):
    if len(labels) == 0:
        return None
    if labels.ndim == 2:
        return (logits > 0).float().mean(0).tolist()
    return (logits.argmax(1).bincount(minlength=logits.shape[1]) / len(labels)).tolist()
