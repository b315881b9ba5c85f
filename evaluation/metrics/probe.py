"""Linear probe: is the forgotten class still there, one layer below the outputs?

A model whose last layer alone was edited answers wrongly, and its penultimate features still tell
the class apart (Alain and Bengio, "Understanding intermediate layers using linear classifier
probes", 2016). Retrain is the yardstick: features learned without a class can separate it too.
"""

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from evaluation.figure import Figure, undefined

MOST = 4000  # training images
STEPS = 300  # of the solver
TOLERANCE = 1e-3
REGULARISATION = 0.1  # scikit-learn's C


def probe_accuracy(train_features, train_labels, test_features, test_labels, seed=1):
    """How well a probe of the features tells images that the request covers from the others.

    features: (N, D). labels: (N,) True for covered images. The probe is a logistic regression,
    both sides weighing the same, fitted to training images, the covered ones among them: the
    question is whether the features hold the class, not whether the probe may know it. The figure
    is its balanced accuracy on test images, 0 to 1: 0.5 is guessing.
    """
    train_labels, test_labels = np.asarray(train_labels, bool), np.asarray(test_labels, bool)
    for labels, split in ((train_labels, "training"), (test_labels, "test")):
        if labels.all() or not labels.any():
            which = "no" if not labels.any() else "every"
            return undefined(f"{which} {split} image is covered by the request")
    chosen = np.sort(_balanced_choice(train_labels, np.random.default_rng(seed)))
    scaler = StandardScaler().fit(train_features[chosen])
    probe = LogisticRegression(
        C=REGULARISATION, class_weight="balanced", max_iter=STEPS, tol=TOLERANCE
    )
    probe.fit(scaler.transform(train_features[chosen]), train_labels[chosen])
    right = probe.predict(scaler.transform(test_features)) == test_labels
    return Figure(float((right[test_labels].mean() + right[~test_labels].mean()) / 2))


def _balanced_choice(covered, rng):
    """Positions of at most MOST images, up to half of them covered."""
    sides = [rng.permutation(np.flatnonzero(covered == side)) for side in (True, False)]
    few = min(len(sides[0]), max(MOST // 2, MOST - len(sides[1])))
    return np.concatenate([sides[0][:few], sides[1][: MOST - few]])
