"""The rows of a comparison: one per method, its figures over seeds, its utility and its rank."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from evaluation.comparison.distances import SetDistances
from evaluation.comparison.ranks import Rank, better_by_images, ranks_by_value, ranks_of
from evaluation.figure import Figure
from evaluation.measure import AVERAGE_GAP, RATIO_KEYS, SETS, Column
from evaluation.registry import MEASURES, find_columns
from unlearn.lineage.parents import RETRAIN

NOTHING_DONE = "base model"
CHANGED_NOTHING, LOSES_UTILITY = "changed nothing", "loses utility"  # why there is no rank
COLUMNS = find_columns(MEASURES, first=AVERAGE_GAP)
SET_OF = dict(zip(RATIO_KEYS, SETS, strict=True))
UTILITY = {"test_accuracy_percent": "test", "remaining_accuracy_percent": "remaining"}
# The reference is the worst Retrain, because Retrains of one recipe differ, too, and a method must
# not lose its rank by chance.
MAX_LOSS = 2.0  # percentage points
TWO_RETRAINS = (
    "its ratios are 1 by definition, because there are only two: --retrains 3 or more compares "
    "each of them with the others"
)
SAME_AS_BASE = "its weights, or all of its outputs, are those of the base model"


@dataclass(frozen=True)
class Row:
    """A method, Retrain or the base model.

    name: a method's id. values: key of a column -> numbers, one per seed, or one per base model.
    figures: of RATIO_KEYS. losses: key of UTILITY -> percentage points below the worst Retrain.
    is_unchanged: whether all models of the method equal the base model. failure: why a seed failed,
    or None.
    """

    name: str
    values: dict[str, list[float]]
    failure: str | None = None
    figures: Mapping[str, Figure] = field(default_factory=dict)
    losses: Mapping[str, float] = field(default_factory=dict)
    is_unchanged: bool = False
    rank: Rank | None = None

    def mean(self, key: str) -> float | None:
        """Return the mean over the seeds that have the figure, None if none has."""
        found = self.values.get(key)
        return statistics.fmean(found) if found else None

    def spread(self, key: str) -> float | None:
        """Return the sample standard deviation over seeds, None for fewer than two."""
        found = self.values.get(key) or ()
        return statistics.stdev(found) if len(found) > 1 else None

    def score(self, key: str) -> float | None:
        """Return the figure that rows are ranked by, None if it is undefined."""
        return self.figures[key].value if key in self.figures else self.mean(key)

    @property
    def count(self) -> int:
        """The number of seeds, or base models, that it has figures of."""
        return max((len(self.values.get(column.key, ())) for column in COLUMNS), default=0)

    @property
    def is_method(self) -> bool:
        """Whether it is neither Retrain nor the base model."""
        return self.name not in (RETRAIN, NOTHING_DONE)

    @property
    def keeps_utility(self) -> bool | None:
        """Whether no loss is above MAX_LOSS; None if it is unknown."""
        return max(self.losses.values()) <= MAX_LOSS if self.losses else None

    @property
    def status(self) -> str | None:
        """The rank, or in a few words why there is none."""
        if not self.count:
            return "failed"
        if not self.is_method:
            return "reference" if self.name == RETRAIN else "nothing done"
        if self.is_unchanged:
            return CHANGED_NOTHING
        if self.keeps_utility is False:
            return LOSES_UTILITY
        return None if self.rank is None else str(self.rank)

    @property
    def note(self) -> str:
        """What its status means, empty where there is nothing to explain."""
        if self.name == RETRAIN and any(each.low is None for each in self.figures.values()):
            return TWO_RETRAINS
        if self.status == CHANGED_NOTHING:
            return f"{CHANGED_NOTHING}: {SAME_AS_BASE}"
        if self.status == LOSES_UTILITY:
            parts = [
                f"{UTILITY[key]} accuracy {loss:.2f} points below the worst Retrain"
                for key, loss in self.losses.items()
                if loss > MAX_LOSS
            ]
            return f"{LOSES_UTILITY}: {' and '.join(parts)}"
        return ""


def make_rows(
    base: Mapping,
    trials: Mapping[str, Mapping[int, Mapping]],
    failures: Mapping[str, str],
    *,
    distances: Mapping[str, SetDistances] | None = None,
    unchanged: Sequence[str] = (),
    retrain_offset: int = 0,
    columns: Sequence[Column] = COLUMNS,
) -> list[Row]:
    """Return the rows of one base model, in any order and without ranks.

    base: figures of the base model. trials: method id -> seed -> figures, as plain data. failures:
    method id -> why. distances: by the names of SETS. unchanged: ids of methods that changed
    nothing. A trial is compared with the Retrain of the same seed plus `retrain_offset`; Retrain
    itself with the Retrain of the previous seed, which shows how far apart two Retrains are.
    """
    retrains = trials.get(RETRAIN, {})
    pairs = {seed - retrain_offset: figures for seed, figures in retrains.items()}
    by_method = {NOTHING_DONE: dict.fromkeys(pairs or [None], base), **trials}
    by_method[RETRAIN] = {seed - retrain_offset: each for seed, each in sorted(retrains.items())}
    for name in failures:
        by_method.setdefault(name, {})
    if not retrains and RETRAIN not in failures:
        del by_method[RETRAIN]
    rows = []
    for name, by_seed in by_method.items():
        values = _values(name, by_seed, dict(sorted(pairs.items())), columns)
        found = _ratio_figures(name, distances or {})
        for key, set_distances in _by_key(distances or {}).items():
            values[key] = set_distances.by_model.get(name, [])
        rows.append(
            Row(
                name,
                values,
                failures.get(name),
                found,
                _losses(values, retrains),
                name in unchanged,
            )
        )
    return rows


def rank_rows(
    rows: Sequence[Row], rank_by: str, compare: Callable[[list[str]], np.ndarray] | None
) -> list[Row]:
    """Return the rows with ranks, in the order of the table.

    It is: Retrain, ranked methods, methods without a rank, the base model, what failed. A method
    has a rank if it keeps utility, changed something, and has the figure `rank_by`. compare: names
    -> (K, K) bool, which method is surely better than which, see ranks.py; None ranks by the value
    alone.
    """
    ranked = [
        row
        for row in rows
        if row.is_method
        and row.keeps_utility
        and not row.is_unchanged
        and row.score(rank_by) is not None
    ]
    if compare is None:
        ranks = ranks_by_value([row.score(rank_by) for row in ranked])
    else:
        ranks = ranks_of(compare([row.name for row in ranked]))
    by_name = {row.name: rank for row, rank in zip(ranked, ranks, strict=True)}
    rows = [replace(row, rank=by_name.get(row.name)) for row in rows]
    return sorted(rows, key=lambda row: _place(row, rank_by))


def compare_by_images(
    distances: Mapping[str, SetDistances], rank_by: str
) -> Callable[[list[str]], np.ndarray] | None:
    """Return `compare` of `rank_rows` for one base model, None if `rank_by` has no interval."""
    found = _by_key(distances).get(rank_by)
    if found is None:
        return None
    return lambda names: better_by_images([found.estimates[name] for name in names], found.floored)


def _place(row, rank_by):
    if row.name == RETRAIN:
        group = 0
    elif row.rank is not None:
        group = 1
    elif not row.count:
        group = 4
    else:
        group = 3 if row.name == NOTHING_DONE else 2
    scores = [row.score(key) for key in (rank_by, AVERAGE_GAP)]
    score = next((score for score in scores if score is not None), None)
    return group, row.rank.value if row.rank else 0, score is None, score or 0.0


def _by_key(distances):
    return {key: distances[name] for key, name in SET_OF.items() if name in distances}


def _ratio_figures(name, distances):
    found = {}
    for key, each in _by_key(distances).items():
        if name == RETRAIN:
            figure = each.retrain or Figure(1.0)
            # the floor may be active for two of the Retrains, and not for all of them
            found[key] = figure if each.floored else replace(figure, note=None)
        elif name in each.figures:
            found[key] = each.figures[name]
    return found


def _losses(values, retrains):
    losses = {}
    for key in UTILITY:
        references = [figures[key] for figures in retrains.values() if figures.get(key) is not None]
        if references and values.get(key):
            losses[key] = min(references) - statistics.fmean(values[key])
    return losses


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
