"""Losses that are not finite, full memory, no display, closed pipes, exit codes of the process."""

import subprocess

import pytest
import torch

from tests.helpers.environment import (
    BASE,
    assert_one_line,
    model_flags,
    script_command,
    script_environment,
    train_flags,
)
from tests.robustness.bad_input.shared import CLASS
from utils.runtime.errors import UserError
from utils.runtime.errors import run_script as run_main


def test_a_loss_that_is_not_finite_saves_nothing(trained, refused, grey):
    flags = (*model_flags(grey), "--unlearn", "FT", "--class_to_forget", "3", "--unlearn_lr", "100")
    says = "the loss is not finite any more.*this model was not saved; try a lower learning rate"
    assert refused(says, "main_unlearn", *flags, "--unlearn_batch_size", "2") == []


@pytest.mark.usefixtures("undrawn")
def test_weights_that_are_not_finite_are_not_saved(run_here, refused, grey):
    """A network with many layers, whose outputs are products of all their weights."""
    deep = (*train_flags(grey, "deep"), "--arch", "shufflenet_v2_x0_5", "--epochs", "1")
    assert run_here("main_train", *deep).returncode == 0
    flags = (*model_flags(grey, "deep_best"), "--unlearn", "GA", *CLASS, "--unlearn_lr", "100")
    says = "the loss is not finite any more.*this model was not saved; try a lower learning rate"
    assert refused(says, "main_unlearn", *flags, "--unlearn_epochs", "50") == []


@pytest.mark.parametrize("error", [MemoryError(), None])
def test_too_little_memory(refused, grey, monkeypatch, error):
    def hungry(*args, **kwargs):
        if error:
            raise error
        torch.zeros(10**15)  # torch's own error

    monkeypatch.setattr("models.training_job.training_run", hungry)
    refused("out of memory: lower the batch size", "main_train", *train_flags(grey))


def test_a_bug_is_not_reported_as_bad_input(run_here, workplace, grey, monkeypatch):
    def broken(*args, **kwargs):
        raise RuntimeError("a bug")

    monkeypatch.setattr("models.training_job.training_run", broken)
    with pytest.raises(RuntimeError, match="a bug"):
        run_here("main_train", *train_flags(grey))


def test_without_a_display_the_pictures_are_saved(trained, run_script, grey):
    done = run_script("main_test", *model_flags(grey))
    assert (done.returncode, done.stderr) == (0, "")
    for picture in ("confusion_matrix", "predictions"):
        path = f"pics/{BASE}/{picture}.png"
        assert f"picture: {path}\n" in done.stdout
        assert (trained / path).read_bytes().startswith(b"\x89PNG")


def test_bad_input_ends_the_process_with_code_2(run_script, workplace):
    done = run_script("main_test", "--model_id", "missing")
    assert done.returncode == 2
    assert done.stdout == ""
    assert_one_line(done.stderr, "^main_test.py: error: there is no model model_weights/missing.pt")


def test_a_closed_pipe_prints_no_error(workplace, grey):
    """As in `examine_dataset.py | head -0`."""
    command = script_command("examine_dataset", "--dataset", grey, "--no_window")
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, env=script_environment(), text=True, **pipes) as process:
        process.stdout.close()
        assert process.stderr.read() == ""


def test_an_error_with_several_lines_is_printed_in_one(monkeypatch, capsys):
    def main():
        raise UserError("two\nlines")

    monkeypatch.setattr("sys.argv", ["script.py"])
    with pytest.raises(SystemExit) as end:
        run_main(main)
    assert end.value.code == 2
    assert capsys.readouterr().err == "script.py: error: two lines\n"
