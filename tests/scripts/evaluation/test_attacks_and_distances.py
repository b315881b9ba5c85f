"""Attacks, distances and KLOM are those of a second computation from the models' files."""

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon
from sklearn.metrics import roc_auc_score

from evaluation.metrics.blind import blind_attack
from tests.helpers.environment import BASE, FORGOTTEN, model_flags
from tests.helpers.output import cells, check_plain, results_of
from tests.helpers.reference import percentage, predictions, softmax
from tests.helpers.tiny import split_set
from tests.scripts.evaluation.shared import (
    GAPS,
    PEERS,
    RETRAIN,
    RETRAINS,
    SECOND_RETRAIN,
    attack_auc,
)
from unlearn.request.request import ForgetRequest
from utils.data.loading import load_dataset


def test_attacks_compare_forgotten_with_unseen_images_of_the_class(measured, in_family, grey):
    _, results = measured
    ids = {"base_": BASE, "": FORGOTTEN, "retrain_": RETRAIN}
    for prefix, model_id in ids.items():
        auc = attack_auc(model_id, grey, "val")
        assert results[f"{prefix}attack_loss_auc"] == pytest.approx(auc, abs=1e-6)
        assert results[f"{prefix}attack_confidence_auc"] == pytest.approx(auc, abs=1e-6)
        entropies = []
        for split in ("train", "val"):
            logits, labels = predictions(model_id, grey, split)
            p = softmax(logits)[labels == 3]
            entropies.append((p * np.log(p)).sum(1))
        truth = np.repeat([1, 0], list(map(len, entropies)))
        auc = roc_auc_score(truth, np.concatenate(entropies))
        assert results[f"{prefix}attack_entropy_auc"] == pytest.approx(auc, abs=1e-6)
        more = results[f"{prefix}attack_entropy_auc"] - results["retrain_attack_entropy_auc"]
        difference = results.get(f"{prefix}attack_entropy_auc_minus_retrain", 0)
        assert difference == pytest.approx(more, abs=1e-9)
        key = f"{prefix}attack_loss_tpr_percent_at_fpr_1_percent"
        assert results[key] is None
        assert results[f"{key}_undefined"].startswith("8 non-members cannot show a rate of 1%")
    assert {"attack_loss_auc_low", "attack_loss_auc_high", "mia_efficacy_percent"} <= set(results)
    assert {"probe_accuracy_percent", "relearn_steps", "attack_blind_auc"} <= set(results)


def test_other_non_members(couple, done, grey):
    flags = (*model_flags(grey, FORGOTTEN), "--measures", "privacy")
    done("main_test_unlearn", *flags, "--non_members", "test")
    results = results_of(FORGOTTEN)
    assert results["non_members"] == "test"
    auc = attack_auc(FORGOTTEN, grey, "test")
    assert results["attack_loss_auc"] == pytest.approx(auc, abs=1e-6)
    assert auc != attack_auc(FORGOTTEN, grey, "val")


def outputs_by_set(model_id, data):
    """(logits, labels) of forget, retain and test set."""
    train, train_labels = predictions(model_id, data, "train")
    test, test_labels = predictions(model_id, data, "test")
    covered, kept = train_labels == 3, test_labels != 3
    return {
        "forget": (train[covered], train_labels[covered]),
        "retain": (train[~covered], train_labels[~covered]),
        "test": (test[kept], test_labels[kept]),
    }


def test_distances_from_retrain(measured, in_family, grey):
    _, results = measured
    theirs = outputs_by_set(RETRAIN, grey)
    pairs = {"": FORGOTTEN, "base_": BASE, "retrain_": SECOND_RETRAIN}
    for prefix, model_id in pairs.items():
        ours = outputs_by_set(model_id, grey)
        for name in ("forget", "retain", "test"):
            p, q = softmax(ours[name][0]), softmax(theirs[name][0])
            divergence = np.mean(jensenshannon(p, q, base=2, axis=1) ** 2)
            found = results[f"{prefix}js_divergence_{name}"]
            assert found == pytest.approx(divergence, abs=1e-6), (prefix, name)
            same = percentage(p.argmax(1) == q.argmax(1))
            assert results[f"{prefix}agreement_{name}_percent"] == pytest.approx(same)
    for prefix in ("", "base_"):
        gaps = [abs(results[prefix + key] - results[f"retrain_{key}"]) for key in GAPS]
        assert results[f"{prefix}average_gap_points"] == pytest.approx(np.mean(gaps))


def test_distances_relative_to_retrains_own_spread(measured, in_family, grey):
    """The mean divergence from three Retrains over that of their three pairs, or 0.005 bits."""
    printed, results = measured
    retrains = [outputs_by_set(model_id, grey) for model_id in RETRAINS]

    def divergence(first, second, name):
        p, q = (softmax(each[name][0]) for each in (first, second))
        return np.mean(jensenshannon(p, q, base=2, axis=1) ** 2)

    for prefix, model_id in {"": FORGOTTEN, "base_": BASE}.items():
        ours = outputs_by_set(model_id, grey)
        for name in ("forget", "retain", "test"):
            to_retrains = np.mean([divergence(ours, each, name) for each in retrains])
            pairs = [(0, 1), (0, 2), (1, 2)]
            between = np.mean([divergence(retrains[i], retrains[j], name) for i, j in pairs])
            key = f"{prefix}js_ratio_{name}"
            expected = to_retrains / max(between, 0.005)
            assert results[key] == pytest.approx(expected, rel=1e-4)
            assert results[f"{key}_low"] <= results[key] <= results[f"{key}_high"]
            floored = f"{key}_note" in results
            assert floored == (between < 0.005)
            cell = cells(printed, f"JS ratio, {name} set")[prefix and "base model" or "this model"]
            assert cell.split(" ")[0] == f"{results[key]:,.2f}{'*' * floored}"
    assert results["base_js_ratio_forget_low"] > 1
    for key in ("js_ratio_forget", "disagreement_ratio_test", "confusion_ratio_forget"):
        low, mean, high = (results[f"retrain_{key}{end}"] for end in ("_low", "", "_high"))
        assert low <= mean <= high


def test_the_distance_between_two_retrains(measured, family, done, grey):
    """It is that of a test of the second one, compared with the first one."""
    flags = model_flags(grey, SECOND_RETRAIN)
    done("main_test_unlearn", *flags, "--retrain_model_id", RETRAIN, "--measures", "distance")
    _, results = measured
    between = results_of(SECOND_RETRAIN)
    for key in ("average_gap_points", "agreement_test_percent", "js_divergence_forget"):
        assert results[f"retrain_{key}"] == pytest.approx(between[key], abs=1e-9)
    assert between["average_gap_points"] > 0


def margins_of(logits, labels):
    p = softmax(logits)[np.arange(len(labels)), labels]
    return np.log(p) - np.log1p(-p)


def test_klom_by_hand(measured, in_family, grey):
    """Normal distributions, as there are few models; D(Retrains || unlearned models)."""
    _, results = measured
    ours, theirs = (
        [outputs_by_set(model_id, grey) for model_id in group]
        for group in ((FORGOTTEN, *PEERS), RETRAINS)
    )
    for name in ("forget", "retain", "test"):
        q, p = (np.array([margins_of(*part[name]) for part in group]) for group in (ours, theirs))
        spread_p, spread_q = (np.maximum(part.std(0, ddof=1), 1e-3) for part in (p, q))
        each = (
            np.log(spread_q / spread_p)
            + (spread_p**2 + (p.mean(0) - q.mean(0)) ** 2) / (2 * spread_q**2)
            - 0.5
        )
        assert results[f"klom_{name}_nats"] == pytest.approx(np.percentile(each, 95), rel=1e-2)
        assert results[f"retrain_klom_{name}_nats"] == pytest.approx(klom_by_chance(3), rel=0.1)


def klom_by_chance(models):
    """Of groups that differ in nothing but the draw, by simulation with another seed."""
    q, p = np.random.default_rng(99).normal(size=(2, models, 200_000))
    spread_p, spread_q = p.std(0, ddof=1), q.std(0, ddof=1)
    away = (spread_p**2 + (p.mean(0) - q.mean(0)) ** 2) / (2 * spread_q**2)
    return np.percentile(np.log(spread_q / spread_p) + away - 0.5, 95)


def test_too_few_models_for_klom(family, done, grey):
    few = ("--retrain_model_id", *RETRAINS[:2], "--seed_model_id", *PEERS)
    done("main_test_unlearn", *model_flags(grey, FORGOTTEN), *few, "--measures", "distance")
    results = results_of(FORGOTTEN)
    check_plain(results)
    for name in ("forget", "retain", "test"):
        why = results[f"klom_{name}_nats_undefined"]
        assert why == "3 models and 2 Retrains, and the minimum is 3 of each"


@pytest.mark.parametrize("split", ["val", "test"])
def test_the_control_on_real_slices(shared_data, split):
    """brain_mri's test images come from another folder than its training and val images."""
    dataset = load_dataset(str(shared_data / "brain_mri.npz"))
    request = ForgetRequest((1,))
    retained, unseen = (
        split_set(request, part)[1] for part in (dataset.train, dataset.splits[split])
    )
    auc = blind_attack(retained, unseen)
    if split == "test":
        assert auc.value > 0.7
        assert auc.low > 0.65
    else:
        assert auc.value < 0.6
        assert auc.low < 0.55
