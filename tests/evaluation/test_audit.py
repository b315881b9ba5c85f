"""A model is measured together with its base model and Retrain; Retrain has distance 0."""

import functools

import numpy as np
import pytest
import torch
from scipy.spatial.distance import jensenshannon

from evaluation.audit import BASE, MODEL, RETRAIN, Audit
from evaluation.figure import NO_RETRAIN, Figure
from evaluation.measure import SETS
from evaluation.metrics.destinations import destinations
from evaluation.metrics.distance import GAP_KEYS
from evaluation.metrics.distance import KEYS as DISTANCES
from evaluation.metrics.klom import PERCENTILE, klom, klom_by_chance, margins
from evaluation.metrics.membership import ATTACKS, auc_difference, membership_scores
from evaluation.metrics.mia_efficacy import mia_efficacy
from evaluation.registry import GROUPS, MEASURES
from evaluation.results import flatten, to_json
from tests.helpers.tiny import split_set, tiny_model, tiny_set, trained_model
from unlearn.request.request import ForgetRequest
from utils.data.datasets import MULTI_CLASS, MULTI_LABEL, MedicalDataset
from utils.train.prediction import predict
from utils.train.recipe import Recipe
from utils.train.training import TrainingRun

REQUEST = ForgetRequest((2,))
NAMES = ("artery", "bone", "cortex", "duct")


def dataset(multi_label=False):
    """Enough images of each class for an attack."""
    sizes = {"train": 48, "val": 40, "test": 80}
    splits = {
        split: tiny_set(count, multi_label=multi_label, seed=seed)
        for seed, (split, count) in enumerate(sizes.items())
    }
    return MedicalDataset("Tiny", MULTI_LABEL if multi_label else MULTI_CLASS, NAMES, **splits)


def retrained_model(seed=0, multi_label=False):
    model = tiny_model()
    model.load_state_dict(_retrained_weights(seed, multi_label))
    return model


@functools.cache
def _retrained_weights(seed, multi_label):
    model = tiny_model(seed=seed)
    sets = (split_set(REQUEST, tiny_set(60, multi_label=multi_label, seed=n))[1] for n in (0, 1))
    TrainingRun(model, *sets, Recipe(4, 0.05, 10)).run(show=False)
    return model.state_dict()


def edited_model(class_index=2, multi_label=False):
    """A base model that never predicts the class."""
    model = trained_model(multi_label=multi_label)
    with torch.no_grad():
        model.network[-1].bias[class_index] -= 50
    return model


def cost_record(seconds, device="cpu"):
    """The record of an unlearned model."""
    return {"kind": "unlearned", "seconds": seconds, "device": device}


def audited(model, *groups, multi_label=False, **others):
    """An Audit that has measured these groups; others: the models that it is compared with."""
    audit = Audit(model, dataset(multi_label), REQUEST, **others)
    audit.add(MODEL)
    audit.add_references()
    for group in groups:
        audit.measure(group)
    return audit


@pytest.mark.parametrize("multi_label", [False, True])
def test_retrain_is_at_no_distance_from_itself(multi_label):
    retrain, again = (retrained_model(multi_label=multi_label) for _ in range(2))
    base = trained_model(multi_label=multi_label)
    audit = audited(
        again, "privacy", "distance", multi_label=multi_label, base=base, retrains=[retrain]
    )
    found, of_base = audit.figures[MODEL], audit.figures[BASE]
    assert found["average_gap_points"].value == 0
    assert of_base["average_gap_points"].value > 10
    for name in SETS:
        assert found[f"agreement_{name}_percent"].value == 100
        assert found[f"js_divergence_{name}"].value == 0
    assert of_base["js_divergence_forget"].value > 0.1
    for name in ATTACKS:
        assert found[f"attack_{name}_auc_minus_retrain"] == Figure(0, 0, 0)
        assert f"attack_{name}_auc_minus_retrain" not in audit.figures[RETRAIN]
    assert "average_gap_points" not in audit.figures[RETRAIN]
    assert not any(key.startswith("klom") for key in found)


def test_average_gap_is_that_of_the_figures_of_the_table():
    audit = audited(edited_model(), "privacy", "distance", retrains=[retrained_model()])
    gaps = [
        abs(audit.figures[MODEL][key].value - audit.figures[RETRAIN][key].value) for key in GAP_KEYS
    ]
    assert audit.figures[MODEL]["average_gap_points"].value == pytest.approx(sum(gaps) / 4)


def test_order_of_groups_does_not_matter():
    others = {"base": trained_model(), "retrains": [retrained_model()]}
    first = audited(edited_model(), "distance", **others).figures
    both = audited(edited_model(), "privacy", "distance", **others).figures
    assert first == both
    assert first[MODEL]["average_gap_points"].is_defined


def test_a_model_compared_with_itself_is_not_worse():
    audit = audited(trained_model(), "safety", base=trained_model())
    assert audit.warnings == []
    for number in (0, 1, 3):
        assert audit.figures[MODEL][f"class_{number}_lost_images"].value == 0
    assert "class_2_lost_images" not in audit.figures[MODEL]


@pytest.mark.parametrize("multi_label", [False, True])
def test_a_lost_kept_class_gives_a_warning(multi_label):
    damaged, base = (
        edited_model(1, multi_label=multi_label),
        trained_model(multi_label=multi_label),
    )
    (line,) = audited(damaged, "safety", multi_label=multi_label, base=base).warnings
    assert line.startswith("class 1 bone is recognised significantly worse than before")
    as_asked = edited_model(2, multi_label=multi_label)
    assert audited(as_asked, "safety", multi_label=multi_label, base=base).warnings == []


def test_a_model_without_references_is_measured():
    audit = audited(trained_model(), *GROUPS)
    assert list(audit.figures) == list(audit.outputs) == [MODEL]
    assert {"attack_loss_auc", "probe_accuracy_percent"} <= audit.figures[MODEL].keys()
    assert {audit.figures[MODEL][key].why_undefined for key in DISTANCES} == {NO_RETRAIN}
    assert not any("klom" in key for key in audit.figures[MODEL])
    assert not any(key.endswith("_minus_retrain") for key in audit.figures[MODEL])
    assert not any(key.endswith("_lost_images") for key in audit.figures[MODEL])
    assert not audit.figures[MODEL]["unlearn_seconds"].is_defined
    taken = destinations(audit.outputs[MODEL]["train"])
    np.testing.assert_allclose(taken, [0, 0, 1, 0], atol=0.1)
    why = audit.figures[MODEL]["unlearn_seconds"].why_undefined
    assert why == "the model file records no unlearning"


def test_retrain_needs_no_retrain():
    record = {"kind": "unlearned", "method": "Retrain"}
    audit = audited(retrained_model(), "distance", record=record)
    reasons = {audit.figures[MODEL][key].why_undefined for key in DISTANCES}
    assert reasons == {"this model is Retrain"}
    audit = audited(retrained_model(), "distance", record=record | {"method": "GA"})
    assert set(DISTANCES) <= audit.figures[MODEL].keys()


@pytest.mark.parametrize("multi_label", [False, True])
def test_predicted_classes_are_among_the_figures(multi_label):
    model, base = (part(multi_label=multi_label) for part in (edited_model, trained_model))
    audit = audited(model, "forgetting", multi_label=multi_label, base=base)
    forget_set, _ = split_set(REQUEST, dataset(multi_label).train)
    for title, each in ((MODEL, model), (BASE, base)):
        logits = predict(each, forget_set)
        for number in range(4):
            taken = logits[:, number] > 0 if multi_label else logits.argmax(1) == number
            found = audit.figures[title][f"taken_for_class_{number}_percent"].value
            assert found == pytest.approx(100 * taken.double().mean().item())
    assert audit.figures[MODEL]["taken_for_class_2_percent"].value == 0


@pytest.mark.parametrize("multi_label", [False, True])
def test_distance_on_the_forget_set_is_that_of_the_requested_findings(multi_label):
    """Other findings of its images were not to be forgotten."""
    retrain = retrained_model(multi_label=multi_label)
    model = edited_model(1, multi_label=multi_label)
    audit = audited(model, "distance", multi_label=multi_label, retrains=[retrain])
    forget_set, _ = split_set(REQUEST, dataset(multi_label).train)
    ours, theirs = (predict(each, forget_set) for each in (model, retrain))
    if multi_label:
        same = (ours[:, 2] > 0) == (theirs[:, 2] > 0)
        assert ((ours > 0) == (theirs > 0)).double().mean() != same.double().mean()
    else:
        same = ours.argmax(1) == theirs.argmax(1)
    found = audit.figures[MODEL]["agreement_forget_percent"].value
    assert found == pytest.approx(100 * same.double().mean().item())
    if multi_label:
        p, q = (part[:, 2].double().sigmoid() for part in (ours, theirs))
        pair = [np.stack([part, 1 - part]) for part in (p, q)]
        expected = np.mean(jensenshannon(*pair, base=2, axis=0) ** 2)
        found = audit.figures[MODEL]["js_divergence_forget"].value
        assert found == pytest.approx(expected, rel=1e-4)


def test_columns_have_the_order_of_the_table():
    audit = audited(edited_model(), base=trained_model(), retrains=[retrained_model()])
    assert list(audit.figures) == list(audit.outputs) == [BASE, MODEL, RETRAIN]


def test_a_second_retrain_shows_how_far_two_are_apart():
    retrains = [retrained_model(seed) for seed in (0, 1)]
    audit = audited(edited_model(), "privacy", "distance", retrains=retrains)
    found = audit.figures[RETRAIN]
    assert found["average_gap_points"].is_defined
    assert 0 < found["js_divergence_forget"].value < 1
    assert not any(key.startswith("klom") for key in audit.figures[MODEL])
    turned = audited(edited_model(), "privacy", "distance", retrains=retrains[::-1])
    for key in ("js_divergence_forget", "agreement_test_percent", "average_gap_points"):
        assert turned.figures[RETRAIN][key].value == pytest.approx(found[key].value)


def _scored(model, image_set):
    return REQUEST.scored_logits(predict(model, image_set), image_set.labels)


@pytest.mark.parametrize("multi_label", [False, True])
def test_klom_of_models_of_several_seeds(multi_label):
    retrains = [retrained_model(seed, multi_label) for seed in (0, 1, 2)]
    options = {"multi_label": multi_label, "retrains": retrains}
    models = [edited_model(number, multi_label) for number in (2, 1, 0)]
    audit = audited(models[0], "distance", peers=models[1:], **options)
    found, by_chance = (audit.figures[title] for title in (MODEL, RETRAIN))
    same = audited(retrains[0], "distance", peers=retrains[1:], **options).figures[MODEL]
    for name in SETS:
        assert found[f"klom_{name}_nats"].value > 0
        assert same[f"klom_{name}_nats"].value == 0
        assert by_chance[f"klom_{name}_nats"] == klom_by_chance(3, 3, SETS)[f"klom_{name}_nats"]
    forget_set, _ = split_set(REQUEST, dataset(multi_label).train)
    groups = [
        np.array([margins(*_scored(each, forget_set)) for each in group])
        for group in (models, retrains)
    ]
    expected = np.percentile(klom(*groups), PERCENTILE)
    assert found["klom_forget_nats"].value == pytest.approx(expected, rel=1e-4)


def test_klom_needs_three_models_of_each_kind():
    retrains = [retrained_model(seed) for seed in (0, 1, 2)]
    peers = [edited_model(1), edited_model(0)]
    for ours, theirs in ((1, 3), (2, 2), (2, 1)):
        others = {"peers": peers[:ours], "retrains": retrains[:theirs]}
        figures = audited(edited_model(), "distance", **others).figures
        for name in SETS:
            why = figures[MODEL][f"klom_{name}_nats"].why_undefined
            assert why == f"{1 + ours} models and {theirs} Retrains, and the minimum is 3 of each"
            assert f"klom_{name}_nats" not in figures[RETRAIN]
        assert to_json(flatten(figures))


@pytest.mark.parametrize("multi_label", [False, True])
def test_salun_s_efficacy_learns_from_other_images_than_those_of_the_request(multi_label):
    model, data = edited_model(multi_label=multi_label), dataset(multi_label)
    found = audited(model, "privacy", multi_label=multi_label).figures[MODEL]
    forget, retain = (_scored(model, part) for part in split_set(REQUEST, data.train))
    for key, split in (("mia_efficacy_percent", "test"), ("mia_efficacy_val_percent", "val")):
        covered, others = (_scored(model, part) for part in split_set(REQUEST, data.splits[split]))
        assert found[key] == mia_efficacy(retain, others, forget).times(100)
        assert found[key] != mia_efficacy(retain, covered, forget).times(100)


def test_attacks_find_what_only_training_images_have():
    """Training and val images of the class look alike, so no control warns."""
    audit = audited(trained_model(), "privacy", retrains=[retrained_model()])
    found = audit.figures[MODEL]
    assert found["attack_blind_auc"].low < 0.5 < found["attack_blind_auc"].high
    assert "attack_blind_auc" not in audit.figures[RETRAIN]
    assert audit.warnings == []
    data = dataset()
    forget, unseen = (split_set(REQUEST, part)[0] for part in (data.train, data.val))
    pairs = [
        [membership_scores(*_scored(model, part)) for part in (forget, unseen)]
        for model in (trained_model(), retrained_model())
    ]
    for name in ATTACKS:
        difference = found[f"attack_{name}_auc_minus_retrain"]
        aucs = [audit.figures[title][f"attack_{name}_auc"].value for title in (MODEL, RETRAIN)]
        assert difference.value == pytest.approx(aucs[0] - aucs[1])
        scores = [[part[name] for part in pair] for pair in pairs]
        assert (difference.low, difference.high) == pytest.approx(
            (auc_difference(*scores).low, auc_difference(*scores).high), abs=1e-6
        )


def test_val_images_of_another_kind_give_warnings():
    data = dataset()
    data.val.images[:] = 255 - data.val.images
    audit = Audit(trained_model(), data, REQUEST, retrains=[retrained_model()])
    audit.add(MODEL)
    audit.add_references()
    audit.measure("privacy")
    assert any("forget and val images differ without any model" in w for w in audit.warnings)
    assert any("retained training images and val images differ" in w for w in audit.warnings)
    assert not any("test images differ" in line for line in audit.warnings)


def test_costs_of_time():
    others = {"retrains": [retrained_model()], "retrain_records": [cost_record(20.0)]}
    found = audited(edited_model(), "cost", record=cost_record(5.0), **others).figures
    assert found[MODEL]["share_of_retrain_time_percent"].value == 25
    assert found[RETRAIN]["unlearn_seconds"].value == 20
    assert found[RETRAIN]["share_of_retrain_time_percent"].value == 100
    elsewhere = cost_record(5.0, "another machine")
    found = audited(edited_model(), "cost", record=elsewhere, **others).figures
    assert found[MODEL]["unlearn_seconds"].value == 5
    percentage = found[MODEL]["share_of_retrain_time_percent"]
    assert percentage.why_undefined == "it was measured on another device, or with other threads"
    found = audited(edited_model(), "cost", record=elsewhere).figures[MODEL]
    assert found["share_of_retrain_time_percent"].why_undefined == NO_RETRAIN


@pytest.mark.parametrize("multi_label", [False, True])
def test_all_declared_figures_are_in_the_file(multi_label):
    audit = audited(
        edited_model(multi_label=multi_label),
        *GROUPS,
        multi_label=multi_label,
        base=trained_model(multi_label=multi_label),
        retrains=[retrained_model(multi_label=multi_label)],
        groups=np.resize(["f", "m"], 80),
        costs=None if multi_label else np.ones((4, 4)) - np.eye(4),
        record=cost_record(1.0),
        retrain_records=[cost_record(2.0)],
    )
    flat = flatten(audit.figures)
    assert to_json(flat)
    named = {row.key for measure in MEASURES.values() for row in measure.rows}
    named = {key for key in named if "{" not in key}
    of_several_seeds = ("klom", "forgetting_")  # they need more models of the method
    missing = {key for key in named if key not in flat and not key.startswith(of_several_seeds)}
    costs = {"expected_cost", "expected_cost_all_classes"}
    assert missing == (costs if multi_label else {"finding_auc"})
    for title, prefix in ((BASE, "base_"), (RETRAIN, "retrain_")):
        for key, figure in audit.figures[title].items():
            assert flat[prefix + key] == figure.value


@pytest.mark.parametrize("seconds", [0, 0.0])
def test_no_percentage_of_a_retrain_that_took_no_time(seconds):
    """A record of another tool may say so."""
    others = {"retrains": [retrained_model()], "retrain_records": [cost_record(seconds)]}
    found = audited(edited_model(), "cost", record=cost_record(5.0), **others).figures
    reason = "the model file of Retrain records no time"
    for title in (MODEL, RETRAIN):
        assert found[title]["share_of_retrain_time_percent"].why_undefined == reason
    assert found[RETRAIN]["unlearn_seconds"].value == 0
