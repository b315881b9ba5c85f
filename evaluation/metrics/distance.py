"""How far the outputs of a model are from those of Retrain, which never saw the forget set."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from evaluation.figure import IS_RETRAIN, NO_RETRAIN, Figure, undefined
from evaluation.measure import SETS, Column, Measure, Row
from evaluation.metrics.mia_efficacy import compute as mia_efficacy_figures
from evaluation.outputs import sets_of
from evaluation.retrains.pairwise import disagreements, js_divergences
from unlearn.lineage.parents import RETRAIN

if TYPE_CHECKING:
    import torch

    from evaluation.audit import Context

GAP_KEYS = (
    "unlearn_accuracy_percent",
    "remaining_accuracy_percent",
    "test_accuracy_percent",
    "mia_efficacy_percent",
)
KEYS = (
    "average_gap_points",
    *(f"agreement_{name}_percent" for name in SETS),
    *(f"js_divergence_{name}" for name in SETS),
)
MAX_ACCURACY_LOSS = 5.0  # percentage points of remaining accuracy that Retrain may lack


def compute(context: Context) -> dict[str, Figure]:
    """Return the distance of any model from Retrain, and of a second Retrain from the first.

    The second distance stands in the column of Retrain: it is what two models differ by that
    differ in the seed only. Without a Retrain, the figures of the tested model are undefined.
    """
    retrain = context.retrain
    if retrain is None:
        is_retrain = context.record.get("method") == RETRAIN
        reason = undefined(IS_RETRAIN if is_retrain else NO_RETRAIN)
        return dict.fromkeys(KEYS, reason) if context.is_tested else {}
    context.measure("privacy")  # the average gap uses the MIA efficacy
    if not context.is_retrain:
        return distance_figures(context, retrain)
    second = next(iter(context.other_retrains()), None)
    if second is None:
        return {}
    second.figures |= mia_efficacy_figures(second)
    return distance_figures(second, retrain)


def distance_figures(context: Context, retrain: Context) -> dict[str, Figure]:
    """Return the distance of a model from Retrain, Figures by key; sets as in SETS.

    In multi-label data all findings are compared, on the forget set those of the request.
    """
    figures = {"average_gap_points": average_gap(context.figures, retrain.figures)}
    ours, theirs = sets_of(context.outputs), sets_of(retrain.outputs)
    multi_label = context.outputs["train"].labels.ndim == 2
    for name in SETS:
        logits = [part[name].logits for part in (ours, theirs)]
        if name == "forget" and multi_label:
            logits = [part[:, context.request.findings(part.shape[1])] for part in logits]
        figures[f"agreement_{name}_percent"] = agreement(*logits, multi_label).times(100)
        figures[f"js_divergence_{name}"] = js_divergence(*logits, multi_label)
    return figures


def warnings(context: Context) -> list[str]:
    """Return the line that says that Retrain was trained too little to be compared with."""
    if context.base is None or context.retrain is None:
        return []
    key = "remaining_accuracy_percent"
    base, retrain = (each.figures[key].value for each in (context.base, context.retrain))
    if base is None or retrain is None or base - retrain < MAX_ACCURACY_LOSS:
        return []
    return [
        f"Retrain recognises {retrain:.1f}% of the kept training images, the base model "
        f"{base:.1f}%: Retrain is a poor reference, train both longer"
    ]


def average_gap(figures: Mapping[str, Figure], retrain_figures: Mapping[str, Figure]) -> Figure:
    """Return the mean absolute difference from Retrain over GAP_KEYS, in percentage points.

    As SalUn tabulates it (Fan et al., ICLR 2024, table 1, "Avg. Gap"): unlearn, remaining and test
    accuracy and MIA efficacy. figures: Figures by key, in percent.
    """
    gaps = []
    for key in GAP_KEYS:
        pair = figures[key], retrain_figures[key]
        missing = next((figure for figure in pair if not figure.is_defined), None)
        if missing:
            return undefined(f"{key} is undefined: {missing.why_undefined}")
        gaps.append(abs(pair[0].value - pair[1].value))
    return Figure(float(np.mean(gaps)))


def gap_of_trials(figures: Mapping, retrain_figures: Mapping | None) -> float | None:
    """Return the average gap of two trials of main_compare, None if a figure is missing."""
    if retrain_figures is None:
        return None
    pairs = [(figures.get(key), retrain_figures.get(key)) for key in GAP_KEYS]
    if any(None in pair for pair in pairs):
        return None
    return float(np.mean([abs(ours - theirs) for ours, theirs in pairs]))


def agreement(logits: torch.Tensor, retrain_logits: torch.Tensor, multi_label: bool) -> Figure:
    """Return the fraction, 0 to 1, of predictions that both models share, from (N, K) logits."""
    if len(logits) == 0:
        return undefined("no image")
    return Figure(1 - float(disagreements(logits, retrain_logits, multi_label).mean()))


def js_divergence(logits: torch.Tensor, retrain_logits: torch.Tensor, multi_label: bool) -> Figure:
    """Return the mean Jensen-Shannon divergence of the outputs, in bits, from (N, K) logits."""
    if len(logits) == 0:
        return undefined("no image")
    return Figure(float(js_divergences(logits, retrain_logits, multi_label).mean()))


MEASURE = Measure(
    name="distance from Retrain",
    group="distance",
    explanation="Gaps and divergences of 0 and agreements of 100% would be Retrain itself. The "
    "column of Retrain gives the distance of a second Retrain from the first.",
    compute=compute,
    rows=(
        Row("average_gap_points", "average gap as tabulated by SalUn, points"),
        *(Row(f"agreement_{name}_percent", f"same predictions, {name} set") for name in SETS),
        *(Row(f"js_divergence_{name}", f"JS divergence, {name} set, bits") for name in SETS),
    ),
    warnings=warnings,
    inputs=("retrain_weights_digests",),  # the column of Retrain is of the second one
    columns=(Column("average_gap_points", "average gap", derive=gap_of_trials),),
)
