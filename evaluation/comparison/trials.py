"""Many methods and several seeds for one request: each trial made once, measured once, kept."""

import copy
import json
from dataclasses import dataclass
from functools import cached_property

from evaluation.measures import attack_scores, efficacy_figures
from evaluation.metrics.forgetting import forgetting_figures
from evaluation.metrics.membership import attack
from evaluation.outputs import compute_outputs
from evaluation.results import to_json
from models.checkpoint import load_model, model_digest, model_path
from unlearn.engine.method import Method
from unlearn.engine.progress import Progress
from unlearn.job import UnlearnJob
from unlearn.registry import METHODS
from unlearn.saliency import (
    entry_percents,
    gradient_saliency,
    is_saliency,
    mask_at,
    saliency_origin,
    saliency_path,
    save_percents,
)
from utils.io.files import check_overwrite, ensure_folder, write_atomically
from utils.io.locks import exclusive_lock
from utils.runtime.errors import UserError, wrap_os_errors
from utils.runtime.processes import world_size

FORMAT = "medical-unlearning-comparison-1"
NON_MEMBERS = "val"  # whose images the attack by loss compares the forget set with
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

    path: of that file. overwrite: whether another model under the id of a trial's may be replaced,
    and another mask; else the trial fails, and the mask stays. kept: by model id, the figures of
    finished trials as plain data. failures: (trial, why) of this run.
    """

    def __init__(
        self,
        base_id,
        model,
        record,
        dataset,
        request,
        *,
        mask_thresh,
        path,
        command,
        overwrite=False,
    ):
        self.base_id, self.model, self.record = base_id, model, record
        self.dataset, self.request, self.mask_thresh = dataset, request, mask_thresh
        self.path, self.command, self.overwrite = path, command, overwrite
        self.base_digest = model_digest(model, record)
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
            with wrap_os_errors("the comparison cannot go on"):
                return self._run(self._job(trial))
        except Exception as error:  # whatever else it is, the other methods go on
            if isinstance(error.__cause__, OSError):
                raise
            if world_size() > 1 and not isinstance(error, UserError):
                raise  # the other processes may be elsewhere
            kind = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
            self.failures.append((trial, " ".join(f"{kind}{error}".split())))
            return None

    def finished(self, trial):
        """The figures of a trial that was made before, None if it has to be run."""
        try:
            return self._kept_of(self._job(trial))
        except UserError:
            return None

    def earlier(self):
        """Trials that are kept, whoever asked for them and when."""
        told = [(each.get("method"), each.get("seed")) for each in self.kept.values()]
        return [Trial(METHODS[name], seed) for name, seed in told if name in METHODS]

    def fault(self, trial):
        """Why a trial cannot be run on this model and data at all, None if nothing is known."""
        try:
            self._job(trial)
        except UserError as error:
            return str(error)
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
        record = job.finished(self._record(job)) if isinstance(found, dict) else None
        if record is None:
            return None
        return found if found.get("weights_digest") == record.get("weights_digest") else None

    def _run(self, job):
        self._make(job)
        model, record = load_model(job.model_id, self.dataset.train.device)
        found = self._measure(model)
        found |= {key: record[key] for key in ("weights_digest", "seconds", "device", "method")}
        found["seed"] = job.config.recipe.seed
        self._keep(job.model_id, found)
        return found

    def _make(self, job):
        """Make the job's model, unless it is there as it would be made.

        One that was begun is gone on with.
        """
        path, wanted = model_path(job.model_id), self._record(job)
        with exclusive_lock(path, path):
            if job.finished(wanted) is not None:
                Progress(job.model_id, wanted).delete()  # it was killed between saving and this
                return
            check_overwrite([path], self.overwrite)
            mask = self._mask if job.method.uses_mask else None
            progress = job.progress(wanted, mask, resume=True, overwrite=True)
            base = copy.deepcopy(self.model)
            model, seconds = job.run(base, *self.sets, mask, progress)
            job.save(model, wanted, seconds, self.dataset.train.device, self.command, mask)
            progress.delete()

    def _record(self, job):
        return job.record(self.record, self.base_digest, self.dataset)

    @cached_property
    def _mask(self):
        """The WeightMask of the request; its saliency is written where generate_mask writes it."""
        percents = entry_percents(gradient_saliency(self.model, self.sets[0], self.request))
        path = saliency_path(self.base_id, self.request)
        ensure_folder(path.parent)
        origin = saliency_origin(self.model, self.dataset, self.base_digest)
        if self.overwrite or is_saliency(path, self.request, origin) is not False:
            save_percents(path, percents, self.request, origin)
        return mask_at(percents, self.mask_thresh)

    def _measure(self, model):
        outputs = compute_outputs(model, self.dataset, self.request)
        figures = forgetting_figures(outputs, self.request, self.dataset.task)
        figures |= efficacy_figures(outputs, self.request)
        scores = attack_scores(outputs, self.request, NON_MEMBERS)["loss"]
        figures["attack_loss_auc"] = attack(*scores).auc
        return {key: figures[key].value for key in MEASURED}

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
