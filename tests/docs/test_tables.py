"""The tables of flags, methods, data sets and packages in the documents are those of the code."""

import importlib
import re

import pytest
from medmnist import INFO

from tests.helpers.documents import page, read
from tests.helpers.environment import REPOSITORY
from unlearn.engine.method import describe_options, describe_recipe
from unlearn.registry import METHODS
from utils.data.loading import NAMES, SYNTHETIC
from utils.data.synthetic import SPLIT_SIZES

MAX_README_LINES = 280
README = read(REPOSITORY / "README.md")
FLAG_ROWS = dict(re.findall(r"^\| (\w+)\.py \| (.+) \|$", page("reference.md"), re.MULTILINE))
SCRIPTS = sorted(
    path.stem for path in REPOSITORY.glob("*.py") if "run_script(main)" in path.read_text()
)
PACKAGES = ("benchmarks", "evaluation", "flags", "models", "tests", "unlearn", "utils")


def test_the_readme_is_short():
    assert len(README.splitlines()) <= MAX_README_LINES


@pytest.mark.parametrize("script", SCRIPTS)
def test_flags_by_script(script, capsys):
    with pytest.raises(SystemExit):
        importlib.import_module(script).main(["--help"])
    in_help = set(re.findall(r"^  (--\w+)", capsys.readouterr().out, re.MULTILINE))
    assert set(re.findall(r"--\w+", FLAG_ROWS[script])) == in_help


def test_no_flags_of_other_scripts():
    assert sorted(FLAG_ROWS) == SCRIPTS


def test_methods_and_their_defaults():
    row = r"^\| (\w+) \| (.+) \| (.+) \| (.+) \| (yes|-) \| (.+) \| .+ \|$"
    expected = [
        (
            method.id,
            method.name,
            describe_recipe(method),
            describe_options(method) or "-",
            has_salun_variant(method),
            method.paper,
        )
        for method in METHODS.values()
        if not method.uses_mask
    ]
    assert re.findall(row, page("methods.md"), re.MULTILINE) == expected


def test_methods_of_the_readme():
    rows = re.findall(r"^\| [\w -]* ?\| (\w+) \| (yes|-) \| .+ \|$", README, re.MULTILINE)
    methods = [method for method in METHODS.values() if not method.uses_mask]
    assert sorted(rows) == sorted((method.id, has_salun_variant(method)) for method in methods)


def has_salun_variant(method):
    return "yes" if f"{method.id}_with_SalUn" in METHODS else "-"


def test_data_sets_and_their_sizes():
    row = r"^\| (\w+) \| ([\d, /]+) \| (\d+) \| (\d) \| ([\w, -]+) \|$"
    rows = re.findall(row, page("data.md"), re.MULTILINE)
    written = {name: (sizes, int(classes), int(c), task) for name, sizes, classes, c, task in rows}
    assert set(written) == set(NAMES)
    assert written.pop(SYNTHETIC) == (_sizes(SPLIT_SIZES), 8, 3, "multi-class")
    for name, row in written.items():
        info = INFO[name.lower()]
        expected = (_sizes(info["n_samples"]), len(info["label"]), info["n_channels"], info["task"])
        assert row == expected


def _sizes(samples):
    return " / ".join(f"{samples[split]:,}" for split in ("train", "val", "test"))


def test_packages_of_the_architecture():
    """Each package and each of its folders has a row; folders of tests are not listed singly."""
    rows = re.findall(r"^\| (.+?) \| .+ \|$", page("architecture.md"), re.MULTILINE)
    listed = {span for row in rows for span in re.findall(r"`([\w/]+)/`", row)}
    folders = {
        str(path.parent.relative_to(REPOSITORY))
        for package in PACKAGES
        for path in (REPOSITORY / package).rglob("*.py")
        if package != "tests"
    }
    assert listed >= folders | {"tests"}
