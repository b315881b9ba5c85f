"""U-LiRA: a per-example likelihood-ratio attack on an unlearned model.

Hayes et al., "Inexact unlearning needs more careful evaluations to avoid a false sense of privacy",
2024, after LiRA (Carlini et al., "Membership inference attacks from first principles", IEEE S&P
2022). For each image, shadow models give the distribution of the outputs of a model that was
trained on it and made to forget it, and of a model that never saw it. A normal distribution is
fitted to either, and the likelihood ratio of the output of the model under test is the score. An
attack with one threshold for all images misses the few that are still remembered; this one does
not.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy.stats import norm

from evaluation.figure import NO_RETRAIN, Figure
from evaluation.measure import Measure, Row, tpr_key
from evaluation.metrics.membership import LOW_RATES, attack, separates
from evaluation.settings import MIN_SHADOW_MODELS

# with fewer shadow models, one spread for all images (Carlini et al., section VI)
MIN_SHADOWS_FOR_OWN_SPREAD = 64
MIN_SPREAD = 1e-6  # of margins, so that identical shadow models cause no division by zero


def shadow_memberships(count: int, queries: int, seed: int = 1) -> np.ndarray:
    """Return (count, queries) bool: which shadow model is trained on which image.

    Each model on a random half of the images, and the next one on the other half, so that every
    image has as many models that saw it as that did not. Raises ValueError unless count is even and
    at least MIN_SHADOW_MODELS.
    """
    if count < MIN_SHADOW_MODELS or count % 2:
        raise ValueError(
            f"{count} shadow models: the number must be even and at least {MIN_SHADOW_MODELS}"
        )
    rng = np.random.default_rng(seed)
    halves = np.zeros((count // 2, queries), bool)
    for half in halves:
        half[rng.permutation(queries)[: (queries + 1) // 2]] = True
    return np.stack([halves, ~halves], 1).reshape(count, queries)


def likelihood_ratios(target: np.ndarray, shadows: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Return log p(target | seen and forgotten) - log p(target | never seen): (N,), in nats.

    target: (N,) margins log(p_y / (1 - p_y)) of the model under test. shadows: (M, N) of the shadow
    models. seen: (M, N) bool, of shadow_memberships. A positive ratio classifies as trained on.
    """
    kinds = [np.where(kind, shadows, np.nan) for kind in (seen, ~seen)]
    means = [np.nanmean(kind, 0) for kind in kinds]
    deviations = [kind - mean for kind, mean in zip(kinds, means, strict=True)]
    if len(shadows) < MIN_SHADOWS_FOR_OWN_SPREAD:
        # degrees of freedom: one mean per image was fitted
        free = [np.isfinite(kind).sum() - kind.shape[1] for kind in kinds]
        spreads = [
            np.sqrt(np.nansum(part**2) / n) for part, n in zip(deviations, free, strict=True)
        ]
    else:
        spreads = [np.nanstd(part, 0, ddof=1) for part in deviations]
    logs = [
        norm.logpdf(target, mean, np.maximum(spread, MIN_SPREAD))
        for mean, spread in zip(means, spreads, strict=True)
    ]
    return logs[0] - logs[1]


def ulira_figures(members: np.ndarray, non_members: np.ndarray, seed: int = 1) -> dict[str, Figure]:
    """Return the figures of the attack from the log likelihood ratios of either kind, by key.

    ulira_accuracy_percent: balanced, by the paper's rule: a member if its ratio is positive.
    """
    found = attack(members, non_members, seed)
    figures = {
        "ulira_auc": found.auc,
        "ulira_accuracy_percent": Figure(50 * ((members > 0).mean() + (non_members <= 0).mean())),
    }
    return figures | {
        tpr_key("ulira", rate): figure.times(100) for rate, figure in found.tpr.items()
    }


def control_warnings(retrain_figures: Mapping[str, Figure]) -> list[str]:
    """Return a line if the attack has no control, or succeeds on the control.

    retrain_figures: of ulira_figures, empty without a Retrain.
    """
    if not retrain_figures:
        return [f"the attack has no control: {NO_RETRAIN}"]
    if not separates(retrain_figures["ulira_auc"]):
        return []
    return [
        "the attack distinguishes forgotten images on Retrain too, which never saw them: its "
        "success does not show memory"
    ]


# main_mia computes it from shadow models, so that it is not among the measures of --measures
ULIRA = Measure(
    name="U-LiRA",
    group="attack",
    explanation="Can an attacker who knows the outputs of this method for seen and unseen images "
    "distinguish a forgotten image from an unseen one? An AUC of 0.5 and an accuracy of 50% show "
    "no memory; Retrain is the control.",
    compute=ulira_figures,
    rows=(
        Row("ulira_auc", "U-LiRA: AUC"),
        Row("ulira_accuracy_percent", "  balanced accuracy"),
        *(Row(tpr_key("ulira", rate), f"  TPR at {100 * rate:g}% FPR") for rate in LOW_RATES),
    ),
    warnings=control_warnings,
)
