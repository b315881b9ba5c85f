"""Trials of methods and seeds on one request: each is unlearned, measured and recorded once."""

from __future__ import annotations

import copy
import json
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from evaluation.audit import MODEL, Audit
from evaluation.comparison.kept_outputs import SPLITS, load_outputs, save_outputs
from evaluation.metrics.ratio import comparable_outputs
from evaluation.outputs import LabelledLogits, label_outputs
from evaluation.registry import MEASURES
from evaluation.results import to_json
from models.checkpoint import load_model, model_digest, model_path
from models.records import MASK_FRACTIONS
from unlearn.engine.method import Method
from unlearn.job import UnlearnJob
from unlearn.registry import METHODS
from unlearn.saliency import (
    compute_saliency_map,
    full_mask_warning,
    gradient_saliency,
    load_saliency_map,
    matches_origin,
    saliency_origin,
    saliency_path,
    save_saliency_map,
    with_zeros,
)
from utils.io.files import check_overwrite, ensure_folder, write_atomically
from utils.io.locks import exclusive_lock
from utils.runtime.errors import UserError, wrap_os_errors
from utils.runtime.processes import all_ranks_true, world_size
from utils.train.prediction import predict

if TYPE_CHECKING:
    from models.architectures import Classifier
    from unlearn.request.request import ForgetRequest
    from utils.data.datasets import MedicalDataset

FORMAT = "medical-unlearning-comparison-1"
MEASURED = {  # key of a column -> measure that is computed for it in each trial
    column.key: name
    for name, measure in MEASURES.items()
    for column in measure.columns
    if column.derive is None
}


@dataclass(frozen=True)
class Trial:
    """One method with one seed."""

    method: Method
    seed: int


class Comparison:
    """Trials on one base model and one request; finished trials are recorded in a file.

    path: of that file. overwrite: whether another model with the id of a trial's, and another mask,
    may be replaced; otherwise the trial fails, and the mask stays. kept: by model id, the figures
    of finished trials as plain data. failures: (trial, why) of this run.
    """

    def __init__(
        self,
        base_id: str,
        model: Classifier,
        record: Mapping,
        dataset: MedicalDataset,
        request: ForgetRequest,
        *,
        mask_thresh: float,
        path: Path,
        command: str,
        overwrite: bool = False,
    ):
        self.base_id, self.model, self.record = base_id, model, record
        self.dataset, self.request, self.mask_thresh = dataset, request, mask_thresh
        self.path, self.command, self.overwrite = path, command, overwrite
        self.base_digest = model_digest(model, record)
        self.sets = request.split_for_unlearning(dataset)
        self.failures, self._tracebacks = [], []
        self._origin = {
            "format": FORMAT,
            "model_id": base_id,
            "weights_digest": self.base_digest,
            **{f"{split}_digest": dataset.digest(split) for split in dataset.splits},
            "forget_request": request.record(),
        }
        self.kept = self._read()

    @property
    def log_path(self) -> Path:
        """The file of the tracebacks of failed trials, next to the table."""
        return self.path.with_suffix(".log")

    def base_figures(self) -> Mapping:
        """Return the figures of the base model."""
        if not _is_complete(self.kept.get(self.base_id)):
            figures = self._measure(self.base_id, self.model, self.record)
            figures["weights_digest"] = self.base_digest
            self._keep(self.base_id, figures)
        return self.kept[self.base_id]

    def run(self, trial: Trial) -> Mapping | None:
        """Run a trial and return its figures; None if it failed, with the reason in `failures`.

        Of an error that is no UserError, the traceback is written to `log_path`. Raises UserError
        if files cannot be read or written any more, because all other trials would fail too.
        """
        try:
            with wrap_os_errors("the comparison cannot continue"):
                return self._run(self._job(trial))
        except UserError as error:
            if isinstance(error.__cause__, OSError):
                raise
            self.failures.append((trial, " ".join(str(error).split())))
        except Exception as error:  # a bug in one method must not stop the others
            if world_size() > 1:
                raise  # the other processes may be in another trial
            self._log(trial, error)
        return None

    def finished(self, trial: Trial) -> Mapping | None:
        """Return the figures of a trial that was run before, None if it has to be run."""
        try:
            return self._kept_of(self._job(trial))
        except UserError:
            return None

    def earlier(self) -> list[Trial]:
        """Return the trials that earlier runs have recorded."""
        recorded = [(each.get("method"), each.get("seed")) for each in self.kept.values()]
        return [Trial(METHODS[name], seed) for name, seed in recorded if name in METHODS]

    def fault(self, trial: Trial) -> str | None:
        """Return why a trial cannot be run on this model and data, None if nothing is known."""
        try:
            self._job(trial)
        except UserError as error:
            return str(error)
        return None

    def model_id(self, trial: Trial) -> str:
        """Return the id of the trial's model."""
        return self._job(trial).model_id

    def outputs(self, model_id: str) -> dict[str, LabelledLogits]:
        """Return the comparable_outputs of the base model or of a finished trial.

        model_id: a key of `kept`. Outputs that were not kept, as in earlier versions, or whose file
        is damaged, are predicted again and kept. Raises UserError if the model is missing, too.
        """
        digest = self.kept[model_id]["weights_digest"]
        logits = load_outputs(model_id, digest, self.dataset)
        if not all_ranks_true(logits is not None):
            model = self.model
            if model_id != self.base_id:
                model, _ = load_model(model_id, self.dataset.train.device)
            logits = {split: predict(model, self.dataset.splits[split]).cpu() for split in SPLITS}
            save_outputs(model_id, digest, self.dataset, logits)
        outputs = {
            split: label_outputs(found, None, self.dataset, self.request, split)
            for split, found in logits.items()
        }
        return comparable_outputs(outputs, self.request)

    def mask_warning(self) -> str | None:
        """Return a warning if the mask of the recorded trials restricts nothing, else None."""
        key = "mask_full_threshold"
        in_mask = [
            figures
            for figures in self.kept.values()
            if (method := METHODS.get(figures.get("method"))) and method.uses_mask
        ]
        if not in_mask:
            return None
        known = [figures[key] for figures in in_mask if key in figures]
        full = known[0] if known else self._mask.full_threshold  # trials of an earlier version
        return full_mask_warning(self.mask_thresh, full, self.model.spec)

    def _job(self, trial):
        return UnlearnJob.create(
            self.base_id,
            self.record,
            trial.method,
            self.request,
            self.dataset,
            settings={"seed": trial.seed},
            options=(),
            mask_thresh=self.mask_thresh,
        )

    def _log(self, trial, error):
        """Record a failure, and write its traceback after those of this run."""
        lines = traceback.format_exception(error)
        self._tracebacks.append(f"{trial.method.id}, seed {trial.seed}\n{''.join(lines)}")
        write_atomically(self.log_path, "\n".join(self._tracebacks).encode(errors="replace"))
        message = f"{type(error).__name__}: {error} (traceback: {self.log_path})"
        self.failures.append((trial, " ".join(message.split())))

    def _kept_of(self, job):
        """The figures of the model that the job would make, if they are recorded."""
        found = self.kept.get(job.model_id)
        record = job.find_finished(self._record(job)) if _is_complete(found) else None
        if record is None:
            return None
        return found if found.get("weights_digest") == record.get("weights_digest") else None

    def _run(self, job):
        self._make(job)
        model, record = load_model(job.model_id, self.dataset.train.device)
        found = self._measure(job.model_id, model, record)
        known = ("weights_digest", "seconds", "device", "method", *MASK_FRACTIONS)
        found |= {key: record[key] for key in known if key in record}
        found["seed"] = job.config.recipe.seed
        self._keep(job.model_id, found)
        return found

    def _make(self, job):
        """Create the job's model, or resume it, unless the finished model exists."""
        path, wanted = model_path(job.model_id), self._record(job)
        with exclusive_lock(path, path):
            is_finished = job.find_finished(wanted) is not None
            if not is_finished:
                check_overwrite([path], self.overwrite)
            elif not job.is_interrupted(wanted):
                return
            mask = self._mask if job.method.uses_mask else None
            # saved epochs with another mask must not replace a finished model
            overwrite = self.overwrite or not is_finished
            progress = job.open_progress(wanted, mask, resume=True, overwrite=overwrite)
            base = copy.deepcopy(self.model)
            model, seconds = job.run(base, *self.sets, mask, progress)
            job.save(model, wanted, seconds, self.dataset.train.device, self.command, mask)
            progress.delete()

    def _record(self, job):
        return job.make_record(self.record, self.base_digest, self.dataset)

    @cached_property
    def _mask(self):
        """The WeightMask of the request, from its saliency map file or saved as generate_mask does.

        A valid file is used and kept: computed on another device, it could differ from the mask
        that finished models were made with. Another model's file is kept unless `overwrite`.
        """
        path = saliency_path(self.base_id, self.request)
        origin = saliency_origin(self.model, self.dataset, self.base_digest)
        exists = matches_origin(path, self.request, origin)
        if exists:
            saliency_map = load_saliency_map(
                path, self.model, self.request, origin, "generate_mask.py"
            )
            saliency_map = with_zeros(saliency_map, self.model, self.sets[0], self.request)
            return saliency_map.mask(self.mask_thresh)
        saliency = gradient_saliency(self.model, self.sets[0], self.request)
        saliency_map = compute_saliency_map(saliency)
        ensure_folder(path.parent)
        if self.overwrite or exists is None:
            save_saliency_map(path, saliency_map, self.request, origin)
        return saliency_map.mask(self.mask_thresh)

    def _measure(self, model_id, model, record):
        """The figures of MEASURED as plain data, None for those that the measure does not have.

        The outputs that they are computed from are kept, too.
        """
        audit = Audit(model, self.dataset, self.request, record=record)
        context = audit.add(MODEL)
        logits = {split: context.outputs[split].logits for split in SPLITS}
        save_outputs(model_id, model_digest(model, record), self.dataset, logits)
        figures = context.figures
        for name in dict.fromkeys(MEASURED.values()):
            if not MEASURES[name].always:
                audit.run(name)
        return {key: figures[key].value if key in figures else None for key in MEASURED}

    def _read(self):
        try:
            content = json.loads(self.path.read_bytes())
        except (OSError, ValueError, RecursionError):
            return {}
        if not isinstance(content, dict):
            return {}
        same = all(content.get(key) == value for key, value in self._origin.items())
        trials = content.get("trials")
        return trials if same and isinstance(trials, dict) else {}

    def _keep(self, model_id, figures):
        self.kept[model_id] = figures
        write_atomically(self.path, to_json({**self._origin, "trials": self.kept}))


def _is_complete(figures):
    """Whether recorded figures have all columns; a measure may be newer than the record."""
    return isinstance(figures, dict) and figures.keys() >= MEASURED.keys()
