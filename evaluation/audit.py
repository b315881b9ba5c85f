"""Measures a model, and next to it its base model and Retrain."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from typing import TYPE_CHECKING

from evaluation.figure import Figure
from evaluation.outputs import Outputs, compute_outputs
from evaluation.registry import MEASURES
from utils.train.prediction import PREDICTION_BATCH

if TYPE_CHECKING:
    import numpy as np
    from torch import nn

    from unlearn.request.request import ForgetRequest
    from utils.data.datasets import MedicalDataset

BASE, MODEL, RETRAIN = "base model", "this model", "Retrain"


@dataclass
class Context:
    """What a measure is computed from: one model of an audit.

    title: BASE, MODEL or RETRAIN. record: of the model file, empty if unknown. outputs: by split
    name. figures: by key, measured so far. non_members: the split that attacks take unseen images
    from. costs: (K, K) float, the cost of each mistake, rows truth, columns predicted, or None.
    groups: (test images,) str, the patient group of each test image, or None.
    """

    title: str
    model: nn.Module
    record: dict
    outputs: dict[str, Outputs]
    dataset: MedicalDataset
    request: ForgetRequest
    non_members: str
    costs: np.ndarray | None
    groups: np.ndarray | None
    seed: int
    audit: Audit
    figures: dict[str, Figure] = field(default_factory=dict)

    @property
    def is_tested(self) -> bool:
        """Whether this is the model under test."""
        return self.title == MODEL

    @property
    def is_retrain(self) -> bool:
        """Whether this is the Retrain that the model under test is compared with."""
        return self.title == RETRAIN

    @property
    def base(self) -> Context | None:
        """The base model, if it is available."""
        return self.audit.contexts.get(BASE)

    @property
    def retrain(self) -> Context | None:
        """The Retrain that models are compared with, if there is one."""
        return self.audit.contexts.get(RETRAIN)

    def retrains(self) -> list[Context]:
        """Return all Retrains: that of the table, and then those of other seeds."""
        return [*filter(None, [self.retrain]), *self.other_retrains()]

    def other_retrains(self) -> list[Context]:
        """Return the Retrains of other seeds, computed when they are first asked for."""
        return self.audit.others(RETRAIN)

    def peers(self) -> list[Context]:
        """Return the tested method's models of other seeds, computed when first asked for."""
        return self.audit.others(MODEL)

    def without_features(self) -> Context:
        """Return the same without the features of its outputs, which need the most memory."""
        empty = {name: replace(part, features=None) for name, part in self.outputs.items()}
        return replace(self, outputs=empty)

    def measure(self, group: str) -> None:
        """Measure another group first, for a measure that uses its figures."""
        self.audit.measure(group)


class Audit:
    """Measures a model group by group.

    contexts: title -> Context, growing with `add` and `add_references`; the figures of a Context
    grow with `measure`. measured: names, as in `measures`, of the measures that were computed.
    warnings: lines. warning_sources: for each of them the name of its measure, or an empty string.
    """

    def __init__(
        self,
        model: nn.Module,
        dataset: MedicalDataset,
        request: ForgetRequest,
        *,
        base: nn.Module | None = None,
        retrains: Sequence[nn.Module] = (),
        peers: Sequence[nn.Module] = (),
        non_members: str = "val",
        costs: np.ndarray | None = None,
        groups: np.ndarray | None = None,
        record: dict | None = None,
        retrain_records: Sequence[dict] = (),
        seed: int = 1,
        batch_size: int = PREDICTION_BATCH,
    ):
        """Args:
        base: the model that `model` was unlearned from.
        retrains: of different seeds; the first has a column of its own.
        peers: models of the same method from other seeds, for KLOM.
        record, retrain_records: of the model files.
        The others: see Context.
        """
        self.retrains, self.peers = list(retrains), list(peers)
        self.measures, self.batch_size = MEASURES, batch_size
        self.contexts, self.warnings, self.warning_sources = {}, [], []
        self._shared = {
            "dataset": dataset,
            "request": request,
            "non_members": non_members,
            "costs": costs,
            "groups": groups,
            "seed": seed,
            "audit": self,
        }
        models = {BASE: base, MODEL: model, RETRAIN: self.retrains[0] if retrains else None}
        self._models = {title: part for title, part in models.items() if part}
        first, *self._other_records = [*retrain_records] or [{}]
        self._records = {MODEL: record or {}, RETRAIN: first}
        self.measured, self._others, self._computed = set(), {}, {}

    @property
    def figures(self) -> dict[str, dict[str, Figure]]:
        """Title -> Figures by key."""
        return {title: context.figures for title, context in self.contexts.items()}

    @property
    def outputs(self) -> dict[str, dict[str, Outputs]]:
        """Title -> Outputs by split name."""
        return {title: context.outputs for title, context in self.contexts.items()}

    def add(self, title: str) -> Context:
        """Compute the outputs of a model and the figures that are always computed."""
        record = self._records.get(title, {})
        self.contexts[title] = self._context(title, self._models[title], record)
        return self.contexts[title]

    def add_references(self) -> None:
        """Add the models that are still missing; `contexts` gets the order of the tables."""
        for title in self._models:
            if title not in self.contexts:
                self.add(title)
        self.contexts = {title: self.contexts[title] for title in self._models}
        for name in self._always():
            self.measured.add(name)
            self._warn(name)

    def measure(self, group: str) -> None:
        """Compute the measures of a group for all models, and collect their warnings."""
        for name, measure in self.measures.items():
            if group in measure.groups and name not in self.measured:
                self.run(name)

    def run(self, name: str) -> None:
        """Compute one measure for all models, and collect its warnings."""
        self.measured.add(name)
        for context in self.contexts.values():
            context.figures |= self.measures[name].compute(context)
        self._warn(name)

    def shared(self, compute: Callable[[Context], object]) -> object:
        """Return `compute` of the tested model, computed once for all measures and models."""
        if compute not in self._computed:
            self._computed[compute] = compute(self.contexts[MODEL])
        return self._computed[compute]

    def warn(self, lines: Sequence[str], source: str = "") -> None:
        """Add warnings; source: the name of the measure that they come from."""
        self.warnings += lines
        self.warning_sources += [source] * len(lines)

    def others(self, title: str) -> list[Context]:
        """Return the Contexts of the models of other seeds, with the figures always computed.

        They are kept, without features, because several measures use them.
        """
        if title not in self._others:
            models = self.retrains[1:] if title == RETRAIN else self.peers
            records = self._other_records if title == RETRAIN else []
            self._others[title] = [
                self._context(title, each, record).without_features()
                for each, record in zip_longest(models, records, fillvalue={})
            ]
        return self._others[title]

    def _context(self, title, model, record):
        dataset, request = self._shared["dataset"], self._shared["request"]
        outputs = compute_outputs(model, dataset, request, self.batch_size)
        context = Context(title, model, record, outputs, **self._shared)
        for name in self._always():
            context.figures |= self.measures[name].compute(context)
        return context

    def _always(self):
        return [name for name, measure in self.measures.items() if measure.always]

    def _warn(self, name):
        if self.measures[name].warnings:
            self.warn(self.measures[name].warnings(self.contexts[MODEL]), name)
