"""main_compare.py with several base models: Retrains of their own, one table, bad input."""

import shutil
from pathlib import Path

import pytest

from tests.helpers.environment import train_flags
from tests.scripts.comparison.shared import table, trials

IDS = ["new_seed1_best", "new_seed2_best"]
JOINT = "new_seed1_best_and_new_seed2_best_FORGOTTEN_3_comparison"


@pytest.fixture(scope="module")
def models_folder(tmp_path_factory, data_files):
    """A folder with base models of two seeds, and one of another recipe."""
    import main_train

    folder = tmp_path_factory.mktemp("base_models")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr("utils.plots.saving.png_bytes", lambda figure, **kwargs: b"")
        main_train.main([*train_flags(data_files["grey"]), "--seeds", "1", "2"])
        main_train.main([*train_flags(data_files["grey"], "long"), "--epochs", "7"])
    return folder


@pytest.fixture
def base_models(models_folder, workplace, undrawn):
    shutil.copytree(models_folder, workplace, dirs_exist_ok=True)
    return workplace


@pytest.fixture
def data(grey):
    return ("--dataset", grey, "--device", "cpu", "--class_to_forget", "3", "--unlearn", "GA", "FT")


def test_one_table_and_a_file_of_trials_for_each_base_model(base_models, done, data, made):
    printed = done("main_compare", *data, "--seeds", "1", "2", "--model_id", *IDS)
    own = [(method, seed) for seed in (1, 2) for method in ("GA", "FT")]
    expected = [("Retrain", 1), ("Retrain", 2), *own, ("Retrain", 1001), ("Retrain", 1002), *own]
    assert made == expected
    assert "12 trials, 4 of Retrain (seeds 1, 2, 1001, 1002)\n" in printed
    rows = table(JOINT)
    assert set(rows) == {"Retrain", "GA", "FT", "base model"}
    assert {row["base_models"] for row in rows.values()} == {"2"}
    assert rows["GA"]["js_ratio_forget_within_std"] and rows["GA"]["rank"]
    low, value, high = (float(rows["FT"][f"js_ratio_forget{end}"]) for end in ("_low", "", "_high"))
    assert low < value < high
    markdown = Path(f"results/{JOINT}.md").read_text()
    assert markdown.count("| FT |") == 2  # the table, and that of the variance
    assert "Retrains of each base model: 2, 2" in markdown
    for picture in ("methods", "ratios"):
        name = JOINT.partition("_FORGOTTEN")[0]
        assert Path(f"pics/{name}/{picture}_3.png").exists()
    made.clear()
    printed = done("main_compare", *data, "--seeds", "1", "2", "--model_id", *IDS)
    assert "12 of 12 trials are finished already" in printed
    assert made == [] and table(JOINT) == rows


def test_a_comparison_of_one_of_them_uses_its_trials(base_models, done, data, made):
    done("main_compare", *data, "--model_id", *IDS)
    made.clear()
    done("main_compare", *data, "--model_id", IDS[0])
    assert made == []
    name = f"{IDS[1]}_FORGOTTEN_3_comparison"
    done("main_compare", *data, "--model_id", IDS[1])
    assert made == [("Retrain", 1)]  # 1001 is there; the methods' own seed makes the gap
    assert {each.get("seed") for each in trials(name).values()} == {None, 1, 1001, 1002}
    # and the first model's Retrain of the same seed is the same model: no second reference for both
    printed = done("main_compare", *data, "--model_id", *IDS)
    assert "Retrains of each base model: 2, 2" in printed


def test_after_ctrl_c_the_same_command_goes_on(base_models, run_here, done, data, monkeypatch):
    from unlearn.job import UnlearnJob

    run = UnlearnJob.run

    def stop(job, *arguments):
        if job.base_id == IDS[1] and job.method.id == "GA":
            raise KeyboardInterrupt
        return run(job, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(UnlearnJob, "run", stop)
        stopped = run_here("main_compare", *data, "--model_id", *IDS)
    assert stopped.returncode == 130
    assert "interrupted: 6 of 8 trials are finished; the same command continues" in stopped.stderr
    assert table(JOINT)["GA"]["base_models"] == "1"
    assert "6 of 8 trials are finished" in done("main_compare", *data, "--model_id", *IDS)
    assert table(JOINT)["GA"]["base_models"] == "2"


def test_a_deleted_retrain_is_made_again_and_a_deleted_base_model_is_one_line(
    base_models, done, refused, data, made
):
    done("main_compare", *data, "--model_id", *IDS)
    before = table(JOINT)
    (model,) = Path("model_weights").glob("*RETRAIN*seed-1002.pt")
    model.unlink()
    made.clear()
    done("main_compare", *data, "--model_id", *IDS)
    assert made == [("Retrain", 1002)]
    key = "js_ratio_forget"
    assert table(JOINT)["GA"][key] == before["GA"][key]
    Path(f"model_weights/{IDS[1]}.pt").unlink()
    made.clear()
    says = f"there is no model model_weights/{IDS[1]}.pt"
    assert refused(says, "main_compare", *data, "--model_id", *IDS) == []
    assert made == []


def test_a_deleted_retrain_of_an_earlier_command_is_left_out(base_models, done, data, made):
    done("main_compare", *data, "--model_id", IDS[0], "--retrains", "3")
    (model,) = Path("model_weights").glob("*RETRAIN*seed-3.pt")
    model.unlink()
    made.clear()
    printed = done("main_compare", *data, "--model_id", IDS[0])
    assert "left out: Retrain (seed 3): their models" in printed
    assert "2 Retrains (seeds 1, 2)" in printed and made == []
    done("main_compare", *data, "--model_id", IDS[0], "--retrains", "3")
    assert made == [("Retrain", 3)]


@pytest.mark.parametrize(
    "ids, message",
    [
        ([IDS[0], "long_best"], "long_best differs from new_seed1_best in more than the seed"),
        ([IDS[0], "new_seed2_last"], "new_seed2_last differs .*: selection last"),
        ([IDS[0], IDS[0]], "--model_id new_seed1_best is given twice"),
    ],
)
def test_base_models_that_cannot_be_averaged_are_refused(base_models, refused, data, ids, message):
    assert refused(message, "main_compare", *data, "--model_id", *ids) == []


def test_an_unlearned_model_is_refused(base_models, done, refused, data):
    request = data[: data.index("--unlearn")]
    unlearned = done("main_unlearn", *request, "--model_id", IDS[0], "--unlearn", "GA").split()[-1]
    says = f"{unlearned} is an unlearned model already: give its base model's id"
    assert refused(says, "main_compare", *data, "--model_id", IDS[1], unlearned) == []
