"""main_compare.py: ratios from kept outputs, ranks, and rows that have none."""

import io
import re
import shutil

import pytest
import torch

from evaluation.comparison.kept_outputs import outputs_path
from models.checkpoint import load_tensors
from tests.scripts.comparison.shared import METHODS, table, trials
from unlearn.job import UnlearnJob
from utils.io.tensor_files import read_tensors


@pytest.mark.parametrize("fate", ["missing", "damaged", "of other weights"])
def test_outputs_that_were_not_kept_are_predicted_again(done, flags, made, fate):
    """As those of a table of an earlier version."""
    done("main_compare", *flags)
    before, made[:] = table(), []
    model_id = next(name for name in trials() if "_GA_" in name)
    paths = [outputs_path(model_id), outputs_path("tiny_best")]
    kept = [path.read_bytes() for path in paths]
    if fate == "missing":
        shutil.rmtree(paths[0].parent)
    elif fate == "damaged":
        paths[0].write_bytes(kept[0][:-100])
    else:
        paths[0].write_bytes(kept[1])
    done("main_compare", *flags)
    assert (made, table()) == ([], before)
    again = [load_tensors(path, "file")["train"] for path in paths]
    assert torch.allclose(again[0], load_tensors_of(kept[0])["train"], atol=1e-6)
    assert torch.equal(again[1], load_tensors_of(kept[1])["train"])


def load_tensors_of(content):
    return read_tensors(io.BytesIO(content))


def test_retrains_of_earlier_commands_are_references_and_more_make_retrains_row_fair(done, flags):
    printed = done("main_compare", *flags)
    assert "\nRetrain: its ratios are 1 by definition, because there are only two" in printed
    assert (table()["Retrain"]["js_ratio_forget"], table()["Retrain"]["rank"]) == ("1", "")
    printed = done("main_compare", *flags, "--retrains", "3")
    assert "6 trials, 3 of Retrain (seeds 1, 2, 3): 5 of 6 trials are finished" in printed
    assert "by definition" not in printed
    low, value, high = (
        float(table()["Retrain"][f"js_ratio_forget{end}"]) for end in ("_low", "", "_high")
    )
    assert low < value < high
    before = table()
    done("main_compare", *flags)
    assert table() == before


def test_a_method_that_changes_nothing_says_so(done, flags, monkeypatch):
    monkeypatch.setattr(UnlearnJob, "run", unchanged(UnlearnJob.run, "GA"))
    printed = done("main_compare", *flags)
    assert re.search(r"^changed nothing +GA ", printed, re.MULTILINE)
    assert (table()["GA"]["rank"], table()["GA"]["note"].split(":")[0]) == ("", "changed nothing")
    assert table()["DELETE"]["rank"]
    assert table()["GA"]["js_ratio_forget"] == table()["base model"]["js_ratio_forget"]


def unchanged(run, method):
    def leave(job, model, *arguments):
        return (model, 0.1) if job.method.id == method else run(job, model, *arguments)

    return leave


def test_the_order_follows_rank_by(done, flags):
    for key in ("average_gap_points", "js_ratio_test"):
        printed = done("main_compare", *flags, "--rank_by", key)
        name = {"average_gap_points": "average gap", "js_ratio_test": "JS ratio test"}[key]
        assert f"Methods that keep utility are ranked by {name}. " in printed
        column = f"{key}_mean" if key.startswith("average") else key
        ranked = [row for row in table().values() if row["rank"]]
        values = [float(row[column]) for row in ranked]
        assert values == sorted(values) and len(values) == len(METHODS)
        assert bool(ranked[0]["rank_low"]) == (key == "js_ratio_test")
    assert "The rank follows the mean; this figure has no interval." in done(
        "main_compare", *flags, "--rank_by", "average_gap_points"
    )
