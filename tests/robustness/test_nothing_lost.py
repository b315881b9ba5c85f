"""Concurrent runs, full disks and missing folders: finished files are not lost or replaced."""

import errno
import os
import re
import subprocess
import sys
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
    script_environment,
    train_flags,
)
from utils.io import files, locks
from utils.io.files import ensure_folder, write_atomically
from utils.io.locks import exclusive_lock
from utils.runtime.errors import UserError

posix = pytest.mark.skipif(os.name == "nt", reason="signals and limits of POSIX")
CLASS = ("--class_to_forget", "3")
SHADOWS = ("--shadow_models", "4")


# Concurrent runs


def test_two_runs_of_one_name_are_refused(trained, refused, grey):
    flags = model_flags(grey)
    comparison = f"results/{BASE}_FORGOTTEN_3_comparison.json"
    for locked, script, arguments in (
        ("model_weights/new_resume.pt", "main_train", train_flags(grey, "new")),
        (f"model_weights/{FORGOTTEN}.pt", "main_unlearn", (*flags, *UNLEARN_ONCE, "--overwrite")),
        (f"SaliencyMaps/{BASE}", "generate_mask", flags),
        (comparison, "main_compare", (*flags, *CLASS, "--unlearn", "GA")),
        (f"results/{BASE}_mia", "main_mia", (*flags, *CLASS, *SHADOWS)),
    ):
        with exclusive_lock(locked, "it"):
            refused("is being written by another run: wait until it ends", script, *arguments)
    assert not list(trained.rglob(".*"))


HOLD_LOCK = """
import sys, time
from utils.io.locks import exclusive_lock
with exclusive_lock(sys.argv[1], "it"):
    print("locked", flush=True)
    time.sleep(60)
"""


@posix
def test_a_lock_ends_with_its_process(tmp_path):
    path = tmp_path / "model.pt"
    with subprocess.Popen(
        [sys.executable, "-c", HOLD_LOCK, str(path)],
        cwd=REPOSITORY,
        env=script_environment(),
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline() == "locked\n"
        with pytest.raises(UserError, match="it is being written"), exclusive_lock(path, "it"):
            pass
        process.kill()
    assert [each.name for each in tmp_path.iterdir()] == [".model.pt.lock"]
    with exclusive_lock(path, "it"):
        pass
    assert not list(tmp_path.iterdir())


def test_a_file_system_without_locks_refuses_no_run(tmp_path, monkeypatch):
    def unsupported(*_):
        raise OSError(errno.ENOTSUP, "not supported")

    monkeypatch.setattr(locks.fcntl or locks.msvcrt, "flock", unsupported, raising=False)
    with exclusive_lock(tmp_path / "a", "it"), exclusive_lock(tmp_path / "b", "it"):
        pass


# Files that killed runs leave


@posix
def test_stale_files_of_dead_processes_are_removed_and_no_others(tmp_path):
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        ended.wait(timeout=60)
    stale = [f".a.pt.{ended.pid}.tmp", f".set.npz.{ended.pid}.part", f".b.pt.{os.getpid()}.tmp"]
    stale.append(".c.pt.lock")
    kept = ["a.pt", ".hidden", ".notes.tmp", f".d.pt.{os.getppid()}.tmp", ".e.pt.lock"]
    for name in (*stale, *kept):
        (tmp_path / name).write_bytes(b"x")
    with open(tmp_path / ".e.pt.lock", "rb") as locked:
        assert locks.try_lock(locked.fileno())
        ensure_folder(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(kept)


# Disks and folders


def test_an_atomic_write_syncs_the_file_renames_it_and_syncs_the_folder(tmp_path, monkeypatch):
    calls = []
    sync, replace = os.fsync, os.replace
    kind = {True: "folder synced", False: "file synced"}
    is_folder = os.path.isdir
    monkeypatch.setattr(
        os, "fsync", lambda number: (calls.append(kind[is_folder(number)]), sync(number))
    )
    monkeypatch.setattr(os, "replace", lambda *names: (calls.append("renamed"), replace(*names)))
    write_atomically(tmp_path / "model.pt", b"new")
    expected = ["file synced", "renamed", "folder synced"]
    assert calls == (expected if os.name != "nt" else expected[:2])


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
def test_a_disk_error_is_reported_and_the_old_file_stays(tmp_path, monkeypatch, number, says, step):
    path = tmp_path / "model.pt"
    path.write_bytes(b"old")

    def fail(*_):
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, step, fail)
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
def test_a_limit_on_file_sizes(tmp_path):
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


def test_a_removed_folder_is_created_again(tmp_path):
    folder = tmp_path / "model_weights"
    ensure_folder(folder)
    folder.rmdir()
    write_atomically(folder / "model.pt", b"new")
    assert (folder / "model.pt").read_bytes() == b"new"


def test_a_file_in_place_of_a_folder(tmp_path):
    folder = tmp_path / "model_weights"
    folder.write_bytes(b"a file")
    with pytest.raises(UserError, match="cannot write .*model.pt: "):
        write_atomically(folder / "model.pt", b"new")
    assert folder.read_bytes() == b"a file"


@pytest.mark.parametrize("script", ["main_train", "main_compare"])
def test_an_unwritable_picture_folder_is_reported_before_the_work(trained, refused, grey, script):
    if Path("pics").exists():
        Path("pics").rename("elsewhere")
    Path("pics").write_text("a file")
    flags = {
        "main_train": train_flags(grey, "new"),
        "main_compare": (*model_flags(grey), *CLASS, "--unlearn", "GA"),
    }
    assert refused("cannot write to the folder pics: ", script, *flags[script]) == []


@posix
def test_a_removed_current_folder(tmp_path, monkeypatch):
    folder = tmp_path / "gone"
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()
    with pytest.raises(UserError, match="^cannot find model_weights/new.pt: No such file"):
        files.check_inside(Path("model_weights/new.pt"))


def test_all_files_are_written_by_two_modules():
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


# Finished files are replaced only with --overwrite


@pytest.mark.usefixtures("undrawn")
def test_a_finished_model_is_replaced_only_with_overwrite(trained, refused, done, data_files):
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
def test_a_walkthrough_replaces_nothing_without_overwrite(workplace, done, refused, grey):
    flags = ("--dataset", grey, "--device", "cpu", "--save_model_id", "all", *TRAIN)
    flags += ("--epochs", "1", "--measures", "forgetting")
    methods = ("--unlearn", "FT", "DELETE_with_SalUn")
    first = done("main_walkthrough", *flags, "--unlearn", "FT")
    assert "--resume" not in first
    models = {path.name: path.read_bytes() for path in Path("model_weights").iterdir()}
    second = done("main_walkthrough", *flags, *methods)
    assert second.count("finished already") == 2  # the base model, and FT's
    for name, data in models.items():
        assert Path("model_weights", name).read_bytes() == data
    says = "all_best.pt and model_weights/all_last.pt would be replaced: add --overwrite"
    refused(says, "main_walkthrough", *flags, *methods, "--seed", "3")
    third = done("main_walkthrough", *flags, *methods, "--seed", "3", "--overwrite")
    assert "failed" not in third
    for name in models:
        assert Path("model_weights", name).read_bytes() != models[name]
