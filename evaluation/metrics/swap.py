"""Advantage of an attacker in the SWAP test, from pairs of shadow models.

Tu, Hu and Ma, "A reliable cryptographic framework for empirical machine unlearning evaluation",
NeurIPS 2025, arXiv:2404.11577. An attacker has to distinguish forgotten images from unseen ones.
An attack on one model can succeed because the images differ by themselves. So the test is made
twice: once as it is, and once with a model for which forgotten and unseen images have changed
places. What the images give away by themselves cancels out, so that the expected advantage of every
attack on Retrain, which depends on neither, is 0 by construction.

Consecutive shadow models of U-LiRA are such a pair: one is trained on a random half of the queries
and forgets it, the other one on the other half (evaluation.metrics.lira.shadow_memberships). So
the test costs no training. It is of the method, not of the one model under test.

ZRF (Chundawat et al., AAAI 2023) compares outputs with those of an untrained network instead; see
docs/evaluation.md for why this one is used.
"""

from __future__ import annotations

import numpy as np

from evaluation.figure import Figure, undefined
from evaluation.measure import Measure, Row
from evaluation.statistics import mean_with_interval

MIN_PAIRS = 2  # one to choose the threshold by, and one to test


def swap_figures(shadows: np.ndarray, seen: np.ndarray) -> dict[str, Figure]:
    """Return the advantage, -1 to 1, and the unlearning quality, 0 to 1, Figures by key.

    shadows: (M, Q) margins of the shadow models, consecutive ones of which are pairs. seen: (M, Q)
    bool, the queries that each was trained on and has forgotten.

    The attack compares the margin of an image with its mean under the models of the other pairs,
    and expects a forgotten image above a threshold. The threshold is that with the largest
    advantage in the other pairs. The advantage in a pair is the mean over its two models of the
    fraction of forgotten images above the threshold less that of unseen ones. Above 0 the method's
    forgotten images are still known, below 0 they are conspicuously unknown. Interval: Student's,
    over pairs. The quality is 1 - |advantage| (section 3.3 of the paper).
    """
    pairs = len(shadows) // 2
    if pairs < MIN_PAIRS:
        return dict.fromkeys(KEYS, undefined(f"fewer than {2 * MIN_PAIRS} shadow models"))
    found = []
    for pair in range(pairs):
        tested = np.zeros(len(shadows), bool)
        tested[2 * pair : 2 * pair + 2] = True
        differences = shadows - shadows[~tested].mean(0)
        threshold = _best_threshold(differences[~tested], seen[~tested])
        found.append(_advantage(differences[tested], seen[tested], threshold))
    mean = mean_with_interval(found)
    advantage = Figure(mean.value, max(-1.0, mean.low), min(1.0, mean.high))
    sizes = abs(advantage.low), abs(advantage.high)
    nearest = 0.0 if advantage.low <= 0 <= advantage.high else min(sizes)
    quality = Figure(1 - abs(advantage.value), 1 - max(sizes), 1 - nearest)
    return {"swap_advantage": advantage, "swap_quality": quality}


def _advantage(differences, seen, threshold):
    """Mean over the models of P(above | forgotten) - P(above | unseen)."""
    above = differences > threshold
    rates = [
        above[row][seen[row]].mean() - above[row][~seen[row]].mean() for row in range(len(above))
    ]
    return float(np.mean(rates))


def _best_threshold(differences, seen):
    """The threshold, midway between differences, at which |advantage| is largest."""
    order = np.argsort(differences, axis=None)
    values, kinds = differences.ravel()[order], seen.ravel()[order]
    above_seen, above_unseen = (
        1 - np.cumsum(kind) / kind.sum() for kind in (kinds, ~kinds)
    )  # fractions above each value
    best = int(np.argmax(np.abs(above_seen - above_unseen)[:-1]))
    return (values[best] + values[best + 1]) / 2


KEYS = ("swap_advantage", "swap_quality")
# main_mia computes it from shadow models, so that it is not among the measures of --measures
SWAP = Measure(
    name="SWAP test",
    group="attack",
    explanation="The same attack on pairs of shadow models whose forgotten and unseen images have "
    "changed places: what the images give away by themselves cancels out. An advantage of 0 is "
    "Retrain's; above 0 forgotten images are still known, below 0 conspicuously unknown.",
    compute=swap_figures,
    rows=(
        Row("swap_advantage", "SWAP test: advantage"),
        Row("swap_quality", "  unlearning quality, 1 - |advantage|"),
    ),
)
