"""Printing to terminals of any encoding, full disks, closed pipes and closed streams."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.environment import REPOSITORY, script_environment
from utils.plots.figures import new_figure, png_bytes
from utils.runtime.errors import run_script

pytestmark = pytest.mark.skipif(os.name == "nt", reason="streams of POSIX")

SCRIPT = r"""
import sys
from utils.runtime.errors import UserError, run_script

def main():
    if "error" in sys.argv:
        raise UserError("\u03a9 \x1b[31m is wrong")
    if "file" in sys.argv:
        with open("kept", "wb", buffering=0) as file:
            file.write(str(file.fileno()).encode())
    print("\u03a9 \udcff")

run_script(main)
"""


def ran(folder, *words, shell='"$@"', **options):
    options = {"stdout": subprocess.PIPE} | options
    done = subprocess.run(
        ["bash", "-c", shell, "bash", sys.executable, "-c", SCRIPT, *words],
        cwd=folder,
        env=script_environment()
        | {"PYTHONPATH": str(REPOSITORY), "PYTHONIOENCODING": "ascii:strict"},
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        **options,
    )
    return done.returncode, done.stdout, done.stderr


def test_a_terminal_that_lacks_characters(tmp_path):
    assert ran(tmp_path) == (0, "\\u03a9 \\udcff\n", "")
    says = "-c: error: \\u03a9 \\x1b[31m is wrong\n"  # no control characters
    assert ran(tmp_path, "error") == (2, "", says)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no device that is full")
def test_output_to_a_full_disk(tmp_path):
    with open("/dev/full", "w") as full:
        code, _, err = ran(tmp_path, stdout=full)
    says = "-c: error: No space left on device: make room and try again\n"
    assert (code, err) == (2, says)


def test_output_to_a_closed_pipe(tmp_path):
    reader, writer = os.pipe()
    os.close(reader)
    try:
        code, _, err = ran(tmp_path, stdout=writer)
    finally:
        os.close(writer)
    assert (code, err) == (141, "")


def test_a_file_does_not_get_the_number_of_a_closed_stream(tmp_path):
    """Otherwise, what libraries write to standard error would be in the file."""
    assert ran(tmp_path, "file", shell='"$@" <&- >&- 2>&-') == (0, "", "")
    assert int((tmp_path / "kept").read_text()) > 2


def test_characters_without_a_font_cause_no_warning():
    figure = new_figure(2, 1, "\u808c")
    assert run_script(lambda: png_bytes(figure)) is None
