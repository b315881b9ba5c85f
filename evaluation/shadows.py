"""Shadow models for U-LiRA: trained and unlearned as the model under test was, on other images.

Each is trained on all images that are to be kept and on half of the queries: the forget set, and
images of the same kind that the tested model never saw. Then it forgets its half by the tested
model's own method and settings. What is kept of the result is what it says of the queries; the
trained shadow models are kept too, because all methods share them.
"""

import hashlib
import json
from dataclasses import asdict, dataclass, replace

import torch

from evaluation.metrics.klom import margins
from evaluation.metrics.membership import too_few
from models.architectures import ModelSpec, build_model
from models.checkpoint import LOAD_ERRORS, load_with_digest, save_with_digest
from unlearn.engine.settings import config_from_record
from unlearn.registry import METHODS
from unlearn.request.request import ForgetRequest
from unlearn.saliency import compute_mask
from utils.data.datasets import ImageSet
from utils.io.files import MODEL_FOLDER
from utils.runtime.errors import UserError
from utils.train.prediction import predict
from utils.train.recipe import Recipe
from utils.train.training import TrainingRun

SHADOW_FOLDER = MODEL_FOLDER / "shadows"
FORMAT = "medical-unlearning-shadow-1"
ANEW = "delete it and start again"


@dataclass(frozen=True)
class ShadowSetting:
    """What all shadow models of one attack share.

    pool: every image of training and non-member split. retain: (R,) positions in it of the images
    to be kept. queries: (Q,) positions of the forget set and then of the non-members; the first
    `members` of them are the forget set. val_set: for the choice of the epoch; of it retain_val
    are not to be forgotten, and matching_val are of the forget set's kind. origin: plain data
    that tells this attack's shadow models from another's.
    """

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
    def of(cls, dataset, request, model, record, non_members, seed):
        """The setting of an attack on `model`, whose record tells how it was made.

        non_members: "val" or "test". Raises UserError if the record does not tell.
        """
        if "recipe" not in record:
            raise UserError("the model file does not tell how the model was trained: no attack")
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
    def method(self):
        """The tested model's row in METHODS, None for a base model."""
        return METHODS.get(self.record.get("method"))

    @property
    def folder(self):
        """Where the shadow models lie."""
        return SHADOW_FOLDER / _digest(self.origin)

    def origin_of(self, place):
        """(split, row in that split) of the query at `place`."""
        row, train = int(self.queries[place]), self.origin["train_images"]
        return ("train", row) if row < train else (self.origin["non_members"], row - train)


def shadow_margins(setting, number, seen, show=True):
    """(Q,) float64 margins that shadow model `number` gives the queries after unlearning.

    seen: (Q,) bool, the queries that it is trained on and forgets. Read from the cache if it is
    there; otherwise made, and kept there.
    """
    origin = setting.origin | {
        "method": setting.record.get("method"),
        "settings": setting.record.get("settings"),
    }
    path = setting.folder / f"{number:03d}_{_digest(origin)}.pt"
    kept = _read(path, origin | {"number": number, "seen": seen.tolist()})
    if kept is not None:
        return _margins_of(kept, path, len(setting.queries))
    model, forget_set, retain_set = _trained(setting, number, seen, show)
    if setting.method is not None:
        model = _unlearned(setting, number, model, forget_set, retain_set, show)
    found = query_margins(setting, model)
    _write(path, origin | {"number": number, "seen": seen.tolist()}, margins=torch.tensor(found))
    return found


def query_margins(setting, model):
    """(Q,) float64 margins that a model gives the queries. UserError if they are not finite."""
    queries = setting.pool.subset(setting.queries)
    logits = predict(model, queries).cpu()
    if not logits.isfinite().all():
        raise UserError("the model is broken: its outputs are not finite")
    return margins(*setting.request.scored_logits(logits, queries.labels.cpu()))


def _unseen_queries(dataset, request, non_members, most, seed):
    """(U,) positions in the split of the non-members that are asked about.

    Of a request for classes all of its images. Single images are compared with as many of their
    kind, drawn by `seed`, so that validation images are left to choose the epoch by.
    """
    found = request.matches_forget_set(dataset, non_members).nonzero()[:, 0]
    if request.indices is None or len(found) <= most:
        return found
    order = torch.randperm(len(found), generator=torch.Generator().manual_seed(seed))
    return found[order[:most].sort().values.to(found.device)]


def _trained(setting, number, seen, show):
    """(model, its forget set, its retain set): trained on queries of `seen` and all to be kept."""
    seen_queries = setting.queries[torch.from_numpy(seen).to(setting.queries.device)]
    forget_set, retain_set = (setting.pool.subset(part) for part in (seen_queries, setting.retain))
    recipe = Recipe(**setting.record["recipe"])
    recipe = replace(recipe, seed=recipe.seed + 1 + number, compiled=False)
    origin = setting.origin | {"number": number, "seen": seen.tolist()}
    path = setting.folder / f"{number:03d}.pt"
    kept = _read(path, origin)
    device = setting.pool.device
    model = build_model(setting.spec, seed=recipe.seed, initial_weights=kept is None).to(device)
    if kept is None:
        run = TrainingRun(model, retain_set.concat(forget_set), setting.val_set, recipe)
        run.run(show=show)
        if setting.record["selection"] == "best":
            model.load_state_dict(run.best_weights)
        _write(path, origin, weights=model.network.state_dict())
    else:
        _load_weights(model, kept, path)
    return model.eval(), forget_set, retain_set


def _unlearned(setting, number, model, forget_set, retain_set, show):
    method = setting.method
    config = config_from_record(method, setting.request, setting.record)
    config = replace(
        config,
        recipe=replace(config.recipe, seed=config.recipe.seed + 1 + number),
        matching_val=setting.matching_val,
        retain_val=setting.retain_val,
        show=show,
    )
    if method.uses_mask:
        threshold = setting.record["settings"]["mask_thresh"]
        config = replace(config, mask=compute_mask(model, forget_set, setting.request, threshold))
    return method.run(model, forget_set, retain_set, config)


def _read(path, origin):
    if not path.exists():
        return None
    content = load_with_digest(path, "shadow model", ANEW)
    if content.get("format") != FORMAT or content.get("origin") != origin:
        raise _foreign(path)
    return content


def _margins_of(content, path, count):
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
    return UserError(f"{path} is no shadow model of this attack: {ANEW}")


def _write(path, origin, **tensors):
    save_with_digest(path, {"format": FORMAT, "origin": origin, **tensors})


def _digest(origin):
    text = json.dumps(origin, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
