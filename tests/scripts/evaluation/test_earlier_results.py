"""What a results file keeps of earlier runs, and that nothing keeps it from being written."""

import re
import shutil
from pathlib import Path

import numpy as np

from tests.helpers.environment import (
    BASE,
    FORGOTTEN,
    GREY_NAMES,
    assert_one_line,
    drawn_arrays,
    model_flags,
)
from tests.helpers.output import check_plain, results_of


def test_a_run_with_few_measures_takes_nothing_away(couple, done, grey):
    flags = (*model_flags(grey, FORGOTTEN), "--measures")
    done("main_test_unlearn", *flags, "privacy")
    attacked = results_of(FORGOTTEN)["attack_loss_auc"]
    done("main_test_unlearn", *flags, "cost")
    results = results_of(FORGOTTEN)
    check_plain(results)
    assert results["attack_loss_auc"] == attacked
    assert results["unlearn_seconds"] > 0
    assert results["command"].endswith("--measures cost")
    done("main_test_unlearn", *flags, "cost", "--seed", "2")  # its attack would be another
    assert "attack_loss_auc" not in results_of(FORGOTTEN)
    Path(f"results/{FORGOTTEN}.json").write_text("{")
    done("main_test_unlearn", *flags, "cost")
    check_plain(results_of(FORGOTTEN))


def test_a_stale_or_damaged_mask_costs_no_result(couple, done, grey):
    path = couple / "SaliencyMaps" / BASE / "class_3.pt"
    flags = (*model_flags(grey, FORGOTTEN), "--measures", "forgetting")
    for spoil, message in (
        (lambda: shutil.copy(path.with_name("class_0.pt"), path), "belongs to other weights"),
        (lambda: path.write_bytes(path.read_bytes()[:1000]), "is cut short, damaged"),
        (path.unlink, "create it with python generate_mask.py"),
    ):
        spoil()
        printed = done("main_test_unlearn", *flags)
        assert re.search(f"no picture of the saliency: .*class_3.pt.* {message}", printed)
        assert results_of(FORGOTTEN)["unlearn_accuracy_percent"] is not None
        assert not Path(f"pics/{FORGOTTEN}/saliency.png").exists()
        assert Path(f"pics/{FORGOTTEN}/forgotten.png").exists()
        shutil.rmtree("results")


def test_pictures_in_the_way_cost_no_result(couple, run_here, grey):
    shutil.rmtree(couple / "pics")
    (couple / "pics").write_text("a file")
    flags = (*model_flags(grey, FORGOTTEN), "--measures", "forgetting")
    result = run_here("main_test_unlearn", *flags)
    assert result.returncode == 2
    assert_one_line(result.stderr, "cannot write pics/")
    assert results_of(FORGOTTEN)["unlearn_accuracy_percent"] is not None


def test_a_class_without_val_images(couple, done):
    """The same training images, so that the models are the same data set's."""
    arrays = drawn_arrays()
    keep = arrays["val_labels"][:, 0] != 3
    arrays |= {f"val_{part}": arrays[f"val_{part}"][keep] for part in ("images", "labels")}
    np.savez("gap.npz", **arrays, class_names=np.array(GREY_NAMES))
    printed = done("main_test_unlearn", *model_flags("gap.npz", FORGOTTEN))
    results = results_of(FORGOTTEN)
    check_plain(results)
    why = "0 non-members, and the minimum is 5"
    for prefix in ("", "base_", "retrain_"):
        for name in ("loss", "confidence", "entropy", "modified_entropy"):
            key = f"{prefix}attack_{name}_auc"
            assert (results[key], results[f"{key}_undefined"]) == (None, why)
    assert results["attack_blind_auc_undefined"] == why
    assert re.search(f"^undefined: attack by loss: AUC.*: {why}$", printed, re.MULTILINE)
    assert results["mia_efficacy_percent"] is not None
    done("main_test_unlearn", *model_flags("gap.npz", FORGOTTEN), "--non_members", "test")
    assert results_of(FORGOTTEN)["attack_loss_auc"] is not None


def test_figures_of_other_groups_of_patients_do_not_survive(couple, done, grey):
    """Their file is part of what they were measured with, as costs and other seeds are."""
    Path("north.txt").write_text("north\nsouth\n" * 20)
    Path("wards.txt").write_text("ward 1\nward 2\nward 3\nward 4\n" * 10)
    flags = (*model_flags(grey, FORGOTTEN), "--measures")
    done("main_test_unlearn", *flags, "safety", "--group_file", "north.txt")
    first = results_of(FORGOTTEN)
    assert "group_accuracy_percent:north" in first
    done("main_test_unlearn", *flags, "cost")
    kept = results_of(FORGOTTEN)
    assert {key: kept[key] for key in first if key != "command"} == {
        key: value for key, value in first.items() if key != "command"
    }
    done("main_test_unlearn", *flags, "cost", "--group_file", "wards.txt")
    results = results_of(FORGOTTEN)
    check_plain(results)
    assert not [key for key in results if "group_accuracy" in key or "odds" in key]
    assert results["worst_sensitivity_percent"] == first["worst_sensitivity_percent"]
    done("main_test_unlearn", *flags, "safety", "--group_file", "wards.txt")
    named = {key for key in results_of(FORGOTTEN) if key.startswith("group_accuracy_percent:")}
    assert named == {f"group_accuracy_percent:ward {number}" for number in range(1, 5)}
