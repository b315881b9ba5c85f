"""One run of one method: its settings, the id of what comes out, and the record of it."""

import time
from dataclasses import asdict, dataclass, replace

from models.checkpoint import save_model
from models.opening import describe_data
from unlearn.config import UnlearnConfig, write_option
from unlearn.ids import unlearned_model_id
from unlearn.method import Method
from unlearn.methods import check_task, chosen_config, default_config
from utils.devices import describe
from utils.files import check_id

SHORT_NAMES = {  # in model ids
    "batch_size": "batch",
    "optimizer": "optim",
    "weight_decay": "decay",
    "seed": "seed",
    "precision": "prec",
}


@dataclass(frozen=True)
class UnlearnJob:
    """What is to be done to the base model `base_id`; mask_thresh: None without a mask."""

    base_id: str
    method: Method
    config: UnlearnConfig
    mask_thresh: float | None
    model_id: str

    @classmethod
    def of(cls, base_id, base_record, method, request, dataset, *, settings, options, mask_thresh):
        """The job with the method's defaults but for `settings` and `options`, as chosen_config.

        Raises UserError if the method has no such settings or cannot work on the data.
        """
        check_task(method, dataset, base_record.get("spec", {}).get("shards", 0))
        defaults = default_config(method, request, base_record)
        config = chosen_config(method, defaults, settings, options)
        config = replace(
            config,
            comparable_val=dataset.val.subset(request.comparable(dataset, "val")),
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

    def course(self):
        """`5 epochs at rate 0.01`, for the terminal."""
        recipe = self.config.recipe
        epochs = f"{recipe.epochs} epoch{'s' if recipe.epochs > 1 else ''}"
        course = f"{epochs} at rate {recipe.lr:g}" if recipe.epochs else "one step"
        options = (f"{name} {write_option(value)}" for name, value in self.config.options.items())
        return ", ".join([course, *options])

    def run(self, model, forget_set, retain_set, mask=None):
        """(unlearned model, seconds) from the base model, which is changed. mask: a WeightMask."""
        began = time.perf_counter()
        config = replace(self.config, mask=mask)
        model = self.method.run(model, forget_set, retain_set, config)
        return model, time.perf_counter() - began

    def record(self, base_record, base_digest, dataset):
        """What tells the model that comes out from every other, as plain data."""
        request = self.config.request
        settings = asdict(self.config.recipe) | {"mask_thresh": self.mask_thresh}
        return {
            **describe_data(dataset),
            **{key: base_record[key] for key in ("recipe", "selection") if key in base_record},
            "kind": "unlearned",
            "parent_id": self.base_id,
            "parent_digest": base_digest,
            "method": self.method.id,
            "forget_request": request.record(),
            "forget_words": request.words,
            "settings": settings | {"options": dict(self.config.options)},
        }

    def save(self, model, record, seconds, device, command):
        """Write the unlearned model with its `record` and how it was made; returns the path."""
        made = {"seconds": seconds, "device": describe(device), "command": command}
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
