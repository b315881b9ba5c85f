"""Tests and files that the documents name exist."""

import re

import pytest

from tests.helpers.documents import DOCUMENTS, code_spans, name_of, read
from tests.helpers.environment import REPOSITORY

FOLDERS = ("benchmarks", "docs", "evaluation", "flags", "models", "tests", "unlearn", "utils")
EXAMPLE = re.compile(r"/(test_)?(my_\w+|brier)\.py$")  # a file that a reader writes
TEST_FILES = {path.name: path for path in (REPOSITORY / "tests").rglob("test_*.py")}
TESTS = {
    name
    for path in TEST_FILES.values()
    for name in re.findall(r"^def (test_\w+)", read(path), re.MULTILINE)
}


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_named_tests_exist(document):
    spans = code_spans(read(document))
    files = {span for span in spans if re.fullmatch(r"test_\w+\.py", span)}
    tests = {span for span in spans if re.fullmatch(r"test_\w+", span)}
    assert files - set(TEST_FILES) == set()
    assert tests - TESTS == set()


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_named_files_exist(document):
    text = read(document)
    spans = {span for span in code_spans(text) if re.fullmatch(r"[\w./-]+", span)}
    paths = [span for span in spans if span.split("/")[0] in FOLDERS and "/" in span]
    missing = [path for path in paths if not (REPOSITORY / path).exists()]
    assert [path for path in missing if not EXAMPLE.search(path)] == []


@pytest.mark.parametrize("page", ["reliability.md", "security.md"])
def test_promises_name_their_tests(page):
    """Each row of a table of promises names at least one test."""
    table = read(REPOSITORY / "docs" / page).split("## Promises")[1].split("\n## ")[0]
    rows = [line for line in table.splitlines() if line.startswith("| ")][2:]
    assert rows
    assert [row for row in rows if not re.search(r"`test_\w+(\.py)?`", row)] == []
