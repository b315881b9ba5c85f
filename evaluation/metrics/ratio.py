"""How far a model is from several Retrains, relative to how far they are from each other.

What the figures cannot see: memory that does not show in the outputs (relearning, probes), and
memory that is smaller than the differences of Retrains: a few images in a large forget set are
averaged away (see metrics/paired_memory.py). They depend on the recipe: Retrains that are trained
too little differ more, and every model is near them. A model that is equally far away in a harmful
and in a harmless direction has the same figure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from scipy.stats import gmean

from evaluation.figure import IS_RETRAIN, Figure, undefined
from evaluation.measure import SETS, Measure, Row
from evaluation.outputs import LabelledLogits, Outputs, sets_of
from evaluation.retrains.pairwise import (
    confusion_distances,
    disagreements,
    js_divergences,
    mean_distances,
)
from evaluation.retrains.relative import (
    Distances,
    distance_ratio,
    mean_between,
    measure_distances,
    select,
)
from evaluation.settings import MIN_RETRAINS
from unlearn.lineage.parents import RETRAIN

if TYPE_CHECKING:
    from evaluation.audit import Context
    from unlearn.request.request import ForgetRequest

# Two models whose outputs are opposite and certain on one image in 200, and equal on all others,
# are 0.005 bits apart, and disagree on 0.005 of the images. Smaller differences of Retrains are of
# no consequence, and a quotient of two of them would be noise.
FLOOR = 0.005
MIN_LEFT_OUT = MIN_RETRAINS + 1  # Retrains, of which one is compared with the others
DISTANCES = {"js": js_divergences, "disagreement": disagreements}
CONFUSION = "confusion_ratio_forget"
MORE_RETRAINS = "create more with main_unlearn.py --unlearn Retrain --seed N"
KEYS = (*(f"{stem}_ratio_{name}" for stem in DISTANCES for name in SETS), CONFUSION)
Sets = Mapping[str, LabelledLogits]  # by the names of SETS


def compute(context: Context) -> dict[str, Figure]:
    """Return the relative distances of a model; for Retrain the mean of each one left out."""
    retrains = [comparable_sets(each) for each in context.retrains()]
    minimum = MIN_LEFT_OUT if context.is_retrain else MIN_RETRAINS
    if len(retrains) >= minimum:
        if context.is_retrain:
            return leave_one_out(retrains, context.seed)
        return ratio_figures([comparable_sets(context)], retrains, context.seed)
    if not context.is_tested and len(retrains) < MIN_RETRAINS:
        return {}
    reason = too_few_retrains(minimum, len(retrains))
    if context.is_retrain:
        reason = f"for the column of Retrain, {reason}"
    if context.record.get("method") == RETRAIN and context.is_tested:
        reason = f"{IS_RETRAIN}: besides it, {reason}"
    return dict.fromkeys(KEYS, undefined(reason))


def comparable_sets(context: Context) -> dict[str, LabelledLogits]:
    """Return the outputs of a model for each set, by the names of SETS.

    In multi-label data all findings are compared, on the forget set those of the request.
    """
    return comparable_outputs(context.outputs, context.request)


def comparable_outputs(
    outputs: Mapping[str, Outputs], request: ForgetRequest
) -> dict[str, LabelledLogits]:
    """Return the same as `comparable_sets`, from the outputs for the splits train and test."""
    sets = sets_of(outputs)
    forget = sets["forget"]
    if forget.labels.ndim == 2:
        columns = request.findings(forget.labels.shape[1])
        sets["forget"] = LabelledLogits(forget.logits[:, columns], forget.labels[:, columns])
    return sets


def too_few_retrains(minimum: int, count: int) -> str:
    """Return why `count` Retrains are too few, and how to get more."""
    verb = "is" if count == 1 else "are"
    return (
        f"{minimum} Retrains of different seeds are needed, and there {verb} {count}: "
        f"{MORE_RETRAINS}"
    )


def ratio_figures(
    models: Sequence[Sets], retrains: Sequence[Sets], seed: int = 1
) -> dict[str, Figure]:
    """Return the relative distances of the models of one method from Retrains, Figures by key.

    models: of one method with different seeds, whose mean distances are compared. Both: the
    comparable_sets of each model.
    """
    distances = _distances([*models, *retrains], seed, KEYS)
    places = range(len(models)), range(len(models), len(models) + len(retrains))
    return {key: relative_figure(key, each, *places) for key, each in distances.items()}


def leave_one_out(retrains: Sequence[Sets], seed: int = 1) -> dict[str, Figure]:
    """Return the relative distances of each Retrain from the others, Figures by key.

    The value is the geometric mean, because a ratio of 2 and one of 1/2 are equally far from 1; the
    interval is from the least to the greatest. Raises ValueError with fewer than MIN_LEFT_OUT
    Retrains.
    """
    found = left_out_figures(retrains, seed)
    return {key: _geometric_mean([figures[key] for figures in found]) for key in KEYS}


def left_out_figures(
    retrains: Sequence[Sets], seed: int = 1, keys: Sequence[str] = KEYS
) -> list[dict[str, Figure]]:
    """Return for each Retrain its relative distances from the others, Figures by key.

    keys: some of KEYS. Raises ValueError with fewer than MIN_LEFT_OUT Retrains.
    """
    if len(retrains) < MIN_LEFT_OUT:
        raise ValueError(too_few_retrains(MIN_LEFT_OUT, len(retrains)))
    distances, places = _distances(retrains, seed, keys), range(len(retrains))
    return [
        {
            key: relative_figure(key, each, [left_out], [one for one in places if one != left_out])
            for key, each in distances.items()
        }
        for left_out in places
    ]


def left_out_figure(key: str, distances: Distances) -> Figure:
    """Return the same as `leave_one_out` for one of KEYS. distances: of the Retrains."""
    places = range(len(distances.observed))
    return _geometric_mean(
        [
            relative_figure(key, distances, [left_out], [one for one in places if one != left_out])
            for left_out in places
        ]
    )


def relative_figure(
    key: str, distances: Distances | None, models: Sequence[int], retrains: Sequence[int]
) -> Figure:
    """Return the relative distance of models from Retrains, by their places in `distances`.

    key: one of KEYS. distances: of all of them from each other, None where there is no image.
    """
    if distances is None:
        return undefined("no image")
    return ratio_figure(key, *select(distances, models, retrains), len(models))


def ratio_figure(key: str, to_retrains: Distances, among: Distances, models: int) -> Figure:
    """Return the relative distance of the models of one method from Retrains.

    key: one of KEYS. to_retrains, among: see evaluation.retrains.relative.select. models: their
    number. The note of the Figure says if the floor takes the place of the Retrains' distance.
    """
    is_squared = key == CONFUSION
    floor = FLOOR**2 if is_squared else FLOOR
    figure = distance_ratio(to_retrains, among, models, floor, 0.5 if is_squared else 1.0)
    if mean_between(among.observed) >= floor:
        return figure
    unit = " bits" if key.startswith("js") else ""
    note = (
        f"the Retrains differ by less than {FLOOR:g}{unit}, which takes the place of their "
        "distance: up to 1 is no distance"
    )
    return replace(figure, note=note)


def _distances(models, seed, keys):
    """Key -> the Distances of models from each other, None where there is no image."""
    labels = models[0]["forget"].labels
    multi_label = labels.ndim == 2
    found = {}
    for name in SETS:
        outputs = [sets[name].logits for sets in models]
        images = len(outputs[0])
        if images == 0:
            continue
        measurements = {
            key: mean_distances(distance, outputs, multi_label)
            for stem, distance in DISTANCES.items()
            if (key := f"{stem}_ratio_{name}") in keys
        }
        if name == "forget" and CONFUSION in keys:
            measurements[CONFUSION] = confusion_distances(outputs, labels, multi_label)
        measured = measure_distances(list(measurements.values()), images, seed)
        found |= zip(measurements, measured, strict=True)
    return {key: found.get(key) for key in keys}


def _geometric_mean(figures):
    values = [figure.value for figure in figures]
    if None in values:
        return next(figure for figure in figures if not figure.is_defined)
    note = next((figure.note for figure in figures if figure.note), None)
    mean = float(gmean(values)) if min(values) > 0 else 0.0  # one is 0 only if all Retrains agree
    return Figure(mean, min(values), max(values), note=note)


MEASURE = Measure(
    name="distance relative to Retrain's own spread",
    group="distance",
    explanation="The mean distance from several Retrains over their mean distance from each other: "
    "1 means as near as another Retrain. The column of Retrain compares each Retrain with the "
    "others: the geometric mean, from the least to the greatest.",
    compute=compute,
    rows=(
        *(Row(f"js_ratio_{name}", f"JS ratio, {name} set") for name in SETS),
        *(Row(f"disagreement_ratio_{name}", f"disagreement ratio, {name} set") for name in SETS),
        Row(CONFUSION, "confusion ratio, forget set"),
    ),
    inputs=("retrain_weights_digests",),
)
