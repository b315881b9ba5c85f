"""Rows over several base models: means, intervals, ranks and variance, by hand."""

import csv
import io
import math

import pytest

from evaluation.comparison.joint import compare_base_models, joint_rows, variances
from evaluation.comparison.ranking import TWO_RETRAINS, Row, rank_rows
from evaluation.comparison.results import BaseResult
from evaluation.comparison.table import notes, to_csv, to_markdown
from evaluation.comparison.variance import variance_components
from evaluation.figure import Figure

KEY = "js_ratio_forget"
T_OF_2 = 4.302653  # 97.5% quantile of Student's t with 2 degrees of freedom


def row(name, ratios, gaps=(), loss=0.0, **more):
    """A row on one base model; ratios and gaps: of its unlearnings."""
    mean = sum(ratios) / len(ratios) if ratios else None
    return Row(
        name,
        {KEY: list(ratios), "average_gap_points": list(gaps), "test_accuracy_percent": [90.0]},
        figures={KEY: Figure(mean)} if ratios else {},
        losses={"test_accuracy_percent": loss},
        **more,
    )


def results(*columns):
    """BaseResults a, b, ... with these rows."""
    return [
        BaseResult(name, list(rows), {}, [1], [1, 2], {}, {})
        for name, rows in zip("abcdef", columns, strict=False)
    ]


E = math.e
THREE = results(
    [row("FT", [E, E**3], [1.0, 3.0]), row("GA", [E**5], [9.0], loss=1.0)],
    [row("FT", [E**3, E**3], [4.0, 4.0]), row("GA", [E**6], [9.5], loss=3.0)],
    [row("FT", [E**4, E**4], [6.0, 6.0], loss=6.0), row("GA", [E**7.1], [10.0], loss=1.0)],
)


def by_name(rows):
    return {row.name: row for row in rows}


def test_ratios_are_averaged_as_logarithms_with_students_interval():
    """Means of logarithms 2, 3, 4: mean 3, standard error 1 / sqrt(3)."""
    ft = by_name(joint_rows(THREE))["FT"]
    half = T_OF_2 / math.sqrt(3)
    expected = [math.exp(end) for end in (3, 3 - half, 3 + half)]
    figure = ft.figures[KEY]
    assert [figure.value, figure.low, figure.high] == pytest.approx(expected)
    assert ft.values["average_gap_points"] == [2, 4, 6]
    assert ft.spread("average_gap_points") == 2
    assert ft.count == 3


def test_utility_is_lost_on_average_over_the_base_models():
    rows = by_name(joint_rows(THREE))
    assert rows["FT"].losses == {"test_accuracy_percent": 2}
    assert rows["FT"].keeps_utility
    assert rows["GA"].losses["test_accuracy_percent"] == pytest.approx(5 / 3)


def test_ranks_are_by_paired_differences():
    """Logarithms: FT 2, 3, 4 and GA 5, 6, 7.1: differences 3, 3, 3.1."""
    ranked = rank_rows(joint_rows(THREE), KEY, compare_base_models(THREE, KEY))
    assert [(each.name, each.status) for each in ranked] == [("FT", "1"), ("GA", "2")]
    key = "average_gap_points"  # differences 7, 5.5, 4
    ranked = rank_rows(joint_rows(THREE), key, compare_base_models(THREE, key))
    assert [(each.name, each.status) for each in ranked] == [("FT", "1"), ("GA", "2")]


def test_the_variance_is_split_for_ratios_as_logarithms():
    split = variances(THREE)["FT"]
    expected = variance_components([[1, 3], [3, 3], [4, 4]])
    assert split[KEY].between.value == pytest.approx(expected.between.value)
    assert split[KEY].within.value == pytest.approx(2 / 3)  # (2 + 0 + 0) / 3
    assert split["average_gap_points"].mean.value == 4
    rows = joint_rows(THREE)
    text = to_csv(rows, unit="base model", components=variances(THREE)).decode()
    line = next(each for each in csv.DictReader(io.StringIO(text)) if each["method"] == "FT")
    assert line["base_models"] == "3"
    assert float(line[f"{KEY}_within_std"]) == pytest.approx(math.sqrt(2 / 3), rel=1e-5)
    fraction = 100 * expected.fraction_between.value
    assert float(line[f"{KEY}_between_percent"]) == pytest.approx(fraction, rel=1e-5)
    markdown = to_markdown(rows, unit="base model", components=variances(THREE)).decode()
    assert "| FT | 20.09 [" in markdown.split("\n\n")[-2]
    assert "-: one unlearning per base model" in markdown


def test_a_method_that_is_missing_on_a_base_model_is_averaged_over_the_others():
    failed = Row("FT", {}, failure="seed 1: no")
    rows = by_name(joint_rows(results(THREE[0].rows, THREE[1].rows, [failed])))
    assert rows["FT"].count == 2
    assert rows["FT"].failure == "c: seed 1: no"
    assert rows["FT"].figures[KEY].value == pytest.approx(math.exp(2.5))
    assert rows["GA"].count == 2
    assert "FT" not in " ".join(notes(list(rows.values()), "base model"))  # none has more
    more = [*rows.values(), *joint_rows(results(*[[row("IU", [2.0])]] * 3))]
    expected = [f"{name}: figures of 2 of 3 base models only" for name in rows]
    assert notes(more, "base model") == expected
    assert all(f"- {line}" in to_markdown(more, unit="base model").decode() for line in expected)


def test_two_retrains_have_a_ratio_of_1_by_definition():
    own = Row("Retrain", {"seconds": [1.0, 2.0]}, figures={KEY: Figure(1.0)})
    (joint,) = joint_rows(results([own], [own]))
    assert (joint.figures[KEY].value, joint.figures[KEY].low) == (1, None)
    assert notes([joint]) == [f"Retrain: {TWO_RETRAINS}"]


def test_a_method_changed_nothing_if_it_did_so_on_each_base_model():
    same, other = row("IU", [2.0], is_unchanged=True), row("IU", [2.0])
    assert joint_rows(results([same], [same]))[0].status == "changed nothing"
    assert joint_rows(results([same], [other]))[0].status is None
