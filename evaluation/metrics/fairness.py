"""Fairness: how differently a model serves groups of patients."""

from dataclasses import dataclass

import numpy as np

from evaluation.figure import Figure, undefined
from evaluation.metrics.clinical import members, wilson_proportion

N_PERMUTATIONS = 200  # drawn, for what chance alone does


@dataclass(frozen=True)
class GroupGaps:
    """Gaps are differences of shares, 0 to 1: highest less lowest of the groups.

    ..._by_chance: the mean gap of as large groups drawn by lot: small groups are some way apart
    though the model treats them alike. accuracies: by group, with 95% intervals; for multi-label
    data the mean over findings.
    """

    accuracy_gap: Figure
    accuracy_gap_by_chance: Figure
    equalized_odds_gap: Figure
    equalized_odds_gap_by_chance: Figure
    accuracies: dict[str, Figure]


def group_gaps(predicted, labels, groups, num_classes, seed=1):
    """GroupGaps of predictions and labels, (N,) int, or (N, K) of 0 and 1 for multi-label data.

    groups: (N,) str, each image's. Equalized odds (Hardt et al. 2016): a model that has them has
    the same true and false positive rates in all groups; the gap is the largest difference of
    either rate, for any class against the rest. A group that has no image to measure a rate on is
    left out of that rate.
    """
    names = np.unique(groups)
    right = predicted == labels
    accuracies = {
        str(name): wilson_proportion(right[groups == name], "no images") for name in names
    }
    if len(names) < 2:
        return GroupGaps(*[undefined("fewer than two groups")] * 4, accuracies)
    gaps = _gaps(predicted, labels, right, groups, num_classes)
    rng = np.random.default_rng(seed)
    drawn = [
        _gaps(predicted, labels, right, rng.permutation(groups), num_classes)
        for _ in range(N_PERMUTATIONS)
    ]
    figures = []
    for found, by_lot in zip(gaps, zip(*drawn, strict=True), strict=True):
        known = [gap for gap in by_lot if gap is not None]
        for value in (found, np.mean(known) if known else None):
            why = "no rate can be measured in two groups"
            figures.append(undefined(why) if value is None else Figure(float(value)))
    return GroupGaps(*figures, accuracies)


def _gaps(predicted, labels, right, groups, num_classes):
    """(accuracy gap, equalized-odds gap or None)."""
    which = [groups == name for name in np.unique(groups)]
    odds = _odds_gaps(predicted, labels, which, num_classes)
    return _gap([float(right[group].mean()) for group in which]), max(odds, default=None)


def _odds_gaps(predicted, labels, groups, num_classes):
    gaps = []
    for number in range(num_classes):
        found, truth = members(predicted, number), members(labels, number)
        for images in (truth, ~truth):  # the true positive rate's, the false positive rate's
            measured = [found[images & group] for group in groups]
            rates = [float(part.mean()) for part in measured if len(part)]
            if len(rates) > 1:
                gaps.append(_gap(rates))
    return gaps


def _gap(values):
    return max(values) - min(values)
