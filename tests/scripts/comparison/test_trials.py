"""main_compare.py: each trial is run once, also after interruptions, and all are in one table."""

import errno
import json
import os
import re
import shutil
from pathlib import Path

import pytest
import torch

import evaluation.comparison.trials
from evaluation.measure import RATIO_KEYS
from models.checkpoint import load_model, read_record
from tests.helpers.tiny import same_weights
from tests.scripts.comparison.shared import METHODS, NAME, RETRAINS, table, trials
from unlearn.job import UnlearnJob
from unlearn.registry import find_methods
from utils.runtime.errors import NotFiniteError


def test_every_method_and_retrain_once_a_seed_and_never_again(done, flags, made):
    printed = done("main_compare", *flags, "--seeds", "1", "2")
    wanted = RETRAINS + [(m, seed) for seed in (1, 2) for m in METHODS]
    assert made == wanted
    assert {row["seeds"] for row in table().values()} == {"2"}
    first, *others, last = table()
    assert (first, set(others), last) == ("Retrain", set(METHODS), "base model")
    ratios = [float(table()[name]["js_ratio_forget"]) for name in others]
    assert ratios == sorted(ratios)
    assert "8 trials, 2 of Retrain (seeds 1, 2)\n" in printed
    assert "0 trials left, about 0 min" in printed
    assert Path(f"results/{NAME}.md").exists()
    for picture in ("methods", "ratios"):
        assert Path(f"pics/tiny_best/{picture}_3.png").exists()

    before = table()
    printed = done("main_compare", *flags, "--seeds", "1", "2")
    assert "8 of 8 trials are finished already" in printed
    assert made == wanted and table() == before
    done("main_compare", *flags, "--seeds", "3")
    assert made[len(wanted) :] == [(m, 3) for m in ("Retrain", *METHODS)]
    assert {row["seeds"] for row in table().values()} == {"3"}  # nothing that is finished is lost
    assert "3 Retrains (seeds 1, 2, 3)" in Path(f"results/{NAME}.md").read_text()


def test_fewer_methods_leave_the_table_as_it_is(done, flags):
    done("main_compare", *flags)
    before = table()
    done("main_compare", *flags[: -len(METHODS)], "GA")
    assert table() == before
    caption = Path(f"results/{NAME}.md").read_text().splitlines()[0]
    assert caption == ("tiny_best on grey, class 3 duct forgotten; seed 1; 2 Retrains (seeds 1, 2)")


def test_another_threshold_is_another_table(done, flags):
    done("main_compare", *flags)
    before = table()
    done("main_compare", *flags, "--mask_thresh", "0.25")
    assert table() == before
    assert Path(f"results/{NAME}_mask25.csv").exists()


def test_nothing_is_trained_if_nothing_asked_for_can_run(refused, flags, made):
    options = (*flags[: -len(METHODS)], "SISA")
    assert refused("--unlearn SISA needs a base model trained in", "main_compare", *options) == []
    assert made == []


def test_all_among_others_is_all():
    assert find_methods(["GA", "all"]) == find_methods(["all"])


def test_figures_are_those_of_main_test_unlearn(done, flags, grey):
    done("main_compare", *flags)
    model_id = next(name for name in trials() if "_DELETE_" in name)
    tested = ("--model_id", model_id, "--dataset", grey, "--device", "cpu")
    done("main_test_unlearn", *tested, "--measures", "privacy", "distance")
    results = json.loads(Path(f"results/{model_id}.json").read_bytes())
    for key in evaluation.comparison.trials.MEASURED:
        assert trials()[model_id][key] == results[key], key
    row = table()["DELETE"]
    gap = float(row["average_gap_points_mean"])
    assert gap == pytest.approx(results["average_gap_points"], rel=1e-5)
    for key in RATIO_KEYS:
        for end in ("", "_low", "_high"):
            assert float(row[key + end]) == pytest.approx(results[key + end], rel=1e-4), key


def test_its_models_are_those_of_main_unlearn(done, flags, grey, workplace):
    done("main_compare", *flags)
    options = ("--class_to_forget", "3", "--dataset", grey, "--device", "cpu")
    for method in METHODS:
        model_id = next(name for name in trials() if f"_{method.upper()}_" in name)
        compared, record = load_model(model_id)
        again = ("--unlearn", method, *options, "--overwrite")
        made = done("main_unlearn", "--model_id", "tiny_best", *again)
        assert made.split()[-1] == model_id
        again, again_record = load_model(model_id)
        assert same_weights(compared, again)
        differing = ("command", "seconds", "saved_at")
        assert all(again_record[key] == record[key] for key in record if key not in differing)


def test_a_model_that_is_there_already_is_measured_and_not_made_again(done, flags, grey, made):
    options = ("--class_to_forget", "3", "--dataset", grey, "--device", "cpu")
    done("main_unlearn", "--model_id", "tiny_best", "--unlearn", "GA", *options)
    done("main_compare", *flags)
    assert made.count(("GA", 1)) == 1


def test_a_method_that_fails_is_a_row_with_its_reason_and_is_tried_again(
    done, flags, made, monkeypatch
):
    run = UnlearnJob.run

    def fail(job, *arguments):
        if job.method.id == "DELETE":
            raise NotFiniteError("at step 3")
        if job.method.id == "GA":
            raise RuntimeError("a bug\nin two lines")
        return run(job, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(UnlearnJob, "run", fail)
        printed = done("main_compare", *flags)
    assert "DELETE failed: seed 1: the loss is not finite any more at step 3" in printed
    log = Path(f"results/{NAME}.log")
    message = f"seed 1: RuntimeError: a bug in two lines (traceback: {log})"
    assert table()["GA"]["failure"] == message
    assert f"GA failed: {message}\n" in printed
    heading, *traceback = log.read_text().splitlines()
    assert (heading, traceback[0]) == ("GA, seed 1", "Traceback (most recent call last):")
    assert traceback[-2:] == ["RuntimeError: a bug", "in two lines"]
    assert "in fail" in traceback[-4]
    assert "DELETE" not in log.read_text()  # that was no bug
    assert table()["FT_with_SalUn"]["failure"] == ""
    assert set(list(table())[-2:]) == {"DELETE", "GA"}
    done("main_compare", *flags)
    assert not any(row["failure"] for row in table().values())
    assert made.count(("FT_with_SalUn", 1)) == 1


def test_ctrl_c_says_what_is_finished_and_the_same_command_goes_on(
    run_here, done, flags, made, monkeypatch
):
    run = UnlearnJob.run

    def stop(job, *arguments):
        if job.method.id == "FT_with_SalUn":
            raise KeyboardInterrupt
        return run(job, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(UnlearnJob, "run", stop)
        stopped = run_here("main_compare", *flags)
    assert stopped.returncode == 130
    assert stopped.stderr.splitlines() == [
        "main_compare.py: interrupted: 3 of 5 trials are finished; the same command continues"
    ]
    made.clear()
    assert "3 of 5 trials are finished already" in done("main_compare", *flags)
    assert made == [("FT_with_SalUn", 1), ("DELETE", 1)]


def failing(monkeypatch, error, *methods):
    run = UnlearnJob.run

    def fail(job, *arguments):
        if job.method.id in methods:
            raise error
        return run(job, *arguments)

    monkeypatch.setattr(UnlearnJob, "run", fail)


def test_ctrl_c_counts_no_trial_that_has_failed(run_here, flags, monkeypatch):
    failing(monkeypatch, NotFiniteError("at step 3"), "GA")
    failing(monkeypatch, KeyboardInterrupt(), "DELETE")
    stopped = run_here("main_compare", *flags)
    assert "interrupted: 3 of 5 trials are finished" in stopped.stderr


def test_without_a_retrain_there_is_a_table_and_the_exit_code_tells(run_here, flags, monkeypatch):
    failing(monkeypatch, NotFiniteError("at step 3"), "Retrain")
    finished = run_here("main_compare", *flags)
    assert finished.returncode == 1
    assert finished.stderr.startswith(
        "Retrain failed with seed 1, 2: ratios, gaps to it, and the percentages"
    )
    assert len(finished.stderr.splitlines()) == 1
    assert set(table()) == {"Retrain", *METHODS, "base model"}
    for key in ("average_gap_points_mean", "js_ratio_forget", "rank"):
        assert not any(row[key] for row in table().values())
    assert table()["GA"]["unlearn_accuracy_percent_mean"]


@pytest.mark.parametrize("place", ["model", "figures"])
def test_a_full_disk_is_no_failing_method(run_here, done, flags, made, monkeypatch, place):
    """It stops, as all other trials would meet it too; what was finished before is kept."""
    done("main_compare", *flags[:-1])
    before = trials()
    with monkeypatch.context() as patch:
        end = "_DELETE_" if place == "model" else f"{NAME}.json"

        def full(source, target):
            if end in str(target):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.rename(source, target)

        patch.setattr("utils.io.files.os.replace", full)
        stopped = run_here("main_compare", *flags)
    assert stopped.returncode == 2 and "failed" not in stopped.stdout
    assert re.fullmatch(
        r"main_compare.py: error: cannot write \S+: No space left on device.*\n", stopped.stderr
    )
    assert trials() == before
    made.clear()
    done("main_compare", *flags)
    assert made == ([("DELETE", 1)] if place == "model" else [])


def test_what_is_finished_is_read_once(done, flags, monkeypatch):
    done("main_compare", *flags)
    seen, load = [], torch.load

    def watch(file, *arguments, **named):
        seen.append(file)
        return load(file, *arguments, **named)

    monkeypatch.setattr(torch, "load", watch)
    done("main_compare", *flags)
    # the base model twice: its record is checked first; five trials; the outputs of all six
    assert len(seen) == 2 + 5 + 6


def test_a_model_that_was_replaced_is_measured_again(done, flags, grey):
    done("main_compare", *flags)
    model_id = next(name for name in trials() if "_GA_" in name)
    before = trials()[model_id]
    path = Path(f"model_weights/{model_id}.pt")
    other = next(name for name in trials() if "_DELETE_" in name)
    path.write_bytes(Path(f"model_weights/{other}.pt").read_bytes())
    printed = done("main_compare", *flags)
    assert f"GA failed: seed 1: {path} would be replaced: add --overwrite" in printed
    assert read_record(model_id)["model_id"] == other
    done("main_compare", *flags, "--overwrite")
    assert trials()[model_id]["weights_digest"] == read_record(model_id)["weights_digest"]
    assert trials()[model_id]["weights_digest"] == before["weights_digest"]  # GA's again


def test_sample_wise_requests_are_compared_too(done, trained, grey):
    """Here, and here alone, the picture is drawn."""
    data = ("--model_id", "tiny_best", "--dataset", grey, "--device", "cpu")
    fraction = ("--forget_fraction", "0.25", "--unlearn", "RL_with_SalUn", "Fisher")
    printed = done("main_compare", *data, *fraction)
    assert "25% of the training images, drawn with seed 1 forgotten" in printed
    assert Path("results/tiny_best_FORGOTTEN_f25-s1_comparison.csv").exists()
    assert Path("pics/tiny_best/methods_f25-s1.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    "more, message",
    [
        (("--class_to_forget", "9"), "--class_to_forget 9: .* has no such class"),
        (("--unlearn", "nothing"), "--unlearn nothing: no such method"),
        (("--model_id", "nobody"), "nobody"),
        (("--seeds", "-1"), "--seeds"),
        (("--retrains", "1"), "--retrains: 1 is out of range: the lowest is 2"),
        (("--rank_by", "seconds"), "--rank_by: invalid choice: 'seconds'"),
        (("--unlearn", "GA_with_SalUn", "--mask_thresh", "0.123"), "--mask_thresh 0.123"),
    ],
)
def test_bad_input(run_here, flags, more, message):
    stopped = run_here("main_compare", *flags, *more)
    assert stopped.returncode == 2
    assert len(stopped.stderr.splitlines()) == 1
    assert re.search(message, stopped.stderr)


def test_leftovers_of_a_killed_run_are_removed(done, flags):
    """Killed after the model was saved, and before it was measured and its epochs deleted."""
    done("main_compare", *flags)
    (model,) = Path("model_weights").glob("*_GA_*.pt")
    left = Path("model_weights/unfinished") / model.stem / "pass_0001.pt"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"passed")
    shutil.rmtree("results")
    done("main_compare", *flags)
    assert not left.parent.exists()


def test_a_figure_that_is_missing_in_the_record_is_measured_without_training(done, flags, made):
    """As it is when a measure with a new column was added."""
    done("main_compare", *flags)
    path = Path(f"results/{NAME}.json")
    content = json.loads(path.read_bytes())
    before = json.loads(path.read_bytes())["trials"]
    for figures in content["trials"].values():
        del figures["mia_efficacy_percent"]
    path.write_text(json.dumps(content))
    made.clear()
    printed = done("main_compare", *flags)
    assert made == []
    assert "finished already" not in printed
    assert trials() == before


def test_a_method_whose_record_lacks_a_column_is_left_out_and_named(done, flags):
    done("main_compare", *flags)
    path = Path(f"results/{NAME}.json")
    content = json.loads(path.read_bytes())
    model_id = next(name for name in content["trials"] if "_DELETE_" in name)
    del content["trials"][model_id]["attack_loss_auc"]
    path.write_text(json.dumps(content))
    others = [flag for flag in flags if flag != "DELETE"]
    assert "\nleft out: DELETE (seed 1): their models, or figures" in done("main_compare", *others)
    assert "DELETE" not in table()
    assert "left out" not in done("main_compare", *flags)
    assert "DELETE" in table()
