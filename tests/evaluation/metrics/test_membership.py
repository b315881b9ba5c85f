"""Attack figures are those of loops over images, pairs and thresholds; intervals have coverage."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from evaluation.audit import RETRAIN
from evaluation.figure import Figure, undefined
from evaluation.metrics.membership import (
    ATTACKS,
    LOW_RATES,
    RESAMPLES,
    attack,
    auc_difference,
    control_warnings,
    membership_scores,
    separates,
)
from evaluation.settings import FOLDS
from tests.evaluation.contexts import make_context
from unlearn.request.request import ForgetRequest

REQUEST = ForgetRequest((1,))


def song_and_mittal(logits, label):
    """The four scores of one image, written down as the formulas stand."""
    total = sum(math.exp(z) for z in logits)
    p = [math.exp(z) / total for z in logits]
    modified = -(1 - p[label]) * math.log(p[label])
    modified -= sum(p[i] * math.log(1 - p[i]) for i in range(len(p)) if i != label)
    entropy = -sum(each * math.log(each) for each in p)
    return math.log(p[label]), p[label], -entropy, -modified


def two_normals(count, others, distance, seed):
    """Scores of members and non-members; the true AUC is Phi(distance / sqrt(2))."""
    rng = np.random.default_rng(seed)
    return rng.normal(distance, 1, count), rng.normal(0, 1, others)


def auc_by_pairs(members, non_members):
    wins = sum((m > n) + (m == n) / 2 for m in members for n in non_members)
    return wins / (len(members) * len(non_members))


def tpr_by_search(members, non_members, rate):
    """The most members found by any threshold that accuses few enough non-members."""
    thresholds = [np.inf, *members, *non_members]
    allowed = [t for t in thresholds if np.mean(non_members >= t) <= rate]
    return max(np.mean(members >= t) for t in allowed)


@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("scale", [0.5, 4])
def test_scores_against_a_loop_over_images(classes, scale):
    rng = np.random.default_rng(0)
    logits, labels = scale * rng.normal(size=(50, classes)), rng.integers(classes, size=50)
    expected = [song_and_mittal(*image) for image in zip(logits.tolist(), labels, strict=True)]
    scores = membership_scores(torch.tensor(logits), torch.tensor(labels))
    assert tuple(scores) == ATTACKS
    np.testing.assert_allclose(np.stack([*scores.values()], 1), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("logits", "label", "loss", "modified"),
    [  # 1 - p of the surest class is e^-40 and less: not to be had by subtracting from 1
        ([40.0, 0, -40], 0, -math.exp(-40), 0),
        ([40.0, 0, -40], 1, -40, -40 - 40),
        ([40.0, 0, -40], 2, -80, -80 - 40),
        ([1e4, 0, 0], 0, 0, 0),
        ([1e4, 0, 0], 1, -1e4, -1e4 - (1e4 - math.log(2))),
        ([-1e4, 40, 40], 0, -1e4 - 40 - math.log(2), -1e4 - 40 - 2 * math.log(2)),
    ],
)
def test_scores_of_extreme_logits_by_hand(logits, label, loss, modified):
    scores = membership_scores(torch.tensor([logits]), torch.tensor([label]))
    assert all(np.isfinite(score).all() for score in scores.values())
    assert scores["loss"][0] == pytest.approx(loss, rel=1e-9, abs=1e-30)
    assert scores["modified_entropy"][0] == pytest.approx(modified, rel=1e-9, abs=1e-30)
    assert scores["confidence"][0] == pytest.approx(math.exp(loss))


def test_better_known_is_higher_in_every_score():
    certainty = torch.linspace(0, 80, 10)
    logits = torch.stack([certainty, torch.zeros(10), torch.zeros(10)], 1)
    for name, score in membership_scores(logits, torch.zeros(10, dtype=int)).items():
        rises = np.diff(score) > 0
        assert rises[:4].all() if name == "confidence" else rises.all()  # which rounds to 1


@pytest.mark.parametrize("values", [3, 20, 10**6])  # many ties, some, none
def test_auc_against_all_pairs(values):
    rng = np.random.default_rng(values)
    members, non_members = rng.integers(values, size=(2, 40)) + [[values // 5], [0]]
    found = attack(members, non_members[:30]).auc.value
    assert found == pytest.approx(auc_by_pairs(members, non_members[:30]))


@pytest.mark.parametrize("others", [100, 399, 1000, 1999])
@pytest.mark.parametrize("digits", [0, 1, 9])  # rounding makes ties
def test_true_positive_rates_against_all_thresholds(others, digits):
    members, non_members = (part.round(digits) for part in two_normals(60, others, 2, others))
    found = attack(members, non_members).tpr
    assert tuple(found) == LOW_RATES
    for rate, figure in found.items():
        if rate * others < 1:
            assert figure.why_undefined == f"{others} non-members cannot show a rate of 0.1%"
        else:
            assert figure.value == pytest.approx(tpr_by_search(members, non_members, rate))


def test_too_few_non_members_show_no_low_rate():
    assert not any(figure.is_defined for figure in attack(np.ones(50), np.zeros(99)).tpr.values())
    just = attack(np.ones(50), np.zeros(100)).tpr
    assert (just[0.01].value, just[0.001].is_defined) == (1, False)


def test_balanced_accuracy_has_no_bonus_for_choosing_a_threshold():
    found, best_in_sample = [], []
    for seed in range(60):
        members, non_members = two_normals(40, 40, 0, seed)
        found.append(attack(members, non_members, seed).balanced_accuracy.value)
        best_in_sample.append(
            max(
                (np.mean(members >= t) + np.mean(non_members < t)) / 2
                for t in np.concatenate([members, non_members])
            )
        )
    assert np.mean(found) == pytest.approx(0.5, abs=0.02)
    assert np.mean(best_in_sample) > 0.55


def test_balanced_accuracy_of_known_cases():
    apart = attack(np.linspace(3, 4, 20), np.linspace(0, 1, 10))
    assert (apart.auc.value, apart.balanced_accuracy.value) == (1, 1)
    low_of_20, low_of_10 = 20 / (20 + 1.96**2), 10 / (10 + 1.96**2)  # Wilson's, all being right
    below = math.hypot(1 - low_of_20, 1 - low_of_10) / 2
    assert apart.balanced_accuracy.low == pytest.approx(1 - below, abs=1e-4)
    assert apart.balanced_accuracy.high == 1
    members, non_members = two_normals(3000, 1000, 2, 0)  # best threshold 1: Phi(1) on either side
    assert attack(members, non_members).balanced_accuracy.value == pytest.approx(
        norm.cdf(1), abs=0.02
    )
    assert attack(np.zeros(20), np.zeros(9)).balanced_accuracy.value == 0.5


@pytest.mark.parametrize("digits", [0, 1, 9])
def test_intervals_against_plain_resampling(digits):
    members, non_members = (part.round(digits) for part in two_normals(80, 100, 1.5, 3))
    found = attack(members, non_members)
    rng = np.random.default_rng(0)
    drawn = [
        (rng.choice(members, len(members)), rng.choice(non_members, len(non_members)))
        for _ in range(RESAMPLES)
    ]
    aucs = [(m[:, None] > n).mean() + (m[:, None] == n).mean() / 2 for m, n in drawn]
    rates = [tpr_by_search(m, n, 0.01) for m, n in drawn[:300]]
    for figure, values in ((found.auc, aucs), (found.tpr[0.01], rates)):
        assert (figure.low, figure.high) == pytest.approx(
            np.percentile(values, [2.5, 97.5]), abs=0.03
        )
        assert figure.low < figure.value < figure.high


def test_intervals_hold_the_true_auc_as_often_as_they_say():
    held = 0
    for seed in range(200):
        distance = (0, 0.5, 1, 1.5)[seed % 4]
        auc = attack(*two_normals(50, 40, distance, seed), seed).auc
        assert auc.low <= auc.value <= auc.high
        held += auc.low <= norm.cdf(distance / math.sqrt(2)) <= auc.high
    assert 0.9 <= held / 200 <= 0.985


def test_rates_of_nothing_and_of_all_have_intervals_as_wide_as_few_images_are():
    missed, found = (attack(np.full(10, level), np.zeros(100)) for level in (-1.0, 1.0))
    wilson = 1.96**2 / (10 + 1.96**2)
    for attacked, value, low, high in ((missed, 0, 0, wilson), (found, 1, 1 - wilson, 1)):
        rate = attacked.tpr[0.01]
        assert (rate.value, rate.low, rate.high) == pytest.approx((value, low, high), abs=1e-4)
    guessed = attack(np.zeros(10), np.zeros(10)).balanced_accuracy
    assert guessed.value == 0.5
    assert guessed.low < 0.4 and guessed.high > 0.6


def test_intervals_hold_the_true_balanced_accuracy_as_often_as_they_say():
    held = 0
    for seed in range(200):
        accuracy = attack(*two_normals(40, 40, 8, seed), seed).balanced_accuracy
        assert 0 <= accuracy.low <= accuracy.value <= accuracy.high <= 1
        held += accuracy.low <= norm.cdf(4) <= accuracy.high
    assert held / 200 >= 0.93


def test_intervals_shrink_with_the_square_root_of_the_images():
    widths = []
    for count in (50, 800):
        found = attack(*two_normals(count, count, 1, 5))
        widths.append([f.high - f.low for f in (found.auc, found.balanced_accuracy)])
    np.testing.assert_allclose(np.divide(*widths), 4, rtol=0.3)


def test_same_seed_same_figures_whatever_the_order_of_images():
    members, non_members = two_normals(60, 150, 1, 7)
    first, again = (attack(members, non_members, seed=4) for _ in range(2))
    assert first == again
    turned = attack(members[::-1], np.sort(non_members), seed=4)
    assert (turned.auc, turned.tpr) == (first.auc, first.tpr)
    other = attack(members, non_members, seed=5)
    assert other.auc.value == first.auc.value and other.auc != first.auc


def test_members_known_worse_are_below_a_half():
    members, non_members = two_normals(50, 70, 1, 1)
    found = attack(non_members, members).auc.value
    assert found == pytest.approx(1 - attack(members, non_members).auc.value)
    assert found < 0.4


@pytest.mark.parametrize(
    ("members", "non_members", "reason"),
    [
        (0, 50, "0 images of the request, and the minimum is 5"),
        (50, 1, "1 non-member, and the minimum is 5"),
        (FOLDS - 1, FOLDS - 1, "4 images of the request, and the minimum is 5"),
    ],
)
def test_too_few_images_are_a_reason(members, non_members, reason):
    found = attack(np.zeros(members), np.zeros(non_members))
    figures = (found.auc, found.balanced_accuracy, *found.tpr.values())
    assert {figure.why_undefined for figure in figures} == {reason}
    assert attack(np.arange(FOLDS), np.arange(FOLDS)).auc.value == 0.5


def test_memorised_images_are_found_by_every_score():
    rng = np.random.default_rng(0)
    known = np.zeros((100, 4))
    known[:, 2] = rng.normal(15, 1, 100)
    unknown = rng.normal(0, 2, (100, 4))
    members, others = (
        membership_scores(torch.tensor(part), torch.full((100,), 2)) for part in (known, unknown)
    )
    for name in ATTACKS:
        found = attack(members[name], others[name])
        assert found.auc.value > 0.99
        assert found.balanced_accuracy.value > 0.95


def two_models(count, others, distances, shared, seed):
    """(members, non-members) of each of two models; `shared` of an image's variance is common."""
    rng = np.random.default_rng(seed)
    common = rng.normal(size=count + others)
    found = []
    for distance in distances:
        own = rng.normal(size=count + others)
        scores = math.sqrt(shared) * common + math.sqrt(1 - shared) * own
        scores[:count] += distance
        found.append((scores[:count], scores[count:]))
    return found


def sklearns_auc(members, non_members):
    truth = np.repeat([1, 0], [len(members), len(non_members)])
    return roc_auc_score(truth, np.concatenate([members, non_members]))


@pytest.mark.parametrize("digits", [0, 1, 9])  # rounding makes ties
@pytest.mark.parametrize("counts", [(40, 30), (5, 5), (7, 60)])
def test_a_difference_is_that_of_two_aucs(counts, digits):
    models = [
        tuple(part.round(digits) for part in pair)
        for pair in two_models(*counts, (1.5, 0.3), 0.5, digits)
    ]
    figure = auc_difference(*models)
    expected = sklearns_auc(*models[0]) - sklearns_auc(*models[1])
    assert figure.value == pytest.approx(expected, abs=1e-12)
    assert figure.low <= figure.value <= figure.high
    turned = auc_difference(*models[::-1])
    assert [turned.value, turned.low, turned.high] == pytest.approx(
        [-figure.value, -figure.high, -figure.low], abs=1e-12
    )


def test_a_model_is_no_better_than_itself():
    for digits in (0, 9):
        pair = tuple(part.round(digits) for part in two_normals(30, 40, 1, 0))
        assert auc_difference(pair, pair) == Figure(0, 0, 0)
        # an AUC knows of nothing but the order
        assert auc_difference(pair, [np.exp(part) for part in pair]) == Figure(0, 0, 0)


def test_intervals_of_a_difference_against_plain_resampling():
    models = two_models(60, 80, (1, 0.2), 0.7, 2)
    figure = auc_difference(*models)
    rng = np.random.default_rng(0)
    drawn = []
    for _ in range(RESAMPLES):
        of_members, of_others = rng.integers(60, size=60), rng.integers(80, size=80)
        first, second = (m[of_members][:, None] > n[of_others] for m, n in models)  # no ties
        drawn.append(first.mean() - second.mean())
    assert (figure.low, figure.high) == pytest.approx(np.percentile(drawn, [2.5, 97.5]), abs=0.015)


def test_pairing_makes_an_interval_narrower():
    """Than that of the same two models on images of their own, each model's draws for itself."""
    widths = []
    for shared in (0, 0.9):
        models = two_models(80, 80, (1, 0.5), shared, 3)
        figure = auc_difference(*models)
        alone = [attack(*pair).auc for pair in models]
        independent = math.hypot(*(auc.high - auc.low for auc in alone))
        widths.append((figure.high - figure.low) / independent)
    assert widths[0] == pytest.approx(1, rel=0.15)
    assert widths[1] < 0.5


def test_intervals_hold_the_true_difference_as_often_as_they_say():
    held = 0
    for seed in range(160):
        distances = ((0.8, 0.8), (1.2, 0.4), (0.0, 1.0), (0.5, 0.0))[seed % 4]
        figure = auc_difference(*two_models(60, 50, distances, 0.6, seed), seed)
        truth = -np.diff([norm.cdf(distance / math.sqrt(2)) for distance in distances])[0]
        held += figure.low <= truth <= figure.high
    assert 0.9 <= held / 160 <= 0.985


def test_differences_of_too_few_images_have_a_reason():
    for counts, reason in (
        ((0, 50), "0 images of the request, and the minimum is 5"),
        ((50, 1), "1 non-member, and the minimum is 5"),
    ):
        pair = tuple(np.zeros(count) for count in counts)
        assert auc_difference(pair, pair).why_undefined == reason
    pair = np.arange(FOLDS), np.arange(FOLDS)
    assert auc_difference(pair, pair).value == 0


@pytest.mark.parametrize(
    ("figure", "expected"),
    [
        (Figure(0.7, 0.6, 0.8), True),
        (Figure(0.3, 0.2, 0.4), True),
        (Figure(0.7, 0.49, 0.9), False),
        (Figure(0.51, 0.501, 0.52), True),  # hardly above guessing, but above
        (Figure(0.49, 0.48, 0.499), True),
        (Figure(0.7, 0.5, 1), False),
        (Figure(0.3, 0, 0.5), False),
        (undefined("no images"), False),
        (None, False),
    ],
)
def test_an_auc_separates_if_its_whole_interval_is_on_one_side(figure, expected):
    assert separates(figure) == expected


def test_attacks_that_succeed_on_retrain_are_warned_of():
    low, none = Figure(0.2, 0.1, 0.3), Figure(0.5, 0.4, 0.6)
    quiet = {f"attack_{name}_auc": none for name in ATTACKS}
    retrain = make_context(REQUEST, title=RETRAIN, figures=quiet)
    context = make_context(REQUEST, retrain=retrain)
    assert control_warnings(context) == []
    retrain.figures = quiet | {"attack_modified_entropy_auc": low}
    (line,) = control_warnings(context)
    says = "the attack by modified entropy distinguishes forget and val images on Retrain too"
    assert line.startswith(says)
    assert control_warnings(make_context(REQUEST)) == []
