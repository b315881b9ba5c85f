"""Fonts for names in any alphabet: fallback fonts, and transliteration where no font has a letter.

matplotlib draws a character that its font lacks as a box. `drawable` and `use_fallback_fonts`
prevent that: the first replaces characters that no installed font has, the second lets the texts of
a figure use the fonts that have the others.
"""

import re
import unicodedata
from functools import cache

from matplotlib.figure import Figure
from matplotlib.font_manager import FontEntry, FontProperties, findfont, fontManager, get_font
from matplotlib.text import Text

WITHOUT_LETTERS = ("Last Resort", "cm", "STIXSize", "STIXNonUnicode")  # boxes, symbols of formulas
# the sound is the last word of such a name: HANGUL SYLLABLE HAN, KATAKANA LETTER SMALL TU
SOUND = re.compile(r"(?:LETTER|SYLLABLE)(?: SMALL)? ([A-Z]{1,7})")

_reported = False  # whether a missing font has been reported


def drawable(text: str) -> str:
    """Return `text` with each character that no installed font has in Latin letters or as a code.

    The replacement is the compatibility decomposition (NFKD), the sound that the Unicode name of a
    letter or syllable ends in, or the escape as Python writes it. The first replacement is
    reported in one printed line.
    """
    if all(map(_has_font, text)):
        return text
    _report_missing_font(text)
    return "".join(sign if _has_font(sign) else _transliterated(sign) for sign in text)


def use_fallback_fonts(figure: Figure) -> None:
    """Let each text of the figure that needs them use fallback fonts as well as its own."""
    for text in figure.findobj(Text):
        missing = [sign for sign in text.get_text() if not _in_default_font(sign)]
        families = dict.fromkeys(filter(None, map(_fallback_families().get, missing)))
        if families:
            own = [name for name in text.get_fontfamily() if name not in families]
            text.set_fontfamily([*own, *families])


@cache
def _default_characters() -> frozenset[str]:
    return _characters(findfont(FontProperties()))


@cache
def _fallback_families() -> dict[str, str]:
    """The family of the first font that has a character, by character; default font left out."""
    families: dict[str, str] = {}
    for font in sorted(fontManager.ttflist, key=_preference):
        if not font.name.startswith(WITHOUT_LETTERS):
            for sign in _characters(font.fname):
                families.setdefault(sign, font.name)
    return families


def _preference(font: FontEntry) -> tuple:
    """Sort key: upright regular sans-serif fonts first."""
    regular = font.style == "normal" and font.weight in (400, "normal", "regular")
    return not regular, "Sans" not in font.name, font.name, font.fname


def _characters(path: str) -> frozenset[str]:
    try:
        return frozenset(map(chr, get_font(path).get_charmap()))
    except (OSError, RuntimeError):  # removed since matplotlib listed it, or damaged
        return frozenset()


def _in_default_font(sign: str) -> bool:
    return sign == "\n" or sign in _default_characters()


def _has_font(sign: str) -> bool:
    return _in_default_font(sign) or sign in _fallback_families()


def _transliterated(sign: str) -> str:
    decomposed = unicodedata.normalize("NFKD", sign)
    if decomposed != sign and all(map(_has_font, decomposed)):
        return decomposed
    sound = SOUND.search(unicodedata.name(sign, ""))
    return sound[1].lower() if sound else ascii(sign)[1:-1]


def _report_missing_font(text: str) -> None:
    """Print one line about the first such text of this process."""
    global _reported
    if not _reported:
        _reported = True
        print(
            f'no installed font has all characters of "{text}": pictures transliterate such names; '
            "install a font that has them to see the names as they are"
        )
