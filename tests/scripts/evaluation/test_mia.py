"""main_mia.py: figures, shadow models that are kept, and interruptions."""

from pathlib import Path

import numpy as np
import pytest
import torch

from models.checkpoint import read_record
from tests.helpers.environment import (
    GREY_NAMES,
    assert_one_line,
    contents,
    drawn_arrays,
    model_flags,
)
from tests.helpers.output import cells, check_cell, results_of, strict_json
from tests.helpers.reference import arrays_of
from tests.scripts.evaluation.shared import (
    HASTY,
    HASTY_RETRAIN,
    MULTI,
    MULTI_RETRAIN,
    attacked,
    check_figures,
    count_trainings,
    files_of_the_attack,
    forbid_training,
    mia_flags,
    rows_of,
)


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
    swap = cells(printed, "SWAP test: advantage")
    check_cell(swap["this model"], results, "swap_advantage")
    assert swap["Retrain"] == "-"


def test_the_swap_test_from_the_files_of_the_shadow_models(hasty):
    """Every threshold is tried on one pair of models, and the best one is used on the other."""
    margins, seen = [], []
    for number in range(4):
        [path] = Path("model_weights/shadows").glob(f"*/{number:03d}_*.pt")
        content = torch.load(path, weights_only=True)
        margins.append(content["margins"].numpy())
        seen.append(content["origin"]["seen"])
    margins, seen = np.array(margins), np.array(seen)
    assert np.array_equal(seen[0], ~seen[1]) and np.array_equal(seen[2], ~seen[3])

    def advantage(models, others, threshold):
        found = [margins[m] - margins[others].mean(0) > threshold for m in models]
        pairs = zip(found, seen[models], strict=True)
        return np.mean([above[own].mean() - above[~own].mean() for above, own in pairs])

    advantages = []
    for models, others in (([0, 1], [2, 3]), ([2, 3], [0, 1])):
        values = np.sort((margins[others] - margins[others].mean(0)).ravel())
        cuts = (values[1:] + values[:-1]) / 2
        strengths = [abs(advantage(others, others, cut)) for cut in cuts]
        best = np.flatnonzero(np.isclose(strengths, max(strengths), rtol=0, atol=1e-9))
        advantages.append({round(advantage(models, others, cuts[place]), 9) for place in best})
    results = results_of(HASTY, "_mia")
    wanted = {round((first + second) / 2, 6) for first in advantages[0] for second in advantages[1]}
    assert round(results["swap_advantage"], 6) in wanted
    assert results["swap_quality"] == pytest.approx(1 - abs(results["swap_advantage"]))
    low, high = results["swap_advantage_low"], results["swap_advantage_high"]
    assert -1 <= low <= results["swap_advantage"] <= high <= 1
    assert "retrain_swap_advantage" not in results


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
    """Queries, and the images that choose the epoch, are part of a shadow model."""
    more = ("--non_members", non_members)
    done("main_mia", *mia_flags(grey, HASTY), *more)
    trained, arrays = count_trainings(monkeypatch), drawn_arrays()
    for split in others:
        trained.clear()
        arrays[f"{split}_images"][arrays[f"{split}_labels"][:, 0] == 3] //= 2
        np.savez("grey.npz", **arrays, class_names=np.array(GREY_NAMES))
        done("main_mia", *mia_flags("grey.npz", HASTY), *more)
        assert len(trained) == 4


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
