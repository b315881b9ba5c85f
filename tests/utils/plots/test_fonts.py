"""Names in any alphabet are drawn without boxes, with fallback fonts or transliterated."""

import shutil

import matplotlib
import numpy as np
import pytest
from matplotlib import font_manager
from matplotlib.font_manager import FontProperties, findfont, fontManager, get_font
from matplotlib.text import Text

from tests.helpers.pictures import check_png
from tests.utils.plots.test_viewer import LABELS, make_viewer
from utils.plots import fonts
from utils.plots.confusion import confusion_matrix
from utils.plots.figures import png_bytes

NAMES = ["嗜碱性粒细胞", "λευκό αιμοσφαίριο", "خلية دم", "\N{PETRI DISH} 한글", "ＷＢＣ", "plain"]
MATH_LETTER = "\N{MATHEMATICAL BOLD CAPITAL A}"  # in a font of matplotlib, but not in the default


@pytest.fixture(autouse=True)
def new_process(monkeypatch):
    """Nothing has been reported, and fonts have not been read."""
    monkeypatch.setattr(fonts, "_reported", False)
    clear()
    yield
    clear()


def clear():
    fonts._default_characters.cache_clear()
    fonts._fallback_families.cache_clear()


def undrawn_characters(figure):
    """The characters of a figure's texts that none of their fonts has."""
    found = set()
    for text in figure.findobj(Text):
        coverage = set("\n")
        for family in text.get_fontfamily():
            path = findfont(FontProperties(family=family, weight=text.get_fontweight()))
            coverage |= set(map(chr, get_font(path).get_charmap()))
        found |= set(text.get_text()) - coverage
    return found


def draw(names, title="model"):
    figure = confusion_matrix(np.eye(len(names), dtype=int), names, title, forgotten=[1])
    png_bytes(figure)
    return figure


def labels_of(figure):
    return [label.get_text() for label in figure.axes[0].get_yticklabels()]


def test_no_box_is_drawn_and_missing_fonts_are_reported_once(capsys):
    figure = draw(NAMES)
    assert undrawn_characters(figure) == set()
    check_png("confusion", figure)  # raises for the warning of a missing glyph
    draw(NAMES, title="血")
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("no installed font has all characters of") and "install a font" in line


def test_names_that_the_default_font_has_are_unchanged(capsys):
    names = ["λευκό", "Лейкоцит", "خلية", "a$b$"]
    assert labels_of(draw(names))[0] == "0 λευκό"
    assert [fonts.drawable(name) for name in names] == names
    assert capsys.readouterr().out == ""


def test_transliteration_by_hand(monkeypatch):
    monkeypatch.setattr(fonts.fontManager, "ttflist", [])
    assert fonts.drawable("ＷＢＣ") == "WBC"  # compatibility decomposition
    assert fonts.drawable("한 ツ") == "han tu"  # the Unicode names end in the sound
    assert fonts.drawable("中") == r"\u4e2d"
    assert fonts.drawable("\N{PETRI DISH}") == r"\U0001f9eb"


def test_a_character_of_another_font_uses_that_font(capsys):
    figure = draw([MATH_LETTER, "b"])
    label = figure.axes[0].get_yticklabels()[0]
    assert label.get_text() == f"0 {MATH_LETTER}"
    assert label.get_fontfamily()[-1] == fonts._fallback_families()[MATH_LETTER]
    assert undrawn_characters(figure) == set()
    assert capsys.readouterr().out == ""


def test_a_newly_installed_font_is_a_fallback(tmp_path, monkeypatch):
    """The default has Latin letters only; DejaVu Sans, installed for the test, has Greek."""
    source = findfont("DejaVu Sans")
    latin = next(f.fname for f in fontManager.ttflist if f.name == "STIXSizeOneSym")
    monkeypatch.setattr(fonts, "findfont", lambda properties: latin)
    shutil.copy(source, tmp_path / "greek.ttf")
    entry = font_manager.ttfFontProperty(get_font(tmp_path / "greek.ttf"))
    monkeypatch.setattr(fonts.fontManager, "ttflist", [entry])
    assert fonts._fallback_families()["α"] == "DejaVu Sans"
    assert fonts.drawable("α") == "α"


def test_fonts_that_cannot_be_read_are_ignored(tmp_path, monkeypatch):
    entry = fontManager.ttflist[0]
    missing = type(entry)(**vars(entry) | {"fname": str(tmp_path / "removed.ttf")})
    monkeypatch.setattr(fonts.fontManager, "ttflist", [missing])
    assert fonts._fallback_families() == {}


def test_the_viewer_draws_no_box():
    viewer = make_viewer(class_names=[*NAMES, *NAMES], titles=[f"GT: {NAMES[0]}"] * len(LABELS))
    for key in ("0", "3"):
        viewer.press(key)
        assert undrawn_characters(viewer.figure) == set()


def test_fonts_without_letters_are_not_used():
    families = set(fonts._fallback_families().values())
    assert not any(name.startswith(fonts.WITHOUT_LETTERS) for name in families)
    assert matplotlib.rcParams["font.family"] == ["sans-serif"]
