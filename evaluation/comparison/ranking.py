"""The table of a comparison: a row a method, mean and spread, nearest to Retrain first."""

import csv
import io
import statistics
from dataclasses import dataclass

from evaluation.figure import Figure, undefined
from evaluation.measures import share_of_time
from evaluation.metrics.distance import average_gap
from unlearn.lineage.parents import RETRAIN

NOTHING_DONE = "base model"
COLUMNS = {  # key of the CSV: heading of the printed table
    "average_gap_points": "average gap",
    "unlearn_accuracy_percent": "unlearn accuracy",
    "remaining_accuracy_percent": "remaining accuracy",
    "test_accuracy_percent": "test accuracy",
    "mia_efficacy_percent": "MIA efficacy",
    "attack_loss_auc": "attack AUC",
    "seconds": "seconds",
    "share_of_retrain_time_percent": "of Retrain's time",
}
DIGITS = {"attack_loss_auc": 3, "seconds": 1, "share_of_retrain_time_percent": 0}


@dataclass(frozen=True)
class Row:
    """name: a method's id. values: key of COLUMNS -> figures, one a seed. failure: why a seed has
    none, or None."""

    name: str
    values: dict[str, list[float]]
    failure: str | None = None

    def mean(self, key):
        """Over the seeds that have the figure, None if none has."""
        found = self.values.get(key)
        return statistics.fmean(found) if found else None

    def spread(self, key):
        """Sample standard deviation over seeds, None of fewer than two."""
        found = self.values.get(key) or ()
        return statistics.stdev(found) if len(found) > 1 else None


def ranked_rows(base, trials, failures):
    """Rows: Retrain, then all others by average gap, those without one last.

    base: figures of the base model. trials: method id -> seed -> figures, as plain data. failures:
    method id -> why. The gap of a seed is that from the Retrain of the same seed; that of Retrain
    itself from the Retrain of the seed before, which shows how far apart two Retrains are.
    """
    retrains = trials.get(RETRAIN, {})
    by_method = {NOTHING_DONE: dict.fromkeys(retrains or [None], base), **trials}
    for name in failures:
        by_method.setdefault(name, {})
    rows = [
        Row(name, _values(name, by_seed, retrains), failures.get(name))
        for name, by_seed in by_method.items()
    ]
    return sorted(rows, key=_place)


def cells(row):
    """The row as words: `1.67 ± 0.12`, None where there is nothing.

    The name tells how many seeds there are figures of, where another has failed.
    """
    count = max(map(len, row.values.values()), default=0)
    partly = f" ({count} seed{'s' if count > 1 else ''}, others failed)" if count else ""
    return [row.name + (partly if row.failure else ""), *(_cell(row, key) for key in COLUMNS)]


def to_csv(rows):
    """The bytes of a CSV: a line a row, with mean and standard deviation of each column."""
    text = io.StringIO()
    writer = csv.writer(text)
    ends = ("mean", "std")
    writer.writerow(
        ["method", "seeds", *(f"{key}_{end}" for key in COLUMNS for end in ends), "failure"]
    )
    for row in rows:
        pairs = ((row.mean(key), row.spread(key)) for key in COLUMNS)
        found = ["" if value is None else f"{value:.6g}" for pair in pairs for value in pair]
        seeds = max(map(len, row.values.values()), default=0)
        writer.writerow([row.name, seeds, *found, row.failure or ""])
    return text.getvalue().encode()


def describe_seeds(seeds):
    """What the figures of a table are of, in words."""
    if len(seeds) < 2:
        return f"seed {', '.join(map(str, seeds)) or 'none'}"
    return f"seeds {', '.join(map(str, seeds))}, mean ± standard deviation"


def to_markdown(rows, caption=""):
    """The bytes of a Markdown table below its caption, and below it why methods have failed."""
    lines = [caption, ""] if caption else []
    lines += [
        "| method | " + " | ".join(COLUMNS.values()) + " |",
        "| --- |" + " ---: |" * len(COLUMNS),
    ]
    for row in rows:
        name, *others = cells(row)
        name = f"**{name}**" if row.name == RETRAIN else name
        lines.append("| " + " | ".join([name, *(cell or "-" for cell in others)]) + " |")
    failed = [f"- {row.name}: {row.failure}" for row in rows if row.failure]
    if failed:
        lines += ["", "Failed:", "", *failed]
    return ("\n".join(lines) + "\n").encode()


def _values(name, by_seed, retrains):
    found = {key: [] for key in COLUMNS}
    seeds = list(retrains)
    for seed, figures in by_seed.items():
        for key in COLUMNS:
            if figures.get(key) is not None:
                found[key].append(figures[key])
        yardstick = retrains.get(seed)
        if name == RETRAIN:
            earlier = seeds[: seeds.index(seed)]
            yardstick = retrains[earlier[-1]] if earlier else None
        elif yardstick and "seconds" in figures:
            share = share_of_time(figures, yardstick)
            found["share_of_retrain_time_percent"] += [] if share is None else [share]
        gap = _gap(figures, yardstick)
        if gap is not None:
            found["average_gap_points"].append(gap)
    return found


def _gap(figures, yardstick):
    if yardstick is None:
        return None
    pair = (
        {
            key: undefined("not measured") if value is None else Figure(value)
            for key, value in part.items()
            if key.endswith("_percent")
        }
        for part in (figures, yardstick)
    )
    return average_gap(*pair).value


def _place(row):
    gap = row.mean("average_gap_points")
    return row.name != RETRAIN, gap is None, gap or 0.0


def _cell(row, key):
    mean, spread = row.mean(key), row.spread(key)
    if mean is None:
        return "failed" if row.failure and key == "average_gap_points" else None
    digits = DIGITS.get(key, 2)
    unit = "%" if key.endswith("_percent") else ""
    return f"{mean:.{digits}f}{unit}" + ("" if spread is None else f" ± {spread:.{digits}f}")
