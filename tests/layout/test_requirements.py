"""Every import is declared, and the lower bounds are the versions of the oldest tested set."""

import ast
import re
import sys
from importlib.metadata import packages_distributions

import pytest

from tests.helpers.environment import REPOSITORY

SKIPPED = {"venv", ".venv", "build", "__pycache__"}
TOOLS = {"ruff", "pytest-xdist"}  # run as commands or plug-ins
USERS_FILE, TESTS_FILE = REPOSITORY / "requirements.txt", REPOSITORY / "tests/requirements.txt"
OLDEST_FILE = REPOSITORY / "tests/requirements-oldest.txt"
REQUIREMENT = re.compile(r"(?P<name>[\w.-]+)((?P<operator>[=><]=)(?P<version>[\d.]+))?")


def normalized(name):
    return re.sub("[-_.]+", "-", name).lower()


def requirements(file):
    """{name: (operator, version)}, both None for an entry without a version."""
    lines = [line.partition("#")[0].strip() for line in file.read_text().splitlines()]
    found = [REQUIREMENT.fullmatch(line) for line in lines if line and not line.startswith("-r")]
    return {normalized(match["name"]): (match["operator"], match["version"]) for match in found}


def imported_distributions(files):
    """Names of the distributions that the files import, each with the files that do."""
    files = [path for path in files if not SKIPPED & set(path.relative_to(REPOSITORY).parts)]
    # benchmarks import one another as scripts, from their own folder
    own = {path.stem for path in (*REPOSITORY.glob("*"), *REPOSITORY.glob("benchmarks/*"))}
    distributions, found = packages_distributions(), {}
    for path in files:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module]
            elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "find_spec":
                names = [name.value for name in node.args if isinstance(name, ast.Constant)]
            for top in {name.partition(".")[0] for name in names} - own - sys.stdlib_module_names:
                for name in distributions.get(top, [top]):
                    found.setdefault(normalized(name), set()).add(str(path.relative_to(REPOSITORY)))
    return found


@pytest.fixture(scope="module")
def imports_of_users():
    files = REPOSITORY.rglob("*.py")
    return imported_distributions(
        path for path in files if REPOSITORY / "tests" not in path.parents
    )


@pytest.fixture(scope="module")
def imports_of_tests():
    return imported_distributions((REPOSITORY / "tests").rglob("*.py"))


def test_imports_of_scripts_packages_and_benchmarks_are_declared(imports_of_users):
    declared = requirements(USERS_FILE)
    assert {name: files for name, files in imports_of_users.items() if name not in declared} == {}


def test_imports_of_tests_are_declared(imports_of_tests):
    assert "-r ../requirements.txt" in TESTS_FILE.read_text()
    declared = requirements(USERS_FILE) | requirements(TESTS_FILE)
    assert {name: files for name, files in imports_of_tests.items() if name not in declared} == {}


def test_declared_distributions_are_imported(imports_of_users, imports_of_tests):
    assert set(requirements(USERS_FILE)) <= set(imports_of_users)
    assert set(requirements(TESTS_FILE)) - TOOLS <= set(imports_of_tests)


def test_lower_bounds_are_the_oldest_tested_versions():
    oldest = requirements(OLDEST_FILE)
    for name, (operator, bound) in requirements(USERS_FILE).items():
        pin, version = oldest[name]
        assert (operator, pin) == (">=", "=="), name
        assert f"{version}.".startswith(f"{bound}."), name


def test_an_undeclared_import_is_detected(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "REPOSITORY", tmp_path)
    (tmp_path / "own.py").write_text("import os\nimport PIL.Image\n")
    (tmp_path / "script.py").write_text("def f():\n    from sklearn import svm\nimport own, absent")
    found = imported_distributions(tmp_path.glob("*.py"))
    assert found == {"pillow": {"own.py"}, "scikit-learn": {"script.py"}, "absent": {"script.py"}}
