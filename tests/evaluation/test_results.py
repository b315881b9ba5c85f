"""Figures are numbers or reasons, in tables and in files."""

import json
import math

import numpy as np
import pytest

from evaluation.audit import BASE, MODEL, RETRAIN
from evaluation.figure import Figure, undefined
from evaluation.registry import MEASURES
from evaluation.results import RETRAINS, SAME, flatten, input_digests, to_json, with_earlier

FIGURES = {
    RETRAIN: {"loss_auc": Figure(0.5, 0.4, 0.6)},
    MODEL: {
        "loss_auc": Figure(0.7, 0.6, 0.8),
        "relearn_steps": Figure(12),
        "gap_points": undefined("no Retrain"),
    },
    BASE: {"relearn_steps": Figure(0)},
}


def strictly(text):
    """What the text says, by the JSON standard, which has no NaN and no Infinity."""

    def refuse(word):
        raise ValueError(word)

    return json.loads(text, parse_constant=refuse)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, np.float64("nan")])
def test_a_figure_is_a_number(value):
    with pytest.raises(ValueError, match="must be finite"):
        Figure(value)


def test_a_figure_has_a_value_or_a_reason():
    for wrong in ({"value": None}, {"value": 1, "why_undefined": "no images"}):
        with pytest.raises(ValueError, match="either a value or a reason"):
            Figure(**wrong)
    assert Figure(0).is_defined
    assert not undefined("no images").is_defined


def test_a_figure_in_another_unit():
    assert Figure(0.5, 0.25, 0.75).times(100) == Figure(50, 25, 75)
    assert Figure(0.5).times(100) == Figure(50)
    assert undefined("no images").times(100) == undefined("no images")


def test_files_are_flat_and_name_the_model_in_the_key():
    assert list(flatten(FIGURES).items()) == [
        ("loss_auc", 0.7),
        ("loss_auc_low", 0.6),
        ("loss_auc_high", 0.8),
        ("relearn_steps", 12),
        ("gap_points", None),
        ("gap_points_undefined", "no Retrain"),
        ("base_relearn_steps", 0),
        ("retrain_loss_auc", 0.5),
        ("retrain_loss_auc_low", 0.4),
        ("retrain_loss_auc_high", 0.6),
    ]
    assert flatten({MODEL: {}}) == {}


def test_which_group_it_is_stays_at_the_end_of_the_key():
    figures = {
        "group_accuracy_percent:men: old": Figure(50, 40, 60),
        "group_accuracy_percent:x_low": undefined("no images"),
    }
    assert flatten({BASE: figures}) == {
        "base_group_accuracy_percent:men: old": 50,
        "base_group_accuracy_percent_low:men: old": 40,
        "base_group_accuracy_percent_high:men: old": 60,
        "base_group_accuracy_percent:x_low": None,
        "base_group_accuracy_percent_undefined:x_low": "no images",
    }


def test_files_are_strict_json_that_comes_back():
    flat = {"model_id": "größe", **flatten(FIGURES), "tiny": 1e-300, "third": 1 / 3}
    text = to_json(flat).decode()
    assert strictly(text) == flat
    assert list(strictly(text)) == list(flat)
    assert text.isascii() and text.endswith("}\n")  # for terminals that know nothing else
    for value in (math.nan, math.inf):
        with pytest.raises(ValueError, match="not JSON compliant"):
            to_json({"figure": value})


RUN = dict.fromkeys(SAME, "same") | {"command": "first", "seed_model_ids": [], RETRAINS: ["a"]}
NO_WARNINGS = {"warnings": [], "warning_sources": []}
GROUPS_A, GROUPS_B = {"group_file_digest": "a"}, {"group_file_digest": "b"}
FAIRNESS = {
    "group_accuracy_gap_points": 3.0,
    "group_accuracy_percent:men: old": 50.0,
    "group_accuracy_percent_low:men: old": 40.0,
    "base_group_accuracy_percent_undefined:x": "no images",
    "retrain_equalized_odds_gap_by_chance_points": 2.0,
}
OTHERS = {"attack_loss_auc": 0.6, "attack_loss_auc_low": 0.5, "taken_for_class_0_percent": 7.0}


@pytest.fixture
def merged(tmp_path):
    """merged(earlier, now, *names): the results after a run that computed these measures."""

    def merge(earlier, now, *measured):
        path = tmp_path / "results.json"
        content = RUN | NO_WARNINGS | earlier
        path.write_bytes(to_json({key: part for key, part in content.items() if part is not None}))
        now = RUN | NO_WARNINGS | {"command": "second"} | now
        return with_earlier(path, now, measured)

    return merge


def test_figures_of_other_measures_survive_a_run(merged):
    found = merged(GROUPS_A | FAIRNESS | OTHERS, {"unlearn_seconds": 3.0}, "cost")
    assert found == RUN | NO_WARNINGS | {"command": "second", "unlearn_seconds": 3.0} | (
        GROUPS_A | FAIRNESS | OTHERS
    )


def test_figures_whose_inputs_changed_do_not_survive(merged):
    found = merged(GROUPS_A | FAIRNESS | OTHERS, GROUPS_B, "cost")
    assert found == RUN | NO_WARNINGS | {"command": "second"} | GROUPS_B | OTHERS
    same = merged(GROUPS_A | FAIRNESS | OTHERS, GROUPS_A, "cost")
    assert same == RUN | NO_WARNINGS | {"command": "second"} | GROUPS_A | FAIRNESS | OTHERS


def test_figures_that_were_measured_again_replace_all_earlier_ones(merged):
    found = merged(
        GROUPS_A | FAIRNESS | OTHERS, {"expected_cost": 1.0}, "expected_cost", "fairness"
    )
    assert found == RUN | NO_WARNINGS | {"command": "second", "expected_cost": 1.0} | OTHERS


def test_results_of_the_previous_version_are_read(merged):
    """They have no digests of inputs and no sources of warnings."""
    earlier = FAIRNESS | OTHERS | {"warnings": ["an old one"]}
    earlier["warning_sources"] = None  # the key is missing
    kept = merged(earlier, {}, "cost")
    assert kept.keys() >= {*FAIRNESS, *OTHERS}
    assert (kept["warnings"], kept["warning_sources"]) == (["an old one"], [""])
    changed = merged(earlier, GROUPS_A, "cost")
    assert not FAIRNESS.keys() & changed.keys()
    assert changed.keys() >= OTHERS.keys()


def test_warnings_go_with_their_measure(merged):
    def lines(*pairs):
        return {
            "warnings": [line for line, _ in pairs],
            "warning_sources": [name for _, name in pairs],
        }

    first = ("trained on other images", "")
    attack, loss = ("the attack works on Retrain", "membership"), ("class 1 is worse", "worsening")
    found = merged(
        lines(first, attack, loss), lines(("class 2 is worse", "worsening")), "worsening"
    )
    assert found["warnings"] == [first[0], attack[0], "class 2 is worse"]
    assert found["warning_sources"] == ["", "membership", "worsening"]
    unfair = ("group x is served worse", "fairness")
    found = merged(GROUPS_A | lines(unfair), GROUPS_B, "cost")
    assert (found["warnings"], found["warning_sources"]) == ([], [])


def test_more_retrains_remove_only_what_depends_on_them(merged):
    one, two = {RETRAINS: ["a"]}, {RETRAINS: ["a", "b"]}
    of_several = {"js_ratio_forget": 2.0, "js_ratio_forget_low": 1.0, "klom_test_nats": 3.0}
    of_several |= {"base_js_ratio_test_note": "a floor", "average_gap_points": 1.0}
    found = merged(one | of_several | OTHERS, two, "cost")
    assert found == RUN | NO_WARNINGS | {"command": "second"} | two | OTHERS
    same = merged(two | of_several | OTHERS, two, "cost")
    assert same.keys() >= {*of_several, *OTHERS}
    first = merged(two | of_several | OTHERS, {RETRAINS: ["b", "a"]}, "cost")
    assert first == RUN | NO_WARNINGS | {"command": "second", RETRAINS: ["b", "a"]}
    none = merged({RETRAINS: []} | OTHERS, one, "cost")
    assert not OTHERS.keys() & none.keys()
    damaged = merged({RETRAINS: 5} | OTHERS, {RETRAINS: []}, "cost")
    assert damaged.keys() >= OTHERS.keys()


@pytest.mark.parametrize("key", SAME)
def test_runs_that_differ_in_what_they_test_are_not_merged(merged, key):
    now = {key: "another"}
    assert merged(OTHERS, now, "cost") == RUN | NO_WARNINGS | {"command": "second"} | now


def test_inputs_are_identified_by_their_content():
    costs, groups = np.ones((2, 2)), np.array(["f", "m"])
    peers, retrains = [{"weights_digest": "12ab"}], [{"weights_digest": "34cd"}]
    found = input_digests(costs, groups, peers, retrains)
    files = {"cost_matrix_digest", "group_file_digest"}
    assert set(found) == files | {"seed_weights_digests", RETRAINS}
    assert (found["seed_weights_digests"], found[RETRAINS]) == (["12ab"], ["34cd"])
    assert input_digests(costs.copy(), groups.copy(), peers, retrains) == found
    assert input_digests(2 * costs, groups[::-1], [], []) != found
    assert input_digests(None, None, [], []) == {RETRAINS: []}
    keys = {key for measure in MEASURES.values() for key in measure.inputs}
    assert keys == set(found)
