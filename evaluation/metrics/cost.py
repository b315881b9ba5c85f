"""Seconds that unlearning took, and their percentage of Retrain's, as recorded in the models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from evaluation.figure import IS_RETRAIN, NO_RETRAIN, Figure, undefined
from evaluation.measure import Column, Measure, Row
from unlearn.lineage.parents import RETRAIN

if TYPE_CHECKING:
    from evaluation.audit import Context

PERCENTAGE = "share_of_retrain_time_percent"  # key


def compute(context: Context) -> dict[str, Figure]:
    """Return the figures of the tested model and of Retrain, by key."""
    if not (context.is_tested or context.is_retrain):
        return {}
    record = context.record
    if record.get("kind") != "unlearned" or "seconds" not in record:
        return {"unlearn_seconds": undefined("the model file records no unlearning")}
    figures = {"unlearn_seconds": Figure(record["seconds"])}
    if context.retrain is None:
        is_retrain = record.get("method") == RETRAIN
        figures[PERCENTAGE] = undefined(IS_RETRAIN if is_retrain else NO_RETRAIN)
    else:
        figures[PERCENTAGE] = percentage_of_time(record, context.retrain.record)
    return figures


def percentage_of_time(record: Mapping, retrain_record: Mapping) -> Figure:
    """Return the seconds of a model as a percentage of Retrain's.

    Both: plain data with `seconds` and `device`.
    """
    if record.get("device") != retrain_record.get("device"):
        return undefined("it was measured on another device, or with other threads")
    if not retrain_record.get("seconds"):
        return undefined("the model file of Retrain records no time")
    return Figure(100 * record["seconds"] / retrain_record["seconds"])


def percentage_of_trials(figures: Mapping, retrain_figures: Mapping | None) -> float | None:
    """Return the same of two trials of main_compare, None for Retrain and the base model."""
    if not retrain_figures or "seconds" not in figures or figures.get("method") == RETRAIN:
        return None
    return percentage_of_time(figures, retrain_figures).value


def seconds(figures: Mapping, retrain_figures: Mapping | None) -> float | None:
    """Return the seconds of a trial of main_compare, None for the base model."""
    return figures.get("seconds")


MEASURE = Measure(
    name="time",
    group="cost",
    explanation="Measured when the models were made; only seconds on the same machine are "
    "comparable.",
    compute=compute,
    rows=(
        Row("unlearn_seconds", "seconds"),
        Row(PERCENTAGE, "% of Retrain's time"),
    ),
    columns=(
        Column("seconds", "seconds", 1, derive=seconds),
        Column(PERCENTAGE, "% of Retrain's time", 0, percentage_of_trials),
    ),
)
