"""Tables for the terminal."""


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
