"""Figures are numbers or reasons, in tables and in files."""

import json
import math

import numpy as np
import pytest

from evaluation.audit import BASE, MODEL, RETRAIN
from evaluation.figure import Figure, undefined
from evaluation.results import figure_table, flatten, format_figure, to_json

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
    with pytest.raises(ValueError, match="no measurement"):
        Figure(value)


def test_a_figure_has_a_value_or_a_reason():
    for wrong in ({"value": None}, {"value": 1, "why_undefined": "no images"}):
        with pytest.raises(ValueError, match="a value or a reason"):
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


@pytest.mark.parametrize(
    ("key", "figure", "expected"),
    [
        ("worst_sensitivity_class", Figure(3), "3"),
        ("attack_loss_auc_minus_retrain", Figure(0.01234, -0.1, 0.1), "0.012 [-0.100, 0.100]"),
        ("class_2_lost_negatives_images", Figure(7), "7"),
        ("group_accuracy_gap_by_chance_points", Figure(3.14159), "3.14"),
        ("test_accuracy_percent", Figure(93.754, 88.1, 97.249), "93.75% [88.10, 97.25]"),
        ("attack_loss_tpr_percent_at_fpr_0_1_percent", Figure(5.0), "5.00%"),
        ("group_accuracy_percent:women", Figure(99.0, 98, 100), "99.00% [98.00, 100.00]"),
        ("average_gap_points", Figure(3.14159), "3.14"),
        ("relearn_steps", Figure(1000), "1,000"),
        ("class_2_lost_images", Figure(7), "7"),
        ("unlearn_seconds", Figure(61.26), "61.3"),
        ("attack_loss_auc", Figure(0.51234, 0.4, 0.6), "0.512 [0.400, 0.600]"),
        ("js_divergence_forget", Figure(0.012345), "0.0123"),
        ("klom_test_nats", Figure(2.5), "2.5000"),
        ("class_2_worse_p_value", Figure(0.000012345), "1.2e-05"),
        ("relearn_steps", undefined("too long"), "undefined"),
    ],
)
def test_units_are_the_keys(key, figure, expected):
    assert format_figure(key, figure) == expected


def test_tables_have_a_row_a_measure_and_reasons_below():
    rows = (
        ("loss_auc", "AUC"),
        ("nobody_percent", "what nobody has"),
        ("relearn_steps", "steps"),
        ("gap_points", "  gap"),
        ("other_points", "other gap"),
    )
    columns = FIGURES | {MODEL: FIGURES[MODEL] | {"other_points": undefined("no Retrain")}}
    columns = {title: columns[title] for title in (BASE, MODEL, RETRAIN)}
    header, rule, *lines, reason = figure_table(rows, columns).split("\n")
    assert [part.strip() for part in header.split("  ") if part.strip()] == list(columns)
    assert set(rule) == {"-", " "}
    cells = [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in lines]
    assert cells == [
        ["AUC", "-", "0.700 [0.600, 0.800]", "0.500 [0.400, 0.600]"],
        ["steps", "0", "12", "-"],
    ]  # the gaps, which are defined for no model, stand below alone
    assert reason == "undefined: steps: gap and 1 more: no Retrain"
    assert figure_table(rows[1:2], columns) == ""


def test_each_reason_is_given_once():
    figures = {"a_points": undefined("no images"), "b_points": undefined("no Retrain")}
    table = figure_table((("a_points", "A"), ("b_points", "B")), {MODEL: figures, BASE: figures})
    assert table.split("\n")[-2:] == ["undefined: A: no images", "undefined: B: no Retrain"]


def test_reasons_name_the_row_that_an_indented_one_belongs_to():
    names = {"loss": "attack by loss: AUC", "entropy": "attack by entropy: AUC"}
    rows = [("none_percent", "another: AUC")]
    figures = {}
    for name, label in names.items():
        rows += [(f"{name}_auc", label), (f"{name}_tpr_percent", "  found")]
        figures |= {f"{name}_auc": Figure(0.5), f"{name}_tpr_percent": undefined("too few")}
    table = figure_table(rows, {MODEL: figures})
    assert table.split("\n")[-1] == "undefined: attack by loss: found and 1 more: too few"
    figures |= {"loss_tpr_percent": Figure(1)}
    table = figure_table(rows, {MODEL: figures})
    assert table.split("\n")[-1] == "undefined: attack by entropy: found: too few"
