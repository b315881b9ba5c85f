"""A control without a model: can the images alone tell members from non-members?

Das, Zhang and Tramer, "Blind baselines beat membership inference attacks for foundation models",
2024: where members and non-members come from different distributions, an attack that never looks
at the model succeeds, and success of any attack proves nothing.
"""

import math

import numpy as np
import torch
from scipy.stats import rankdata
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline
from torch.nn import functional

from evaluation.figure import Figure
from evaluation.metrics.membership import FOLDS, attack
from utils.data.prefetch import iter_batches
from utils.runtime.devices import to_device_async
from utils.train.prediction import PREDICTION_BATCH

SIDE = 16  # pixels that images are averaged to: layout and brightness, little detail
COMPONENTS = 20
MOST = 2000  # images of each side
REGULARISATION = 0.1  # scikit-learn's C


def blind_attack(member_set, non_member_set, seed=1):
    """AUC of a logistic regression on principal components of the pixels, a Figure.

    member_set, non_member_set: ImageSets. Each image is scored by a regression that was fitted
    without it (cross-validation); scores are ranked within their fold, whose scale they share.
    The bootstrap takes these scores as given, but any two folds count twice, as each is judged by
    what the other taught. Between sets that are alike that makes for up to twice the variance,
    hence an interval sqrt(2) times as wide.
    """
    rng = np.random.default_rng(seed)
    parts = [_pixels(part, rng) for part in (member_set, non_member_set)]
    counts = [len(part) for part in parts]
    if min(counts) < FOLDS:
        return attack(*(np.zeros(count) for count in counts)).auc  # it says why there is none
    pixels, truth = np.concatenate(parts), np.repeat([1, 0], counts)
    scores = np.empty(len(pixels))
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    for fitted, judged in folds.split(pixels, truth):
        components = min(COMPONENTS, len(fitted) // 2, pixels.shape[1])
        regression = make_pipeline(
            PCA(components, whiten=True, random_state=seed),
            LogisticRegression(C=REGULARISATION, class_weight="balanced", max_iter=1000),
        ).fit(pixels[fitted], truth[fitted])
        found = regression.decision_function(pixels[judged])
        scores[judged] = (rankdata(found) - 0.5) / len(judged)
    auc = attack(scores[truth == 1], scores[truth == 0], seed).auc
    wider = [auc.value + math.sqrt(2) * (end - auc.value) for end in (auc.low, auc.high)]
    return Figure(auc.value, *np.clip(wider, 0, 1).tolist())


def _pixels(image_set, rng):
    """(n, D) float32 of at most MOST of the images, shrunk."""
    chosen = np.sort(rng.permutation(len(image_set))[:MOST])
    if len(chosen) == 0:
        return np.empty((0, 1), np.float32)
    side = min(SIDE, image_set.images.shape[-1])
    parts = to_device_async(torch.from_numpy(chosen), image_set.device).split(PREDICTION_BATCH)
    small = [
        functional.adaptive_avg_pool2d(images.float(), side).flatten(1)
        for images, _ in iter_batches(image_set, parts)
    ]
    return torch.cat(small).cpu().numpy()
