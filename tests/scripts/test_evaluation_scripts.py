"""What main_test_unlearn.py and main_mia.py measure, write and refuse, against the files alone."""

import contextlib
import csv
import importlib
import io
import re
import shutil
from pathlib import Path

import medmnist
import numpy as np
import pytest
import scipy
import sklearn
import torch
import torchvision
from scipy.spatial.distance import jensenshannon
from scipy.stats import binomtest, norm
from sklearn.metrics import roc_auc_score

import evaluation.shadows
from evaluation.metrics.blind import blind_attack
from evaluation.registry import GROUPS, MEASURES
from models.architectures import ModelSpec, build_model
from models.checkpoint import (
    load_model,
    read_record,
    save_model,
    save_with_digest,
    weights_digest,
)
from tests.helpers.environment import (
    BASE,
    FORGOTTEN,
    GREY_NAMES,
    TRAIN,
    UNLEARN,
    assert_one_line,
    contents,
    drawn_arrays,
    model_flags,
)
from tests.helpers.tiny import split_set
from tests.helpers.worked_out import (
    arrays_of,
    assert_near,
    cells,
    line_figure,
    model_predictions,
    predictions,
    results_of,
    share,
    softmax,
    strict_json,
    tables,
)
from unlearn.request.request import ForgetRequest
from unlearn.saliency import compute_mask
from utils.data.loading import load_dataset
from utils.train.training import TrainingRun

pytestmark = pytest.mark.usefixtures("undrawn")

RETRAIN = f"{BASE}_FORGOTTEN_3_RETRAIN_unlearnEpochs6_unlearnlr01"
SECOND_RETRAIN, THIRD_RETRAIN = (f"{RETRAIN}_seed-{seed}" for seed in (2, 3))
RETRAINS = RETRAIN, SECOND_RETRAIN, THIRD_RETRAIN
PEERS = f"{FORGOTTEN}_seed-2", f"{FORGOTTEN}_seed-3"
HEADING = (
    *("format", "model_id", "weights_digest", "method", "parent_id", "class_to_forget", "dataset"),
    *("train_digest", "seed", "device", "command", "non_members", "retrain_model_ids", "warnings"),
)
MAY_BE_NULL = ("weights_digest", "method", "parent_id")  # facts, not figures
GAPS = (
    *("unlearn_accuracy_percent", "remaining_accuracy_percent", "test_accuracy_percent"),
    "mia_efficacy_percent",
)


def run_quietly(script, *flags):
    """What a script prints that is run in this process; for fixtures of a whole module."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        importlib.import_module(script).main([str(flag) for flag in flags])
    return printed.getvalue()


@contextlib.contextmanager
def inside(folder):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr("utils.plots.saving.png_bytes", lambda figure, **kwargs: b"")
        yield


@pytest.fixture(scope="module")
def family_folder(trained_folder, tmp_path_factory, data_files):
    """The trained folder with three Retrains and two more models of the same method."""
    folder = tmp_path_factory.mktemp("family")
    shutil.copytree(trained_folder, folder, dirs_exist_ok=True)
    with inside(folder):
        flags = model_flags(data_files["grey"])
        for seed in (1, 2, 3):
            for asked in (
                ("--unlearn", "Retrain", "--class_to_forget", "3"),
                (*UNLEARN, "--unlearn_epochs", "1"),
            ):
                run_quietly("main_unlearn", *flags, *asked, "--seed", seed, "--overwrite")
    return folder


@pytest.fixture
def family(family_folder, workplace):
    """The current folder, with a copy of the family."""
    shutil.copytree(family_folder, workplace, dirs_exist_ok=True)
    return workplace


@pytest.fixture
def couple(family):
    """The same with one Retrain alone."""
    for name in RETRAINS[1:]:
        (family / "model_weights" / f"{name}.pt").unlink()
    return family


@pytest.fixture
def grey(data_files):
    return data_files["grey"]


EVERYTHING = ("--retrain_model_id", *RETRAINS, "--seed_model_id", *PEERS)


@pytest.fixture(scope="module")
def measured(family_folder, data_files):
    """(printed, results) of a test with everything there is to compare with."""
    with inside(family_folder):
        flags = model_flags(data_files["grey"], FORGOTTEN)
        printed = run_quietly("main_test_unlearn", *flags, *EVERYTHING)
        results = results_of(FORGOTTEN)
        shutil.rmtree("results")
        shutil.rmtree(f"pics/{FORGOTTEN}")
    return printed, results


@pytest.fixture
def in_family(family_folder, monkeypatch):
    """The family's own folder, to read its models in."""
    monkeypatch.chdir(family_folder)


# results/{model_id}.json


def check_plain(results):
    """A flat file of plain data in which every figure is there or says why not."""
    for key, value in results.items():
        if isinstance(value, list):
            assert all(isinstance(part, str) for part in value), key
        else:
            assert value is None or isinstance(value, (str, bool, int, float)), key
        if value is None and key not in MAY_BE_NULL:
            assert results[with_ending(key, "undefined")], key
        stem, _, group = key.partition(":")
        plain = with_ending(re.sub("_(low|high|undefined)$", "", stem) + (group and f":{group}"))
        if stem.endswith("_undefined"):
            assert results[plain] is None, key
        if stem.endswith("_low"):
            assert value <= results[plain] <= results[with_ending(plain, "high")], key


def with_ending(key, ending=""):
    """accuracy:men -> accuracy_low:men, for the ending low."""
    stem, colon, group = key.partition(":")
    return f"{stem}_{ending}{colon}{group}" if ending else key


def test_the_results_are_flat_and_say_what_they_are_of(measured, in_family, grey):
    _, results = measured
    check_plain(results)
    assert list(results)[:4] == ["format", "model_id", "weights_digest", "method"]
    assert set(HEADING) <= results.keys()
    record = read_record(FORGOTTEN)
    for key in ("model_id", "weights_digest", "method", "parent_id", "dataset", "train_digest"):
        assert results[key] == record[key]
    assert results["format"] == "medical-unlearning-results-1"
    assert (results["class_to_forget"], results["seed"], results["non_members"]) == (3, 1, "val")
    command = ("python main_test_unlearn.py", *model_flags(grey, FORGOTTEN), *EVERYTHING)
    assert results["command"] == " ".join(command)
    assert results["retrain_model_ids"] == list(RETRAINS)
    digests = [read_record(name)["weights_digest"] for name in RETRAINS]
    assert results["retrain_weights_digests"] == digests
    assert results["seed_model_ids"] == list(PEERS)
    assert results["notes"] == []
    for split in ("val", "test"):
        assert re.fullmatch("[0-9a-f]{64}", results[f"{split}_digest"])
    for module in (torch, torchvision, medmnist, np, scipy, sklearn):
        assert results[f"version_{module.__name__}"] == module.__version__
    assert results["version_python"].startswith("3.")


def test_what_is_printed_is_what_is_written(measured):
    """Every line and every cell of every table, under its label, in its unit."""
    printed, results = measured
    for name, key in zip(("Unlearn", "Remaining", "Test"), GAPS, strict=False):
        assert_near(line_figure(f"{name} Accuracy", printed), results[key])
    assert printed.count("Accuracy: ") == 3
    prefixes = {"base model": "base_", "this model": "", "Retrain": "retrain_"}
    seen = set()
    for key, label, _ in [row for measure in MEASURES.values() for row in measure.rows]:
        if not any(prefix + key in results for prefix in prefixes.values()):
            continue
        if label.startswith("  "):
            continue  # named by the line above, see below
        for title, cell in cells(printed, label).items():
            check_cell(cell, results, prefixes[title] + key)
            seen.add(prefixes[title] + key)
    rows = [row for header, rows in tables(printed) if header[0] == "" for row in rows]
    for above, below in zip(rows, rows[1:], strict=False):
        if above[0].startswith("attack by "):
            attack = above[0].removeprefix("attack by ").removesuffix(": AUC").replace(" ", "_")
            assert below[0] == "AUC minus Retrain's"
            for prefix, cell in zip(prefixes.values(), below[1:], strict=True):
                check_cell(cell, results, f"{prefix}attack_{attack}_auc_minus_retrain")
        for number, name in enumerate(GREY_NAMES):
            if above[0] == f"{number} {name}: sensitivity":
                for line, what in ((above, "sensitivity"), (below, "specificity")):
                    for prefix, cell in zip(prefixes.values(), line[1:], strict=True):
                        check_cell(cell, results, f"{prefix}class_{number}_{what}_percent")
    assert {"attack_loss_auc", "probe_accuracy_percent", "klom_test_nats"} <= seen
    assert {"retrain_average_gap_points", "base_relearn_steps", "unlearn_seconds"} <= seen
    text = " ".join(printed.split())  # without line breaks
    for group in GROUPS.values():
        assert f" {group.name.capitalize()}: {group.question} " in text
    for name, measure in MEASURES.items():
        # no costs and no groups were given, and `destinations` has a table of its own
        shown = name not in ("expected_cost", "fairness", "destinations")
        assert (f" - {measure.name}: {measure.explanation} " in text) == shown, name


def groups_said(printed):
    """Names of the groups whose question is printed."""
    text = " ".join(printed.split())
    return [
        group.name
        for group in GROUPS.values()
        if f"{group.name.capitalize()}: {group.question}" in text
    ]


def check_cell(cell, results, key):
    if key not in results:
        assert cell == "-", (key, cell)
        return
    if results[key] is None:
        assert cell == "undefined", (key, cell)
        return
    number = re.match(r"-?[\d,]+(?:\.(\d+))?", cell)
    unit = 10 ** -len(number[1] or "")
    assert abs(float(number[0].replace(",", "")) - results[key]) <= unit / 2 + 1e-9, (key, cell)
    ends = re.search(r"\[(-?[\d.]+), (-?[\d.]+)\]", cell)
    assert bool(ends) == (with_ending(key, "low") in results), (key, cell)
    if ends:
        for end, name in zip(ends.groups(), ("low", "high"), strict=True):
            assert abs(float(end) - results[with_ending(key, name)]) <= unit / 2 + 1e-9


def loss_scores(model_id, data, split):
    """log p of its class of each image of class 3."""
    logits, labels = predictions(model_id, data, split)
    return np.log(softmax(logits)[labels == 3, 3])


def attack_auc(model_id, data, unseen):
    scores = [loss_scores(model_id, data, split) for split in ("train", unseen)]
    return roc_auc_score(np.repeat([1, 0], list(map(len, scores))), np.concatenate(scores))


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
            same = share(p.argmax(1) == q.argmax(1))
            assert results[f"{prefix}agreement_{name}_percent"] == pytest.approx(same)
    for prefix in ("", "base_"):
        gaps = [abs(results[prefix + key] - results[f"retrain_{key}"]) for key in GAPS]
        assert results[f"{prefix}average_gap_points"] == pytest.approx(np.mean(gaps))


def test_the_distance_between_two_retrains(measured, family, done, grey):
    """It is what a test of the second one beside the first one says."""
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


def test_what_it_cost(measured, in_family):
    _, results = measured
    seconds, retrain_seconds = (read_record(name)["seconds"] for name in (FORGOTTEN, RETRAIN))
    assert results["unlearn_seconds"] == seconds
    assert results["retrain_unlearn_seconds"] == retrain_seconds
    part = 100 * seconds / retrain_seconds
    assert results["share_of_retrain_time_percent"] == pytest.approx(part)
    assert results["retrain_share_of_retrain_time_percent"] == 100
    assert "base_unlearn_seconds" not in results


def test_what_each_class_lost(measured, in_family, grey):
    _, results = measured
    before, labels = predictions(BASE, grey, "test")
    after, _ = predictions(FORGOTTEN, grey, "test")
    right = [part.argmax(1) == labels for part in (before, after)]
    for number in range(3):
        of_class = labels == number
        lost = (right[0] & ~right[1])[of_class].sum()
        gained = (~right[0] & right[1])[of_class].sum()
        assert results[f"class_{number}_lost_images"] == lost
        assert results[f"class_{number}_gained_images"] == gained
        sensitivity = share(right[1][of_class])
        assert results[f"class_{number}_sensitivity_percent"] == pytest.approx(sensitivity)
        specificity = share(after.argmax(1)[~of_class] != number)
        assert results[f"class_{number}_specificity_percent"] == pytest.approx(specificity)
    assert "class_3_lost_images" not in results  # to lose these is what was asked for
    sensitivities = [results[f"class_{number}_sensitivity_percent"] for number in range(3)]
    assert results["worst_sensitivity_percent"] == min(sensitivities)
    assert results["worst_sensitivity_class"] == np.argmin(sensitivities)
    spread = max(sensitivities) - min(sensitivities)
    assert results["sensitivity_spread_points"] == pytest.approx(spread)


def test_json_and_nothing_else(couple, run_here, grey):
    flags = (*model_flags(grey, FORGOTTEN), "--measures", "privacy", "distance")
    result = run_here("main_test_unlearn", *flags, "--json")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == Path(f"results/{FORGOTTEN}.json").read_text(encoding="utf-8")
    results = strict_json(result.stdout)
    check_plain(results)
    assert results["command"].endswith("--json")
    run_here("main_test_unlearn", *flags)
    silent = {key: value for key, value in results.items() if key != "command"}
    assert {**results_of(FORGOTTEN), "command": ""} == {**silent, "command": ""}
    refused = run_here("main_test_unlearn", *flags, "--json", "--retrain_model_id", BASE)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert_one_line(refused.stderr, "--retrain_model_id")


def test_a_base_model_is_measured_as_well(couple, done, grey):
    flags = (*model_flags(grey), "--class_to_forget", "duct", "--measures", "forgetting", "cost")
    printed = done("main_test_unlearn", *flags)
    results = results_of(BASE, "_3")
    check_plain(results)
    assert (results["method"], results["parent_id"]) == (None, None)
    assert results["retrain_model_ids"] == [RETRAIN]
    assert results["unlearn_seconds"] is None
    assert results["unlearn_seconds_undefined"] == "the model file records no unlearning"
    assert not [key for key in results if key.startswith("base_")]
    assert "base model:" not in printed


def test_other_non_members(couple, done, grey):
    flags = (*model_flags(grey, FORGOTTEN), "--measures", "privacy")
    done("main_test_unlearn", *flags, "--non_members", "test")
    results = results_of(FORGOTTEN)
    assert results["non_members"] == "test"
    auc = attack_auc(FORGOTTEN, grey, "test")
    assert results["attack_loss_auc"] == pytest.approx(auc, abs=1e-6)
    assert auc != attack_auc(FORGOTTEN, grey, "val")


# Groups of measures


def test_accuracies_alone(couple, done, grey):
    flags = (*model_flags(grey, FORGOTTEN), "--measures", "forgetting")
    printed = done("main_test_unlearn", *flags)
    results = results_of(FORGOTTEN)
    check_plain(results)
    measured = {key.removeprefix("base_").removeprefix("retrain_") for key in results}
    measured = {key for key in measured if re.search(r"_(percent|auc|points|steps|nats)", key)}
    assert measured == {
        *("unlearn_accuracy_percent", "remaining_accuracy_percent", "test_accuracy_percent"),
        *("unlearn_accuracy_test_percent", "evaluator_accuracy_percent", "evaluator_auc"),
        "kept_auc",
        *(f"taken_for_class_{number}_percent" for number in range(4)),
    }
    assert "seconds" not in "".join(results)
    assert groups_said(printed) == ["forgetting"]
    assert {"base_kept_auc", "retrain_kept_auc"} <= results.keys()


@pytest.mark.parametrize("group", sorted(GROUPS))
def test_each_group_alone(couple, done, grey, group, monkeypatch):
    monkeypatch.setattr("evaluation.metrics.relearn.MAX_STEPS", 3)
    printed = done("main_test_unlearn", *model_flags(grey, FORGOTTEN), "--measures", group)
    results = results_of(FORGOTTEN)
    check_plain(results)
    assert groups_said(printed) == [group]
    for key in [row.key for measure in MEASURES.values() for row in measure.rows_of(group)]:
        if "{" in key:
            continue  # a row per class, or per patient group
        needs_more = re.search("finding|cost|klom|group|odds", key)
        assert (key in results) == (not needs_more), key
    if group == "inside":
        reason = results["retrain_relearn_steps_undefined"]
        assert reason == "not relearned after 3 steps"


# Retrain, the yardstick


def test_retrain_is_found_by_itself(family, done, grey):
    flags = (*model_flags(grey, FORGOTTEN), "--measures", "forgetting")
    printed = done("main_test_unlearn", *flags)
    assert f"\nbase model: {BASE}\nRetrain: {RETRAIN}\n" in printed
    assert results_of(FORGOTTEN)["retrain_model_ids"] == [RETRAIN]  # with the base model's seed
    (family / "model_weights" / f"{RETRAIN}.pt").unlink()
    flags = (*flags, "distance", "cost")
    said = "Retrain: none available; create one with main_unlearn.py --unlearn Retrain\n"
    assert said in done("main_test_unlearn", *flags)
    results = results_of(FORGOTTEN)
    check_plain(results)
    assert (results["retrain_model_ids"], results["retrain_weights_digests"]) == ([], [])
    assert not [key for key in results if re.match("retrain_(?!model_ids|weights_digests)", key)]
    for key in ("average_gap_points", "js_divergence_forget", "share_of_retrain_time_percent"):
        assert results[key] is None
        assert results[f"{key}_undefined"].startswith(
            "no Retrain is available: create one with main_unlearn.py"
        )


def test_a_yardstick_by_another_recipe_is_taken_on_demand_alone(family, done, grey):
    flags = (*model_flags(grey, FORGOTTEN), "--measures", "forgetting")
    printed = done("main_test_unlearn", *flags, "--retrain_model_id", *RETRAINS[1:])
    said = f"Retrain {SECOND_RETRAIN} differs from the base model's recipe: seed 2 (not 1)"
    assert f"\nWARNING: {said}\n" in printed
    results = results_of(FORGOTTEN)
    assert results["warnings"] == [said]
    assert results["retrain_model_ids"] == [SECOND_RETRAIN, THIRD_RETRAIN]
    done("main_test_unlearn", *flags)
    assert results_of(FORGOTTEN)["warnings"] == []


def test_a_retrain_of_another_base_model_is_not_taken(couple, done, grey):
    """The base model was trained anew, under its old name, and so was its Retrain."""
    changed_copy(RETRAIN, RETRAIN, 0, parent_digest="0" * 64)
    printed = done("main_test_unlearn", *model_flags(grey, FORGOTTEN), "--measures", "forgetting")
    assert "Retrain: none available" in printed


def test_retrain_is_not_compared_with_itself(couple, done, grey):
    printed = done("main_test_unlearn", *model_flags(grey, RETRAIN))
    assert "Retrain: none available" not in printed
    results = results_of(RETRAIN)
    check_plain(results)
    assert results["method"] == "Retrain"
    assert results["retrain_model_ids"] == []
    assert not [key for key in results if key.startswith("retrain_") and key[8:] in results]
    for key in ("average_gap_points", "js_divergence_forget", "share_of_retrain_time_percent"):
        assert results[key] is None
        assert results[f"{key}_undefined"] == "this model is Retrain"


def changed_copy(model_id, copy_id, weights=1e-3, **changes):
    """Save a model under another id with other words in its record, and `weights` as a bias."""
    model, record = load_model(model_id)
    with torch.no_grad():
        model.network.fc.bias[0] += weights
    save_model(copy_id, model, {**record, **changes})
    return copy_id


@pytest.mark.parametrize(
    "changes, says",
    [
        ({"forget_request": {"class_to_forget": 1}}, "other has not forgotten the same"),
        ({"train_digest": "0" * 64}, "other was trained on other images: give one of the same"),
        ({"method": "FT"}, "other is no Retrain, it is FT"),
    ],
)
@pytest.mark.parametrize("script", ["main_test_unlearn", "main_mia"])
def test_a_yardstick_that_is_none(couple, refused, grey, script, changes, says):
    changed_copy(RETRAIN, "other", **changes)
    flags = (*model_flags(grey, FORGOTTEN), "--retrain_model_id")
    assert refused(f"--retrain_model_id {says}", script, *flags, "other") == []
    assert refused(f"--retrain_model_id {says}", script, *flags, RETRAIN, "other") == []


@pytest.mark.parametrize("script", ["main_test_unlearn", "main_mia"])
def test_a_yardstick_that_is_there_twice(couple, refused, grey, script):
    says = f"--retrain_model_id {RETRAIN} has the very weights of another one"
    flags = (*model_flags(grey, FORGOTTEN), "--retrain_model_id", RETRAIN, RETRAIN)
    assert refused(says, script, *flags) == []
    itself = (*model_flags(grey, RETRAIN), "--retrain_model_id", RETRAIN)
    assert refused(says, script, *itself) == []


def test_a_model_of_another_seed_that_is_none(couple, refused, grey):
    flags = (*model_flags(grey, FORGOTTEN), "--seed_model_id")
    says = "--seed_model_id {} differs in more than the seed: {}"
    method = "method Retrain (not RL_with_SalUn)"
    assert refused(re.escape(says.format(RETRAIN, method)), *ask(flags, RETRAIN)) == []
    settings = {**read_record(FORGOTTEN)["settings"], "seed": 5, "epochs": 7}
    changed_copy(FORGOTTEN, "other", settings=settings)
    epochs = re.escape(says.format("other", "epochs 7 (not 1)"))
    assert refused(epochs, *ask(flags, PEERS[0], "other")) == []
    assert refused(f"{BASE} has not forgotten the same", *ask(flags, BASE)) == []
    assert refused(f"{PEERS[0]} has the very weights of", *ask(flags, *[PEERS[0]] * 2)) == []
    assert refused(f"{FORGOTTEN} has the very weights of", *ask(flags, FORGOTTEN)) == []
    base = (*model_flags(grey), "--class_to_forget", "3", "--seed_model_id")
    assert refused("--seed_model_id: a base model has no method", *ask(base, FORGOTTEN)) == []


def ask(flags, *more):
    return ("main_test_unlearn", *flags, *more)


@pytest.mark.parametrize("script", ["main_test_unlearn", "main_mia"])
def test_another_class_than_the_model_has_forgotten(couple, refused, grey, script):
    flags = (*model_flags(grey, FORGOTTEN), "--class_to_forget", "bone")
    says = rf"class 1 bone: {FORGOTTEN} has forgotten another \(class 3 duct\): leave out what"
    assert refused(says, script, *flags) == []


@pytest.mark.parametrize("script", ["main_test_unlearn", "main_mia"])
def test_a_model_whose_outputs_are_no_numbers(couple, refused, grey, script, monkeypatch):
    """It is told before any shadow model is trained."""
    forbid_training(monkeypatch)
    changed_copy(FORGOTTEN, "broken", np.nan)
    says = "the model is broken: its outputs .*are not finite"
    assert refused(says, script, *model_flags(grey, "broken")) == []


def test_a_model_of_other_images_is_warned_of(couple, done, data_files):
    flags = (*model_flags(data_files["other"], FORGOTTEN), "--allow_other_data")
    printed = done("main_test_unlearn", *flags, "--measures", "forgetting")
    results = results_of(FORGOTTEN)
    [warning] = results["warnings"]
    assert warning.startswith("the model was trained on other images: ")
    assert f"\nWARNING: {warning}\n" in printed
    assert results["train_digest"] != read_record(FORGOTTEN)["train_digest"]


# Costs and groups of patients


COSTS = np.array([[0, 1, 2, 3], [4, 0, 5, 6], [7, 8, 0, 9], [10, 11, 12, 0]], float)


def write_costs(path, costs, order=(2, 0, 3, 1)):
    """With a header and a first column, in another order than the data set's."""
    lines = [["", *(GREY_NAMES[column] for column in order)]]
    lines += [[GREY_NAMES[row], *(costs[row, column] for column in order)] for row in order]
    Path(path).write_text("\n".join(",".join(map(str, line)) for line in lines))


def test_costs_and_groups_by_hand(couple, done, grey):
    write_costs("costs.csv", COSTS)
    groups = np.array(["north", "south", "a, b", "south"] * 10)
    Path("groups.txt").write_text("\n".join('"a, b"' if g == "a, b" else g for g in groups))
    flags = (*model_flags(grey, FORGOTTEN), "--measures", "safety")
    sides = ("--cost_matrix", "costs.csv", "--group_file", "groups.txt")
    printed = done("main_test_unlearn", *flags, *sides)
    results = results_of(FORGOTTEN)
    check_plain(results)
    ids = {"base model": ("base_", BASE), "this model": ("", FORGOTTEN)}
    ids["Retrain"] = "retrain_", RETRAIN
    for title, (prefix, model_id) in ids.items():
        logits, labels = predictions(model_id, grey, "test")
        kept = labels != 3
        said, truth, group_of = logits.argmax(1)[kept], labels[kept], groups[kept]
        cost = sum(COSTS[pair] for pair in zip(truth, said, strict=True)) / kept.sum()
        assert results[f"{prefix}expected_cost"] == pytest.approx(cost)
        label = "expected cost per image, {} classes"
        check_cell(cells(printed, label.format("kept"))[title], results, f"{prefix}expected_cost")
        all_costs = COSTS[labels, logits.argmax(1)]
        key = f"{prefix}expected_cost_all_classes"
        assert results[key] == pytest.approx(all_costs.mean())
        check_cell(cells(printed, label.format("all"))[title], results, key)
        accuracies, rates = {}, {}
        for name in sorted(set(groups)):
            own = group_of == name
            accuracies[name] = share(said[own] == truth[own])
            key = f"{prefix}group_accuracy_percent:{name}"
            assert results[key] == pytest.approx(accuracies[name])
            check_cell(cells(printed, f"accuracy, group {name}")[title], results, key)
            for number in range(4):
                for of_class in (True, False):
                    asked = own & ((truth == number) == of_class)
                    if asked.any():
                        rate = share(said[asked] == number)
                        rates.setdefault((number, of_class), []).append(rate)
        gap = max(accuracies.values()) - min(accuracies.values())
        assert results[f"{prefix}group_accuracy_gap_points"] == pytest.approx(gap)
        gap = max(max(part) - min(part) for part in rates.values())
        assert results[f"{prefix}equalized_odds_gap_points"] == pytest.approx(gap)


@pytest.mark.parametrize(
    "flag, text, says",
    [
        ("--cost_matrix", "0,1\n1,0\n", "side.csv has 2 lines for 4 classes"),
        (
            "--cost_matrix",
            "0,1,1,1\n1,0,1,1\n1,1,0,1\n1,-1,1,0\n",
            "line 4: '-1' is not a valid cost",
        ),
        (
            "--cost_matrix",
            "0,1,1,1\n1,0,1,1\n1,1,0,1\n1,nan,1,0\n",
            "line 4: 'nan' is not a valid cost",
        ),
        ("--cost_matrix", ",artery,bone,cortex,skin\n", "the data set has no class 'skin'"),
        ("--cost_matrix", "", "side.csv is empty"),
        ("--group_file", "a\nb\n", "side.csv has 2 lines for 40 test images"),
        ("--group_file", "a\n" * 40, "puts every image in the group 'a'"),
        ("--group_file", "a\n\0\n", "is not UTF-8 text"),
        ("--cost_matrix", None, "cannot read side.csv: No such file"),
        ("--group_file", None, "cannot read side.csv: No such file"),
    ],
)
def test_faulty_side_files(trained, refused, grey, flag, text, says):
    if text is not None:
        Path("side.csv").write_text(text)
    flags = (*model_flags(grey, FORGOTTEN), flag, "side.csv")
    assert refused(says, "main_test_unlearn", *flags) == []


# What is missing, stale or in the way


def test_a_stale_or_damaged_mask_costs_no_result(couple, done, grey):
    path = couple / "SaliencyMaps" / BASE / "class_3.pt"
    flags = (*model_flags(grey, FORGOTTEN), "--measures", "forgetting")
    for spoil, says in (
        (lambda: shutil.copy(path.with_name("class_0.pt"), path), "belongs to other weights"),
        (lambda: path.write_bytes(path.read_bytes()[:1000]), "is cut short, damaged"),
        (path.unlink, "create it with python generate_mask.py"),
    ):
        spoil()
        printed = done("main_test_unlearn", *flags)
        assert re.search(f"no picture of the saliency: .*class_3.pt.* {says}", printed)
        assert results_of(FORGOTTEN)["unlearn_accuracy_percent"] is not None
        assert not Path(f"pics/{FORGOTTEN}/saliency.png").exists()
        assert Path(f"pics/{FORGOTTEN}/forgotten.png").exists()
        shutil.rmtree("results")


def test_a_run_with_few_measures_takes_nothing_away(couple, done, grey):
    flags = (*model_flags(grey, FORGOTTEN), "--measures")
    done("main_test_unlearn", *flags, "privacy")
    attacked = results_of(FORGOTTEN)["attack_loss_auc"]
    done("main_test_unlearn", *flags, "cost")
    results = results_of(FORGOTTEN)
    check_plain(results)
    assert results["attack_loss_auc"] == attacked
    assert results["unlearn_seconds"] > 0
    assert results["command"].endswith("--measures cost")
    done("main_test_unlearn", *flags, "cost", "--seed", "2")  # its attack would be another
    assert "attack_loss_auc" not in results_of(FORGOTTEN)
    Path(f"results/{FORGOTTEN}.json").write_text("{")
    done("main_test_unlearn", *flags, "cost")
    check_plain(results_of(FORGOTTEN))


def test_without_its_base_model(couple, done, grey):
    flags = (*model_flags(grey, FORGOTTEN), "--measures", "forgetting", "distance", "safety")
    path = couple / "model_weights" / f"{BASE}.pt"
    model, record = load_model(BASE)
    with torch.no_grad():
        next(model.parameters()).mul_(1.01)
    for spoil, says in (
        (lambda: save_model(BASE, model, record), f"{BASE} is not the model any more that this"),
        (path.unlink, f"the base model {BASE} is not in model_weights/ any more"),
    ):
        spoil()
        printed = done("main_test_unlearn", *flags)
        assert f"\nnote: {says}" in printed
        results = results_of(FORGOTTEN)
        check_plain(results)
        [note] = results["notes"]
        assert note.startswith(says)
        assert not [key for key in results if key.startswith("base_")]
        assert not [key for key in results if key.endswith("_p_value")]
        assert results["average_gap_points"] is not None  # Retrain is found all the same
        assert list(cells(printed, "unlearn accuracy, test images")) == ["this model", "Retrain"]


def test_pictures_in_the_way_cost_no_result(couple, run_here, grey):
    shutil.rmtree(couple / "pics")
    (couple / "pics").write_text("a file")
    flags = (*model_flags(grey, FORGOTTEN), "--measures", "forgetting")
    result = run_here("main_test_unlearn", *flags)
    assert result.returncode == 2
    assert_one_line(result.stderr, "cannot write pics/")
    assert results_of(FORGOTTEN)["unlearn_accuracy_percent"] is not None


@pytest.fixture
def spoiled_child(trained):
    """spoiled_child(class): the base model's child that gives a class away; None gives none."""

    def make(number):
        model, record = load_model(BASE)
        digest = weights_digest(model.network.state_dict())
        if number is not None:
            with torch.no_grad():
                model.network.fc.bias[number] -= 1e4
        child = {**record, "kind": "unlearned", "parent_id": BASE, "parent_digest": digest}
        child |= {"method": "FT", "forget_request": {"class_to_forget": 3}, "settings": {}}
        save_model("child", model, child)
        return "child"

    return make


def test_a_class_that_got_worse_is_warned_of(spoiled_child, done, grey):
    flags = (*model_flags(grey, spoiled_child(1)), "--measures", "safety")
    printed = done("main_test_unlearn", *flags)
    results = results_of("child")
    before, labels = predictions(BASE, grey, "test")
    lost = int((before.argmax(1) == labels)[labels == 1].sum())
    p_value = 3 * binomtest(lost, lost, 0.5, alternative="greater").pvalue  # Holm, three classes
    assert p_value < 0.05
    assert results["class_1_lost_images"] == lost
    assert results["class_1_worse_p_value"] == pytest.approx(p_value)
    [warning] = results["warnings"]
    assert warning.startswith("class 1 bone is recognised significantly worse than before: ")
    assert f"{lost} test images lost, 0 gained" in warning
    assert f"\nWARNING: {warning}\n" in printed
    assert results["class_1_sensitivity_percent"] == 0


@pytest.mark.parametrize("number", [None, 3])
def test_no_warning_where_nothing_got_worse(spoiled_child, done, grey, number):
    """Not of an untouched copy, nor of one that gives away what it was to forget."""
    flags = (*model_flags(grey, spoiled_child(number)), "--measures", "safety")
    printed = done("main_test_unlearn", *flags)
    assert "WARNING" not in printed
    results = results_of("child")
    assert results["warnings"] == []
    assert [results[f"class_{kept}_lost_images"] for kept in range(3)] == [0, 0, 0]
    assert {results[f"class_{kept}_worse_p_value"] for kept in range(3)} == {1.0}
    logits, labels = predictions(BASE, grey, "test")
    before = share(logits.argmax(1)[labels == 3] == 3)
    assert results["class_3_sensitivity_percent"] == (
        pytest.approx(before) if number is None else 0
    )


def test_a_class_without_val_images(couple, done):
    """The same training images, so that the models are the same data set's."""
    arrays = drawn_arrays()
    keep = arrays["val_labels"][:, 0] != 3
    arrays |= {f"val_{part}": arrays[f"val_{part}"][keep] for part in ("images", "labels")}
    np.savez("gap.npz", **arrays, class_names=np.array(GREY_NAMES))
    printed = done("main_test_unlearn", *model_flags("gap.npz", FORGOTTEN))
    results = results_of(FORGOTTEN)
    check_plain(results)
    why = "0 non-members, and the minimum is 5"
    for prefix in ("", "base_", "retrain_"):
        for name in ("loss", "confidence", "entropy", "modified_entropy"):
            key = f"{prefix}attack_{name}_auc"
            assert (results[key], results[f"{key}_undefined"]) == (None, why)
    assert results["attack_blind_auc_undefined"] == why
    assert re.search(f"^undefined: attack by loss: AUC.*: {why}$", printed, re.MULTILINE)
    assert results["mia_efficacy_percent"] is not None
    done("main_test_unlearn", *model_flags("gap.npz", FORGOTTEN), "--non_members", "test")
    assert results_of(FORGOTTEN)["attack_loss_auc"] is not None


# Multi-label data


@pytest.fixture(scope="module")
def multi_folder(tmp_path_factory, data_files):
    """A base model of the multi-label set, and two that forgot finding 1."""
    folder = tmp_path_factory.mktemp("multi")
    data = ("--dataset", data_files["multi"], "--device", "cpu")
    with inside(folder):
        run_quietly(
            "main_train",
            "--save_model_id",
            "multi",
            *data,
            *TRAIN,
            "--epochs",
            "2",
            "--lr",
            "0.001",
            "--seed",  # with 1, Retrain's few images overflow by some versions' rounding
            "2",
        )
        for method in ("FT", "Retrain"):
            asked = ("--unlearn", method, "--class_to_forget", "1")
            run_quietly("main_unlearn", "--model_id", "multi_best", *data, *asked)
    return folder


MULTI = "multi_best_FORGOTTEN_1_FT_unlearnEpochs5_unlearnlr03"
MULTI_RETRAIN = "multi_best_FORGOTTEN_1_RETRAIN_unlearnEpochs2_unlearnlr001"


@pytest.fixture
def multi(multi_folder, workplace):
    shutil.copytree(multi_folder, workplace, dirs_exist_ok=True)
    return workplace


def test_multi_label_data_in_all_groups(multi, done, data_files, monkeypatch):
    monkeypatch.setattr("evaluation.metrics.relearn.MAX_STEPS", 20)
    data = data_files["multi"]
    Path("groups.txt").write_text("\n".join(["f", "m"] * 20))
    flags = (*model_flags(data, MULTI), "--group_file", "groups.txt")
    printed = done("main_test_unlearn", *flags)
    results = results_of(MULTI)
    check_plain(results)
    assert results["retrain_model_ids"] == [MULTI_RETRAIN]
    scores = []
    for split in ("train", "val"):
        logits, labels = predictions(MULTI, data, split)
        scores.append(logits[labels[:, 1] == 1, 1])  # log p grows with the logit
    truth = np.repeat([1, 0], list(map(len, scores)))
    auc = roc_auc_score(truth, np.concatenate(scores))
    assert results["attack_loss_auc"] == pytest.approx(auc, abs=1e-6)
    (ours, labels), (theirs, _) = (
        predictions(model_id, data, "test") for model_id in (MULTI, MULTI_RETRAIN)
    )
    without = labels[:, 1] == 0
    same = share((ours > 0)[without] == (theirs > 0)[without])
    assert results["agreement_test_percent"] == pytest.approx(same)
    found = ours > 0
    for number in range(3):
        sensitivity = share(found[labels[:, number] == 1, number])
        assert results[f"class_{number}_sensitivity_percent"] == pytest.approx(sensitivity)
    kept = found[:, [0, 2]] == labels[:, [0, 2]]
    for start, name in enumerate("fm"):
        key = f"group_accuracy_percent:{name}"
        assert results[key] == pytest.approx(share(kept[start::2]))
        check_cell(cells(printed, f"accuracy, group {name}")["this model"], results, key)
    gap = abs(share(kept[::2]) - share(kept[1::2]))
    assert results["group_accuracy_gap_points"] == pytest.approx(gap)
    for group in GROUPS:
        assert f"\n{group.capitalize()}: " in printed


def test_a_finding_that_is_seen_everywhere_is_warned_of(multi, done, data_files):
    """It is missed nowhere: what got worse are the images without it."""
    data = data_files["multi"]
    model, record = load_model("multi_best")
    logits, labels = predictions("multi_best", data, "test")
    right = {each: int((logits[labels[:, each] == 0, each] <= 0).sum()) for each in (0, 2)}
    number, lost = max(right.items(), key=lambda item: item[1])
    with torch.no_grad():
        model.network.fc.bias[number] += 1e4
    child = {**record, "kind": "unlearned", "parent_id": "multi_best", "method": "FT"}
    child |= {"parent_digest": record["weights_digest"], "settings": {}}
    save_model("child", model, {**child, "forget_request": {"class_to_forget": 1}})
    done("main_test_unlearn", *model_flags(data, "child"), "--measures", "safety")
    results = results_of("child")
    check_plain(results)
    p_value = 4 * binomtest(lost, lost, 0.5, alternative="greater").pvalue  # two findings, twice
    assert p_value < 0.05
    assert results[f"class_{number}_lost_negatives_images"] == lost
    assert results[f"class_{number}_worse_negatives_p_value"] == pytest.approx(p_value)
    assert results[f"class_{number}_lost_images"] == 0
    [warning] = results["warnings"]
    assert warning.startswith(f"class {number} is recognised significantly worse than before: ")
    assert f"{lost} test images without it lost, 0 gained" in warning


def test_costs_of_mistakes_between_findings_make_no_sense(multi, refused, data_files):
    """An image has several findings: what is taken for what is not defined."""
    Path("costs.csv").write_text("0,1,1\n1,0,1\n1,1,0\n")
    flags = (*model_flags(data_files["multi"], MULTI), "--cost_matrix", "costs.csv")
    assert refused("--cost_matrix.*multi-label", "main_test_unlearn", *flags) == []


# main_mia.py


HASTY = "hasty_best_FORGOTTEN_3_RL_WITH_SALUN_mask5_unlearnEpochs1_unlearnlr001"
HASTY_RETRAIN = "hasty_best_FORGOTTEN_3_RETRAIN_unlearnEpochs1_unlearnlr01"
SHADOWS = ("--shadow_models", "4")


@pytest.fixture(scope="module")
def hasty_folder(tmp_path_factory, data_files):
    """Models that were trained for one epoch, as their shadow models then are; one was attacked."""
    folder = tmp_path_factory.mktemp("hasty")
    data = ("--dataset", data_files["grey"], "--device", "cpu")
    base = ("--model_id", "hasty_best", *data)
    with inside(folder):
        run_quietly("main_train", "--save_model_id", "hasty", *data, *TRAIN, "--epochs", "1")
        run_quietly("generate_mask", *base, "--class_to_forget", "3")
        run_quietly("main_unlearn", *base, *UNLEARN, "--unlearn_epochs", "1")
        run_quietly("main_unlearn", *base, "--unlearn", "Retrain", "--class_to_forget", "3")
        run_quietly("main_mia", "--model_id", HASTY, *data, *SHADOWS)
    return folder


@pytest.fixture
def hasty(hasty_folder, workplace):
    """The current folder, with a copy of it."""
    shutil.copytree(hasty_folder, workplace, dirs_exist_ok=True)
    return workplace


@pytest.fixture
def unattacked(hasty):
    """The same without what the attack has left."""
    shutil.rmtree(hasty / "results")
    shutil.rmtree(hasty / "model_weights" / "shadows")
    return hasty


def attacked(name):
    """(results, queries, ratios): of the files of an attack; queries: [(split, row), ...]."""
    results = results_of(name, "_mia")
    check_plain(results)
    with open(f"results/{name}_mia.csv", newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["split", "image", "log_likelihood_ratio"]
    ratios = np.array([float(row[2]) for row in rows])
    assert (np.diff(ratios) <= 0).all()  # the one most likely remembered first
    return results, [(split, int(row)) for split, row, _ in rows], ratios


def rows_of(data, split, number=3):
    labels = arrays_of(data, split)[1]
    return [(split, row) for row in np.flatnonzero(labels == number)]


def check_figures(results, queries, ratios):
    members = np.array([split == "train" for split, _ in queries])
    auc = roc_auc_score(members, ratios)
    assert results["ulira_auc"] == pytest.approx(auc, abs=5e-3)  # ratios are rounded, to ties
    right = [(ratios[members] > 0).mean(), (ratios[~members] <= 0).mean()]
    assert results["ulira_accuracy_percent"] == pytest.approx(50 * sum(right), abs=0.5)


def test_the_attack_on_one_model(hasty, grey):
    results, queries, ratios = attacked(HASTY)
    assert sorted(queries) == sorted(rows_of(grey, "train") + rows_of(grey, "val"))
    check_figures(results, queries, ratios)
    assert results["format"] == "medical-unlearning-results-1"
    assert (results["shadow_models"], results["non_members"], results["seed"]) == (4, "val", 1)
    assert results["retrain_model_ids"] == [HASTY_RETRAIN]
    for prefix in ("", "retrain_"):
        keys = {f"{prefix}ulira_auc{end}" for end in ("", "_low", "_high")}
        keys |= {f"{prefix}ulira_accuracy_percent"}
        keys |= {f"{prefix}ulira_tpr_percent_at_fpr_{rate}_percent" for rate in ("1", "0_1")}
        assert keys <= results.keys()
    assert results["command"].startswith(f"python main_mia.py --model_id {HASTY} ")
    weights = read_record(HASTY)
    assert results["weights_digest"] == weights["weights_digest"]
    assert results["train_digest"] == weights["train_digest"]


def forbid_training(monkeypatch):
    def no_training(*args, **kwargs):
        raise AssertionError("nothing has to be trained")

    monkeypatch.setattr("evaluation.shadows.TrainingRun", no_training)
    monkeypatch.setattr("unlearn.engine.loop.train_epoch", no_training)
    monkeypatch.setattr("models.shards.TrainingRun", no_training)


def files_of_the_attack(folder):
    return {path.name: path.read_bytes() for path in (folder / "results").iterdir()}


def test_an_attack_again_trains_nothing(hasty, done, grey, monkeypatch):
    before = contents(hasty)
    forbid_training(monkeypatch)
    printed = done("main_mia", *mia_flags(grey, HASTY))
    assert contents(hasty) == before
    assert "shadow model 4 of 4" in printed
    results = results_of(HASTY, "_mia")
    found = cells(printed, "U-LiRA: AUC")
    for title, prefix in (("this model", ""), ("Retrain", "retrain_")):
        check_cell(found[title], results, f"{prefix}ulira_auc")


def mia_flags(data, model_id):
    """In the order in which the fixture gave them: the command is in the results."""
    return (*model_flags(data, model_id), *SHADOWS)


def count_trainings(monkeypatch, stop_at=None):
    """The list of what was trained from now on: (train set, val set, recipe); Ctrl-C at one."""
    seen = []

    class Seen(TrainingRun):
        def __init__(self, model, train_set, val_set, recipe):
            super().__init__(model, train_set, val_set, recipe)
            if len(seen) == stop_at:
                raise KeyboardInterrupt
            seen.append((train_set, val_set, recipe))

    monkeypatch.setattr("evaluation.shadows.TrainingRun", Seen)
    return seen


def test_an_interrupted_attack_ends_as_one_that_was_not(
    hasty_folder, unattacked, run_here, grey, monkeypatch
):
    flags = mia_flags(grey, HASTY)
    count_trainings(monkeypatch, stop_at=2)
    stopped = run_here("main_mia", *flags)
    assert stopped.returncode == 130
    assert_one_line(stopped.stderr, "^main_mia.py: interrupted: ")
    assert "shadow model 2 of 4" in stopped.stdout
    assert not list((unattacked / "results").iterdir())
    trained = count_trainings(monkeypatch)

    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:  # between training and unlearning
        patch.setattr("unlearn.engine.loop.train_epoch", interrupt)
        assert run_here("main_mia", *flags).returncode == 130
    assert len(trained) == 1
    again = run_here("main_mia", *flags)
    assert (again.returncode, again.stderr) == (0, "")
    assert len(trained) == 2
    assert files_of_the_attack(unattacked) == files_of_the_attack(hasty_folder)


def test_more_shadow_models_take_in_those_that_are_there(hasty, done, grey, monkeypatch):
    trained = count_trainings(monkeypatch)
    done("main_mia", *model_flags(grey, HASTY), "--shadow_models", "6")
    assert len(trained) == 2
    assert results_of(HASTY, "_mia")["shadow_models"] == 6


@pytest.mark.parametrize("non_members, others", [("val", ["val"]), ("test", ["val", "test"])])
def test_other_images_need_other_shadow_models(hasty, done, grey, monkeypatch, non_members, others):
    """They are asked about, or at least choose the epoch; the training images are the same."""
    more = ("--non_members", non_members)
    done("main_mia", *mia_flags(grey, HASTY), *more)
    trained, arrays = count_trainings(monkeypatch), drawn_arrays()
    for split in others:
        trained.clear()
        arrays[f"{split}_images"][arrays[f"{split}_labels"][:, 0] == 3] //= 2
        np.savez("grey.npz", **arrays, class_names=np.array(GREY_NAMES))
        done("main_mia", *mia_flags("grey.npz", HASTY), *more)
        assert len(trained) == 4


def test_the_attack_on_a_base_model_by_hand(unattacked, done, grey, monkeypatch):
    """Plain LiRA: each shadow's training images, and every ratio from the shadows' own weights."""
    trained = count_trainings(monkeypatch)
    done("main_mia", *mia_flags(grey, "hasty_best"), "--class_to_forget", "3")
    results, queries, ratios = attacked("hasty_best_3")
    assert sorted(queries) == sorted(rows_of(grey, "train") + rows_of(grey, "val"))
    check_figures(results, queries, ratios)
    assert "retrain_ulira_auc" in results
    ordered = rows_of(grey, "train") + rows_of(grey, "val")
    where = dict(zip(ordered, shadow_ratios(grey, ordered, trained), strict=True))
    wanted = np.array([where[query] for query in queries])
    np.testing.assert_allclose(ratios, wanted, rtol=2e-3, atol=2e-3)
    assert len({recipe.seed for _, _, recipe in trained}) == 4
    for _, val_set, recipe in trained:
        assert (recipe.epochs, recipe.lr, recipe.batch_size) == (1, 0.01, 8)
        assert 3 not in val_set.labels  # these images are what the attack asks about


def shadow_ratios(data, queries, trained):
    """Log likelihood ratios of the queries of class 3, image by image, of hasty_best."""
    train, val = arrays_of(data, "train"), arrays_of(data, "val")
    pool = np.concatenate([train[0], val[0]])
    rows = [row + (len(train[0]) if split == "val" else 0) for split, row in queries]
    model, record = load_model("hasty_best")
    target = query_margins(model, data)
    seen, found = [], []
    for number, (train_set, _, _) in enumerate(trained):
        [path] = Path("model_weights/shadows").glob(f"*/{number:03d}.pt")
        shadow = build_model(ModelSpec(**record["spec"]), initial_weights=False)
        shadow.network.load_state_dict(torch.load(path, weights_only=True)["weights"])
        found.append(query_margins(shadow, data))
        images = train_set.images[train_set.indices].permute(0, 2, 3, 1).numpy()
        known = {image.tobytes() for image in images}
        assert len(known) == len(images) == (train[1] != 3).sum() + len(rows) // 2
        retained = {image.tobytes() for image in train[0][train[1] != 3]}
        assert retained < known
        seen.append([pool[row].tobytes() in known for row in rows])
        assert sum(seen[-1]) == len(known) - len(retained) == len(rows) // 2
    seen, found = np.array(seen), np.array(found)
    assert (seen.sum(0) == 2).all()
    spreads = []
    for kind in (seen, ~seen):
        away = [
            found[m, i] - found[kind[:, i], i].mean()
            for i in range(len(rows))
            for m in np.flatnonzero(kind[:, i])
        ]
        spreads.append(np.sqrt(np.square(away).sum() / (len(away) - len(rows))))
    return [
        norm.logpdf(target[i], found[seen[:, i], i].mean(), spreads[0])
        - norm.logpdf(target[i], found[~seen[:, i], i].mean(), spreads[1])
        for i in range(len(rows))
    ]


def query_margins(model, data):
    """Of all images of class 3, training before val images."""
    logits = []
    for split in ("train", "val"):
        found, labels = model_predictions(model, data, split)
        logits.append(found[labels == 3])
    logits = np.concatenate(logits).astype(float)
    others = np.delete(logits, 3, 1)
    return logits[:, 3] - np.log(np.exp(others - others.max(1)[:, None]).sum(1)) - others.max(1)


def test_shadow_models_forget_by_the_tested_models_method(unattacked, done, grey, monkeypatch):
    """Each what it was trained on of the queries, with the recorded settings and its own mask."""
    trained, forgotten = count_trainings(monkeypatch), []
    method = evaluation.shadows.METHODS["RL_with_SalUn"]

    def run(model, forget_set, retain_set, config):
        forgotten.append((forget_set, retain_set, config))
        own = compute_mask(model, forget_set, ForgetRequest((3,)), 0.5).changeable
        assert all(torch.equal(own[name], config.mask.changeable[name]) for name in own)
        return method.run(model, forget_set, retain_set, config)

    spied = evaluation.shadows.replace(method, run=run)
    monkeypatch.setattr("evaluation.shadows.METHODS", {"RL_with_SalUn": spied})
    done("main_mia", *mia_flags(grey, HASTY), "--non_members", "test")
    results, queries, ratios = attacked(HASTY)
    assert sorted(queries) == sorted(rows_of(grey, "train") + rows_of(grey, "test"))
    check_figures(results, queries, ratios)
    assert len(trained) == len(forgotten) == 4
    for (train_set, val_set, _), (forget_set, retain_set, config) in zip(
        trained, forgotten, strict=True
    ):
        assert set(forget_set.labels.tolist()) == {3}
        assert len(forget_set) == len(queries) // 2
        whole = sorted(forget_set.indices.tolist() + retain_set.indices.tolist())
        assert sorted(train_set.indices.tolist()) == whole
        assert sorted(retain_set.indices.tolist()) == [
            row for row in range(96) if arrays_of(grey, "train")[1][row] != 3
        ]
        recipe = config.recipe
        assert (recipe.epochs, recipe.lr, recipe.batch_size) == (1, 0.001, 100)
        assert 0.49 < config.mask.fraction() < 0.51
        assert len(val_set) == 32  # val images are not asked about here
    pairs = [set(forget_set.indices.tolist()) for forget_set, _, _ in forgotten]
    assert pairs[0].isdisjoint(pairs[1]) and pairs[2].isdisjoint(pairs[3])
    assert len({config.recipe.seed for _, _, config in forgotten}) == 4
    masks = [config.mask.changeable["network.fc.weight"] for _, _, config in forgotten]
    assert not torch.equal(masks[0], masks[1])


def test_the_attack_on_retrain_itself(hasty, done, grey, monkeypatch):
    """The control by itself, with the trained shadow models of the other attack."""
    trained = count_trainings(monkeypatch)
    printed = done("main_mia", *mia_flags(grey, HASTY_RETRAIN))
    results, queries, ratios = attacked(HASTY_RETRAIN)
    check_figures(results, queries, ratios)
    assert not trained
    assert results["retrain_model_ids"] == []
    assert "retrain_ulira_auc" not in results
    assert list(cells(printed, "U-LiRA: AUC")) == ["this model"]


def test_the_attack_on_multi_label_data(multi, run_here, data_files):
    data = data_files["multi"]
    result = run_here("main_mia", *mia_flags(data, MULTI), "--json")
    assert (result.returncode, result.stderr) == (0, "")
    results, queries, ratios = attacked(MULTI)
    assert strict_json(result.stdout) == results
    assert result.stdout == Path(f"results/{MULTI}_mia.json").read_text()
    check_figures(results, queries, ratios)
    wanted = [
        (split, row)
        for split in ("train", "val")
        for row in np.flatnonzero(arrays_of(data, split)[1][:, 1])
    ]
    assert sorted(queries) == sorted(wanted)
    assert results["retrain_model_ids"] == [MULTI_RETRAIN]


def cut_short(path):
    path.write_bytes(path.read_bytes()[:500])


def of_another_attack(path):
    content = torch.load(path, weights_only=True)
    content["origin"]["seed"] = 7
    torch.save(content, path)


def of_no_format(path):
    torch.save({"margins": torch.zeros(32)}, path)


def altered(path):
    content = torch.load(path, weights_only=True)
    tensors = content["weights"].values() if "weights" in content else [content["margins"]]
    next(iter(tensors)).view(-1)[0] += 1
    torch.save(content, path)


def of_another_shape(path):
    content = torch.load(path, weights_only=True)
    del content["digest"]
    kind = "weights" if "weights" in content else "margins"
    save_with_digest(path, content | {kind: torch.zeros(3)})


@pytest.mark.parametrize(
    "damage", [cut_short, of_another_attack, of_no_format, altered, of_another_shape]
)
@pytest.mark.parametrize("kind", ["unlearned", "trained"])
def test_a_damaged_shadow_model(hasty, refused, done, grey, damage, kind):
    [folder] = (hasty / "model_weights" / "shadows").iterdir()
    [unlearned] = folder.glob("001_*.pt")
    path = {"unlearned": unlearned, "trained": folder / "001.pt"}[kind]
    damage(path)
    if kind == "trained":
        done("main_mia", *mia_flags(grey, HASTY))  # it is not looked at while the other is there
        unlearned.unlink()
    what = "(cut short, .*shadow model|no shadow model|damaged or altered)"
    says = f"model_weights/shadows/{folder.name}/{path.name} is {what}"
    assert refused(says, "main_mia", *mia_flags(grey, HASTY)) == []
    path.unlink()
    before = files_of_the_attack(hasty)
    done("main_mia", *mia_flags(grey, HASTY))
    assert files_of_the_attack(hasty) == before


def test_a_class_that_no_attack_can_ask_about(hasty, refused, grey):
    arrays = drawn_arrays()
    keep = arrays["val_labels"][:, 0] != 3
    arrays |= {f"val_{part}": arrays[f"val_{part}"][keep] for part in ("images", "labels")}
    np.savez("gap.npz", **arrays)
    says = "the request covers no val image: there is nothing to attack"
    assert refused(says, "main_mia", *mia_flags("gap.npz", HASTY)) == []


def test_too_few_images_to_attack_are_refused_before_any_shadow_model(trained, refused, grey):
    Path("one.txt").write_text("7\n")
    says = "1 image of the request, and the minimum is 5: there is too little to attack"
    asked = ("--forget_indices", "one.txt", "--shadow_models", "4")
    assert refused(says, "main_mia", *model_flags(grey), *asked) == []


# Real data


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
