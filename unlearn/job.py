"""One run of one method: its settings, the id of what comes out, and the record of it."""

import time
from dataclasses import asdict, dataclass, replace

from models.checkpoint import model_path, read_record, save_model, weights_digest
from models.loading import dataset_record
from unlearn.engine.config import UnlearnConfig
from unlearn.engine.method import Method, format_option
from unlearn.engine.progress import Progress
from unlearn.engine.settings import check_applicable, default_config, override_config
from unlearn.model_ids import unlearned_model_id
from utils.io.files import check_id, check_overwrite
from utils.runtime.devices import describe
from utils.runtime.errors import NotFiniteError, UserError

SHORT_NAMES = {  # in model ids
    "batch_size": "batch",
    "optimizer": "optim",
    "weight_decay": "decay",
    "seed": "seed",
    "precision": "prec",
}


NAMES = ("dataset", "forget_words")  # what images are called, not which they are


@dataclass(frozen=True)
class UnlearnJob:
    """What is to be done to the base model `base_id`; mask_thresh: None without a mask."""

    base_id: str
    method: Method
    config: UnlearnConfig
    mask_thresh: float | None
    model_id: str

    @classmethod
    def create(
        cls, base_id, base_record, method, request, dataset, *, settings, options, mask_thresh
    ):
        """The job with the method's defaults but for `settings` and `options`, as override_config.

        Raises UserError if the method has no such settings or cannot work on the data.
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
            others=_not_default(config, defaults),
        )
        check_id(model_id, "the new model's id")  # before any work is done
        return cls(base_id, method, config, mask_thresh, model_id)

    def describe_schedule(self):
        """`5 epochs at rate 0.01`, for the terminal."""
        recipe = self.config.recipe
        epochs = f"{recipe.epochs} epoch{'s' if recipe.epochs > 1 else ''}"
        course = f"{epochs} at rate {recipe.lr:g}" if recipe.epochs else "one step"
        options = (f"{name} {format_option(value)}" for name, value in self.config.options.items())
        return ", ".join([course, *options])

    def run(self, model, forget_set, retain_set, mask=None, progress=None):
        """(unlearned model, seconds) from the base model, which is changed. mask: a WeightMask.

        progress: a Progress, from which the run goes on, and which keeps what it does.
        """
        began = time.perf_counter()
        config = replace(self.config, mask=mask, progress=progress)
        try:
            model = self.method.run(model, forget_set, retain_set, config)
        except NotFiniteError:
            if progress:  # going on would come to the same, and another rate is another model
                progress.delete()
            raise
        finally:
            if progress:
                progress.finish()
        return model, progress.seconds() if progress else time.perf_counter() - began

    def find_finished(self, record):
        """The record of the model that is there if it is the very one, by `record`; else None."""
        if not model_path(self.model_id).exists():
            return None
        try:
            found = read_record(self.model_id)
        except UserError:  # damaged: it is none
            return None
        same = all(found.get(key) == record[key] for key in record if key not in NAMES)
        return found if same else None

    def open_progress(self, record, mask, *, resume, overwrite):
        """The Progress to begin with, of the model that has this `record`; mask: None for none.

        Raises UserError if a model, or the beginning of one, is there that would be lost.
        """
        origin = {key: value for key, value in record.items() if key not in NAMES}
        origin["mask_digest"] = mask and weights_digest(mask.changeable)
        progress = Progress.open(self.model_id, origin, resume=resume, overwrite=overwrite)
        if not progress.saved_epochs:
            check_overwrite([model_path(self.model_id)], overwrite)
        return progress

    def make_record(self, base_record, base_digest, dataset):
        """What tells the model that comes out from every other, as plain data."""
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

    def save(self, model, record, seconds, device, command, mask=None):
        """Write the unlearned model with its `record` and how it was made; returns the path."""
        made = {"seconds": seconds, "device": describe(device), "command": command}
        if mask is not None:
            made["mask_digest"] = mask.digest
        return save_model(self.model_id, model, record | made)


def _not_default(config, defaults):
    """(short name, value) of the settings that an id has to tell."""
    recipe, usual = config.recipe, defaults.recipe
    differing = [
        (short, getattr(recipe, name))
        for name, short in SHORT_NAMES.items()
        if getattr(recipe, name) != getattr(usual, name)
    ]
    return differing + [
        (name, value) for name, value in config.options.items() if value != defaults.options[name]
    ]
