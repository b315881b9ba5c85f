"""Figures are numbers or reasons, in tables and in files."""

import json
import math

import numpy as np
import pytest

from evaluation.audit import BASE, MODEL, RETRAIN
from evaluation.figure import Figure, undefined
from evaluation.results import flatten, to_json

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
