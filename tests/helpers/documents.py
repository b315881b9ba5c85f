"""The repository's documents as text: README.md, CONTRIBUTING.md and docs/."""

import re

from tests.helpers.environment import REPOSITORY

DOCUMENTS = sorted([*REPOSITORY.glob("*.md"), *(REPOSITORY / "docs").glob("*.md")])
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
CODE_SPAN = re.compile(r"`([^`]+)`")


def read(path):
    return path.read_text(encoding="utf-8")


def page(name):
    """The text of a page of docs/."""
    return read(REPOSITORY / "docs" / name)


def prose(text):
    """The text without its code blocks."""
    return FENCE.sub("", text)


def code_blocks(text, language):
    return [body for found, body in FENCE.findall(text) if found == language]


def code_spans(text):
    """The inline code of the prose; a span may be broken over lines."""
    return [" ".join(span.split()) for span in CODE_SPAN.findall(prose(text))]


def name_of(path):
    return str(path.relative_to(REPOSITORY))
