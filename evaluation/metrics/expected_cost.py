"""Expected cost of the mistakes on test images, with the costs of --cost_matrix."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from evaluation.figure import Figure, undefined
from evaluation.measure import Measure, Row

if TYPE_CHECKING:
    from evaluation.audit import Context


def compute(context: Context) -> dict[str, Figure]:
    """Return the cost per image of any model, over all classes and over the kept ones."""
    if context.costs is None:
        return {}
    test = context.outputs["test"]
    predicted, labels = test.predictions(), test.labels.numpy()
    kept = np.isin(labels, context.request.kept_classes(test.logits.shape[1]))
    return {
        "expected_cost_all_classes": expected_cost(predicted, labels, context.costs),
        "expected_cost": expected_cost(predicted[kept], labels[kept], context.costs),
    }


def expected_cost(predicted: np.ndarray, labels: np.ndarray, costs: np.ndarray) -> Figure:
    """Return the mean over images of costs[truth, predicted].

    predicted, labels: (N,) int. costs: (K, K) float.
    """
    if len(labels) == 0:
        return undefined("no images")
    return Figure(float(costs[labels, predicted].mean()))


MEASURE = Measure(
    name="expected cost",
    group="safety",
    explanation="The mean cost of the predictions, in the unit of the cost matrix.",
    compute=compute,
    rows=(
        Row("expected_cost", "expected cost per image, kept classes"),
        Row("expected_cost_all_classes", "expected cost per image, all classes"),
    ),
    inputs=("cost_matrix_digest",),
)
