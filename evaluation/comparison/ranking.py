"""The table of a comparison: a row per method, mean and spread over seeds, ranked by distance."""

from __future__ import annotations

import csv
import io
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from evaluation.measure import Column
from evaluation.registry import MEASURES, find_columns
from unlearn.lineage.parents import RETRAIN

NOTHING_DONE = "base model"
RANKED_BY = "average_gap_points"
COLUMNS = find_columns(MEASURES, first=RANKED_BY)


@dataclass(frozen=True)
class Row:
    """name: a method's id. values: key of a column -> numbers, one per seed. failure: why a seed
    failed, or None."""

    name: str
    values: dict[str, list[float]]
    failure: str | None = None

    def mean(self, key: str) -> float | None:
        """Return the mean over the seeds that have the figure, None if none has."""
        found = self.values.get(key)
        return statistics.fmean(found) if found else None

    def spread(self, key: str) -> float | None:
        """Return the sample standard deviation over seeds, None for fewer than two."""
        found = self.values.get(key) or ()
        return statistics.stdev(found) if len(found) > 1 else None


def ranked_rows(
    base: Mapping,
    trials: Mapping[str, Mapping[int, Mapping]],
    failures: Mapping[str, str],
    columns: Sequence[Column] = COLUMNS,
) -> list[Row]:
    """Return the rows: Retrain, then all others by average gap, those without one last.

    base: figures of the base model. trials: method id -> seed -> figures, as plain data. failures:
    method id -> why. A trial is compared with the Retrain of the same seed; Retrain itself with the
    Retrain of the previous seed, which shows how far apart two Retrains are.
    """
    retrains = trials.get(RETRAIN, {})
    by_method = {NOTHING_DONE: dict.fromkeys(retrains or [None], base), **trials}
    for name in failures:
        by_method.setdefault(name, {})
    rows = [
        Row(name, _values(name, by_seed, retrains, columns), failures.get(name))
        for name, by_seed in by_method.items()
    ]
    return sorted(rows, key=_rank)


def cells(row: Row, columns: Sequence[Column] = COLUMNS) -> list[str | None]:
    """Return the row as text such as `1.67 ± 0.12`, None for a missing figure.

    If a seed has failed, the name says how many seeds the figures are of.
    """
    count = max(map(len, row.values.values()), default=0)
    partly = f" ({count} seed{'s' if count > 1 else ''}, others failed)" if count else ""
    return [row.name + (partly if row.failure else ""), *(_cell(row, column) for column in columns)]


def to_csv(rows: Sequence[Row], columns: Sequence[Column] = COLUMNS) -> bytes:
    """Return the bytes of a CSV: a line per row, mean and standard deviation of each column."""
    text = io.StringIO()
    writer = csv.writer(text)
    ends = ("mean", "std")
    writer.writerow(
        ["method", "seeds", *(f"{each.key}_{end}" for each in columns for end in ends), "failure"]
    )
    for row in rows:
        pairs = ((row.mean(each.key), row.spread(each.key)) for each in columns)
        found = ["" if value is None else f"{value:.6g}" for pair in pairs for value in pair]
        seeds = max(map(len, row.values.values()), default=0)
        writer.writerow([row.name, seeds, *found, row.failure or ""])
    return text.getvalue().encode()


def describe_seeds(seeds: Sequence[int]) -> str:
    """Return a description of the seeds of a table."""
    if len(seeds) < 2:
        return f"seed {', '.join(map(str, seeds)) or 'none'}"
    return f"seeds {', '.join(map(str, seeds))}, mean ± standard deviation"


def to_markdown(
    rows: Sequence[Row], caption: str = "", columns: Sequence[Column] = COLUMNS
) -> bytes:
    """Return the bytes of a Markdown table below its caption, followed by the failed methods."""
    lines = [caption, ""] if caption else []
    lines += [
        "| method | " + " | ".join(column.heading for column in columns) + " |",
        "| --- |" + " ---: |" * len(columns),
    ]
    for row in rows:
        name, *others = cells(row, columns)
        name = f"**{name}**" if row.name == RETRAIN else name
        lines.append("| " + " | ".join([name, *(cell or "-" for cell in others)]) + " |")
    failed = [f"- {row.name}: {row.failure}" for row in rows if row.failure]
    if failed:
        lines += ["", "Failed:", "", *failed]
    return ("\n".join(lines) + "\n").encode()


def _values(name, by_seed, retrains, columns):
    found = {column.key: [] for column in columns}
    seeds = list(retrains)
    for seed, figures in by_seed.items():
        retrain = retrains.get(seed)
        if name == RETRAIN:
            previous = seeds[: seeds.index(seed)]
            retrain = retrains[previous[-1]] if previous else None
        for column in columns:
            derive = column.derive
            value = derive(figures, retrain) if derive else figures.get(column.key)
            if value is not None:
                found[column.key].append(value)
    return found


def _rank(row):
    gap = row.mean(RANKED_BY)
    return row.name != RETRAIN, gap is None, gap or 0.0


def _cell(row, column):
    mean, spread = row.mean(column.key), row.spread(column.key)
    if mean is None:
        return "failed" if row.failure and column.key == RANKED_BY else None
    unit = "%" if column.key.endswith("_percent") else ""
    text = f"{mean:.{column.digits}f}{unit}"
    return text + ("" if spread is None else f" ± {spread:.{column.digits}f}")
