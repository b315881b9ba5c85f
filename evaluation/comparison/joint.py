"""Rows over several base models: mean, interval, and the parts of the variance.

A ratio is averaged as its logarithm, because a ratio of 2 and one of 1/2 are equally far from 1:
its mean over base models is a geometric one.
"""

from __future__ import annotations

import hashlib
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from evaluation.comparison.ranking import COLUMNS, UTILITY, Row
from evaluation.comparison.ranks import SMALLEST, better_by_base_models
from evaluation.comparison.results import BaseResult
from evaluation.comparison.variance import VarianceComponents, variance_components
from evaluation.comparison.variance_table import HEADINGS, MAX_LOGARITHM
from evaluation.figure import Figure
from evaluation.measure import RATIO_KEYS
from unlearn.lineage.parents import RETRAIN

MAX_JOINED = 100  # characters of all ids; the name of the table needs some for the request
FIRST_CHARACTERS, DIGEST_DIGITS = 60, 8  # of a shortened name


def joint_id(ids: Sequence[str]) -> str:
    """Return the name of several base models: their ids, shortened if they are long."""
    joined = "_and_".join(ids)
    if len(joined) <= MAX_JOINED:
        return joined
    digest = hashlib.sha256(joined.encode()).hexdigest()[:DIGEST_DIGITS]
    return f"{ids[0][:FIRST_CHARACTERS]}_and_{len(ids) - 1}_others-{digest}"


def joint_rows(results: Sequence[BaseResult]) -> list[Row]:
    """Return a row per method over the base models, in any order and without ranks.

    `values` has the mean over the seeds of each base model; `figures` the ratios, with Student's
    95% interval over the base models; `losses` the mean over them.
    """
    return [_joint_row(name, _rows_of(name, results)) for name in _names(results)]


def compare_base_models(
    results: Sequence[BaseResult], rank_by: str
) -> Callable[[list[str]], np.ndarray]:
    """Return `compare` of rank_rows: by the differences of two methods on each base model."""

    def compare(names):
        return better_by_base_models([values_by_base(results, name, rank_by) for name in names])

    return compare


def values_by_base(results: Sequence[BaseResult], name: str, key: str) -> list[float | None]:
    """Return the mean of a figure on each base model; of a ratio, the mean logarithm."""
    rows = [{row.name: row for row in result.rows}.get(name) for result in results]
    groups = [_values(row, key) if row else [] for row in rows]
    return [statistics.fmean(group) if group else None for group in groups]


def variances(results: Sequence[BaseResult]) -> dict[str, dict[str, VarianceComponents]]:
    """Return method -> key of variance_table.HEADINGS -> how its variance is split."""
    return {
        name: {
            key: variance_components(
                [_values(row, key) for row in _rows_of(name, results).values()]
            )
            for key in HEADINGS
        }
        for name in _names(results)
    }


def _names(results):
    return dict.fromkeys(row.name for result in results for row in result.rows)


def _rows_of(name, results):
    """Base model -> the row of this name, of the base models that have one."""
    return {result.base_id: row for result in results for row in result.rows if row.name == name}


def _joint_row(name, rows: Mapping[str, Row]):
    found = [row for row in rows.values() if row.count]
    means = {column.key: [row.mean(column.key) for row in found] for column in COLUMNS}
    failures = [f"{base_id}: {row.failure}" for base_id, row in rows.items() if row.failure]
    losses = {key: statistics.fmean(row.losses[key] for row in found) for key in _common(found)}
    return Row(
        name,
        {key: [value for value in values if value is not None] for key, values in means.items()},
        failures[0] if failures else None,
        {key: figure for key in RATIO_KEYS if (figure := _joint_ratio(found, key))},
        losses,
        bool(found) and all(row.is_unchanged for row in found),
    )


def _common(rows):
    """Keys of the losses that all rows have."""
    return [key for key in UTILITY if rows and all(key in row.losses for row in rows)]


def _joint_ratio(rows, key):
    groups = [group for row in rows if (group := _values(row, key))]
    if not groups:
        return None
    if all(row.name == RETRAIN and row.note for row in rows):
        return Figure(1.0)  # by definition, on each base model
    mean = variance_components(groups).mean
    ends = (mean.value, mean.low, mean.high)
    figure = Figure(*(None if end is None else math.exp(min(end, MAX_LOGARITHM)) for end in ends))
    figures = (row.figures.get(key) for row in rows)
    note = next((figure.note for figure in figures if figure and figure.note), None)
    return replace(figure, note=note)


def _values(row, key):
    """The figures of the unlearnings of one base model; of a ratio, the logarithms."""
    if key not in RATIO_KEYS:
        return row.values.get(key, [])
    own = row.figures.get(key)
    if own is None or not own.is_defined:
        return []
    ratios = row.values.get(key) or [own.value]  # Retrain has only the mean over its models
    return [math.log(max(ratio, SMALLEST)) for ratio in ratios]
