"""Text for the terminal and for pictures: tables, percents, and names from users' files."""

LONGEST = 60  # characters
LAST_LATIN = "\u024f"  # of the signs that every font of matplotlib has


def printable(text):
    """`text` in Latin letters, anything else as Python writes it in ASCII, and not too long.

    Fonts of pictures lack many signs, and control characters do what they like to a terminal.
    """
    shown = "".join(
        sign if sign.isprintable() and sign <= LAST_LATIN else ascii(sign)[1:-1] for sign in text
    )
    if len(shown) <= LONGEST:
        return shown
    kept = (LONGEST - 3) // 2
    return f"{shown[:kept]}...{shown[-kept:]}"


def encodable(text):
    """`text` with escapes for what is in no encoding: bytes of a file's name, in most cases."""
    return text.encode(errors="backslashreplace").decode()


def format_table(headers, rows):
    """Lines of a table under `headers`; numbers stand right, words left.

    rows: lists of str, int, or None, which shows as a dash.
    """
    cells = [["-" if cell is None else str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(headers, *cells, strict=True)]
    right = [all(_is_number(row[i]) for row in cells) for i in range(len(headers))]

    def line(row):
        parts = zip(row, widths, right, strict=True)
        return "  ".join(c.rjust(w) if r else c.ljust(w) for c, w, r in parts).rstrip()

    return "\n".join([line(headers), line(["-" * width for width in widths]), *map(line, cells)])


def percent(share):
    """0.98417 -> '98.417%', None -> 'undefined'."""
    return "undefined" if share is None else f"{100 * share:.3f}%"


def _is_number(cell):
    return cell == "-" or cell.rstrip("%").replace(".", "", 1).replace(",", "").isdigit()
