"""The rows of a comparison, their utility and their order, computed by hand."""

import csv
import io

import numpy as np
import pytest

from evaluation.comparison.ranking import Row, make_rows, rank_rows
from evaluation.comparison.table import cells, headings, notes, to_csv, to_markdown
from evaluation.figure import Figure


def figures(unlearn, remaining, test, mia, seconds=None, device="cpu", method="GA"):
    found = {
        "unlearn_accuracy_percent": unlearn,
        "remaining_accuracy_percent": remaining,
        "test_accuracy_percent": test,
        "mia_efficacy_percent": mia,
        "attack_loss_auc": 0.5,
        "weights_digest": "not a figure",
    }
    if seconds is None:
        return found
    return found | {"seconds": seconds, "device": device, "method": method}


BASE = figures(0.0, 100.0, 80.0, 0.0)
TRIALS = {
    "Retrain": {
        1: figures(100, 98, 82, 100, 40, method="Retrain"),
        2: figures(98, 98, 80, 100, 50, method="Retrain"),
    },
    "GA": {1: figures(90, 98, 82, 90, 4), 2: figures(98, 94, 84, 96, 10)},
    "FT": {1: figures(100, 98, 82, 96, 20, device="cuda")},
}


def rows_of(base, trials, failures, **more):
    """Rows ranked by the average gap."""
    return rank_rows(make_rows(base, trials, failures, **more), "average_gap_points", None)


def by_name(rows):
    return {row.name: row for row in rows}


def test_gaps_are_from_the_retrain_of_the_same_seed():
    rows = by_name(rows_of(BASE, TRIALS, {}))
    # |90-100| + 0 + 0 + |90-100|, and 0 + |94-98| + |84-80| + |96-100|, each over 4
    assert rows["GA"].values["average_gap_points"] == [5.0, 3.0]
    assert rows["GA"].mean("average_gap_points") == 4.0
    assert rows["GA"].spread("average_gap_points") == pytest.approx(2**0.5)
    assert rows["FT"].values["average_gap_points"] == [1.0]
    assert rows["FT"].spread("average_gap_points") is None


def test_gaps_are_from_the_retrain_of_the_same_seed_plus_the_offset():
    retrains = {1000 + seed: each for seed, each in TRIALS["Retrain"].items()}
    plain = by_name(rows_of(BASE, TRIALS, {}))
    moved = by_name(rows_of(BASE, TRIALS | {"Retrain": retrains}, {}, retrain_offset=1000))
    assert {name: row.values for name, row in moved.items()} == {
        name: row.values for name, row in plain.items()
    }


def test_retrains_own_gap_is_that_of_two_retrains_and_the_bases_that_of_doing_nothing():
    rows = by_name(rows_of(BASE, TRIALS, {}))
    assert rows["Retrain"].values["average_gap_points"] == [1.0]  # (2 + 0 + 2 + 0) / 4
    # (100 + 2 + 2 + 100) / 4 and (98 + 2 + 0 + 100) / 4
    assert rows["base model"].values["average_gap_points"] == [51.0, 50.0]
    alone = {"Retrain": {1: TRIALS["Retrain"][1]}}
    assert by_name(rows_of(BASE, alone, {}))["Retrain"].mean("average_gap_points") is None


def test_time_is_a_percentage_of_the_same_seeds_retrain_on_the_same_device():
    rows = by_name(rows_of(BASE, TRIALS, {}))
    assert rows["GA"].values["share_of_retrain_time_percent"] == [10.0, 20.0]
    assert rows["GA"].mean("seconds") == 7.0
    assert rows["FT"].mean("share_of_retrain_time_percent") is None


def test_order_is_retrain_then_by_gap_then_the_base_model_then_what_failed():
    rows = rows_of(BASE, TRIALS, {"RL": "seed 1: the loss is not finite"})
    assert [row.name for row in rows] == ["Retrain", "FT", "GA", "base model", "RL"]
    assert [row.status for row in rows] == ["reference", "1", "2", "nothing done", "failed"]
    assert cells(rows[-1]) == ["failed", "RL", *[None] * (len(headings()) - 2)]
    assert cells(rows[2])[:2] == ["2", "GA"]
    assert cells(rows[2])[5:7] == ["4.00 ± 1.41", "94.00% ± 5.66"]


def test_a_method_loses_utility_from_two_points_below_the_worst_retrain():
    """The Retrains' remaining accuracy is 98% and 98%, their test accuracy 82% and 80%."""
    trials = TRIALS | {
        "FT": {1: figures(100, 96, 78, 96)},
        "RL": {1: figures(100, 95.9, 78, 96)},
        "IU": {1: figures(100, 90, 70.5, 96)},
    }
    rows = by_name(rows_of(BASE, trials, {}))
    assert dict(rows["FT"].losses) == {
        "test_accuracy_percent": 2,
        "remaining_accuracy_percent": 2,
    }
    assert rows["FT"].keeps_utility and rows["FT"].rank is not None
    assert (rows["RL"].status, rows["RL"].rank) == ("loses utility", None)
    lost = "remaining accuracy 2.10 points below the worst Retrain"
    assert rows["RL"].note == f"loses utility: {lost}"
    assert rows["IU"].note == (
        "loses utility: test accuracy 9.50 points below the worst Retrain and remaining accuracy "
        "8.00 points below the worst Retrain"
    )
    assert f"IU: {rows['IU'].note}" in notes(list(rows.values()))


def test_a_method_that_changed_nothing_says_so_and_has_no_rank():
    rows = by_name(rows_of(BASE, TRIALS, {}, unchanged=["FT"]))
    assert (rows["FT"].status, rows["FT"].rank) == ("changed nothing", None)
    assert rows["GA"].rank.value == 1
    assert rows["FT"].note.startswith("changed nothing: its weights")


def test_ranks_by_a_figure_with_intervals():
    """A and B cannot be distinguished, C is surely worse than A."""
    better = np.array([[0, 0, 1], [0, 0, 0], [0, 0, 0]], bool)
    keeping = {"test_accuracy_percent": 0.0}
    rows = [
        Row(name, {"seconds": [1.0]}, figures={"js_ratio_forget": Figure(value)}, losses=keeping)
        for name, value in (("C", 9.0), ("B", 1.4), ("A", 1.5))
    ]

    def compare(names):
        assert sorted(names) == ["A", "B", "C"]
        order = ["ABC".index(name) for name in names]
        return better[np.ix_(order, order)]

    ranked = rank_rows(rows, "js_ratio_forget", compare)
    assert [(row.name, row.status) for row in ranked] == [
        ("B", "1 (1-3)"),
        ("A", "1 (1-2)"),
        ("C", "2 (2-3)"),
    ]


def test_a_seed_that_failed_leaves_the_others_and_its_reason():
    rows = by_name(rows_of(BASE, TRIALS, {"FT": "seed 2: out of memory"}))
    assert rows["FT"].mean("average_gap_points") == 1.0
    assert rows["FT"].failure == "seed 2: out of memory"


def test_nothing_is_measured_against_a_retrain_that_failed():
    rows = rows_of(BASE, {"GA": TRIALS["GA"]}, {"Retrain": "seed 1: no"})
    assert [row.name for row in rows][0] == "Retrain"
    assert all(row.mean("average_gap_points") is None and row.rank is None for row in rows)


def test_a_figure_that_is_undefined_leaves_no_gap():
    trials = {"Retrain": {1: figures(100, 98, None, 100, 40)}, "GA": {1: TRIALS["GA"][1]}}
    rows = by_name(rows_of(BASE, trials, {}))
    assert rows["GA"].mean("average_gap_points") is None
    assert rows["Retrain"].mean("test_accuracy_percent") is None


def test_the_csv_has_every_figure():
    lines = list(csv.DictReader(io.StringIO(to_csv(rows_of(BASE, TRIALS, {"RL": "no"})).decode())))
    ga = next(line for line in lines if line["method"] == "GA")
    assert (ga["seeds"], ga["average_gap_points_mean"]) == ("2", "4")
    assert (ga["rank"], ga["rank_low"], ga["keeps_utility"], ga["note"]) == ("2", "", "yes", "")
    assert float(ga["average_gap_points_std"]) == pytest.approx(2**0.5, rel=1e-5)
    assert float(ga["unlearn_accuracy_percent_mean"]) == 94
    rl = next(line for line in lines if line["method"] == "RL")
    assert (rl["failure"], rl["seeds"], rl["seconds_mean"]) == ("no", "0", "")


def test_the_markdown_table_has_a_row_each_and_reasons_below():
    text = to_markdown(rows_of(BASE, TRIALS, {"RL": "seed 1: no"})).decode()
    head, rule, *rows = text.split("\n\n")[0].splitlines()
    assert {line.count("|") for line in (head, rule, *rows)} == {len(headings()) + 1}
    assert rows[0].startswith("| reference | **Retrain** | - | - | - | 1.00 |")
    assert "- RL: seed 1: no" in text


def test_a_retrain_that_took_no_time_leaves_no_percentage():
    trials = {"Retrain": {1: TRIALS["Retrain"][1] | {"seconds": 0}}, "GA": {1: TRIALS["GA"][1]}}
    rows = by_name(rows_of(BASE, trials, {}))
    assert rows["GA"].mean("share_of_retrain_time_percent") is None
    assert rows["Retrain"].mean("seconds") == 0
