"""Flags are parsed before anything heavy is imported, and Ctrl-C during imports prints one line."""

import os
import signal
import subprocess
import sys

import pytest

from tests.helpers.environment import REPOSITORY, assert_one_line, script_environment
from utils.runtime import startup

SCRIPTS = sorted(
    path.stem for path in REPOSITORY.glob("*.py") if "run_script(main)" in path.read_text()
)
HEAVY = ("torch", "torchvision", "scipy", "sklearn", "numpy", "matplotlib", "medmnist", "PIL")
RUN_AND_LIST_IMPORTS = f"""
import runpy, sys
sys.argv = sys.argv[1:]
sys.path.insert(0, {str(REPOSITORY)!r})
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
finally:
    print([name for name in {HEAVY!r} if name in sys.modules])
"""
INTERRUPTED_AT = """
import os, runpy, sys

class Interrupting:
    @staticmethod
    def find_spec(name, *_):
        if name == at:
            os.kill(os.getpid(), number)

at, number, run_name = sys.argv[1], int(sys.argv[2]), sys.argv[3]
sys.argv = sys.argv[4:]
sys.meta_path.insert(0, Interrupting)
sys.path.insert(0, os.path.dirname(sys.argv[0]))
runpy.run_path(sys.argv[0], run_name=run_name)
"""
POSIX = pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")


def run_code(code, *arguments):
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        env=script_environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )


def heavy_imports(script, *flags):
    """Return (exit code, standard error, printed lines, last line: heavy modules imported)."""
    ended = run_code(RUN_AND_LIST_IMPORTS, REPOSITORY / f"{script}.py", *flags)
    *printed, imported = ended.stdout.splitlines()
    return ended.returncode, ended.stderr, printed, imported


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_imports_nothing_heavy(script):
    code, error, printed, imported = heavy_imports(script, "--help")
    assert (code, error, imported) == (0, "", "[]")
    assert printed[0].startswith(f"usage: {script}.py")


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_wrong_flag_is_refused_before_anything_heavy_is_imported(script):
    code, error, printed, imported = heavy_imports(script, "--data_on", "paper")
    assert (code, printed, imported) == (2, [], "[]")
    assert_one_line(error, f"^{script}.py: error: .*--data_on: invalid choice: 'paper'")


@pytest.mark.parametrize("script", ["main_unlearn", "main_compare"])
def test_methods_are_listed_without_importing_anything_heavy(script):
    code, error, printed, imported = heavy_imports(script, "--list_methods")
    assert (code, error, imported) == (0, "", "[]")
    assert any(line.startswith("Retrain ") for line in printed)


def test_an_unknown_method_is_refused_before_anything_heavy_is_imported():
    flags = ("--model_id", "x", "--class_to_forget", "1", "--unlearn", "nothing")
    code, error, printed, imported = heavy_imports("main_unlearn", *flags)
    assert (code, printed, imported) == (2, [], "[]")
    assert_one_line(error, "^main_unlearn.py: error: --unlearn nothing: no such method")


def interrupted(script, at, number=signal.SIGINT, run_name="__main__"):
    """Run a script that receives a signal as it begins to import the module `at`."""
    path, flags = REPOSITORY / f"{script}.py", ("--save_model_id", "never_trained")
    flags = flags if script == "main_train" else ()
    return run_code(INTERRUPTED_AT, at, int(number), run_name, path, *flags)


@POSIX
@pytest.mark.parametrize("script", SCRIPTS)
def test_ctrl_c_before_anything_else_is_imported(script):
    stopped = interrupted(script, "arg_parser")
    assert (stopped.returncode, stopped.stdout) == (130, "")
    assert_one_line(stopped.stderr, f"^{script}.py: interrupted: nothing unfinished was saved$")


@POSIX
@pytest.mark.parametrize(
    "at", ["utils.runtime.errors", "numpy", "torch.nn", "models.architectures"]
)
def test_ctrl_c_in_the_middle_of_the_imports(at):
    stopped = interrupted("main_train", at)
    assert (stopped.returncode, stopped.stdout) == (130, "")
    assert_one_line(stopped.stderr, "^main_train.py: interrupted: nothing unfinished was saved$")


@POSIX
def test_importing_a_script_leaves_ctrl_c_alone():
    assert signal.getsignal(signal.SIGINT) != startup.end_at_once  # this process imports scripts
    stopped = interrupted("main_train", "arg_parser", run_name="main_train")
    assert stopped.returncode != 130
    assert stopped.stderr.endswith("KeyboardInterrupt\n")


@POSIX
def test_sigterm_in_the_middle_of_the_imports():
    stopped = interrupted("main_train", "numpy", signal.SIGTERM)
    assert (stopped.returncode, stopped.stdout) == (143, "")
    assert_one_line(stopped.stderr, "^main_train.py: interrupted: nothing unfinished was saved$")
