"""Linear probe: can the forgotten class still be read from the features?

A model of which only the last layer was edited misclassifies the class, and its penultimate
features still separate it (Alain and Bengio, "Understanding intermediate layers using linear
classifier probes", 2016). Compare with Retrain: features learned without a class can separate it
too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from evaluation.figure import SINGLE_IMAGES, Figure, undefined
from evaluation.measure import Measure, Row

if TYPE_CHECKING:
    from evaluation.audit import Context

MAX_IMAGES = 4000  # training images
MAX_ITERATIONS = 300  # of the solver
TOLERANCE = 1e-3
REGULARISATION = 0.1  # scikit-learn's C


def compute(context: Context) -> dict[str, Figure]:
    """Return the balanced accuracy of the probe of any model, as Figures by key."""
    if context.request.indices is None:
        parts = (context.outputs["train"], context.outputs["test"])
        pairs = [(part.features.numpy(), part.covered.numpy()) for part in parts]
        found = probe_accuracy(*pairs[0], *pairs[1], context.seed)
    else:
        found = undefined(SINGLE_IMAGES)
    return {"probe_accuracy_percent": found.times(100)}


def probe_accuracy(
    train_features: np.ndarray,
    train_labels: np.ndarray,
    test_features: np.ndarray,
    test_labels: np.ndarray,
    seed: int = 1,
) -> Figure:
    """Return how well a probe separates images that the request covers from the others.

    features: (N, D). labels: (N,) True for covered images. The probe is a logistic regression with
    balanced class weights, fitted to training images, including covered ones: the question is
    whether the features hold the class, not whether the probe may use its labels. Returned is its
    balanced accuracy on test images, 0 to 1; 0.5 is guessing.
    """
    train_labels, test_labels = np.asarray(train_labels, bool), np.asarray(test_labels, bool)
    for labels, split in ((train_labels, "training"), (test_labels, "test")):
        if labels.all() or not labels.any():
            which = "no" if not labels.any() else "every"
            return undefined(f"{which} {split} image is covered by the request")
    chosen = np.sort(_balanced_choice(train_labels, np.random.default_rng(seed)))
    scaler = StandardScaler().fit(train_features[chosen])
    probe = LogisticRegression(
        C=REGULARISATION, class_weight="balanced", max_iter=MAX_ITERATIONS, tol=TOLERANCE
    )
    probe.fit(scaler.transform(train_features[chosen]), train_labels[chosen])
    correct = probe.predict(scaler.transform(test_features)) == test_labels
    return Figure(float((correct[test_labels].mean() + correct[~test_labels].mean()) / 2))


def _balanced_choice(covered, rng):
    """Positions of at most MAX_IMAGES images, up to half of them covered."""
    sides = [rng.permutation(np.flatnonzero(covered == side)) for side in (True, False)]
    count = min(len(sides[0]), max(MAX_IMAGES // 2, MAX_IMAGES - len(sides[1])))
    return np.concatenate([sides[0][:count], sides[1][: MAX_IMAGES - count]])


MEASURE = Measure(
    name="linear probe",
    group="inside",
    explanation="A probe accuracy well above Retrain's shows that the features still separate a "
    "forgotten class.",
    compute=compute,
    rows=(Row("probe_accuracy_percent", "linear probe of the features (50%: guessing)"),),
)
