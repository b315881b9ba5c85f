"""The table of a comparison, computed by hand."""

import csv
import io

import pytest

from evaluation.comparison.ranking import COLUMNS, cells, ranked_rows, to_csv, to_markdown


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


def by_name(rows):
    return {row.name: row for row in rows}


def test_gaps_are_from_the_retrain_of_the_same_seed():
    rows = by_name(ranked_rows(BASE, TRIALS, {}))
    # |90-100| + 0 + 0 + |90-100|, and 0 + |94-98| + |84-80| + |96-100|, each over 4
    assert rows["GA"].values["average_gap_points"] == [5.0, 3.0]
    assert rows["GA"].mean("average_gap_points") == 4.0
    assert rows["GA"].spread("average_gap_points") == pytest.approx(2**0.5)
    assert rows["FT"].values["average_gap_points"] == [1.0]
    assert rows["FT"].spread("average_gap_points") is None


def test_retrains_own_gap_is_that_of_two_retrains_and_the_bases_that_of_doing_nothing():
    rows = by_name(ranked_rows(BASE, TRIALS, {}))
    assert rows["Retrain"].values["average_gap_points"] == [1.0]  # (2 + 0 + 2 + 0) / 4
    # (100 + 2 + 2 + 100) / 4 and (98 + 2 + 0 + 100) / 4
    assert rows["base model"].values["average_gap_points"] == [51.0, 50.0]
    alone = {"Retrain": {1: TRIALS["Retrain"][1]}}
    assert by_name(ranked_rows(BASE, alone, {}))["Retrain"].mean("average_gap_points") is None


def test_time_is_a_percentage_of_the_same_seeds_retrain_on_the_same_device():
    rows = by_name(ranked_rows(BASE, TRIALS, {}))
    assert rows["GA"].values["share_of_retrain_time_percent"] == [10.0, 20.0]
    assert rows["GA"].mean("seconds") == 7.0
    assert rows["FT"].mean("share_of_retrain_time_percent") is None


def test_order_is_retrain_then_by_gap_then_what_failed():
    rows = ranked_rows(BASE, TRIALS, {"RL": "seed 1: the loss is not finite"})
    assert [row.name for row in rows] == ["Retrain", "FT", "GA", "base model", "RL"]
    assert cells(rows[-1]) == ["RL", "failed", *[None] * (len(COLUMNS) - 1)]
    assert cells(rows[2])[:3] == ["GA", "4.00 ± 1.41", "94.00% ± 5.66"]


def test_a_seed_that_failed_leaves_the_others_and_its_reason():
    rows = by_name(ranked_rows(BASE, TRIALS, {"FT": "seed 2: out of memory"}))
    assert rows["FT"].mean("average_gap_points") == 1.0
    assert rows["FT"].failure == "seed 2: out of memory"


def test_nothing_is_measured_against_a_retrain_that_failed():
    rows = ranked_rows(BASE, {"GA": TRIALS["GA"]}, {"Retrain": "seed 1: no"})
    assert [row.name for row in rows][0] == "Retrain"
    assert all(row.mean("average_gap_points") is None for row in rows)


def test_a_figure_that_is_undefined_leaves_no_gap():
    trials = {"Retrain": {1: figures(100, 98, None, 100, 40)}, "GA": {1: TRIALS["GA"][1]}}
    rows = by_name(ranked_rows(BASE, trials, {}))
    assert rows["GA"].mean("average_gap_points") is None
    assert rows["Retrain"].mean("test_accuracy_percent") is None


def test_the_csv_has_every_figure():
    lines = list(
        csv.DictReader(io.StringIO(to_csv(ranked_rows(BASE, TRIALS, {"RL": "no"})).decode()))
    )
    ga = next(line for line in lines if line["method"] == "GA")
    assert (ga["seeds"], ga["average_gap_points_mean"]) == ("2", "4")
    assert float(ga["average_gap_points_std"]) == pytest.approx(2**0.5, rel=1e-5)
    assert float(ga["unlearn_accuracy_percent_mean"]) == 94
    rl = next(line for line in lines if line["method"] == "RL")
    assert (rl["failure"], rl["seeds"], rl["seconds_mean"]) == ("no", "0", "")


def test_the_markdown_table_has_a_row_each_and_reasons_below():
    text = to_markdown(ranked_rows(BASE, TRIALS, {"RL": "seed 1: no"})).decode()
    head, rule, *rows = text.split("\n\n")[0].splitlines()
    assert {line.count("|") for line in (head, rule, *rows)} == {len(COLUMNS) + 2}
    assert rows[0].startswith("| **Retrain** | 1.00 |")
    assert "- RL: seed 1: no" in text


def test_a_retrain_that_took_no_time_leaves_no_percentage():
    trials = {"Retrain": {1: TRIALS["Retrain"][1] | {"seconds": 0}}, "GA": {1: TRIALS["GA"][1]}}
    rows = by_name(ranked_rows(BASE, trials, {}))
    assert rows["GA"].mean("share_of_retrain_time_percent") is None
    assert rows["Retrain"].mean("seconds") == 0
