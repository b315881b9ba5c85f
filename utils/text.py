"""Text for the terminal and for pictures: tables, percentages, and names from users' files."""

from collections.abc import Sequence

MAX_LENGTH = 60  # characters
LAST_LATIN = "\u024f"  # the last character that every font of matplotlib has


def printable(text: str) -> str:
    """Return `text` in Latin letters, shortened if it is long.

    Other characters are written as Python escapes: fonts of pictures lack many, and control
    characters change a terminal.
    """
    shown = "".join(
        sign if sign.isprintable() and sign <= LAST_LATIN else ascii(sign)[1:-1] for sign in text
    )
    if len(shown) <= MAX_LENGTH:
        return shown
    kept = (MAX_LENGTH - 3) // 2
    return f"{shown[:kept]}...{shown[-kept:]}"


def encodable(text: str) -> str:
    """Return `text` with escapes for what no encoding has, such as undecodable file names."""
    return text.encode(errors="backslashreplace").decode()


def format_table(headers: Sequence[str], rows: Sequence[Sequence[str | int | None]]) -> str:
    """Return a table under `headers`; numbers are aligned right, words left. None is a dash."""
    cells = [["-" if cell is None else str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(headers, *cells, strict=True)]
    right = [all(_is_number(row[i]) for row in cells) for i in range(len(headers))]

    def line(row):
        parts = zip(row, widths, right, strict=True)
        return "  ".join(c.rjust(w) if r else c.ljust(w) for c, w, r in parts).rstrip()

    return "\n".join([line(headers), line(["-" * width for width in widths]), *map(line, cells)])


def percent(fraction: float | None) -> str:
    """Return `98.417%` for 0.98417, and `undefined` for None."""
    return "undefined" if fraction is None else f"{100 * fraction:.3f}%"


def _is_number(cell):
    return cell == "-" or cell.rstrip("%").replace(".", "", 1).replace(",", "").isdigit()
