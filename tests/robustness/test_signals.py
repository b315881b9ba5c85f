"""Signals: a killed or interrupted run keeps what it has saved, and says how to resume."""

import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from models import training_job
from models.checkpoint import load_model
from tests.helpers.environment import (
    assert_one_line,
    model_flags,
    script_command,
    script_environment,
    train_flags,
)
from tests.helpers.small_net import SMALL_ARCH
from tests.helpers.tiny import same_weights
from utils.io import files
from utils.runtime.errors import run_script

pytestmark = pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
CLASS = ("--class_to_forget", "3")


def test_kill_9_and_resume_give_the_weights_of_one_run(trained_folder, workplace, run_here, grey):
    flags = train_flags(grey, "tiny")
    with subprocess.Popen(
        script_command("main_train", *flags),
        cwd=workplace,
        env=script_environment() | {"PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        next(line for line in process.stdout if line.startswith("epoch 3/6"))
        process.kill()
    assert run_here("main_train", *flags, "--resume").returncode == 0
    found = {name: load_model(name)[0] for name in ("tiny_best", "tiny_last")}
    os.chdir(trained_folder)
    for name, model in found.items():
        assert same_weights(model, load_model(name)[0])
    assert model.spec.arch == SMALL_ARCH
    assert not list(workplace.rglob("model_weights/.*"))


@pytest.fixture
def send_signal(monkeypatch):
    """Return a function: send this process the signal `number` after its nth file is renamed."""

    def arm(number, nth):
        replace, renamed = os.replace, []

        def counting(*names):
            replace(*names)
            renamed.append(names)
            if len(renamed) == nth:
                os.kill(os.getpid(), number)

        monkeypatch.setattr(files.os, "replace", counting)

    return arm


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGINT"])
def test_a_signal_ends_a_run_that_can_be_resumed(trained, run_here, done, grey, send_signal, name):
    before, number = signal.getsignal(signal.SIGTERM), getattr(signal, name)
    flags = (*model_flags(grey), "--unlearn", "FT", *CLASS, "--unlearn_epochs", "3")
    send_signal(number, 3)  # an epoch has two files
    stopped = run_here("main_unlearn", *flags)
    assert stopped.returncode == (130 if name == "SIGINT" else 143)
    # the epoch whose files are being written is saved as well
    says = "main_unlearn.py: interrupted: 2 epochs are saved; add --resume to continue"
    assert_one_line(stopped.stderr, says)
    assert signal.getsignal(signal.SIGTERM) == before
    again = done("main_unlearn", *flags, "--resume")
    assert "resuming after epoch 2" in again
    if name == "SIGTERM":
        send_signal(number, 4)  # a mask has two files as well
        stopped = run_here("generate_mask", *model_flags(grey), "--overwrite")
        says = "interrupted: [12] of 4 masks are saved; the same command starts again; "
        assert_one_line(stopped.stderr, says + "without --overwrite it keeps existing masks")
        shutil.rmtree("SaliencyMaps")
        send_signal(number, 4)
        stopped = run_here("generate_mask", *model_flags(grey))
        says = "interrupted: [12] of 4 masks are saved; the same command continues$"
        assert_one_line(stopped.stderr, says)
        assert "exists already and is kept" in done("generate_mask", *model_flags(grey))
        send_signal(number, 2)
        stopped = run_here("main_train", *train_flags(grey, "new", "--epochs", "3"))
        assert stopped.returncode == 143
        assert_one_line(stopped.stderr, "interrupted: [12] of 3 epochs are saved; add --resume")


def test_an_interrupted_overwrite_of_a_finished_model_is_resumed(
    trained, run_here, done, grey, send_signal
):
    """--resume continues the saved epochs, whether or not --overwrite is repeated."""
    flags = (*model_flags(grey), "--unlearn", "FT", *CLASS, "--unlearn_epochs", "3")
    model_id = done("main_unlearn", *flags).split()[-1]
    path = trained / "model_weights" / f"{model_id}.pt"
    before, weights = path.read_bytes(), load_model(model_id)[0]
    for more in ((), ("--overwrite",)):
        send_signal(signal.SIGINT, 3)
        stopped = run_here("main_unlearn", *flags, "--overwrite")
        assert_one_line(stopped.stderr, "interrupted: 2 epochs are saved; add --resume to continue")
        assert path.read_bytes() == before
        printed = done("main_unlearn", *flags, "--resume", *more)
        assert "resuming after epoch 2" in printed and "finished already" not in printed
        assert path.read_bytes() != before  # it was saved again, at another time
        assert same_weights(load_model(model_id)[0], weights)
        assert not (trained / "model_weights" / "unfinished").exists()
        before = path.read_bytes()
    for more in ((), ("--overwrite",)):
        assert "finished already" in done("main_unlearn", *flags, "--resume", *more)
    assert path.read_bytes() == before


def test_an_interrupted_overwrite_of_a_base_model_is_resumed(
    trained, run_here, done, grey, send_signal
):
    path = trained / "model_weights" / "tiny_best.pt"
    before, weights = path.read_bytes(), load_model("tiny_best")[0]
    send_signal(signal.SIGINT, 3)
    stopped = run_here("main_train", *train_flags(grey, "tiny", "--overwrite"))
    assert_one_line(stopped.stderr, "interrupted: [23] of 6 epochs are saved; add --resume")
    assert path.read_bytes() == before
    assert "resuming after epoch" in done("main_train", *train_flags(grey, "tiny", "--resume"))
    assert path.read_bytes() != before
    assert same_weights(load_model("tiny_best")[0], weights)
    assert "finished already" in done("main_train", *train_flags(grey, "tiny", "--resume"))


def test_a_removed_training_state_is_reported_and_saved_again(trained, done, grey, monkeypatch):
    save, path = training_job.save_training_state, trained / "model_weights" / "new_resume.pt"

    def removing(*arguments):
        save(*arguments)
        if not removed:
            removed.append(path.unlink())

    removed = []
    monkeypatch.setattr(training_job, "save_training_state", removing)
    printed = done("main_train", *train_flags(grey, "new"))
    says = "note: model_weights/new_resume.pt was removed during training; it is saved again"
    assert printed.count(says) == 1


@pytest.mark.parametrize("again", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_second_signal_does_not_interrupt_the_clean_up(capsys, monkeypatch, again):
    cleaned, handlers = [], [signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)]

    def main():
        try:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(10)
        except KeyboardInterrupt:
            os.kill(os.getpid(), getattr(signal, again))
            cleaned.append(True)
            raise KeyboardInterrupt("2 epochs are saved") from None

    with pytest.raises(SystemExit, match="130"):
        run_script(main)
    assert cleaned
    assert_one_line(capsys.readouterr().err, "interrupted: 2 epochs are saved")
    assert handlers == [signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)]

    cleaned.clear()
    monkeypatch.setattr(
        "utils.runtime.signals.REPEAT_SECONDS", 0.0
    )  # later: whatever hangs can be ended
    with pytest.raises(SystemExit, match="130" if again == "SIGINT" else "143"):
        run_script(main)
    assert not cleaned


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_in_a_destructor_is_not_lost(capsys, name):
    class Destructor:
        def __del__(self):
            os.kill(os.getpid(), getattr(signal, name))
            for _ in range(10):  # Python calls the handler in one of the steps
                pass

    def main():
        destructor = Destructor()
        del destructor
        for _ in range(1000):  # a signal that Python itself tells again wakes nobody who sleeps
            time.sleep(0.01)

    hook = sys.unraisablehook
    with pytest.raises(SystemExit, match="130" if name == "SIGINT" else "143"):
        run_script(main)
    assert_one_line(capsys.readouterr().err, "interrupted: nothing unfinished was saved")
    assert sys.unraisablehook == hook
