"""Tables and sections of the report, from made-up figures."""

from types import SimpleNamespace

import pytest

from evaluation.audit import BASE, MODEL, RETRAIN
from evaluation.figure import Figure, undefined
from evaluation.measure import Group, Measure, Row
from evaluation.report import expand_rows, figure_table, format_figure, group_report

FIGURES = {
    RETRAIN: {"loss_auc": Figure(0.5, 0.4, 0.6)},
    MODEL: {
        "loss_auc": Figure(0.7, 0.6, 0.8),
        "relearn_steps": Figure(12),
        "gap_points": undefined("no Retrain"),
    },
    BASE: {"relearn_steps": Figure(0)},
}


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


def test_tables_have_a_row_per_figure_and_reasons_below():
    rows = (
        Row("loss_auc", "AUC"),
        Row("missing_percent", "not measured"),
        Row("relearn_steps", "steps"),
        Row("gap_points", "  gap"),
        Row("other_points", "other gap"),
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
    ]  # the gaps, which are defined for no model, are below the table only
    assert reason == "undefined: steps: gap and 1 more: no Retrain"
    assert figure_table(rows[1:2], columns) == ""


def test_each_reason_is_given_once():
    figures = {"a_points": undefined("no images"), "b_points": undefined("no Retrain")}
    table = figure_table(
        (Row("a_points", "A"), Row("b_points", "B")), {MODEL: figures, BASE: figures}
    )
    assert table.split("\n")[-2:] == ["undefined: A: no images", "undefined: B: no Retrain"]


def test_reasons_name_the_row_that_an_indented_one_belongs_to():
    names = {"loss": "attack by loss: AUC", "entropy": "attack by entropy: AUC"}
    rows = [Row("none_percent", "another: AUC")]
    figures = {}
    for name, label in names.items():
        rows += [Row(f"{name}_auc", label), Row(f"{name}_tpr_percent", "  TPR")]
        figures |= {f"{name}_auc": Figure(0.5), f"{name}_tpr_percent": undefined("too few")}
    table = figure_table(rows, {MODEL: figures})
    assert table.split("\n")[-1] == "undefined: attack by loss: TPR and 1 more: too few"
    figures |= {"loss_tpr_percent": Figure(1)}
    table = figure_table(rows, {MODEL: figures})
    assert table.split("\n")[-1] == "undefined: attack by entropy: TPR: too few"


def test_rows_are_repeated_for_each_class_and_patient_group():
    rows = (
        Row("class_{class}_sensitivity_percent", "{class}: sensitivity"),
        Row("class_{class}_specificity_percent", "  specificity"),
        Row("worst_percent", "worst"),
        Row("accuracy_percent:{group}", "accuracy, group {group}"),
    )
    expanded = expand_rows(rows, ["0 a{b}", "1 {group}"], ["men", "x: y"])
    assert [row[:2] for row in expanded] == [
        ("class_0_sensitivity_percent", "0 a{b}: sensitivity"),
        ("class_0_specificity_percent", "  specificity"),
        ("class_1_sensitivity_percent", "1 {group}: sensitivity"),
        ("class_1_specificity_percent", "  specificity"),
        ("worst_percent", "worst"),
        ("accuracy_percent:men", "accuracy, group men"),
        ("accuracy_percent:x: y", "accuracy, group x: y"),
    ]


def test_a_section_has_the_measures_that_have_figures():
    def measure(key, **fields):
        return Measure(key, "privacy", f"How to read {key}.", dict, (Row(key, key),), **fields)

    measures = {"first": measure("a_auc"), "second": measure("b_auc"), "third": measure("c_auc")}
    figures = {MODEL: {"a_auc": Figure(0.5), "c_auc": undefined("no images")}}
    audit = SimpleNamespace(measures=measures, figures=figures)
    dataset = SimpleNamespace(num_classes=0)
    text = group_report(Group("privacy", "Is it private?"), audit, dataset)
    head, table = text.split("\n\n")
    assert head.split("\n") == [
        "Privacy: Is it private?",
        "- a_auc: How to read a_auc.",
        "- c_auc: How to read c_auc.",
    ]
    assert table == figure_table([Row("a_auc", "a_auc"), Row("c_auc", "c_auc")], figures)
    assert group_report(Group("safety"), audit, dataset) == ""
    audit.figures = {MODEL: {}}
    assert group_report(Group("privacy"), audit, dataset) == ""


def test_rows_can_be_in_another_group_than_their_measure():
    rows = (Row("a_auc", "A"), Row("b_auc", "B", "utility"))
    measure = Measure("both", "forgetting", "How to read them.", dict, rows)
    assert list(measure.groups) == ["forgetting", "utility"]
    assert list(measure.rows_of("utility")) == [rows[1]]
    assert list(measure.rows_of("forgetting")) == [rows[0]]
