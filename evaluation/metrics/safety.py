"""Clinical safety of an unlearned model beside its base model, as Figures by key."""

import numpy as np

from evaluation.figure import Figure
from evaluation.metrics.clinical import (
    class_rates,
    expected_cost,
    sensitivity_spread,
    significantly_worse,
    worst_sensitivity,
)
from evaluation.metrics.fairness import group_gaps


def safety_figures(test, kept, *, costs=None, groups=None):
    """Figures by key of one model's test Outputs.

    kept: class indices that are not to be forgotten. costs: (K, K). groups: (N,) str. Costs and
    gaps between groups are of the images of the kept classes (multi-label: of the kept findings).
    """
    predicted, labels = predictions(test), test.labels.numpy()
    num_classes = test.logits.shape[1]
    rates = class_rates(predicted, labels, num_classes)
    figures = {}
    for number, rate in enumerate(rates):
        figures[f"class_{number}_sensitivity_percent"] = rate.sensitivity.times(100)
        figures[f"class_{number}_specificity_percent"] = rate.specificity.times(100)
    worst, which = worst_sensitivity(rates, kept)
    figures["worst_sensitivity_percent"] = worst.times(100)
    if which is not None:
        figures["worst_sensitivity_class"] = Figure(which)
    figures["sensitivity_spread_points"] = sensitivity_spread(rates, kept).times(100)
    if costs is not None:
        figures["expected_cost_all_classes"] = expected_cost(predicted, labels, costs)
    if labels.ndim == 1:
        images = np.isin(labels, kept)
        predicted, labels = predicted[images], labels[images]
        groups = None if groups is None else groups[images]
    else:
        predicted, labels, num_classes = predicted[:, kept], labels[:, kept], len(kept)
    if costs is not None:
        figures["expected_cost"] = expected_cost(predicted, labels, costs)
    if groups is not None:
        gaps = group_gaps(predicted, labels, groups, num_classes)
        for name in ("accuracy_gap", "equalized_odds_gap"):
            prefix = "group_" if name == "accuracy_gap" else ""
            for ending in ("", "_by_chance"):
                figure = getattr(gaps, name + ending)
                figures[f"{prefix}{name}{ending}_points"] = figure.times(100)
        for group, figure in gaps.accuracies.items():
            figures[f"group_accuracy_percent:{group}"] = figure.times(100)
    return figures


def predictions(outputs):
    """(N,) int top classes, or (N, K) of 0 and 1 for multi-label data; numpy."""
    if outputs.labels.ndim == 2:
        return (outputs.logits > 0).long().numpy()
    return outputs.logits.argmax(1).numpy()


def worsenings(before, after, kept):
    """evaluation.metrics.clinical.Worsening of each kept class, from two models' test Outputs."""
    labels = after.labels.numpy()
    right = [predictions(part) == labels for part in (before, after)]
    return significantly_worse(*right, labels, kept)


def worsening_figures(changes):
    """Figures by key of `worsenings`: what each kept class lost and gained, and the p-value."""
    return {
        f"class_{change.class_index}_{name}": Figure(value)
        for change in changes
        for side in ("_negatives" if change.negatives else "",)
        for name, value in (
            (f"lost{side}_images", change.lost),
            (f"gained{side}_images", change.gained),
            (f"worse{side}_p_value", change.p_value),
        )
    }
