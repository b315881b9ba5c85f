"""Full disks, vanished folders, two runs at once, signals: what is finished stays as it is."""

import errno
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.helpers.environment import (
    BASE,
    FORGOTTEN,
    REPOSITORY,
    TRAIN,
    UNLEARN_ONCE,
    assert_one_line,
    contents,
    model_flags,
    script_command,
    script_environment,
)
from tests.helpers.small_net import SMALL_ARCH
from tests.helpers.tiny import same_weights
from utils.io import files, locks
from utils.io.files import ensure_folder, write_atomically
from utils.io.locks import exclusive_lock
from utils.runtime.errors import UserError, run_script

posix = pytest.mark.skipif(os.name == "nt", reason="signals and limits of POSIX")
CLASS = ("--class_to_forget", "3")
SHADOWS = ("--shadow_models", "4")


@pytest.fixture
def grey(data_files):
    return data_files["grey"]


def train_flags(data, name, *more):
    return ("--save_model_id", name, "--dataset", data, "--device", "cpu", *TRAIN, *more)


# Two runs at once


def test_two_runs_of_one_name_are_refused(trained, refused, grey):
    flags = model_flags(grey)
    comparison = f"results/{BASE}_FORGOTTEN_3_comparison.json"
    for held, script, asked in (
        ("model_weights/new_resume.pt", "main_train", train_flags(grey, "new")),
        (f"model_weights/{FORGOTTEN}.pt", "main_unlearn", (*flags, *UNLEARN_ONCE, "--overwrite")),
        (f"SaliencyMaps/{BASE}", "generate_mask", flags),
        (comparison, "main_compare", (*flags, *CLASS, "--unlearn", "GA")),
        (f"results/{BASE}_mia", "main_mia", (*flags, *CLASS, *SHADOWS)),
    ):
        with exclusive_lock(held, "it"):
            refused("is being written by another run: wait until it ends", script, *asked)
    assert not list(trained.rglob(".*"))


HOLDING = """
import sys, time
from utils.io.locks import exclusive_lock
with exclusive_lock(sys.argv[1], "it"):
    print("held", flush=True)
    time.sleep(60)
"""


@posix
def test_a_lock_dies_with_its_process(tmp_path):
    path = tmp_path / "model.pt"
    with subprocess.Popen(
        [sys.executable, "-c", HOLDING, str(path)],
        cwd=REPOSITORY,
        env=script_environment(),
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline() == "held\n"
        with pytest.raises(UserError, match="it is being written"), exclusive_lock(path, "it"):
            pass
        process.kill()
    assert [each.name for each in tmp_path.iterdir()] == [".model.pt.lock"]
    with exclusive_lock(path, "it"):
        pass
    assert not list(tmp_path.iterdir())


def test_a_file_system_without_locks_stops_nobody(tmp_path, monkeypatch):
    def none(*_):
        raise OSError(errno.ENOTSUP, "not supported")

    monkeypatch.setattr(locks.fcntl or locks.msvcrt, "flock", none, raising=False)
    with exclusive_lock(tmp_path / "a", "it"), exclusive_lock(tmp_path / "b", "it"):
        pass


# What killed runs leave behind


@posix
def test_leftovers_of_dead_processes_are_removed_and_no_others(tmp_path):
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        ended.wait(timeout=60)
    gone = [f".a.pt.{ended.pid}.tmp", f".set.npz.{ended.pid}.part", f".b.pt.{os.getpid()}.tmp"]
    gone.append(".c.pt.lock")
    kept = ["a.pt", ".hidden", ".notes.tmp", f".d.pt.{os.getppid()}.tmp", ".e.pt.lock"]
    for name in (*gone, *kept):
        (tmp_path / name).write_bytes(b"x")
    with open(tmp_path / ".e.pt.lock", "rb") as held:
        assert locks.try_lock(held.fileno())
        ensure_folder(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(kept)


# Disks and folders


def test_bytes_are_on_the_disk_before_the_name_and_the_name_before_the_end(tmp_path, monkeypatch):
    done = []
    sync, replace = os.fsync, os.replace
    kind = {True: "folder synced", False: "file synced"}
    is_folder = os.path.isdir
    monkeypatch.setattr(
        os, "fsync", lambda number: (done.append(kind[is_folder(number)]), sync(number))
    )
    monkeypatch.setattr(os, "replace", lambda *names: (done.append("renamed"), replace(*names)))
    write_atomically(tmp_path / "model.pt", b"new")
    expected = ["file synced", "renamed", "folder synced"]
    assert done == (expected if os.name != "nt" else expected[:2])


@pytest.mark.parametrize(
    ("number", "says"),
    [
        (errno.ENOSPC, "No space left on device: make room and try again"),
        (getattr(errno, "EDQUOT", errno.ENOSPC), "(quota|No space).*: make room and try again"),
        (errno.EROFS, "Read-only file system$"),
        (errno.EACCES, "Permission denied$"),
        (errno.EIO, "Input/output error$"),
    ],
)
@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_an_error_of_the_disk_is_told_and_the_old_file_stays(
    tmp_path, monkeypatch, number, says, step
):
    path = tmp_path / "model.pt"
    path.write_bytes(b"old")

    def fails(*_):
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, step, fails)
        with pytest.raises(UserError, match=f"^cannot write {re.escape(str(path))}: .*{says}"):
            write_atomically(path, b"new")
    assert contents(tmp_path) == {path: b"old"}


LIMITED = """
import resource, sys
from utils.runtime.errors import run_script
from utils.io.files import write_atomically
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
run_script(lambda: write_atomically("model.pt", bytes(20_000)))
"""


@posix
def test_a_file_that_may_not_grow_so_large(tmp_path):
    (tmp_path / "model.pt").write_bytes(b"old")
    done = subprocess.run(
        [sys.executable, "-c", LIMITED],
        cwd=tmp_path,
        env=script_environment(REPOSITORY),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2
    assert_one_line(done.stderr, "error: cannot write model.pt: File too large")
    assert contents(tmp_path) == {tmp_path / "model.pt": b"old"}


def test_a_folder_that_vanishes_is_made_again(tmp_path):
    folder = tmp_path / "model_weights"
    ensure_folder(folder)
    folder.rmdir()
    write_atomically(folder / "model.pt", b"new")
    assert (folder / "model.pt").read_bytes() == b"new"


def test_a_folder_that_becomes_a_file_is_told(tmp_path):
    folder = tmp_path / "model_weights"
    folder.write_bytes(b"a file")
    with pytest.raises(UserError, match="cannot write .*model.pt: "):
        write_atomically(folder / "model.pt", b"new")
    assert folder.read_bytes() == b"a file"


@pytest.mark.parametrize("script", ["main_train", "main_compare"])
def test_pictures_that_nobody_could_keep_are_told_before_hours_of_work(
    trained, refused, grey, script
):
    if Path("pics").exists():
        Path("pics").rename("elsewhere")
    Path("pics").write_text("a file")
    flags = {
        "main_train": train_flags(grey, "new"),
        "main_compare": (*model_flags(grey), *CLASS, "--unlearn", "GA"),
    }
    assert refused("cannot write to the folder pics: ", script, *flags[script]) == []


@posix
def test_a_current_folder_that_is_gone_is_told(tmp_path, monkeypatch):
    folder = tmp_path / "gone"
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()
    with pytest.raises(UserError, match="^cannot find model_weights/new.pt: No such file"):
        files.check_inside(Path("model_weights/new.pt"))


def test_all_files_are_written_in_one_place():
    """What would write a file in another way is found here and moved there."""
    writes = re.compile(
        r"\.write_(text|bytes)\(|open\([^)]*[\"'][wxa]b?[\"']|np\.savez?\(|savefig\([^b]|"
        r"torch\.save\([^,]+, (?!memory)"
    )
    found = {
        str(path.relative_to(REPOSITORY))
        for path in REPOSITORY.rglob("*.py")
        if path.relative_to(REPOSITORY).parts[0] not in ("tests", "benchmarks", "venv")
        and writes.search(path.read_text())
    }
    to_nowhere = {"evaluation/results.py", "utils/runtime/processes.py"}  # os.devnull
    assert found == {"utils/io/files.py", "utils/data/disk_cache.py", *to_nowhere}


# What is finished is replaced only if that was asked for


@pytest.mark.usefixtures("undrawn")
def test_a_finished_model_is_not_replaced_unasked(trained, refused, done, data_files):
    grey, other = data_files["grey"], data_files["other"]
    once = (*TRAIN, "--epochs", "1", "--overwrite")
    tiny = ("--save_model_id", "tiny", "--dataset", grey, "--device", "cpu")
    says = "tiny_best.pt and model_weights/tiny_last.pt would be replaced: add --overwrite"
    assert refused(says, "main_train", *tiny, *TRAIN, "--seed", "2") == []
    assert refused(says, "main_train", *tiny, *TRAIN, "--seed", "2", "--resume") == []
    says = f"{FORGOTTEN}.pt would be replaced: add --overwrite"
    assert refused(says, "main_unlearn", *model_flags(grey), *UNLEARN_ONCE) == []
    foreign = (*model_flags(other), "--allow_other_data")
    says = "class_3.pt would be replaced: add --overwrite"
    assert refused(says, "generate_mask", *foreign) == []

    before = contents(trained)
    assert "are finished already" in done("main_train", *tiny, *TRAIN, "--resume")
    again = done("main_unlearn", *model_flags(grey), *UNLEARN_ONCE, "--resume")
    assert again.endswith(f"finished already\nmodel_id: {FORGOTTEN}\n")
    assert "class 3 duct: " in done("generate_mask", *model_flags(grey), "--resume")
    assert contents(trained) == before

    done("main_train", *tiny, *once)
    says = f"{FORGOTTEN}.pt would be replaced: add --overwrite"
    done("generate_mask", *model_flags(grey), *CLASS, "--overwrite")
    assert refused(says, "main_unlearn", *model_flags(grey), *UNLEARN_ONCE, "--resume") == []
    done("main_unlearn", *model_flags(grey), *UNLEARN_ONCE, "--overwrite")
    assert contents(trained).keys() == before.keys()


@pytest.mark.usefixtures("undrawn")
def test_a_walkthrough_goes_on_and_replaces_nothing_unasked(workplace, done, refused, grey):
    flags = ("--dataset", grey, "--device", "cpu", "--save_model_id", "all", *TRAIN)
    flags += ("--epochs", "1", "--measures", "forgetting")
    asked = ("--unlearn", "FT", "DELETE_with_SalUn")
    first = done("main_walkthrough", *flags, "--unlearn", "FT")
    assert "--resume" not in first
    models = {path.name: path.read_bytes() for path in Path("model_weights").iterdir()}
    second = done("main_walkthrough", *flags, *asked)
    assert second.count("finished already") == 2  # the base model, and FT's
    for name, data in models.items():
        assert Path("model_weights", name).read_bytes() == data
    says = "all_best.pt and model_weights/all_last.pt would be replaced: add --overwrite"
    refused(says, "main_walkthrough", *flags, *asked, "--seed", "3")
    third = done("main_walkthrough", *flags, *asked, "--seed", "3", "--overwrite")
    assert "failed" not in third
    for name in models:
        assert Path("model_weights", name).read_bytes() != models[name]


# Signals


@posix
def test_kill_9_of_a_process_and_resume_give_the_weights_of_one_run(
    trained_folder, workplace, run_here, grey
):
    from models.checkpoint import load_model

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
def handle_termination(monkeypatch):
    """The process gets a signal once it is about to keep its nth pass or epoch."""

    def arm(number, nth):
        replace, seen = os.replace, []

        def counted(*names):
            replace(*names)
            seen.append(names)
            if len(seen) == nth:
                os.kill(os.getpid(), number)

        monkeypatch.setattr(files.os, "replace", counted)

    return arm


@posix
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGINT"])
def test_a_signal_to_end_says_how_to_go_on(trained, run_here, done, grey, handle_termination, name):
    before, number = signal.getsignal(signal.SIGTERM), getattr(signal, name)
    flags = (*model_flags(grey), "--unlearn", "FT", *CLASS, "--unlearn_epochs", "3")
    handle_termination(number, 3)  # a pass is two files
    stopped = run_here("main_unlearn", *flags)
    assert stopped.returncode == (130 if name == "SIGINT" else 143)
    # the pass whose files are being written is saved as well
    says = "main_unlearn.py: interrupted: 2 passes are saved; add --resume to go on"
    assert_one_line(stopped.stderr, says)
    assert signal.getsignal(signal.SIGTERM) == before
    again = done("main_unlearn", *flags, "--resume")
    assert "going on after pass 2, which is saved" in again
    if name == "SIGTERM":
        handle_termination(number, 4)  # a mask is two files as well
        stopped = run_here("generate_mask", *model_flags(grey))
        assert_one_line(stopped.stderr, "interrupted: [12] of 4 masks are finished; add --resume")
        handle_termination(number, 2)
        stopped = run_here("main_train", *train_flags(grey, "new", "--epochs", "3"))
        assert stopped.returncode == 143
        assert_one_line(stopped.stderr, "interrupted: [12] of 3 epochs are saved; add --resume")


@posix
@pytest.mark.parametrize("again", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_that_comes_twice_disturbs_no_tidying_up(capsys, monkeypatch, again):
    tidied, handlers = [], [signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)]

    def main():
        try:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(10)
        except KeyboardInterrupt:
            os.kill(os.getpid(), getattr(signal, again))
            tidied.append(True)
            raise KeyboardInterrupt("2 epochs are saved") from None

    with pytest.raises(SystemExit, match="130"):
        run_script(main)
    assert tidied
    assert_one_line(capsys.readouterr().err, "interrupted: 2 epochs are saved")
    assert handlers == [signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)]

    tidied.clear()
    monkeypatch.setattr(
        "utils.runtime.signals.REPEAT_SECONDS", 0.0
    )  # later: whatever hangs can be ended
    with pytest.raises(SystemExit, match="130" if again == "SIGINT" else "143"):
        run_script(main)
    assert not tidied


@posix
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_where_nothing_can_be_raised_is_not_lost(capsys, name):
    class Ending:
        def __del__(self):
            os.kill(os.getpid(), getattr(signal, name))
            for _ in range(10):  # in one of the steps Python calls the handler
                pass

    def main():
        ending = Ending()
        del ending
        for _ in range(1000):  # a signal that Python itself tells again wakes nobody who sleeps
            time.sleep(0.01)

    hook = sys.unraisablehook
    with pytest.raises(SystemExit, match="130" if name == "SIGINT" else "143"):
        run_script(main)
    assert_one_line(capsys.readouterr().err, "interrupted: nothing unfinished was saved")
    assert sys.unraisablehook == hook
