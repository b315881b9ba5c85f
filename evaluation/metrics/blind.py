"""A control without a model: can the images alone distinguish members from non-members?

Das, Zhang and Tramer, "Blind baselines beat membership inference attacks for foundation models",
2024: if members and non-members come from different distributions, an attack that never uses the
model succeeds, so that the success of any attack proves nothing.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import numpy as np
import torch
from scipy.stats import rankdata
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline
from torch.nn import functional

from evaluation.figure import Figure
from evaluation.measure import Measure, Row
from evaluation.metrics.membership import attack, separates
from evaluation.settings import FOLDS
from utils.data.prefetch import iter_batches
from utils.runtime.devices import to_device_async
from utils.train.prediction import PREDICTION_BATCH

if TYPE_CHECKING:
    from evaluation.audit import Context
    from utils.data.datasets import ImageSet

SIDE = 16  # pixels that images are averaged to: layout and brightness, little detail
COMPONENTS = 20
MAX_IMAGES = 2000  # on either side
REGULARISATION = 0.1  # scikit-learn's C

_computed = WeakKeyDictionary()  # data set -> figures by what they depend on


def compute(context: Context) -> dict[str, Figure]:
    """Return the Figures by key for the tested model, as the images are the same for all models.

    They are kept in memory as long as the data set, because several models are often tested with
    the same images.
    """
    if not context.is_tested:
        return {}
    request = context.request
    # requests for different random draws compare as equal
    key = request, request.sample_id, request.sampled_classes, context.non_members, context.seed
    known = _computed.setdefault(context.dataset, {})
    if key not in known:
        known[key] = _compute(context.dataset, request, context.non_members, context.seed)
    return known[key]


def _compute(dataset, request, non_members, seed):
    forget, retain = request.split(dataset, "train")
    unseen = dataset.splits[non_members].subset(request.matches_forget_set(dataset, non_members))
    return {
        "attack_blind_auc": blind_attack(forget, unseen, seed),
        "blind_retain_val_auc": blind_attack(retain, request.split(dataset, "val")[1], seed),
        "blind_retain_test_auc": blind_attack(retain, request.split(dataset, "test")[1], seed),
    }


def control_warnings(context: Context) -> list[str]:
    """Return a line for each attack whose images differ even without a model."""
    figures, lines = context.figures, []
    if separates(figures["attack_blind_auc"]):
        lines.append(
            f"forget and {context.non_members} images differ without any model: attacks on them "
            "prove nothing by themselves; compare with Retrain's"
        )
    for split, key in (("test", "mia_efficacy_percent"), ("val", "mia_efficacy_val_percent")):
        if separates(figures[f"blind_retain_{split}_auc"]):
            lines.append(
                f"retained training images and {split} images differ without any model: {key}, "
                "whose attack is trained on them, proves nothing by itself"
            )
    return lines


def blind_attack(member_set: ImageSet, non_member_set: ImageSet, seed: int = 1) -> Figure:
    """Return the AUC of a logistic regression on principal components of the pixels.

    Each image is scored by a regression that was fitted without it (cross-validation); scores are
    ranked within their fold, because only they are on one scale. The bootstrap takes these scores
    as given, but any two folds count twice, as each is scored by a model fitted to the other.
    Between sets that are alike this gives up to twice the variance, hence an interval sqrt(2)
    times as wide.
    """
    rng = np.random.default_rng(seed)
    parts = [_pixels(part, rng) for part in (member_set, non_member_set)]
    counts = [len(part) for part in parts]
    if min(counts) < FOLDS:
        return attack(*(np.zeros(count) for count in counts)).auc  # undefined, with the reason
    pixels, truth = np.concatenate(parts), np.repeat([1, 0], counts)
    scores = np.empty(len(pixels))
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    for fitted, held_out in folds.split(pixels, truth):
        components = min(COMPONENTS, len(fitted) // 2, pixels.shape[1])
        regression = make_pipeline(
            PCA(components, whiten=True, random_state=seed),
            LogisticRegression(C=REGULARISATION, class_weight="balanced", max_iter=1000),
        ).fit(pixels[fitted], truth[fitted])
        found = regression.decision_function(pixels[held_out])
        scores[held_out] = (rankdata(found) - 0.5) / len(held_out)
    auc = attack(scores[truth == 1], scores[truth == 0], seed).auc
    wider = [auc.value + math.sqrt(2) * (end - auc.value) for end in (auc.low, auc.high)]
    return Figure(auc.value, *np.clip(wider, 0, 1).tolist())


def _pixels(image_set, rng):
    """(n, D) float32 of at most MAX_IMAGES of the images, downscaled."""
    chosen = np.sort(rng.permutation(len(image_set))[:MAX_IMAGES])
    if len(chosen) == 0:
        return np.empty((0, 1), np.float32)
    side = min(SIDE, image_set.images.shape[-1])
    parts = to_device_async(torch.from_numpy(chosen), image_set.device).split(PREDICTION_BATCH)
    small = [
        functional.adaptive_avg_pool2d(images.float(), side).flatten(1)
        for images, _ in iter_batches(image_set, parts)
    ]
    return torch.cat(small).cpu().numpy()


MEASURE = Measure(
    name="controls without a model",
    group="privacy",
    explanation="They separate the same images by their pixels alone. If one is away from 0.5, the "
    "images differ by themselves, and only the difference from Retrain shows memory.",
    compute=compute,
    rows=(
        Row("attack_blind_auc", "control: forget from unseen images by pixels: AUC"),
        Row("blind_retain_val_auc", "control: retained from val images by pixels: AUC"),
        Row("blind_retain_test_auc", "control: retained from test images by pixels: AUC"),
    ),
    warnings=control_warnings,
)
