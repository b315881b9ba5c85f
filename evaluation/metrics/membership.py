"""Membership inference by one number an image: is a member better known than a non-member?

A member is an image that the model was trained on (and has to have forgotten), a non-member one
that it never saw. Every score below is higher for what is known better.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold

from evaluation.figure import Figure, undefined
from evaluation.metrics.clinical import wilson_proportion

RESAMPLES = 1000
CONFIDENCE = 0.95
FOLDS = 5
CHUNK_SIZE = 100  # bootstrap resamples held in memory together
LOW_RATES = (0.01, 0.001)  # false positive rates: few accusations, and those right


@dataclass(frozen=True)
class AttackFigures:
    """Shares, 0 to 1, each with its interval. tpr: by false positive rate."""

    auc: Figure
    balanced_accuracy: Figure
    tpr: dict[float, Figure]


def membership_scores(logits, labels):
    """Four scores of each image, by attack: (N,) float64 numpy, from (N, K) logits, (N,) labels.

    loss: minus the cross entropy (Yeom et al., CSF 2018). confidence, entropy and modified entropy
    as in Song and Mittal, "Systematic evaluation of privacy risks of machine learning models",
    USENIX Security 2021, section 3: the true class's probability p_y; minus the entropy; minus

        Mentr = -(1 - p_y) log p_y - sum over i != y of p_i log(1 - p_i)        (eq. 8)

    Confidence ranks images as the loss does, so that the two differ in thresholds alone.
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


def attack(members, non_members, seed=1):
    """How well a score tells members (M,) from non-members (N,): AttackFigures.

    auc: 0.5 is guessing; below 0.5 the members are known worse, which tells them apart as well.
    balanced_accuracy: with a threshold chosen on other images (cross-fitting, FOLDS folds), because
    the best threshold of the very images that are judged finds a difference where there is none.
    tpr: the share of members found when at most that share of non-members is accused, the
    threshold as low as that allows (Carlini et al., "Membership inference attacks from first
    principles", IEEE S&P 2022); undefined with fewer non-members than one false alarm asks for,
    and on the high side where only one or two false alarms are allowed.
    Intervals: percentile bootstrap of members and non-members each, RESAMPLES times; with fewer
    than some 40 images of either kind that of the AUC is too narrow. No resample of members that
    are all missed finds one: the interval of a rate is at least Wilson's of the share found. That
    of the balanced accuracy joins Wilson's intervals of both kinds (Newcombe, "Interval estimation
    for the difference between independent proportions", 1998, method 10, for a sum).
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
    ends = [_interval(column) for column in drawn.T]
    tpr = {
        rate: undefined(f"{len(non_members)} non-members cannot show a rate of {100 * rate:g}%")
        for rate in LOW_RATES
    }
    for rate, wilson, (low, high) in zip(rates, found, ends[1:], strict=True):
        tpr[rate] = Figure(wilson.value, min(low, wilson.low), max(high, wilson.high))
    return AttackFigures(
        Figure(float(auc), *ends[0]), _balanced_accuracy(members, non_members, rng), tpr
    )


def too_few(members, non_members):
    """Why so many members and non-members cannot be attacked, None if they can."""
    names = (members, "image", " of the request"), (non_members, "non-member", "")
    for count, what, which in names:
        if count < FOLDS:
            return f"{count} {what}{'s' if count != 1 else ''}{which}, and {FOLDS} are the least"
    return None


def auc_difference(scores, other_scores, seed=1):
    """AUC of one model's scores less that of another's on the same images, a Figure.

    scores, other_scores: (members (M,), non-members (N,)). Its bootstrap draws the same images for
    both models, so that what makes an image hard for either cancels out.
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
    return Figure(value, *_interval(np.concatenate(resampled)))


def _weighted_auc(members, non_members, weights):
    """(B,) AUC with each image counted `weights` (B, M + N) times."""
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
    """(log p, log(1 - p)) of (N, K) logits, exact for a p that rounds to 1 as well."""
    log_p = logits.log_softmax(1)
    top = log_p.argmax(1, keepdim=True)
    others = log_p.scatter(1, top, -torch.inf).logsumexp(1, keepdim=True)
    log_not = torch.log1p(-log_p.exp()).scatter(1, top, others)
    return log_p.scatter(1, top, torch.log1p(-others.exp())), log_not


def _found(members, non_members, rate):
    """(M,) bool: which members are found with at most that share of non-members accused."""
    accused = int(np.floor(rate * len(non_members) + 1e-9))
    threshold = np.sort(non_members)[::-1][accused]  # the highest that must not be accused
    return members > threshold


def _bootstrap(members, non_members, rates, rng):
    """(RESAMPLES, 1 + len(rates)): AUC and true positive rates of resampled images.

    A resample is a count for each distinct score, so that sorting is done once for all of them.
    """
    values = np.unique(np.concatenate([members, non_members]))
    shares = [_shares(values, part) for part in (members, non_members)]
    rows = []
    for _ in range(RESAMPLES // CHUNK_SIZE):
        m = rng.multinomial(len(members), shares[0], CHUNK_SIZE) / len(members)
        n = rng.multinomial(len(non_members), shares[1], CHUNK_SIZE) / len(non_members)
        below = n.cumsum(1) - n
        columns = [(m * (below + n / 2)).sum(1)]
        caught, accused = (part[:, ::-1].cumsum(1) for part in (m, n))
        columns += [np.where(accused <= rate + 1e-9, caught, 0).max(1) for rate in rates]
        rows.append(np.stack(columns, 1))
    return np.concatenate(rows)


def _shares(values, scores):
    counts = np.bincount(np.searchsorted(values, scores), minlength=len(values))
    return counts / len(scores)


def _balanced_accuracy(members, non_members, rng):
    scores = np.concatenate([members, non_members])
    truth = np.repeat([True, False], [len(members), len(non_members)])
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=int(rng.integers(2**31)))
    called = np.empty(len(scores), bool)
    for known, judged in folds.split(scores, truth):
        called[judged] = scores[judged] >= _best_threshold(scores[known], truth[known])
    right = called == truth
    kinds = [wilson_proportion(right[part], "no image") for part in (truth, ~truth)]
    value = float(np.mean([kind.value for kind in kinds]))
    below = math.hypot(*(kind.value - kind.low for kind in kinds)) / 2
    above = math.hypot(*(kind.high - kind.value for kind in kinds)) / 2
    return Figure(value, value - below, value + above)


def _best_threshold(scores, truth):
    """The score from which on an image is called a member, for the best balanced accuracy.

    Midway to the next lower score: as far from those that are called non-members.
    """
    values = np.unique(scores)
    caught = 1 - np.searchsorted(np.sort(scores[truth]), values) / truth.sum()
    accused = 1 - np.searchsorted(np.sort(scores[~truth]), values) / (~truth).sum()
    best = np.argmax(caught - accused)
    if best == 0:
        return -np.inf
    middle = (values[best - 1] + values[best]) / 2
    return middle if middle > values[best - 1] else values[best]  # neighbours have no middle


def _interval(drawn):
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(drawn, [tail, 100 - tail])
    return float(low), float(high)
