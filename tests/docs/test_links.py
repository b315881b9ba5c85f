"""Links, anchors and pictures of the documents lead somewhere, and every picture is shown."""

import re

import pytest

from tests.helpers.documents import DOCUMENTS, name_of, prose, read
from tests.helpers.environment import REPOSITORY

LINK = re.compile(r"(!?)\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
ELSEWHERE = ("https://", "http://")


def anchors(path):
    """The anchors that GitHub gives the headings of a page."""
    titles = (title.replace("`", "").lower() for title in HEADING.findall(prose(read(path))))
    return {re.sub(r"[^\w\- ]", "", title).replace(" ", "-") for title in titles}


def links(path):
    """(whether it is a picture, target) of each link within the repository."""
    found = LINK.findall(prose(read(path)))
    return [(bool(mark), target) for mark, target in found if not target.startswith(ELSEWHERE)]


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_links_resolve(document):
    broken = []
    for _, target in links(document):
        name, _, anchor = target.partition("#")
        path = (document.parent / name).resolve() if name else document
        exists = path.is_relative_to(REPOSITORY) and path.exists()
        if not exists or (anchor and anchor not in anchors(path)):
            broken.append(target)
    assert broken == []


def test_every_picture_is_shown():
    shown = {
        (document.parent / target).resolve()
        for document in DOCUMENTS
        for is_picture, target in links(document)
        if is_picture
    }
    assert shown == set((REPOSITORY / "pics").glob("*.png"))


def test_every_page_can_be_reached_from_the_readme():
    seen, waiting = set(), [REPOSITORY / "README.md"]
    while waiting:
        document = waiting.pop()
        if document in seen:
            continue
        seen.add(document)
        targets = (target.partition("#")[0] for _, target in links(document))
        pages = ((document.parent / name).resolve() for name in targets if name.endswith(".md"))
        waiting += pages
    assert seen >= set((REPOSITORY / "docs").glob("*.md"))


def test_anchors_are_those_of_github(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# `--plugin`: own *methods*, U-LiRA\n```text\n# no heading\n```\n")
    assert anchors(page) == {"--plugin-own-methods-u-lira"}


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_a_page_has_one_title(document):
    titles = re.findall(r"^# .+$", prose(read(document)), re.MULTILINE)
    assert len(titles) == 1
    assert read(document).startswith(titles[0])
