"""Fairness: how differently a model serves groups of patients."""

from dataclasses import dataclass

import numpy as np

from evaluation.clinical import members, share
from evaluation.figure import Figure, undefined


@dataclass(frozen=True)
class GroupGaps:
    """Gaps are differences of shares, 0 to 1: highest less lowest of the groups.

    accuracies: by group, with 95% intervals; for multi-label data the mean over findings.
    """

    accuracy_gap: Figure
    equalized_odds_gap: Figure
    accuracies: dict[str, Figure]


def group_gaps(predicted, labels, groups, num_classes):
    """GroupGaps of predictions and labels, (N,) int, or (N, K) of 0 and 1 for multi-label data.

    groups: (N,) str, each image's. Equalized odds (Hardt et al. 2016): a model that has them has
    the same true and false positive rates in all groups; the gap is the largest difference of
    either rate, for any class against the rest. A group that has no image to measure a rate on is
    left out of that rate.
    """
    which = {str(group): groups == group for group in np.unique(groups)}
    right = predicted == labels
    accuracies = {group: share(right[images], "no images") for group, images in which.items()}
    if len(which) < 2:
        alone = undefined("fewer than two groups")
        return GroupGaps(alone, alone, accuracies)
    accuracy_gap = Figure(_gap([figure.value for figure in accuracies.values()]))
    odds_gaps = _odds_gaps(predicted, labels, list(which.values()), num_classes)
    if odds_gaps:
        odds_gap = Figure(max(odds_gaps))
    else:
        odds_gap = undefined("no rate can be measured in two groups")
    return GroupGaps(accuracy_gap, odds_gap, accuracies)


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
