"""The examples of docs/contributing.md work as written, with nothing else edited."""

import json
import re
import shlex
import shutil
import subprocess
import sys

import pytest

from models.checkpoint import load_model
from tests.helpers.documents import code_blocks, page
from tests.helpers.environment import BASE, REPOSITORY, model_flags, script_environment
from unlearn import registry
from unlearn.registry import METHODS, load_plugins, read_methods, with_variants

MAX_LINES = 30  # of an example, blank ones not counted


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
    assert count_lines(source) <= MAX_LINES
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
    assert len(kept) == 4  # the base model, two Retrains and GA

    path.write_text(source.replace('group="utility"', 'group="calibration"'))
    printed = run(test.replace("utility", "calibration"), checkout)
    assert re.search(row, printed.split("\nCalibration\n")[1], re.MULTILINE)


def count_lines(source):
    return sum(bool(line.strip()) for line in source.splitlines())


def method_blocks():
    """The file of the example of a method, and the file of its test."""
    source, test = code_blocks(section("Add a method"), "python")
    assert count_lines(source) <= MAX_LINES
    return source, test


@pytest.fixture
def method_file(tmp_path):
    """The example of a method, as a plug-in."""
    path = tmp_path / "my_method.py"
    path.write_text(method_blocks()[0])
    yield path
    load_plugins([])


def run_tests(text):
    """Run the test functions of a file."""
    names = {}
    exec(compile(text, "test_in_document", "exec"), names)
    tests = [name for name in names if name.startswith("test_")]
    assert tests
    for name in tests:
        names[name]()


@pytest.mark.parametrize("method", ["Uniform", "Uniform_with_SalUn"])
def test_the_method_runs_as_a_plugin(method, method_file, trained, done, data_files):
    flags = (*model_flags(data_files["grey"]), "--class_to_forget", "3", "--unlearn_epochs", "1")
    printed = done("main_unlearn", "--plugin", method_file, *flags, "--unlearn", method)
    model_id = printed.splitlines()[-1].removeprefix("model_id: ")
    assert model_id.startswith(f"{BASE}_FORGOTTEN_3_{method.upper()}_")
    record = load_model(model_id)[1]
    assert record["method"] == method
    assert record["plugin"]["file"] == "my_method.py"


def test_the_method_is_found_in_the_folder_of_methods(tmp_path, monkeypatch):
    """In a copy of the folder, which the path of unlearn.methods names instead of its own."""
    import unlearn.methods

    folder = shutil.copytree(registry.METHOD_FOLDER.parent, tmp_path / "unlearn") / "methods"
    source, test = method_blocks()
    (folder / "my_method.py").write_text(source)
    found = with_variants(read_methods(folder))
    assert set(found) - set(METHODS) == {"Uniform", "Uniform_with_SalUn"}
    monkeypatch.setattr(unlearn.methods, "__path__", [str(folder)])
    for method in ("Uniform", "Uniform_with_SalUn"):
        monkeypatch.setitem(METHODS, method, found[method])
    run_tests(test)


def test_the_test_of_the_method_passes_for_the_plugin(method_file):
    load_plugins([str(method_file)])
    run_tests(method_blocks()[1])
