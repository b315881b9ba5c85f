"""Signals while a script still imports what it needs: they end it without a traceback."""

import os
import signal
import subprocess
import sys

import pytest

from tests.helpers.environment import REPOSITORY, assert_one_line, script_environment
from utils.runtime import startup

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")

SCRIPTS = sorted(
    path.stem for path in REPOSITORY.glob("*.py") if "run_script(main)" in path.read_text()
)
INTERRUPTED_AT = """
import os, runpy, sys

class Interrupting:
    @staticmethod
    def find_spec(name, *_):
        if name == sys.argv[2]:
            os.kill(os.getpid(), int(sys.argv[3]))

sys.meta_path.insert(0, Interrupting)
sys.path.insert(0, os.path.dirname(sys.argv[1]))
runpy.run_path(sys.argv[1], run_name=sys.argv[4])
"""


def interrupted(script, at, number=signal.SIGINT, run_name="__main__"):
    """A script that gets a signal as it begins to import the module `at`."""
    path = str(REPOSITORY / f"{script}.py")
    return subprocess.run(
        [sys.executable, "-c", INTERRUPTED_AT, path, at, str(int(number)), run_name],
        env=script_environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize("script", SCRIPTS)
def test_ctrl_c_before_anything_else_is_imported(script):
    stopped = interrupted(script, "arg_parser")
    assert (stopped.returncode, stopped.stdout) == (130, "")
    assert_one_line(stopped.stderr, f"^{script}.py: interrupted: nothing unfinished was saved$")


@pytest.mark.parametrize("at", ["numpy", "torch.nn", "utils.runtime.errors"])
def test_ctrl_c_in_the_middle_of_the_imports(at):
    stopped = interrupted("main_train", at)
    assert (stopped.returncode, stopped.stdout) == (130, "")
    assert_one_line(stopped.stderr, "^main_train.py: interrupted: nothing unfinished was saved$")


def test_who_imports_a_script_gets_a_keyboard_interrupt():
    assert signal.getsignal(signal.SIGINT) != startup.end_at_once  # conftest has imported all
    stopped = interrupted("main_train", "numpy", run_name="main_train")
    assert stopped.returncode != 130
    assert stopped.stderr.endswith("KeyboardInterrupt\n")


def test_a_program_told_to_end_in_its_imports_just_ends():
    stopped = interrupted("main_train", "numpy", signal.SIGTERM)
    assert (stopped.returncode, stopped.stderr) == (-signal.SIGTERM, "")
