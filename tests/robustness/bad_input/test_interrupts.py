"""Ctrl-C in a script says what is saved, and --resume continues from there."""

import signal
import subprocess

import pytest
import torch

import utils.train.training
from tests.helpers.environment import (
    TRAIN,
    assert_one_line,
    contents,
    model_flags,
    script_command,
    script_environment,
    train_flags,
)
from tests.robustness.bad_input.shared import (
    READERS,
    SETTINGS,
    cut_short,
    no_weights,
    random_bytes,
)


def weights_in(path):
    return torch.load(path, weights_only=True)["weights"]


def assert_same_model(path, other):
    first, second = weights_in(path), weights_in(other)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_ctrl_c_and_resume_give_the_weights_of_an_uninterrupted_run(
    trained_folder, run_script, run_here, workplace, grey
):
    """A real SIGINT, after the second of six epochs is printed."""
    flags = ("--save_model_id", "tiny", "--dataset", grey, "--device", "cpu", *TRAIN)
    with subprocess.Popen(
        script_command("main_train", *flags),
        cwd=workplace,
        env=script_environment() | {"PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        next(line for line in process.stdout if line.startswith("epoch 2/6"))
        process.send_signal(signal.SIGINT)
        errors = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    says = r"^main_train.py: interrupted: [1-5] of 6 epochs are saved; add --resume to continue$"
    assert_one_line(errors, says)
    assert [path.name for path in (workplace / "model_weights").iterdir()] == ["tiny_resume.pt"]

    again = run_here("main_train", *flags, "--resume")
    assert again.returncode == 0
    assert "epoch 1/6" not in again.stdout
    assert "epoch 6/6" in again.stdout
    for name in ("tiny_best.pt", "tiny_last.pt"):
        assert_same_model(
            workplace / "model_weights" / name, trained_folder / "model_weights" / name
        )
    made = sorted(path.name for path in (workplace / "model_weights").iterdir())
    assert made == ["tiny_best.pt", "tiny_last.pt"]


@pytest.fixture
def interrupt_after(monkeypatch):
    """Arm Ctrl-C in the epoch after the next `epochs` of a training run."""
    train_epoch = utils.train.training.train_epoch

    def arm(epochs):
        seen = 0

        def epoch(*args, **kwargs):
            nonlocal seen
            seen += 1
            if seen > epochs:
                raise KeyboardInterrupt
            return train_epoch(*args, **kwargs)

        monkeypatch.setattr(utils.train.training, "train_epoch", epoch)

    yield arm


@pytest.mark.usefixtures("undrawn")
def test_ctrl_c_again_before_and_after_new_epochs(
    trained_folder, run_here, workplace, grey, interrupt_after
):
    flags = ("--save_model_id", "tiny", "--dataset", grey, "--device", "cpu", *TRAIN)
    for epochs, saved in ((3, "3 of 6"), (0, "3 of 6"), (2, "5 of 6")):
        interrupt_after(epochs)
        resume = [] if saved == "3 of 6" and epochs else ["--resume"]
        stopped = run_here("main_train", *flags, *resume)
        assert stopped.returncode == 130
        says = f"main_train.py: interrupted: {saved} epochs are saved; add --resume"
        assert_one_line(stopped.stderr, says)
    interrupt_after(99)
    assert run_here("main_train", *flags, "--resume").returncode == 0
    name = "model_weights/tiny_best.pt"
    assert_same_model(workplace / name, trained_folder / name)


def test_ctrl_c_in_the_first_epoch_saves_nothing(trained, run_here, grey, interrupt_after):
    before = contents(trained)
    interrupt_after(0)
    stopped = run_here("main_train", *train_flags(grey, "tiny"), "--overwrite")
    assert stopped.returncode == 130
    assert_one_line(stopped.stderr, "main_train.py: interrupted: nothing unfinished was saved")
    assert contents(trained) == before


@pytest.mark.parametrize(
    "script, module, name",
    [
        ("main_unlearn", "unlearn.engine.loop", "train_epoch"),
        ("main_test", "utils.train.prediction", "predict"),
        ("generate_mask", "unlearn.saliency", "gradient_saliency"),
        ("main_test_unlearn", "evaluation.outputs", "predict_with_features"),
        ("main_test_unlearn", "evaluation.metrics.probe", "compute"),
        ("main_mia", "evaluation.shadows", "TrainingRun"),
        ("examine_dataset", "utils.plots.bars", "class_counts"),
        ("main_walkthrough", "utils.data.loading", "load_dataset"),
    ],
)
def test_ctrl_c_in_other_scripts(trained, run_here, grey, monkeypatch, script, module, name):
    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    before = contents(trained)
    monkeypatch.setattr(f"{module}.{name}", interrupt)
    plain = ("--dataset", grey)
    flags = model_flags(grey) if script in READERS else plain
    overwrite = ["--overwrite"] if script in ("main_unlearn", "generate_mask") else []
    stopped = run_here(script, *flags, *SETTINGS.get(script, ()), *overwrite)
    assert stopped.returncode == 130
    assert_one_line(stopped.stderr, f"^{script}.py: interrupted: ")
    assert contents(trained) == before


@pytest.mark.usefixtures("undrawn")
def test_resume_of_another_or_damaged_run_is_refused(
    trained, refused, run_here, data_files, interrupt_after
):
    flags = train_flags(data_files["grey"])
    interrupt_after(1)
    assert run_here("main_train", *flags).returncode == 130
    for change, what in (
        (("--lr", "0.02"), r"lr 0.01 \(not 0.02\)"),
        (("--arch", "squeezenet1_1"), r"arch small_net \(not squeezenet1_1\), .*"),
        (("--dataset", data_files["other"]), "the training images, the validation images"),
    ):
        says = f"--resume: the interrupted run of this name differs in {what}: repeat its command"
        assert refused(says, "main_train", *flags, *change, "--resume") == []
    says = "was interrupted, model_weights/new_resume.pt: add --resume to continue .*--overwrite"
    assert refused(says, "main_train", *flags) == []
    for damage in (cut_short, random_bytes, no_weights):
        damage(trained / "model_weights" / "new_resume.pt")
        says = "new_resume.pt is (cut short, damaged, or )?not a training state"
        assert refused(says, "main_train", *flags, "--resume") == []
    refused(
        "is not a model: it holds no weights", "main_test", *model_flags(flags[3], "new_resume")
    )
