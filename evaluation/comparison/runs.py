"""The trials of one command: which are planned, which are finished, and running the others."""

from __future__ import annotations

import itertools
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from evaluation.comparison.trials import Comparison, Trial
from evaluation.settings import MIN_RETRAINS
from unlearn.engine.method import Method
from unlearn.lineage.parents import RETRAIN
from unlearn.registry import METHODS
from utils.runtime.errors import UserError, interrupt_with_hint

# Retrain does not depend on the base model's weights: with the same seed, the Retrains of two base
# models would be the same model, and not two of a sample.
SEED_STEP = 1000


@dataclass
class Run:
    """The trials on one base model.

    planned: by the command -> figures, None if they have to be run or failed. earlier: of earlier
    commands -> figures, None if they can be used no more. retrain_offset: the Retrain that a trial
    with seed s is compared with has the seed s + retrain_offset. other_seeds: seeds of Retrains
    that belong to other base models.
    """

    comparison: Comparison
    planned: dict[Trial, Mapping | None]
    earlier: dict[Trial, Mapping | None]
    retrain_offset: int = 0
    other_seeds: frozenset[int] = frozenset()

    def finished(self) -> dict[Trial, Mapping]:
        """Return the figures of all trials that have some, without other base models' Retrains."""
        return {
            trial: figures
            for trial, figures in {**self.earlier, **self.planned}.items()
            if figures is not None and not self._is_others(trial)
        }

    def failed_retrains(self) -> list[int]:
        """Return the seeds of the planned Retrains that are missing."""
        return [
            trial.seed
            for trial, figures in self.planned.items()
            if trial.method.id == RETRAIN and figures is None
        ]

    def _is_others(self, trial):
        return trial.method.id == RETRAIN and trial.seed in self.other_seeds


def plan_runs(
    comparisons: Sequence[Comparison],
    methods: Sequence[Method],
    seeds: Sequence[int],
    retrains: int | None = None,
) -> list[Run]:
    """Return the Run of each base model.

    seeds: of the methods. retrains: number of Retrains of each base model, by default as many as
    seeds; they are MIN_RETRAINS at least. The Retrains of base model k have the seeds plus k times
    SEED_STEP (or a multiple of it, if the seeds are as far apart); more of them have the seeds that
    follow, and those of earlier commands are used.
    """
    methods = [method for method in methods if method.id != RETRAIN]
    count = max(retrains or 0, len(seeds), MIN_RETRAINS)
    step = SEED_STEP * (1 + (max(seeds) - min(seeds)) // SEED_STEP)
    runs, taken = [], []
    for place, comparison in enumerate(comparisons):
        offset = place * step
        found = {trial: comparison.finished(trial) for trial in comparison.earlier()}
        known = {t.seed for t, figures in found.items() if t.method.id == RETRAIN and figures}
        later = [seed + step * k for k in range(place + 1, len(comparisons)) for seed in seeds]
        others = frozenset([*taken, *later])
        planned = retrain_seeds([seed + offset for seed in seeds], count, known, others)
        taken += [*planned, *(known - others)]
        trials = [Trial(METHODS[RETRAIN], seed) for seed in planned]
        trials += [Trial(method, seed) for seed in seeds for method in methods]
        # popped, so that no trial is in both
        own = {
            trial: found.pop(trial) if trial in found else comparison.finished(trial)
            for trial in trials
        }
        runs.append(Run(comparison, own, found, offset, others))
    return runs


def retrain_seeds(
    seeds: Sequence[int], count: int, known: Collection[int], others: Collection[int] = ()
) -> list[int]:
    """Return the seeds of the `count` Retrains of a command: `seeds`, and more if they are fewer.

    known: seeds of finished Retrains, which are taken first. others: seeds that are not used.
    """
    found = list(seeds)
    further = itertools.chain(sorted(set(known) - set(found)), itertools.count(max(found) + 1))
    while len(found) < count:
        seed = next(further)
        if seed not in found and seed not in others:
            found.append(seed)
    return found


def check_some_can_run(runs: Sequence[Run]) -> None:
    """Raise UserError before any work if no planned method but Retrain can run."""
    for run in runs:
        requested = [trial for trial in run.planned if trial.method.id != RETRAIN]
        faults = [run.comparison.fault(trial) for trial in requested]
        if requested and all(faults):
            raise UserError(faults[0])


def describe_plan(runs: Sequence[Run]) -> str:
    """Return how many trials there are, and how many of them have to be run."""
    figures = [figures for run in runs for figures in run.planned.values()]
    to_do = sum(each is None for each in figures)
    seeds = [str(t.seed) for run in runs for t in run.planned if t.method.id == RETRAIN]
    found = f"{_trials(len(figures))}, {len(seeds)} of Retrain (seeds {', '.join(seeds)})"
    if to_do == len(figures):
        return found
    return f"{found}: {len(figures) - to_do} of {len(figures)} trials are finished already"


def run_all(runs: Sequence[Run]) -> None:
    """Run the planned trials that have no figures; print each outcome and the remaining time."""
    to_do = [(run, trial) for run, trial in _all(runs) if run.planned[trial] is None]
    seconds = {
        trial.method: run.planned[trial]["seconds"]
        for run, trial in _all(runs)
        # unknown in some models of other programs
        if run.planned[trial] is not None and "seconds" in run.planned[trial]
    }
    while to_do:
        run, trial = to_do[0]
        where = f" on {run.comparison.base_id}" if len(runs) > 1 else ""
        print(f"\n{trial.method.id}, seed {trial.seed}{where}", flush=True)
        began = time.perf_counter()
        try:
            run.planned[trial] = run.comparison.run(trial)
        except KeyboardInterrupt as interrupt:
            every = [run.planned[trial] for run, trial in _all(runs)]
            finished = sum(each is not None for each in every)
            kept = f"{finished} of {len(every)} trials are finished; the same command continues"
            raise interrupt_with_hint(interrupt, kept) from None
        seconds[trial.method] = time.perf_counter() - began
        del to_do[0]
        done = run.planned[trial]
        failed = done is None and f"failed: {run.comparison.failures[-1][1]}"
        left = _time_left([trial for _, trial in to_do], seconds)
        outcome = failed or _outcome(done)
        print(f"  {outcome}; {_trials(len(to_do))} left, about {left / 60:.0f} min", flush=True)


def _all(runs: Sequence[Run]) -> Iterator[tuple[Run, Trial]]:
    return ((run, trial) for run in runs for trial in run.planned)


def _trials(count):
    return f"{count} trial{'' if count == 1 else 's'}"


def _outcome(figures):
    seconds = f", {figures['seconds']:.1f} s" if "seconds" in figures else ""
    return (
        f"unlearn accuracy {figures['unlearn_accuracy_percent']:.2f}%, "
        f"test accuracy {figures['test_accuracy_percent']:.2f}%{seconds}"
    )


def _time_left(to_do, seconds):
    """Return seconds: a method takes as long as with another seed, a new one as the mean of all."""
    usual = sum(seconds.values()) / len(seconds)
    return sum(seconds.get(trial.method, usual) for trial in to_do)
