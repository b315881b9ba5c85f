"""Shadow models for U-LiRA: trained and unlearned as the tested model was, on other images.

Each shadow model is trained on the retain set and on half of the queries. The queries are the
forget set and images of the same kind that the tested model never saw. Then it forgets its half
with the tested model's method and settings. Its outputs on the queries are saved, and so is the
trained shadow model, because all methods share it. Retrain does not depend on the weights of a
trained model, so an attack on a Retrain trains none.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from evaluation.figure import too_few
from evaluation.metrics.klom import margins
from models.architectures import Classifier, ModelSpec, build_model
from models.checkpoint import LOAD_ERRORS, load_with_digest, save_with_digest
from unlearn.engine.method import Method
from unlearn.engine.settings import config_from_record
from unlearn.lineage.parents import RETRAIN, describe_setting_differences, seed_of
from unlearn.registry import METHODS
from unlearn.request.request import ForgetRequest
from unlearn.saliency import compute_mask
from utils.data.datasets import ImageSet, MedicalDataset
from utils.io.files import MODEL_FOLDER
from utils.runtime.errors import UserError
from utils.train.prediction import predict
from utils.train.recipe import Recipe
from utils.train.training import TrainingRun

SHADOW_FOLDER = MODEL_FOLDER / "shadows"
FORMAT = "medical-unlearning-shadow-1"
SHOWN_DIGITS = 12  # of a digest
BASE_PATTERN = "[0-9]" * 3  # file names of trained shadow models
ADVICE = "delete it and start again"


@dataclass(frozen=True)
class ShadowSetting:
    """What all shadow models of one attack share.

    method: of the tested model, None for a base model. record: of the tested model. pool: all
    images of the training split and of the non-members' split. retain: (R,) positions of the retain
    set in the pool. queries: (Q,) positions of the forget set, its first `members` elements, and
    then of the non-members. val_set: for the choice of the epoch. retain_val: its images that the
    request does not cover. matching_val: its images of the forget set's kind. origin: plain data
    that identifies the trained shadow models of this attack.
    """

    method: Method | None

    request: ForgetRequest
    spec: ModelSpec
    record: dict
    pool: ImageSet
    retain: torch.Tensor
    queries: torch.Tensor
    members: int
    val_set: ImageSet
    retain_val: ImageSet
    matching_val: ImageSet
    origin: dict

    @classmethod
    def of(
        cls,
        dataset: MedicalDataset,
        request: ForgetRequest,
        model: Classifier,
        record: Mapping[str, Any],
        non_members: str,
        seed: int,
    ) -> "ShadowSetting":
        """Return the setting of an attack on `model`, which was made as its record says.

        non_members: "val" or "test". seed: of the choice of non-members. Raises UserError if the
        record lacks the recipe, if its method is not available, or if there are too few images.
        """
        method = recorded_method(record)
        if "recipe" not in record:
            raise UserError(
                "the model file has no record of how the model was trained: train one with "
                "main_train.py"
            )
        if model.spec.shards:
            raise UserError(
                "the shadow models of this attack are single networks, and this model has "
                f"{model.spec.shards} shards: attack a model trained without --sisa_shards"
            )
        if dataset.memory_mapped:
            raise UserError(
                "this attack joins the images of two splits in memory, and they lie on disk: use "
                "--data_on host on a machine with more memory"
            )
        other = dataset.splits[non_members]
        pool = ImageSet.from_tensors(
            torch.cat([dataset.train.images, other.images]),
            torch.cat([dataset.train.labels, other.labels]),
        )
        pool = replace(pool, workers=dataset.train.workers)
        covered = request.in_forget_set(dataset, "train")
        forget = covered.nonzero()[:, 0]
        unseen = _unseen_queries(dataset, request, non_members, len(forget), seed)
        for images, what in ((forget, "training"), (unseen, non_members)):
            if len(images) == 0:
                raise UserError(f"the request covers no {what} image: there is nothing to attack")
        why = too_few(len(forget), len(unseen))
        if why:
            raise UserError(f"this attack has {why}: there is too little to attack")
        rest = torch.ones(len(dataset.val), dtype=torch.bool, device=covered.device)
        if non_members == "val":
            rest[unseen] = False
        origin = {
            "train_digest": dataset.train_digest(),
            "train_images": len(dataset.train),
            "non_members": non_members,
            "val_digest": dataset.digest("val"),
            "non_members_digest": dataset.digest(non_members),
            "spec": asdict(model.spec),
            "recipe": record["recipe"],
            "selection": record["selection"],
            "request": request.record(),
            "seed": seed,
        }
        return cls(
            method,
            request,
            model.spec,
            record,
            pool,
            (~covered).nonzero()[:, 0],
            torch.cat([forget, unseen + len(dataset.train)]),
            len(forget),
            dataset.val.subset(rest),
            dataset.val.subset(rest & ~request.in_forget_set(dataset, "val")),
            dataset.val.subset(rest & request.matches_forget_set(dataset, "val")),
            origin,
        )

    @property
    def folder(self) -> Path:
        """Folder of the shadow models."""
        return SHADOW_FOLDER / _digest(self.origin)

    def origin_of(self, place: int) -> tuple[str, int]:
        """Return (split, row in that split) of the query at `place`."""
        row, train = int(self.queries[place]), self.origin["train_images"]
        return ("train", row) if row < train else (self.origin["non_members"], row - train)


def recorded_method(record: Mapping[str, Any]) -> Method | None:
    """Return the method that made the model of a record, None for a base model.

    Raises UserError if the method is not available, or comes from another plug-in file.
    """
    if "method" not in record:
        return None
    method_id, plugin = record["method"], record.get("plugin")
    method = METHODS.get(method_id)
    if plugin is None and (method is None or method.plugin):
        raise UserError(
            f"the model was made by the method {method_id}, which this version does not have: "
            "update the program"
        )
    if plugin is not None and (method is None or not method.plugin):
        raise UserError(
            f"the model was made by {method_id}, a plug-in method: add --plugin with the path of "
            f"{plugin['file']}"
        )
    if method.plugin != plugin:
        raise UserError(
            f"the model was made by {method_id} of {plugin['file']} with the SHA-256 "
            f"{plugin['sha256'][:SHOWN_DIGITS]}..., and {method.plugin['file']} has another: give "
            "--plugin the file that the model was made with"
        )
    return method


def shadow_margins(
    setting: ShadowSetting, number: int, seen: np.ndarray, show: bool = True
) -> np.ndarray:
    """Return (Q,) float64 margins of shadow model `number` for the queries, after unlearning.

    seen: (Q,) bool, the queries that it is trained on and forgets. show: progress in the terminal.
    The margins are read from their file if it exists, otherwise computed and saved.
    """
    record = setting.record
    origin = setting.origin | {key: record.get(key) for key in ("method", "settings")}
    origin |= {key: record[key] for key in ("plugin",) if key in record}
    path = setting.folder / f"{number:03d}_{_digest(origin)}.pt"
    origin |= {"number": number, "seen": seen.tolist()}
    saved = _read(path, origin)
    if saved is not None:
        return _saved_margins(saved, path, len(setting.queries))
    seen_queries = setting.queries[torch.from_numpy(seen).to(setting.queries.device)]
    forget_set, retain_set = (setting.pool.subset(part) for part in (seen_queries, setting.retain))
    model = _base_model(setting, number, seen, forget_set, retain_set, show)
    if setting.method is not None:
        model = _unlearn(setting, number, model, forget_set, retain_set, show)
    found = query_margins(setting, model)
    _write(path, origin, margins=torch.tensor(found))
    return found


def query_margins(setting: ShadowSetting, model: Classifier) -> np.ndarray:
    """Return (Q,) float64 margins of a model for the queries.

    Raises UserError if they are not finite.
    """
    queries = setting.pool.subset(setting.queries)
    logits = predict(model, queries).cpu()
    if not logits.isfinite().all():
        raise UserError("the model is broken: its outputs are not finite")
    return margins(*setting.request.scored_logits(logits, queries.labels.cpu()))


def load_base_shadows(setting: ShadowSetting) -> Iterator[tuple[Classifier, np.ndarray]]:
    """Yield (trained shadow model, (Q,) bool: queries that it is trained on) of each saved one.

    Raises UserError if a file is damaged or belongs to another attack.
    """
    for path, content in _saved_shadows(setting, f"{BASE_PATTERN}.pt"):
        seen = np.array(content["origin"].get("seen", ()))
        if seen.shape != (len(setting.queries),) or seen.dtype != bool:
            raise _foreign(path)
        model = build_model(setting.spec, initial_weights=False).to(setting.pool.device)
        _load_weights(model, content, path)
        yield model.eval(), seen


def load_retrain_shadows(setting: ShadowSetting) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (seed, (Q,) margins) of each shadow model of an attack on a Retrain with this recipe.

    Shadow models of the same seed are the same Retrain. Raises UserError if a file is damaged or
    belongs to another attack.
    """
    recipe = {key: value for key, value in setting.record["recipe"].items() if key != "seed"}
    for path, content in _saved_shadows(setting, f"{BASE_PATTERN}_*.pt"):
        origin = content["origin"]
        is_retrain = origin.get("method") == RETRAIN
        if is_retrain and not describe_setting_differences(origin, recipe):
            seed = _shadow_seed(seed_of(origin), origin["number"])
            yield seed, _saved_margins(content, path, len(setting.queries))


def _saved_shadows(setting, pattern):
    """Yield (path, content) of the files of this attack's shadow models."""
    for path in sorted(setting.folder.glob(pattern)):
        content = load_with_digest(path, "shadow model", ADVICE)
        origin = content.get("origin")
        is_own = isinstance(origin, dict) and setting.origin.items() <= origin.items()
        if content.get("format") != FORMAT or not is_own:
            raise _foreign(path)
        yield path, content


def _unseen_queries(dataset, request, non_members, most, seed):
    """(U,) positions of the non-members in their split.

    For a request of classes all of their images. For single images equally many of their kind,
    drawn with `seed`, so that validation images are left for the choice of the epoch.
    """
    found = request.matches_forget_set(dataset, non_members).nonzero()[:, 0]
    if request.indices is None or len(found) <= most:
        return found
    order = torch.randperm(len(found), generator=torch.Generator().manual_seed(seed))
    return found[order[:most].sort().values.to(found.device)]


def _base_model(setting, number, seen, forget_set, retain_set, show):
    """The shadow model before unlearning, trained on both sets; for Retrain an untrained one."""
    device = setting.pool.device
    if setting.method is not None and setting.method.id == RETRAIN:
        return build_model(setting.spec, initial_weights=False).to(device)
    recipe = Recipe(**setting.record["recipe"])
    recipe = replace(recipe, seed=_shadow_seed(recipe.seed, number), compiled=False)
    origin = setting.origin | {"number": number, "seen": seen.tolist()}
    path = setting.folder / f"{number:03d}.pt"
    saved = _read(path, origin)
    model = build_model(setting.spec, seed=recipe.seed, initial_weights=saved is None).to(device)
    if saved is None:
        run = TrainingRun(model, retain_set.concat(forget_set), setting.val_set, recipe)
        run.run(show=show)
        if setting.record["selection"] == "best":
            model.load_state_dict(run.best_weights)
        _write(path, origin, weights=model.network.state_dict())
    else:
        _load_weights(model, saved, path)
    return model.eval()


def _unlearn(setting, number, model, forget_set, retain_set, show):
    method = setting.method
    config = config_from_record(method, setting.request, setting.record)
    config = replace(
        config,
        recipe=replace(config.recipe, seed=_shadow_seed(config.recipe.seed, number)),
        matching_val=setting.matching_val,
        retain_val=setting.retain_val,
        show=show,
    )
    if method.uses_mask:
        threshold = setting.record["settings"]["mask_thresh"]
        config = replace(config, mask=compute_mask(model, forget_set, setting.request, threshold))
    return method.run(model, forget_set, retain_set, config)


def _shadow_seed(seed, number):
    """The seed of shadow model `number` of an attack on a model with this seed."""
    return seed + 1 + number


def _read(path, origin):
    if not path.exists():
        return None
    content = load_with_digest(path, "shadow model", ADVICE)
    if content.get("format") != FORMAT or content.get("origin") != origin:
        raise _foreign(path)
    return content


def _saved_margins(content, path, count):
    found = content.get("margins")
    shape = getattr(found, "shape", None), getattr(found, "dtype", None)
    if shape != ((count,), torch.float64) or not found.isfinite().all():
        raise _foreign(path)
    return found.numpy()


def _load_weights(model, content, path):
    try:
        model.network.load_state_dict(content["weights"])
    except LOAD_ERRORS as error:
        raise _foreign(path) from error


def _foreign(path):
    return UserError(f"{path} is no shadow model of this attack: {ADVICE}")


def _write(path, origin, **tensors):
    save_with_digest(path, {"format": FORMAT, "origin": origin, **tensors})


def _digest(origin):
    text = json.dumps(origin, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
