"""Deletion requests that come as files: training images by number, or by what is known of them.

Every fault is a UserError that names the file, and the line where there is one.
"""

import re

from unlearn.request.request import ForgetRequest
from utils.io.csv_files import quoted, read_rows, read_text
from utils.io.files import suggest_name
from utils.runtime.errors import UserError
from utils.text import printable

MOST_BYTES = 256 * 2**20  # a kilobyte for each of a quarter of a million images
SHOWN_VALUES = 5
LONGEST_NUMBER = 18  # digits; no data set has that many images


def request_from_indices_file(path, dataset):
    """The request for the images that a file lists: a row of the training split a line, from 0.

    Blank lines, and what follows a #, do not count.
    """
    count = len(dataset.train)
    lines = {}
    # not splitlines(), which ends a line, and so a comment, at characters that nobody sees as well
    for line, text in enumerate(re.split("\r\n|\n|\r", _told_of(path)), 1):
        text = text.partition("#")[0].strip()
        if not text:
            continue
        where = f"--forget_indices {path}, line {line}"
        if not re.fullmatch("-?[0-9]+", text) or re.fullmatch("-0+", text):
            raise UserError(f"{where}: {quoted(text)} is not a whole number: give an index a line")
        if len(text) > LONGEST_NUMBER or not 0 <= int(text) < count:
            raise UserError(
                f"{where}: {quoted(text)} is no training image: they are 0 to {count - 1}"
            )
        index = int(text)
        if index in lines:
            raise UserError(
                f"{where}: {index} is there already, in line {lines[index]}: give it once"
            )
        lines[index] = line
    if not lines:
        raise UserError(f"--forget_indices {path} holds no index: there is nothing to forget")
    return ForgetRequest((), tuple(sorted(lines)))


def _told_of(path):
    """The text of a list."""
    if not path:
        raise UserError("--forget_indices has no file name: give the file that lists the images")
    return read_text(path, MOST_BYTES, f"--forget_indices {path}", "a text file, an index a line,")


def request_from_metadata(path, conditions, dataset):
    """The request for the training images whose rows in a CSV file meet all conditions.

    path: a header and a row for each training image, in their order. conditions: COLUMN=VALUE,
    met by the very text of a cell, without the blanks around it.
    """
    header, rows = _table(path, len(dataset.train))
    wanted = [_condition(text, header, path) for text in conditions]
    asked = {}
    for column, value in wanted:
        if asked.setdefault(column, value) != value:
            raise UserError(
                f"--forget_where: {printable(header[column])} cannot be both "
                f"{printable(asked[column])} and {printable(value)}: all conditions must hold; "
                "give it once"
            )
    wanted = list(asked.items())
    found = range(len(rows))
    for place, (column, value) in enumerate(wanted):
        matching = [row for row in found if rows[row][column] == value]
        if not matching:
            met, unmet = (_told(header, part) for part in (wanted[:place], [(column, value)]))
            raise UserError(
                f"--metadata {path}: no training image{f' with {met}' if met else ''} has "
                f"{unmet}; there are {_values(rows[row][column] for row in found)}"
            )
        found = matching
    return ForgetRequest((), tuple(found), f"training images with {_told(header, wanted)}")


def _table(path, count):
    if not path:
        raise UserError("--metadata has no file name: give the CSV file that tells of the images")
    rows = read_rows(path, MOST_BYTES, str.strip, f"--metadata {path}")
    if not rows:
        raise UserError(f"--metadata {path} is empty: give a header and a row for each image")
    (_, header), *rows = rows
    for line, cells in rows:
        if len(cells) != len(header):
            raise UserError(
                f"--metadata {path}, line {line}: expected {len(header)} columns as in the header, "
                f"not {len(cells)}"
            )
    if len(rows) != count:
        raise UserError(
            f"--metadata {path} has {len(rows)} rows below its header for {count} training images: "
            "give exactly one for each"
        )
    return header, [cells for _, cells in rows]


def _condition(text, header, path):
    """(place in the header, value) of COLUMN=VALUE; of several ways the one with the longest name.

    A name may hold a = itself.
    """
    where = f"--forget_where {printable(text)}"
    cuts = [place for place, letter in enumerate(text) if letter == "="]
    names = [text[:cut].strip() for cut in cuts]
    if not any(names):
        raise UserError(f"{where}: give a condition as COLUMN=VALUE")
    for name, cut in reversed([*zip(names, cuts, strict=True)]):
        if name in header and name:
            if header.count(name) > 1:
                raise UserError(f"{where}: {path} has more than one column {printable(name)}")
            return header.index(name), text[cut + 1 :].strip()
    if len(header) == 1 and re.search("[;\t|]", header[0]):
        raise UserError(
            f"{where}: the header of {path} is a single column, {quoted(header[0])}: save the file "
            "with commas between the columns"
        )
    raise UserError(
        f"{where}: {path} has no such column{suggest_name(names[0], header)}; it has "
        f"{', '.join(map(printable, header))}"
    )


def _told(header, wanted):
    return ", ".join(printable(f"{header[column]}={value}") for column, value in wanted)


def _values(cells):
    """`17, 18, 20`: some of the values that there are."""
    values = sorted(set(cells))
    more = ", ..." if len(values) > SHOWN_VALUES else ""
    return ", ".join(quoted(value) for value in values[:SHOWN_VALUES]) + more
