"""Forgetting quality of the NeurIPS 2023 unlearning challenge: epsilons of single images.

Triantafillou et al., "Are we making progress in unlearning? Findings from the first NeurIPS
unlearning competition", arXiv:2406.09073. For each forgotten image an attacker has to distinguish
the outputs of several unlearned models from those of several Retrains. The best attack gives the
epsilon of (epsilon, delta)-unlearning, and an image scores 1 for an epsilon below 0.5, half of it
for one below 1, and so on. The forgetting quality is the mean score.

What it cannot see: the challenge had 512 models of each kind. With three to ten, rates are
multiples of a third to a tenth, epsilon has few values, and two kinds that do not differ are often
separated by chance. So the figures have to be compared with those by chance, which stand next to
them.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from evaluation.figure import Figure, undefined
from evaluation.measure import Measure, Row
from evaluation.metrics.klom import set_margins, too_few_models
from evaluation.statistics import percentile_interval

if TYPE_CHECKING:
    from evaluation.audit import Context

DELTA = 1e-5
CAP = 50.0  # of an epsilon; two kinds that are separated perfectly have an infinite one
BIN_WIDTH = 0.5  # of epsilons that score the same
MIN_RANGE_RATIO = 0.01  # with less, one kind is almost constant and found without fail
CHANCE_IMAGES = 2000  # of the simulation
ROUNDING = 1e-9  # a rate of at most this is 0
RESAMPLES = 1000  # of the bootstrap over images


def compute(context: Context) -> dict[str, Figure]:
    """Return the figures of the tested method and, for Retrain, those of models by chance.

    It needs as many models of the method, and Retrains, as KLOM.
    """
    audit = context.audit
    if context.retrain is None or not audit.peers or not (context.is_tested or context.is_retrain):
        return {}
    counts = 1 + len(audit.peers), len(audit.retrains)
    why = too_few_models(*counts)  # two of each allow no epsilon but 0 and infinity
    if why:
        return dict.fromkeys(KEYS, undefined(why)) if context.is_tested else {}
    if context.is_retrain:
        rng = np.random.default_rng(context.seed)
        groups = [rng.normal(size=(count, CHANCE_IMAGES)) for count in counts]
        return {key: Figure(figure.value) for key, figure in quality_figures(*groups).items()}
    ours, theirs = (
        np.array([set_margins(each)["forget"] for each in group])
        for group in ([context, *context.peers()], context.retrains())
    )
    return quality_figures(ours, theirs, context.seed)


def quality_figures(
    unlearned: np.ndarray, retrained: np.ndarray, seed: int = 1
) -> dict[str, Figure]:
    """Return the forgetting quality, 0 to 1, and the median epsilon, Figures by key.

    Both: (models, N) margins of the forgotten images. Intervals: percentile bootstrap over images;
    the models are taken as they are.
    """
    count = unlearned.shape[1]
    if count == 0:
        return dict.fromkeys(KEYS, undefined("no image"))
    epsilons = np.array([epsilon(*pair) for pair in zip(unlearned.T, retrained.T, strict=True)])
    scores = quality_scores(epsilons, min(len(unlearned), len(retrained)))
    drawn = np.random.default_rng(seed).integers(count, size=(RESAMPLES, count))
    quality = percentile_interval(scores[drawn].mean(1))
    median = percentile_interval(np.median(epsilons[drawn], 1))
    return {
        "forgetting_quality": Figure(float(scores.mean()), *quality),
        "forgetting_epsilon": Figure(float(np.median(epsilons)), *median),
    }


def epsilon(unlearned: np.ndarray, retrained: np.ndarray) -> float:
    """Return the epsilon of one image, in nats, 0 to CAP, from the (models,) margins of each kind.

    epsilon = max over attacks of log((1 - delta - FPR) / FNR) and log((1 - delta - FNR) / FPR)
    (arXiv:2406.09073, section 4). Attacks have one threshold, above which the kind with the larger
    median is expected, or two, between which the kind with the smaller range is. An attack with one
    rate of 0 shows too few models and does not count, one with both at 0 has the epsilon CAP. All
    thresholds between the margins are tried; the challenge's code tries those of a grid.
    """
    kinds = np.asarray(unlearned, float), np.asarray(retrained, float)
    ranges = [float(np.ptp(kind)) for kind in kinds]
    if min(ranges) < MIN_RANGE_RATIO * max(ranges):
        return CAP
    cuts = np.unique(np.concatenate(kinds))
    cuts = np.concatenate([[-np.inf], (cuts[1:] + cuts[:-1]) / 2, [np.inf]])
    # (cuts,) fractions of each kind below each cut
    below = [np.searchsorted(np.sort(kind), cuts) / len(kind) for kind in kinds]
    larger = int(np.median(kinds[1]) > np.median(kinds[0]))
    narrow = int(ranges[1] < ranges[0])
    first, second = np.triu_indices(len(cuts), 1)
    inside = [part[second] - part[first] for part in below]
    false_negative = np.concatenate([below[larger], 1 - inside[narrow]])
    false_positive = np.concatenate([1 - below[1 - larger], inside[1 - narrow]])
    rates = np.stack([false_negative, false_positive])
    positive = rates > ROUNDING
    if not positive.any(0).all():
        return CAP
    counts = positive.all(0)
    pair = false_negative[counts], false_positive[counts]
    with np.errstate(divide="ignore", invalid="ignore"):
        found = [np.log((1 - DELTA - one) / other) for one, other in (pair, pair[::-1])]
    return min(CAP, float(np.nanmax([0.0, *np.concatenate(found)])))


def quality_scores(epsilons: np.ndarray, models: int) -> np.ndarray:
    """Return the score of each image, 0 to 1, from the (N,) epsilons.

    2 / 2^n in bin n of BIN_WIDTH, n = 1, 2, ...; 0 from ceil(log(models - 1)) on, which is about
    the largest epsilon that so many models of each kind can show.
    """
    scores = 2.0 ** -np.floor(np.asarray(epsilons) / BIN_WIDTH)
    return np.where(epsilons < math.ceil(math.log(models - 1)), scores, 0.0)


KEYS = ("forgetting_quality", "forgetting_epsilon")
MEASURE = Measure(
    name="forgetting quality of the NeurIPS 2023 challenge",
    group="distance",
    explanation="Can an attacker distinguish several models of this method from several Retrains, "
    "image by image? A quality of 1 means that no image distinguishes them. The column of Retrain "
    "gives what as many models have that do not differ; with few models it is far from 1.",
    compute=compute,
    rows=(
        Row("forgetting_quality", "forgetting quality, NeurIPS 2023"),
        Row("forgetting_epsilon", "  median epsilon, nats"),
    ),
    inputs=("seed_weights_digests", "retrain_weights_digests"),
)
