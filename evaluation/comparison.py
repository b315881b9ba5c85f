"""Many methods and several seeds for one request: each trial made once, measured once, kept."""

import copy
import json
from dataclasses import dataclass
from functools import cached_property

from evaluation.forgetting import forgetting_figures
from evaluation.measures import attack_scores, efficacy_figures
from evaluation.membership import attack
from evaluation.outputs import look_at
from evaluation.results import to_json
from models.checkpoint import digest_of, load_model, model_path, read_record
from unlearn.job import UnlearnJob
from unlearn.method import Method
from unlearn.saliency import (
    entry_percents,
    gradient_saliency,
    mask_at,
    saliency_origin,
    saliency_path,
    save_percents,
)
from utils.errors import UserError, os_errors_told
from utils.files import ensure_folder, write_atomically

FORMAT = "medical-unlearning-comparison-1"
NON_MEMBERS = "val"  # whose images the attack by loss compares the forget set with
NAMES = ("dataset", "forget_words")  # what images are called, not which they are
MEASURED = (
    "unlearn_accuracy_percent",
    "remaining_accuracy_percent",
    "test_accuracy_percent",
    "mia_efficacy_percent",
    "attack_loss_auc",
)


@dataclass(frozen=True)
class Trial:
    """One method with one seed."""

    method: Method
    seed: int


class Comparison:
    """Trials on one base model and one request; what is finished lies in a file and stays so.

    path: of that file. kept: by model id, the figures of finished trials as plain data. failures:
    (trial, why) of this run.
    """

    def __init__(self, base_id, model, record, dataset, request, *, mask_thresh, path, command):
        self.base_id, self.model, self.record = base_id, model, record
        self.dataset, self.request, self.mask_thresh = dataset, request, mask_thresh
        self.path, self.command = path, command
        self.base_digest = digest_of(model, record)
        self.sets = request.split_for_unlearning(dataset)
        self.failures = []
        self._origin = {
            "format": FORMAT,
            "model_id": base_id,
            "weights_digest": self.base_digest,
            **{f"{split}_digest": dataset.digest(split) for split in dataset.splits},
            "forget_request": request.record(),
        }
        self.kept = self._read()

    def base_figures(self):
        """Figures of the model that nothing was done to."""
        if self.base_id not in self.kept:
            figures = self._measure(self.model) | {"weights_digest": self.base_digest}
            self._keep(self.base_id, figures)
        return self.kept[self.base_id]

    def run(self, trial):
        """The figures of a trial, made now; None if it failed, and `failures` says why.

        Raises UserError if nothing can be written or read any more: so would all other trials.
        """
        try:
            with os_errors_told("the comparison cannot go on"):
                return self._run(self._job(trial))
        except Exception as error:  # whatever else it is, the other methods go on
            if isinstance(error.__cause__, OSError):
                raise
            kind = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
            self.failures.append((trial, " ".join(f"{kind}{error}".split())))
            return None

    def finished(self, trial):
        """The figures of a trial that was made before, None if it has to be run."""
        try:
            return self._kept_of(self._job(trial))
        except UserError:
            return None

    def _job(self, trial):
        return UnlearnJob.of(
            self.base_id,
            self.record,
            trial.method,
            self.request,
            self.dataset,
            settings={"seed": trial.seed},
            options=(),
            mask_thresh=self.mask_thresh,
        )

    def _kept_of(self, job):
        """The figures of the very model that the job would make, if they are kept."""
        found = self.kept.get(job.model_id)
        record = self._record_there(job) if isinstance(found, dict) else None
        if record is None:
            return None
        return found if found.get("weights_digest") == record.get("weights_digest") else None

    def _record_there(self, job):
        """The record of the model that is there under the job's id, None if it is another one."""
        if not model_path(job.model_id).exists():
            return None
        try:
            found = read_record(job.model_id)
        except UserError:  # damaged: it is made anew
            return None
        wanted = job.record(self.record, self.base_digest, self.dataset)
        same = all(found.get(key) == wanted[key] for key in wanted if key not in NAMES)
        return found if same else None

    def _run(self, job):
        self._make(job)
        model, record = load_model(job.model_id, self.dataset.train.device)
        found = self._measure(model)
        found |= {key: record[key] for key in ("weights_digest", "seconds", "device")}
        self._keep(job.model_id, found)
        return found

    def _make(self, job):
        """Make the job's model, unless it is there as it would be made."""
        if self._record_there(job) is not None:
            return
        mask = self._mask if job.method.uses_mask else None
        model, seconds = job.run(copy.deepcopy(self.model), *self.sets, mask)
        wanted = job.record(self.record, self.base_digest, self.dataset)
        job.save(model, wanted, seconds, self.dataset.train.device, self.command)

    @cached_property
    def _mask(self):
        """The WeightMask of the request; its saliency is written where generate_mask writes it."""
        percents = entry_percents(gradient_saliency(self.model, self.sets[0], self.request))
        path = saliency_path(self.base_id, self.request)
        ensure_folder(path.parent)
        origin = saliency_origin(self.model, self.dataset, self.base_digest)
        save_percents(path, percents, self.request, origin)
        return mask_at(percents, self.mask_thresh)

    def _measure(self, model):
        outputs = look_at(model, self.dataset, self.request)
        figures = forgetting_figures(outputs, self.request, self.dataset.task)
        figures |= efficacy_figures(outputs, self.request)
        scores = attack_scores(outputs, self.request, NON_MEMBERS)["loss"]
        figures["attack_loss_auc"] = attack(*scores).auc
        return {key: figures[key].value for key in MEASURED}

    def _read(self):
        try:
            content = json.loads(self.path.read_bytes())
        except (OSError, ValueError):
            return {}
        if not isinstance(content, dict):
            return {}
        same = all(content.get(key) == value for key, value in self._origin.items())
        trials = content.get("trials")
        return trials if same and isinstance(trials, dict) else {}

    def _keep(self, model_id, figures):
        self.kept[model_id] = figures
        write_atomically(self.path, to_json({**self._origin, "trials": self.kept}))
