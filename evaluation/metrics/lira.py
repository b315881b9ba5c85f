"""Per-example likelihood-ratio attack on an unlearned model: U-LiRA.

Hayes et al., "Inexact unlearning needs more careful evaluations to avoid a false sense of privacy",
2024, after LiRA (Carlini et al., "Membership inference attacks from first principles", IEEE S&P
2022). For each image: how would a model answer that was trained on it and made to forget it, and
how one that never saw it? Shadow models tell, a normal distribution is fitted to the answers of
either kind, and the model under test is asked which of the two it is like. An attack with one
threshold for all images misses the few that are still remembered; this one does not.
"""

import numpy as np
from scipy.stats import norm

from evaluation.settings import MIN_SHADOW_MODELS

MIN_SHADOWS_FOR_OWN_SPREAD = (
    64  # shadow models; with fewer, one spread for all images (Carlini et al., section VI)
)
LEAST_SPREAD = 1e-6  # of margins, so that models that all say the same divide by nothing


def shadow_memberships(count, queries, seed=1):
    """(count, queries) bool: which shadow model is trained on which image.

    Each model on half of the images, and the next one on the other half, so that every image has
    as many models that saw it as that did not. count: even, MIN_SHADOW_MODELS or more.
    """
    if count < MIN_SHADOW_MODELS or count % 2:
        raise ValueError(
            f"{count} shadow models: an even number, {MIN_SHADOW_MODELS} or more, is needed"
        )
    rng = np.random.default_rng(seed)
    halves = np.zeros((count // 2, queries), bool)
    for half in halves:
        half[rng.permutation(queries)[: (queries + 1) // 2]] = True
    return np.stack([halves, ~halves], 1).reshape(count, queries)


def likelihood_ratios(target, shadows, seen):
    """log p(target | seen and forgotten) - log p(target | never seen): (N,) float64, in nats.

    target: (N,) margins log(p_y / (1 - p_y)) of the model under test. shadows: (M, N) of the shadow
    models. seen: (M, N) bool, of shadow_memberships. A positive ratio says: was trained on it.
    """
    kinds = [np.where(kind, shadows, np.nan) for kind in (seen, ~seen)]
    means = [np.nanmean(kind, 0) for kind in kinds]
    away = [kind - mean for kind, mean in zip(kinds, means, strict=True)]
    if (
        len(shadows) < MIN_SHADOWS_FOR_OWN_SPREAD
    ):  # degrees of freedom: one mean an image was fitted
        free = [np.isfinite(kind).sum() - kind.shape[1] for kind in kinds]
        spreads = [np.sqrt(np.nansum(part**2) / n) for part, n in zip(away, free, strict=True)]
    else:
        spreads = [np.nanstd(part, 0, ddof=1) for part in away]
    logs = [
        norm.logpdf(target, mean, np.maximum(spread, LEAST_SPREAD))
        for mean, spread in zip(means, spreads, strict=True)
    ]
    return logs[0] - logs[1]
