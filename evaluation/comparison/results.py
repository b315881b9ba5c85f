"""What the finished trials on one base model amount to: rows, distances, and what is missing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from evaluation.comparison.distances import SetDistances, compute_distances
from evaluation.comparison.ranking import NOTHING_DONE, Row, make_rows
from evaluation.comparison.runs import Run
from unlearn.lineage.parents import RETRAIN


@dataclass(frozen=True)
class BaseResult:
    """The result on one base model.

    rows: see make_rows. distances: by the names of SETS. seeds: of the methods. retrain_seeds: of
    the Retrains. failures: method id -> why. left_out: method id -> seeds of
    earlier trials whose figures cannot be used.
    """

    base_id: str
    rows: list[Row]
    distances: Mapping[str, SetDistances]
    seeds: list[int]
    retrain_seeds: list[int]
    failures: dict[str, str]
    left_out: dict[str, list[int]]


def result_of(run: Run) -> BaseResult:
    """Return the result of all finished trials on a base model, earlier commands' included."""
    comparison = run.comparison
    figures, ids = {}, {NOTHING_DONE: [comparison.base_id]}
    digests = {}
    for trial, found in run.finished().items():
        figures.setdefault(trial.method.id, {})[trial.seed] = found
        # models with the same weights, as of methods without random numbers, are one model
        if found["weights_digest"] not in digests.setdefault(trial.method.id, []):
            digests[trial.method.id].append(found["weights_digest"])
            ids.setdefault(trial.method.id, []).append(comparison.model_id(trial))
    retrains = ids.pop(RETRAIN, [])
    base, same = _logits(comparison, comparison.base_id), set()

    def load(model_id):
        if model_id == comparison.base_id:
            return base
        outputs = _logits(comparison, model_id)
        if all(torch.equal(logits, base[name]) for name, logits in outputs.items()):
            same.add(model_id)
        return outputs

    distances = compute_distances(load, ids, retrains, comparison.dataset.is_multi_label)
    unchanged = [
        name
        for name, models in ids.items()
        if digests.get(name) == [comparison.base_digest] or same.issuperset(models)
    ]
    failures = {}
    for trial, why in comparison.failures:
        failures.setdefault(trial.method.id, f"seed {trial.seed}: {why}")
    rows = make_rows(
        comparison.base_figures(),
        figures,
        failures,
        distances=distances,
        unchanged=unchanged,
        retrain_offset=run.retrain_offset,
    )
    left_out = {}
    for trial, found in run.earlier.items():
        if found is None:
            left_out.setdefault(trial.method.id, []).append(trial.seed)
    by_method = (seed for name, found in figures.items() if name != RETRAIN for seed in found)
    return BaseResult(
        comparison.base_id,
        rows,
        distances,
        seeds=sorted(set(by_method)),
        retrain_seeds=sorted(figures.get(RETRAIN, ())),
        failures=failures,
        left_out=left_out,
    )


def _logits(comparison, model_id):
    return {name: part.logits for name, part in comparison.outputs(model_id).items()}
