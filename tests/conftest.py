"""Fixtures for all tests: tiny data sets, working folders, and ways to run the scripts."""

import importlib
import os
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # tests run in parallel; torch reads it at import
import torch  # noqa: E402

from tests.helpers.environment import (
    BASE,
    GREY_NAMES,
    NO_DISPLAY,
    SHARED_DATA,
    TRAIN,
    UNLEARN_ONCE,
    assert_one_line,
    contents,
    drawn_arrays,
    script_command,
    script_environment,
)
from tests.helpers.small_net import register
from utils.runtime.errors import run_script as run_main

register()  # before any test imports the list of architectures


# a process started in the background, or by nohup, ignores these signals, and so would the
# processes that it starts
for _name, _usual in (("SIGINT", signal.default_int_handler), ("SIGHUP", signal.SIG_DFL)):
    if hasattr(signal, _name):
        signal.signal(getattr(signal, _name), _usual)


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """One thread: tests are too small for more, and the order of sums stays the same."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def data_files(tmp_path_factory):
    """Paths of tiny .npz files: grey (named classes), colour, two (classes), multi (3 findings)."""
    folder = tmp_path_factory.mktemp("data")
    contents = {
        "grey": drawn_arrays() | {"class_names": np.array(GREY_NAMES)},
        "other": drawn_arrays(seed=9) | {"class_names": np.array(GREY_NAMES)},
        "colour": drawn_arrays(3, channels=3),
        "two": drawn_arrays(2),
        "multi": drawn_arrays(3, multi_label=True),
    }
    for name, arrays in contents.items():
        np.savez(folder / f"{name}.npz", **arrays)
    return {name: str(folder / f"{name}.npz") for name in contents}


@pytest.fixture(scope="session")
def shared_data():
    """The folder of real data sets next to the repository; skips where it is missing."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"real data are not here: no {SHARED_DATA}")
    return SHARED_DATA


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """An empty current folder, and no display."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    for name in NO_DISPLAY:
        monkeypatch.delenv(name, raising=False)
    return folder


@pytest.fixture(scope="session")
def trained_folder(tmp_path_factory, data_files):
    """A folder with a base model of the grey set, all its masks, and one that forgot class 3.

    Tests must not write to it; they use `trained`.
    """
    folder = tmp_path_factory.mktemp("trained")
    data = ("--dataset", data_files["grey"], "--device", "cpu")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for script, *flags in (
            ("main_train", "--save_model_id", "tiny", *TRAIN),
            ("generate_mask", "--model_id", BASE),
            ("main_unlearn", "--model_id", BASE, *UNLEARN_ONCE),
        ):
            importlib.import_module(script).main([*flags, *data])
    return folder


@pytest.fixture
def trained(trained_folder, workplace):
    """The current folder, with a copy of `trained_folder`."""
    shutil.copytree(trained_folder, workplace, dirs_exist_ok=True)
    return workplace


@pytest.fixture
def run_script(workplace):
    """run_script("main_test", "--model_id", ...): run a script in its own process, as users do."""

    def run(name, *args, **options):
        return subprocess.run(
            script_command(name, *args),
            cwd=workplace,
            env=script_environment(),
            capture_output=True,
            text=True,
            timeout=300,
            **options,
        )

    return run


@pytest.fixture
def run_here(workplace, monkeypatch, capsys):
    """Run a script in this process, which saves the time of the imports."""

    def run(name, *args):
        command = [f"{name}.py", *map(str, args)]
        monkeypatch.setattr(sys, "argv", command)
        code = 0
        capsys.readouterr()
        try:
            run_main(importlib.import_module(name).main)
        except SystemExit as end:
            code = end.code or 0
        out, err = capsys.readouterr()
        return subprocess.CompletedProcess(command, code, out, err)

    return run


@pytest.fixture
def refused(run_here, workplace):
    """Run a script that must exit with code 2 and one line that matches `says`.

    No existing file may change; the paths of new files are returned.
    """

    def check(says, name, *args):
        before = contents(workplace)
        result = run_here(name, *args)
        assert result.returncode == 2, result
        assert_one_line(result.stderr, says)
        assert result.stderr.startswith(f"{name}.py: error: ")
        assert "Traceback" not in result.stdout
        after = contents(workplace)
        assert {path: after.get(path) for path in before} == before
        return sorted(str(path.relative_to(workplace)) for path in after.keys() - before)

    return check


@pytest.fixture
def done(run_here):
    """Run a script in this process; it must succeed and print nothing to stderr."""

    def run(name, *args):
        result = run_here(name, *args)
        assert (result.returncode, result.stderr) == (0, ""), result
        return result.stdout

    return run


@pytest.fixture
def small_disk(tmp_path):
    """A real file system of one megabyte; skips where none can be mounted."""
    place = tmp_path / "small"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)]
    try:
        done = subprocess.run(mount, capture_output=True, timeout=30)
    except FileNotFoundError:
        pytest.skip("there is no mount command")
    if done.returncode:
        pytest.skip("mounting a small disk needs rights that these tests do not have")
    yield place
    subprocess.run(["umount", str(place)], check=True, timeout=30)


@pytest.fixture
def undrawn(monkeypatch):
    """Picture files are left empty: drawing them would take most of a test's time."""
    monkeypatch.setattr("utils.plots.saving.png_bytes", lambda figure, **kwargs: b"")
