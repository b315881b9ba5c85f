"""Declarations are read without importing their file; functions are imported when called."""

import sys

import pytest

from utils.declarations import Deferred, read_declaration

SOURCE = """
import no_such_library
from somewhere import imported

SCALE = 3
OPTIONS = {name: Wrap(number * SCALE) for name, number in (("a", 1), ("b", 2))}


def work(number):
    return number + SCALE


DECLARED = Wrap([OPTIONS["b"], work, imported])
"""


class Wrap:
    def __init__(self, value):
        self.value = value


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "declared_here.py"
    path.write_text(SOURCE)
    return path


def test_values_are_evaluated_and_functions_deferred(file):
    found = read_declaration(file, "declared_here", "DECLARED", {"Wrap": Wrap})
    option, work, imported = found.value
    assert option.value == 6
    assert work == Deferred("declared_here", "work")
    assert imported == Deferred("somewhere", "imported")
    assert "declared_here" not in sys.modules


def test_a_function_is_imported_when_it_is_called(tmp_path, monkeypatch):
    path = tmp_path / "callable_here.py"
    path.write_text("def twice(number):\n    return 2 * number\n\n\nDECLARED = twice\n")
    monkeypatch.syspath_prepend(tmp_path)
    found = read_declaration(path, "callable_here", "DECLARED", {})
    assert "callable_here" not in sys.modules
    assert found(4) == 8
    assert "callable_here" in sys.modules


def test_a_file_without_the_declaration(file):
    assert read_declaration(file, "declared_here", "OTHER", {}) is None


def test_a_name_that_the_file_does_not_have(tmp_path):
    path = tmp_path / "broken.py"
    path.write_text("DECLARED = missing(3)\n")
    with pytest.raises(NameError, match="missing"):
        read_declaration(path, "broken", "DECLARED", {})


def test_constants_are_followed_into_files_of_the_same_package(tmp_path):
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "shared.py").write_text("LIMIT = 5\n\n\ndef work():\n    pass\n")
    path = tmp_path / "package" / "user.py"
    path.write_text("from package.shared import LIMIT, work\n\nDECLARED = [LIMIT + 1, work]\n")
    found = read_declaration(path, "package.user", "DECLARED", {})
    assert found == [6, Deferred("package.shared", "work")]
