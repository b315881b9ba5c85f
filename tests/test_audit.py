"""A model is measured beside its base model and Retrain, and Retrain itself is at no distance."""

import functools

import numpy as np
import pytest
import torch

from evaluation.audit import BASE, MODEL, RETRAIN, Audit
from evaluation.distance import GAP_KEYS, klom, margins
from evaluation.measures import KLOM_PERCENTILE
from evaluation.mia_efficacy import mia_efficacy
from evaluation.report import GROUPS, SETS
from evaluation.results import flatten, to_json
from tiny import tiny_model, tiny_set, trained_model
from unlearn.request import ForgetRequest
from utils.datasets import MULTI_CLASS, MULTI_LABEL, MedicalDataset
from utils.prediction import predict
from utils.training import Recipe, TrainingRun

REQUEST = ForgetRequest(2)
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
    sets = (REQUEST.split(tiny_set(60, multi_label=multi_label, seed=n))[1] for n in (0, 1))
    TrainingRun(model, *sets, Recipe(4, 0.05, 10)).run(show=False)
    return model.state_dict()


def edited_model(class_index=2, multi_label=False):
    """A base model that never answers with the class."""
    model = trained_model(multi_label=multi_label)
    with torch.no_grad():
        model.network[-1].bias[class_index] -= 50
    return model


def audited(model, *groups, multi_label=False, **beside):
    audit = Audit(model, dataset(multi_label), REQUEST, **beside)
    audit.look(MODEL)
    audit.look_at_others()
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
    assert "average_gap_points" not in audit.figures[RETRAIN]
    assert not any(key.startswith("klom") for key in found)


def test_average_gap_is_that_of_the_figures_beside():
    audit = audited(edited_model(), "privacy", "distance", retrains=[retrained_model()])
    gaps = [
        abs(audit.figures[MODEL][key].value - audit.figures[RETRAIN][key].value) for key in GAP_KEYS
    ]
    assert audit.figures[MODEL]["average_gap_points"].value == pytest.approx(sum(gaps) / 4)


def test_order_of_groups_does_not_matter():
    beside = {"base": trained_model(), "retrains": [retrained_model()]}
    first = audited(edited_model(), "distance", **beside).figures
    both = audited(edited_model(), "privacy", "distance", **beside).figures
    assert first == both
    assert first[MODEL]["average_gap_points"].is_defined


def test_a_model_beside_itself_is_not_worse():
    audit = audited(trained_model(), "safety", base=trained_model())
    assert audit.warnings == []
    for number in (0, 1, 3):
        assert audit.figures[MODEL][f"class_{number}_lost_images"].value == 0
    assert "class_2_lost_images" not in audit.figures[MODEL]


@pytest.mark.parametrize("multi_label", [False, True])
def test_a_kept_class_that_was_lost_is_warned_of(multi_label):
    damaged, base = (
        edited_model(1, multi_label=multi_label),
        trained_model(multi_label=multi_label),
    )
    (line,) = audited(damaged, "safety", multi_label=multi_label, base=base).warnings
    assert line.startswith("class 1 bone is recognised significantly worse than before")
    as_asked = edited_model(2, multi_label=multi_label)
    assert audited(as_asked, "safety", multi_label=multi_label, base=base).warnings == []


def test_a_model_alone_is_measured_alone():
    audit = audited(trained_model(), *GROUPS)
    assert list(audit.figures) == list(audit.outputs) == list(audit.destinations()) == [MODEL]
    assert {"attack_loss_auc", "probe_accuracy_percent"} <= audit.figures[MODEL].keys()
    assert "average_gap_points" not in audit.figures[MODEL]
    assert not any(key.endswith("_lost_images") for key in audit.figures[MODEL])
    assert not audit.figures[MODEL]["unlearn_seconds"].is_defined
    np.testing.assert_allclose(audit.destinations()[MODEL], [0, 0, 1, 0], atol=0.1)


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


def _asked(model, image_set):
    return REQUEST.question(predict(model, image_set), image_set.labels)


@pytest.mark.parametrize("multi_label", [False, True])
def test_klom_of_models_of_several_seeds(multi_label):
    retrains = [retrained_model(seed, multi_label) for seed in (0, 1, 2)]
    options = {"multi_label": multi_label, "retrains": retrains}
    model, peer = edited_model(multi_label=multi_label), trained_model(multi_label=multi_label)
    found = audited(model, "distance", peers=[peer], **options).figures[MODEL]
    same = audited(retrains[0], "distance", peers=retrains[1:], **options).figures[MODEL]
    for name in SETS:
        assert found[f"klom_{name}_nats"].value > 0
        assert same[f"klom_{name}_nats"].value == 0
    forget_set, _ = REQUEST.split(dataset(multi_label).train)
    groups = [
        np.array([margins(*_asked(each, forget_set)) for each in group])
        for group in ([model, peer], retrains)
    ]
    expected = np.percentile(klom(*groups), KLOM_PERCENTILE)
    assert found["klom_forget_nats"].value == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("multi_label", [False, True])
def test_salun_s_efficacy_learns_from_other_images_than_those_of_the_request(multi_label):
    model, data = edited_model(multi_label=multi_label), dataset(multi_label)
    found = audited(model, "privacy", multi_label=multi_label).figures[MODEL]
    forget, retain = (_asked(model, part) for part in REQUEST.split(data.train))
    for key, split in (("mia_efficacy_percent", "test"), ("mia_efficacy_val_percent", "val")):
        covered, others = (_asked(model, part) for part in REQUEST.split(data.splits[split]))
        assert found[key] == mia_efficacy(retain, others, forget).times(100)
        assert found[key] != mia_efficacy(retain, covered, forget).times(100)


def test_attacks_find_what_only_training_images_have():
    """Training and val images of the class look alike, so no control is to warn."""
    audit = audited(trained_model(), "privacy", retrains=[retrained_model()])
    found = audit.figures[MODEL]
    assert found["attack_blind_auc"].low < 0.5 < found["attack_blind_auc"].high
    assert "attack_blind_auc" not in audit.figures[RETRAIN]
    assert audit.warnings == []


def test_val_images_of_another_kind_are_warned_of():
    data = dataset()
    data.val.images[:] = 255 - data.val.images
    audit = Audit(trained_model(), data, REQUEST, retrains=[retrained_model()])
    audit.look(MODEL)
    audit.look_at_others()
    audit.measure("privacy")
    assert any("forget and val images differ without any model" in w for w in audit.warnings)
    assert any("retained training images and val images differ" in w for w in audit.warnings)
    assert not any("test images differ" in line for line in audit.warnings)


def test_costs_of_time():
    beside = {"retrains": [retrained_model()], "seconds": 5.0, "retrain_seconds": 20.0}
    audit = audited(edited_model(), "cost", **beside)
    assert audit.figures[MODEL]["share_of_retrain_time_percent"].value == 25
    assert audit.figures[RETRAIN]["unlearn_seconds"].value == 20


@pytest.mark.parametrize("multi_label", [False, True])
def test_all_there_is_to_measure_is_in_the_file(multi_label):
    audit = audited(
        edited_model(multi_label=multi_label),
        *GROUPS,
        multi_label=multi_label,
        base=trained_model(multi_label=multi_label),
        retrains=[retrained_model(multi_label=multi_label)],
        groups=np.resize(["f", "m"], 80),
        costs=None if multi_label else np.ones((4, 4)) - np.eye(4),
        seconds=1.0,
        retrain_seconds=2.0,
    )
    flat = flatten(audit.figures)
    assert to_json(flat)
    named = {key for group in GROUPS.values() for key, _ in group.rows}
    missing = {key for key in named if key not in flat and not key.startswith(("klom", "ulira"))}
    assert missing == ({"expected_cost"} if multi_label else {"finding_auc"})
    for title, prefix in ((BASE, "base_"), (RETRAIN, "retrain_")):
        for key, figure in audit.figures[title].items():
            assert flat[prefix + key] == figure.value
