"""The examples of docs/contributing.md work as written, with nothing else edited."""

import json
import re
import shlex
import shutil
import subprocess
import sys

import pytest

from tests.helpers.documents import code_blocks, page
from tests.helpers.environment import REPOSITORY, script_environment

MAX_LINES = 36  # of an example


def section(title):
    """The text below a heading of the page, up to the next one."""
    return re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", page("contributing.md"), re.M | re.S)[1]


@pytest.fixture
def checkout(tmp_path):
    """A copy of the code."""
    for path in REPOSITORY.glob("*.py"):
        shutil.copy(path, tmp_path)
    for folder in ("evaluation", "flags", "models", "unlearn", "utils"):
        if (REPOSITORY / folder).is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(REPOSITORY / folder, tmp_path / folder, ignore=ignored)
    return tmp_path


def run(command, checkout):
    """What a command of a page prints that is run in a copy of the code."""
    program, *words = shlex.split(command)
    assert program == "python"
    environment = script_environment() | {"PYTHONPATH": ""}
    done = subprocess.run(
        [sys.executable, *words],
        cwd=checkout,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_measure_as_written(checkout):
    text = section("Add a measure")
    [source] = code_blocks(text, "python")
    assert len(source.splitlines()) <= MAX_LINES
    [block] = code_blocks(text, "bash")
    train, test, compare = block.splitlines()
    path = checkout / re.search(r"Save it as `(.*?)`", text)[1]
    path.write_text(source)
    run(train, checkout)
    printed = run(test, checkout)
    results = json.loads((checkout / "results" / "small_best_3.json").read_bytes())
    assert 0 <= results["brier_score"] <= 2
    assert "\n- Brier score: Lower is better; compare with Retrain.\n" in printed
    row = rf"^Brier score, test images +{results['brier_score']:.4f}\b"
    assert re.search(row, printed, re.MULTILINE)

    assert "Brier score" in run(compare, checkout)
    [table] = (checkout / "results").glob("*_comparison.csv")
    assert "brier_score_mean" in table.read_text().splitlines()[0]
    [trials] = (checkout / "results").glob("*_comparison.json")
    kept = json.loads(trials.read_bytes())["trials"]
    assert kept["small_best"]["brier_score"] == results["brier_score"]
    assert len(kept) == 3  # the base model, Retrain and GA

    path.write_text(source.replace('group="utility"', 'group="calibration"'))
    printed = run(test.replace("utility", "calibration"), checkout)
    assert re.search(row, printed.split("\nCalibration\n")[1], re.MULTILINE)
