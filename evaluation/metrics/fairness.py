"""Fairness: how much the accuracy of a model differs between the groups of --group_file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from evaluation.figure import Figure, undefined
from evaluation.measure import Measure, Row
from evaluation.outputs import class_members
from evaluation.statistics import wilson_proportion

if TYPE_CHECKING:
    from evaluation.audit import Context

N_PERMUTATIONS = 200  # of the group labels, for the gaps of random groups


@dataclass(frozen=True)
class GroupGaps:
    """Gaps are differences of fractions, 0 to 1: highest minus lowest of the groups.

    ..._by_chance: the mean gap of random groups of the same sizes; small groups differ even if the
    model treats them alike. accuracies: by group, with 95% intervals; for multi-label data the mean
    over findings.
    """

    accuracy_gap: Figure
    accuracy_gap_by_chance: Figure
    equalized_odds_gap: Figure
    equalized_odds_gap_by_chance: Figure
    accuracies: dict[str, Figure]


def compute(context: Context) -> dict[str, Figure]:
    """Return the gaps of any model on the test images of kept classes, Figures by key.

    In multi-label data on all test images, for the kept findings.
    """
    if context.groups is None:
        return {}
    test, groups = context.outputs["test"], context.groups
    predicted, labels = test.predictions(), test.labels.numpy()
    num_classes = test.logits.shape[1]
    kept = context.request.kept_classes(num_classes)
    if labels.ndim == 1:
        images = np.isin(labels, kept)
        predicted, labels, groups = predicted[images], labels[images], groups[images]
    else:
        predicted, labels, num_classes = predicted[:, kept], labels[:, kept], len(kept)
    gaps = group_gaps(predicted, labels, groups, num_classes)
    figures = {
        "group_accuracy_gap_points": gaps.accuracy_gap,
        "group_accuracy_gap_by_chance_points": gaps.accuracy_gap_by_chance,
        "equalized_odds_gap_points": gaps.equalized_odds_gap,
        "equalized_odds_gap_by_chance_points": gaps.equalized_odds_gap_by_chance,
        **{f"group_accuracy_percent:{name}": part for name, part in gaps.accuracies.items()},
    }
    return {key: figure.times(100) for key, figure in figures.items()}


def group_gaps(
    predicted: np.ndarray,
    labels: np.ndarray,
    groups: np.ndarray,
    num_classes: int,
    seed: int = 1,
) -> GroupGaps:
    """Return the GroupGaps of predictions.

    predicted, labels: (N,) int, or (N, K) of 0 and 1 for multi-label data. groups: (N,) str.
    Equalized odds (Hardt et al., "Equality of opportunity in supervised learning", NeurIPS 2016):
    the true and false positive rates are the same in all groups; the gap is the largest difference
    of either rate, for any class against the rest. A group without images to measure a rate on is
    left out of that rate.
    """
    names = np.unique(groups)
    correct = predicted == labels
    accuracies = {
        str(name): wilson_proportion(correct[groups == name], "no images") for name in names
    }
    if len(names) < 2:
        return GroupGaps(*[undefined("fewer than two groups")] * 4, accuracies)
    gaps = _gaps(predicted, labels, correct, groups, num_classes)
    rng = np.random.default_rng(seed)
    drawn = [
        _gaps(predicted, labels, correct, rng.permutation(groups), num_classes)
        for _ in range(N_PERMUTATIONS)
    ]
    figures = []
    for found, by_chance in zip(gaps, zip(*drawn, strict=True), strict=True):
        known = [gap for gap in by_chance if gap is not None]
        for value in (found, np.mean(known) if known else None):
            reason = "no rate can be measured in two groups"
            figures.append(undefined(reason) if value is None else Figure(float(value)))
    return GroupGaps(*figures, accuracies)


def _gaps(predicted, labels, correct, groups, num_classes):
    """(accuracy gap, equalized-odds gap or None)."""
    which = [groups == name for name in np.unique(groups)]
    odds = _odds_gaps(predicted, labels, which, num_classes)
    return _gap([float(correct[group].mean()) for group in which]), max(odds, default=None)


def _odds_gaps(predicted, labels, groups, num_classes):
    gaps = []
    for number in range(num_classes):
        found, truth = class_members(predicted, number), class_members(labels, number)
        for images in (truth, ~truth):  # for the true and the false positive rate
            measured = [found[images & group] for group in groups]
            rates = [float(part.mean()) for part in measured if len(part)]
            if len(rates) > 1:
                gaps.append(_gap(rates))
    return gaps


def _gap(values):
    return max(values) - min(values)


MEASURE = Measure(
    name="fairness",
    group="safety",
    explanation="Gaps between patient groups on images of kept classes; a gap matters if it is "
    "larger than that of random groups of the same sizes.",
    compute=compute,
    rows=(
        Row("group_accuracy_percent:{group}", "accuracy, group {group}"),
        Row("group_accuracy_gap_points", "accuracy gap between groups, points"),
        Row("group_accuracy_gap_by_chance_points", "  of random groups"),
        Row("equalized_odds_gap_points", "equalized-odds gap between groups, points"),
        Row("equalized_odds_gap_by_chance_points", "  of random groups"),
    ),
    inputs=("group_file_digest",),
)
