"""One run of one unlearning method: its settings, the id of its model, and the model's record."""

import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from models.checkpoint import model_path, read_record, save_model, weights_digest
from models.loading import dataset_record
from unlearn.engine.config import UnlearnConfig
from unlearn.engine.method import Method, format_option
from unlearn.engine.progress import MASK_KEY, Progress
from unlearn.engine.settings import check_applicable, default_config, override_config
from unlearn.model_ids import unlearned_model_id
from utils.io.files import check_id, check_overwrite
from utils.runtime.devices import describe
from utils.runtime.errors import NotFiniteError, UserError

if TYPE_CHECKING:
    import torch

    from models.architectures import Classifier
    from unlearn.engine.masking import WeightMask
    from unlearn.request.request import ForgetRequest
    from utils.data.datasets import ImageSet, MedicalDataset

SHORT_NAMES = {  # of settings in model ids
    "batch_size": "batch",
    "optimizer": "optim",
    "weight_decay": "decay",
    "seed": "seed",
    "precision": "prec",
}
DESCRIPTIVE_KEYS = ("dataset", "forget_words")  # of a record; they do not identify a run


@dataclass(frozen=True)
class UnlearnJob:
    """One run of `method` on the base model `base_id`, which creates the model `model_id`.

    mask_thresh: fraction of the weights in the saliency mask, None without a mask.
    """

    base_id: str
    method: Method
    config: UnlearnConfig
    mask_thresh: float | None
    model_id: str

    @classmethod
    def create(
        cls,
        base_id: str,
        base_record: dict,
        method: Method,
        request: "ForgetRequest",
        dataset: "MedicalDataset",
        *,
        settings: Mapping[str, object],
        options: Iterable[tuple[str, str]],
        mask_thresh: float | None,
    ) -> "UnlearnJob":
        """Return the job with the method's defaults, overridden by `settings` and `options`.

        settings: values of Recipe fields by name. options: (name, text) pairs of the method's own
        options. mask_thresh: ignored by methods without a mask. Raises UserError if the method does
        not have a setting, or cannot work on the data or model.
        """
        check_applicable(method, dataset, base_record.get("spec", {}).get("shards", 0))
        defaults = default_config(method, request, base_record)
        config = override_config(method, defaults, settings, options)
        config = replace(
            config,
            matching_val=dataset.val.subset(request.matches_forget_set(dataset, "val")),
            retain_val=request.split(dataset, "val")[1],
        )
        mask_thresh = mask_thresh if method.uses_mask else None
        model_id = unlearned_model_id(
            base_id,
            request.id_part(),
            method.id,
            epochs=config.recipe.epochs,
            lr=config.recipe.lr,
            mask_thresh=mask_thresh,
            others=_non_default_settings(config, defaults),
        )
        check_id(model_id, "the new model's id")  # before any work is done
        return cls(base_id, method, config, mask_thresh, model_id)

    def describe_schedule(self) -> str:
        """Return the settings in words, such as `5 epochs at rate 0.01, alpha 10`."""
        recipe = self.config.recipe
        epochs = f"{recipe.epochs} epoch{'s' if recipe.epochs > 1 else ''}"
        schedule = f"{epochs} at rate {recipe.lr:g}" if recipe.epochs else "one step"
        options = (f"{name} {format_option(value)}" for name, value in self.config.options.items())
        return ", ".join([schedule, *options])

    def run(
        self,
        model: "Classifier",
        forget_set: "ImageSet",
        retain_set: "ImageSet",
        mask: "WeightMask | None" = None,
        progress: Progress | None = None,
    ) -> tuple["Classifier", float]:
        """Unlearn, and return (unlearned model, seconds). The base model `model` is modified.

        progress: saved epochs to resume from; new epochs are saved there. Raises NotFiniteError if
        the loss or weights become infinite or NaN; the saved epochs are deleted then.
        """
        start = time.perf_counter()
        config = replace(self.config, mask=mask, progress=progress)
        try:
            model = self.method.run(model, forget_set, retain_set, config)
        except NotFiniteError:
            if progress:  # resuming would fail again, and another learning rate is another model
                progress.delete()
            raise
        finally:
            if progress:
                progress.wait()
        return model, progress.elapsed_seconds() if progress else time.perf_counter() - start

    def find_finished(self, record: dict) -> dict | None:
        """Return the record of the model file if this run has created it, else None.

        record: `make_record` of this run.
        """
        if not model_path(self.model_id).exists():
            return None
        try:
            found = read_record(self.model_id)
        except UserError:  # damaged
            return None
        same = all(found.get(key) == record[key] for key in record if key not in DESCRIPTIVE_KEYS)
        return found if same else None

    def is_interrupted(self, record: dict) -> bool:
        """Return whether this run was interrupted and has saved epochs. record: `make_record`."""
        return Progress.exists(self.model_id, _identity(record))

    def open_progress(
        self, record: dict, mask: "WeightMask | None", *, resume: bool, overwrite: bool
    ) -> Progress:
        """Return the progress of this run, with its saved epochs if `resume`.

        record: `make_record` of this run. Raises UserError if a model, or the progress of an
        interrupted run, would be lost and `overwrite` is False.
        """
        origin = _identity(record) | {MASK_KEY: mask and weights_digest(mask.changeable)}
        progress = Progress.open(self.model_id, origin, resume=resume, overwrite=overwrite)
        if not progress.saved_epochs:
            check_overwrite([model_path(self.model_id)], overwrite)
        return progress

    def make_record(self, base_record: dict, base_digest: str, dataset: "MedicalDataset") -> dict:
        """Return the part of the model's record that identifies this run, as plain data."""
        request = self.config.request
        settings = asdict(self.config.recipe) | {"mask_thresh": self.mask_thresh}
        return {
            **dataset_record(dataset),
            **{key: base_record[key] for key in ("recipe", "selection") if key in base_record},
            "kind": "unlearned",
            "parent_id": self.base_id,
            "parent_digest": base_digest,
            "method": self.method.id,
            "forget_request": request.record(),
            "forget_words": request.description,
            "settings": settings | {"options": dict(self.config.options)},
            **({"plugin": dict(self.method.plugin)} if self.method.plugin else {}),
        }

    def save(
        self,
        model: "Classifier",
        record: dict,
        seconds: float,
        device: "torch.device",
        command: str,
        mask: "WeightMask | None" = None,
    ) -> Path:
        """Save the unlearned model with its `record` and how it was made; return the path."""
        made = {"seconds": seconds, "device": describe(device), "command": command}
        if mask is not None:
            made |= mask.record()
        return save_model(self.model_id, model, record | made)


def _identity(record):
    return {key: value for key, value in record.items() if key not in DESCRIPTIVE_KEYS}


def _non_default_settings(config, defaults):
    """(short name, value) of the settings that a model id has to show."""
    recipe, default = config.recipe, defaults.recipe
    differing = [
        (short, getattr(recipe, name))
        for name, short in SHORT_NAMES.items()
        if getattr(recipe, name) != getattr(default, name)
    ]
    return differing + [
        (name, value) for name, value in config.options.items() if value != defaults.options[name]
    ]
