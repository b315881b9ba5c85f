"""Membership inference with one score per image: does the model know members better?

A member is an image that the model was trained on (and was to forget), a non-member one that it
never saw. Each score is higher for an image that the model knows better.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold

from evaluation.figure import Figure, too_few, undefined
from evaluation.measure import Column, Measure, Row, tpr_key
from evaluation.settings import FOLDS
from evaluation.statistics import percentile_interval, wilson_proportion

if TYPE_CHECKING:
    from evaluation.audit import Context

ATTACKS = ("loss", "confidence", "entropy", "modified_entropy")
RESAMPLES = 1000  # of the bootstrap
CHUNK_SIZE = 100  # bootstrap resamples held in memory together
LOW_RATES = (0.01, 0.001)  # false positive rates at which true positive rates are given
Scores = tuple[np.ndarray, np.ndarray]  # of members (M,) and of non-members (N,)


@dataclass(frozen=True)
class AttackFigures:
    """Fractions, 0 to 1, each with its interval. tpr: by false positive rate."""

    auc: Figure
    balanced_accuracy: Figure
    tpr: dict[float, Figure]


def compute(context: Context) -> dict[str, Figure]:
    """Return the figures of the attacks on any model, and how much they differ from Retrain's."""
    scores = attack_scores(context)
    figures = {}
    for name, pair in scores.items():
        found = attack(*pair, context.seed)
        figures[f"attack_{name}_auc"] = found.auc
        figures[f"attack_{name}_balanced_accuracy_percent"] = found.balanced_accuracy.times(100)
        for rate in LOW_RATES:
            figures[tpr_key(f"attack_{name}", rate)] = found.tpr[rate].times(100)
    if context.retrain and not context.is_retrain:
        theirs = attack_scores(context.retrain)
        for name in ATTACKS:
            difference = auc_difference(scores[name], theirs[name], context.seed)
            figures[f"attack_{name}_auc_minus_retrain"] = difference
    return figures


def attack_scores(context: Context) -> dict[str, Scores]:
    """Return the scores of (forget set, comparable non-members) by attack.

    Non-members are compared if they are of the same kind as the forget set, so that an attack has
    to detect what was trained on and not merely which class an image has.
    """
    forget, _ = context.outputs["train"].split()
    unseen = context.outputs[context.non_members].comparable_part()
    members, others = (
        membership_scores(*context.request.scored_logits(part.logits, part.labels))
        for part in (forget, unseen)
    )
    return {name: (members[name], others[name]) for name in ATTACKS}


def control_warnings(context: Context) -> list[str]:
    """Return a line for each attack that succeeds on Retrain as well."""
    return [
        f"the attack by {name.replace('_', ' ')} distinguishes forget and {context.non_members} "
        "images on Retrain too, which saw neither: read the AUC minus Retrain's"
        for name in ATTACKS
        if context.retrain and separates(context.retrain.figures[f"attack_{name}_auc"])
    ]


def separates(figure: Figure | None) -> bool:
    """Whether the whole interval of an AUC is above, or below, the 0.5 of guessing."""
    if figure is None or not figure.is_defined:
        return False
    return figure.low > 0.5 or figure.high < 0.5


def membership_scores(logits: torch.Tensor, labels: torch.Tensor) -> dict[str, np.ndarray]:
    """Return four scores of each image, by attack: (N,) float64, from (N, K) logits, (N,) labels.

    loss: minus the cross entropy (Yeom et al., CSF 2018). confidence, entropy and modified entropy
    as in Song and Mittal, "Systematic evaluation of privacy risks of machine learning models",
    USENIX Security 2021, section 3: the true class's probability p_y; minus the entropy; minus

        Mentr = -(1 - p_y) log p_y - sum over i != y of p_i log(1 - p_i)        (eq. 8)

    Confidence ranks images as the loss does, so that the two differ in their thresholds only.
    """
    log_p, log_not = _logs(torch.as_tensor(logits).double())
    p = log_p.exp()
    own = torch.as_tensor(labels)[:, None]
    own_log_p = log_p.gather(1, own)[:, 0]
    others = (p * log_not).scatter(1, own, 0)
    modified = -log_not.gather(1, own)[:, 0].exp() * own_log_p - others.sum(1)
    scores = {
        "loss": own_log_p,
        "confidence": own_log_p.exp(),
        "entropy": (p * log_p).sum(1),
        "modified_entropy": -modified,
    }
    return {name: score.numpy() for name, score in scores.items()}


def attack(members: np.ndarray, non_members: np.ndarray, seed: int = 1) -> AttackFigures:
    """Return how well a score separates members (M,) from non-members (N,).

    auc: 0.5 is guessing; below 0.5 the members are known worse, which distinguishes them as well.
    balanced_accuracy: with a threshold chosen on other images (cross-fitting, FOLDS folds), because
    the best threshold of the images that are classified finds a difference where there is none.
    tpr: the true positive rate at the lowest threshold that keeps the false positive rate (Carlini
    et al., "Membership inference attacks from first principles", IEEE S&P 2022); undefined if the
    rate allows less than one false positive, and too high if it allows only one or two.
    Intervals: percentile bootstrap of members and non-members each, RESAMPLES times; with fewer
    than about 40 images of either kind that of the AUC is too narrow. If no member is found, no
    resample finds one, so the interval of a true positive rate is at least Wilson's. That of the
    balanced accuracy combines Wilson's intervals of both kinds (Newcombe, "Interval estimation for
    the difference between independent proportions", 1998, method 10, for a sum).
    """
    members, non_members = np.asarray(members, float), np.asarray(non_members, float)
    why = too_few(len(members), len(non_members))
    if why:
        return AttackFigures(
            undefined(why), undefined(why), dict.fromkeys(LOW_RATES, undefined(why))
        )
    rng = np.random.default_rng(seed)
    truth = np.repeat([1, 0], [len(members), len(non_members)])
    auc = roc_auc_score(truth, np.concatenate([members, non_members]))
    rates = [rate for rate in LOW_RATES if rate * len(non_members) >= 1]
    found = [wilson_proportion(_found(members, non_members, rate), "no image") for rate in rates]
    drawn = _bootstrap(members, non_members, rates, rng)
    ends = [percentile_interval(column) for column in drawn.T]
    tpr = {
        rate: undefined(f"{len(non_members)} non-members cannot show a rate of {100 * rate:g}%")
        for rate in LOW_RATES
    }
    for rate, wilson, (low, high) in zip(rates, found, ends[1:], strict=True):
        tpr[rate] = Figure(wilson.value, min(low, wilson.low), max(high, wilson.high))
    return AttackFigures(
        Figure(float(auc), *ends[0]), _balanced_accuracy(members, non_members, rng), tpr
    )


def auc_difference(scores: Scores, other_scores: Scores, seed: int = 1) -> Figure:
    """Return the AUC of one model's scores minus that of another's on the same images.

    The bootstrap draws the same images for both models, so that what makes an image difficult for
    both cancels out.
    """
    counts = [len(part) for part in scores]
    why = too_few(*counts)
    if why:
        return undefined(why)
    rng = np.random.default_rng(seed)

    def difference(weights):
        ours, theirs = (_weighted_auc(*pair, weights) for pair in (scores, other_scores))
        return ours - theirs

    resampled = []
    for _ in range(RESAMPLES // CHUNK_SIZE):
        drawn = [rng.multinomial(n, np.full(n, 1 / n), CHUNK_SIZE) for n in counts]
        resampled.append(difference(np.concatenate(drawn, 1)))
    value = float(difference(np.ones((1, sum(counts))))[0])
    return Figure(value, *percentile_interval(np.concatenate(resampled)))


def _weighted_auc(members, non_members, weights):
    """(B,) AUC where each image counts `weights` (B, M + N) times."""
    scores = np.concatenate([members, non_members])
    order = np.argsort(scores, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(scores[order]) > 0])  # of equal scores
    is_member = np.arange(len(scores))[order] < len(members)
    m, n = (
        np.add.reduceat(np.where(side, weights[:, order], 0), starts, axis=1)
        for side in (is_member, ~is_member)
    )
    won = (m * (n.cumsum(1) - n / 2)).sum(1)
    return won / (m.sum(1) * n.sum(1))


def _logs(logits):
    """(log p, log(1 - p)) of (N, K) logits, exact even where p rounds to 1."""
    log_p = logits.log_softmax(1)
    top = log_p.argmax(1, keepdim=True)
    others = log_p.scatter(1, top, -torch.inf).logsumexp(1, keepdim=True)
    log_not = torch.log1p(-log_p.exp()).scatter(1, top, others)
    return log_p.scatter(1, top, torch.log1p(-others.exp())), log_not


def _found(members, non_members, rate):
    """(M,) bool: the true positives at a false positive rate of at most `rate`."""
    false_positives = int(np.floor(rate * len(non_members) + 1e-9))
    threshold = np.sort(non_members)[::-1][false_positives]  # the highest negative
    return members > threshold


def _bootstrap(members, non_members, rates, rng):
    """(RESAMPLES, 1 + len(rates)): AUC and true positive rates of resampled images.

    A resample is a count for each distinct score, so that scores are sorted only once.
    """
    values = np.unique(np.concatenate([members, non_members]))
    proportions = [_proportions(values, part) for part in (members, non_members)]
    rows = []
    for _ in range(RESAMPLES // CHUNK_SIZE):
        m = rng.multinomial(len(members), proportions[0], CHUNK_SIZE) / len(members)
        n = rng.multinomial(len(non_members), proportions[1], CHUNK_SIZE) / len(non_members)
        below = n.cumsum(1) - n
        columns = [(m * (below + n / 2)).sum(1)]
        tpr, fpr = (part[:, ::-1].cumsum(1) for part in (m, n))
        columns += [np.where(fpr <= rate + 1e-9, tpr, 0).max(1) for rate in rates]
        rows.append(np.stack(columns, 1))
    return np.concatenate(rows)


def _proportions(values, scores):
    counts = np.bincount(np.searchsorted(values, scores), minlength=len(values))
    return counts / len(scores)


def _balanced_accuracy(members, non_members, rng):
    scores = np.concatenate([members, non_members])
    truth = np.repeat([True, False], [len(members), len(non_members)])
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=int(rng.integers(2**31)))
    called = np.empty(len(scores), bool)
    for fitted, held_out in folds.split(scores, truth):
        threshold = _best_threshold(scores[fitted], truth[fitted])
        called[held_out] = scores[held_out] >= threshold
    correct = called == truth
    kinds = [wilson_proportion(correct[part], "no image") for part in (truth, ~truth)]
    value = float(np.mean([kind.value for kind in kinds]))
    below = math.hypot(*(kind.value - kind.low for kind in kinds)) / 2
    above = math.hypot(*(kind.high - kind.value for kind in kinds)) / 2
    return Figure(value, value - below, value + above)


def _best_threshold(scores, truth):
    """The lowest score of an image that is called a member, for the best balanced accuracy.

    It lies midway between the scores on either side.
    """
    values = np.unique(scores)
    tpr = 1 - np.searchsorted(np.sort(scores[truth]), values) / truth.sum()
    fpr = 1 - np.searchsorted(np.sort(scores[~truth]), values) / (~truth).sum()
    best = np.argmax(tpr - fpr)
    if best == 0:
        return -np.inf
    middle = (values[best - 1] + values[best]) / 2
    return middle if middle > values[best - 1] else values[best]  # none between adjacent floats


MEASURE = Measure(
    name="attacks by a score of each image",
    group="privacy",
    explanation="An AUC above 0.5 detects forgotten images because they are known better than "
    "unseen ones, below 0.5 because they are conspicuously unknown. An interval that contains 0.5, "
    "or a difference from Retrain whose interval contains 0, shows no memory (with few images it "
    "shows little).",
    compute=compute,
    rows=tuple(
        row
        for name in ATTACKS
        for row in (
            Row(f"attack_{name}_auc", f"attack by {name.replace('_', ' ')}: AUC"),
            Row(f"attack_{name}_auc_minus_retrain", "  AUC minus Retrain's"),
            Row(f"attack_{name}_balanced_accuracy_percent", "  balanced accuracy"),
            *(
                Row(tpr_key(f"attack_{name}", rate), f"  TPR at {100 * rate:g}% FPR")
                for rate in LOW_RATES
            ),
        )
    ),
    warnings=control_warnings,
    columns=(Column("attack_loss_auc", "attack AUC", digits=3),),
)
