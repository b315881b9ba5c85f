"""Full disks, missing permissions and files in place of folders: one line, no file changed."""

import errno
import os
import shutil

import pytest

from tests.helpers.environment import BASE, FORGOTTEN, contents, model_flags, train_flags
from tests.robustness.bad_input.shared import CLASS, SETTINGS, unlearn_flags
from utils.io import files
from utils.io.files import write_atomically
from utils.runtime.errors import UserError


@pytest.fixture
def full_disk(monkeypatch):
    """Writing any file fails with a full disk when its bytes are synced."""

    def no_space(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", no_space)


def test_a_full_disk(trained, refused, grey, full_disk):
    says = "cannot write {}: No space left on device"
    unlearn = unlearn_flags(grey, "--overwrite")
    assert refused(says.format(f"model_weights/{FORGOTTEN}.pt"), "main_unlearn", *unlearn) == []
    state = says.format("model_weights/tiny_resume.pt")
    assert refused(state, "main_train", *train_flags(grey, "tiny"), "--overwrite") == []
    mask = says.format(f"SaliencyMaps/{BASE}/class_0.pt")
    assert refused(mask, "generate_mask", *model_flags(grey), "--overwrite") == []
    picture = says.format(f"pics/{BASE}/confusion_matrix.png")
    assert refused(picture, "main_test", *model_flags(grey)) == []
    results = says.format(f"results/{BASE}_3.json")
    measured = (*model_flags(grey), *CLASS, "--measures", "forgetting")
    assert refused(results, "main_test_unlearn", *measured) == []
    shadow = says.format("model_weights/shadows/[0-9a-f]+/000.pt")
    assert refused(shadow, "main_mia", *model_flags(grey), *SETTINGS["main_mia"]) == []
    assert refused(says.format("pics/grey/classes.png"), "examine_dataset", "--dataset", grey) == []


def test_a_real_full_disk(small_disk, refused, grey, monkeypatch):
    """The training state is larger than the free space."""
    monkeypatch.chdir(small_disk)
    (small_disk / "model_weights").mkdir()
    old, other = small_disk / "model_weights" / "tiny_resume.pt", small_disk / "other"
    old.write_bytes(b"earlier content")
    other.write_bytes(bytes(2**20 - 20_000))
    says = "cannot write model_weights/tiny_resume.pt: No space left on device"
    refused(says, "main_train", *train_flags(grey, "tiny"), "--overwrite")
    assert contents(small_disk) == {old: b"earlier content", other: other.read_bytes()}


def test_a_full_disk_in_the_middle_of_a_write(tmp_path, monkeypatch):
    path = tmp_path / "model.pt"
    write_atomically(path, b"old")

    class HalfWritten:
        def __init__(self, name, mode):
            self.file = open(name, mode)  # noqa: SIM115 - __exit__ closes it
            self.fileno = self.file.fileno

        def __enter__(self):
            return self

        def __exit__(self, *error):
            self.file.close()

        def write(self, data):
            self.file.write(data[: len(data) // 2])
            self.file.flush()
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files, "open", HalfWritten, raising=False)
    with pytest.raises(UserError, match="cannot write .*model.pt: No space left on device"):
        write_atomically(path, b"newer and longer")
    assert contents(tmp_path) == {path: b"old"}


def test_an_open_file_that_is_replaced_keeps_its_content(tmp_path):
    path = tmp_path / "model.pt"
    write_atomically(path, b"old")
    with open(path, "rb") as reader:
        write_atomically(path, b"new")
        assert reader.read() == b"old"
    assert path.read_bytes() == b"new"


def test_an_interrupted_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "model.pt"
    write_atomically(path, b"old")

    def interrupt(descriptor):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, b"new")
    assert contents(tmp_path) == {path: b"old"}


@pytest.mark.parametrize(
    "blocked, script",
    [
        ("model_weights", "main_train"),
        ("pics", "examine_dataset"),
        ("pics", "main_test"),
        ("SaliencyMaps", "generate_mask"),
        ("results", "main_test_unlearn"),
        ("results", "main_mia"),
        ("model_weights/shadows", "main_mia"),
    ],
)
def test_a_file_in_place_of_a_folder(trained, refused, grey, blocked, script):
    if (trained / blocked).exists():
        shutil.move(trained / blocked, trained / "elsewhere")
    (trained / blocked).write_text("a file")
    flags = {"main_train": train_flags(grey), "examine_dataset": ("--dataset", grey)}
    flags = flags.get(script, (*model_flags(grey), *SETTINGS.get(script, ())))
    assert refused(f"cannot write .*{blocked}", script, *flags) == []


def test_a_folder_without_permission(trained, refused, grey, monkeypatch):
    def forbidden(*args, **kwargs):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(files.tempfile, "TemporaryFile", forbidden)
    says = "cannot write to the folder model_weights: Permission denied"
    assert refused(says, "main_train", *train_flags(grey)) == []
    assert refused(says, "main_unlearn", *unlearn_flags(grey)) == []
    says = f"cannot write to the folder SaliencyMaps/{BASE}: Permission denied"
    assert refused(says, "generate_mask", *model_flags(grey)) == []
    says = "cannot write to the folder results: Permission denied"
    for script in ("main_test_unlearn", "main_mia"):
        assert refused(says, script, *model_flags(grey), *SETTINGS[script]) == []


IS_ROOT = not hasattr(os, "geteuid") or os.geteuid() == 0


@pytest.mark.skipif(IS_ROOT, reason="root may write to any folder")
def test_a_real_read_only_folder(trained, refused, grey):
    folder = trained / "model_weights"
    folder.chmod(0o500)
    try:
        refused("cannot write to the folder model_weights", "main_train", *train_flags(grey))
    finally:
        folder.chmod(0o700)
