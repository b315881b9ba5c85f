"""Deletion requests that come as files: training images by number, or by what is known of them.

Every fault is a UserError that names the file, and the line where there is one.
"""

import re

from unlearn.request import ForgetRequest
from utils.errors import UserError
from utils.files import nearest
from utils.side_files import read_rows, read_text, shown

MOST_BYTES = 256 * 2**20  # a kilobyte for each of a quarter of a million images
SHOWN_VALUES = 5
LONGEST_NUMBER = 18  # digits; no data set has that many images


def listed_request(path, dataset):
    """The request for the images that a file lists: a row of the training split a line, from 0.

    Blank lines, and what follows a #, do not count.
    """
    count = len(dataset.train)
    lines = {}
    for line, text in enumerate(read_text(path, MOST_BYTES).splitlines(), 1):
        text = text.partition("#")[0].strip()
        if not text:
            continue
        where = f"--forget_indices {path}, line {line}"
        if not re.fullmatch("-?[0-9]+", text):
            raise UserError(f"{where}: {shown(text)} is not a whole number: give an index a line")
        if len(text) > LONGEST_NUMBER or not 0 <= int(text) < count:
            raise UserError(
                f"{where}: {shown(text)} is no training image: they are 0 to {count - 1}"
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


def matching_request(path, conditions, dataset):
    """The request for the training images whose rows in a CSV file meet all conditions.

    path: a header and a row for each training image, in their order. conditions: COLUMN=VALUE,
    met by the very text of a cell, without the blanks around it.
    """
    header, rows = _table(path, len(dataset.train))
    wanted = [(_column(text, header, path), text.partition("=")[2].strip()) for text in conditions]
    asked = {}
    for column, value in wanted:
        if asked.setdefault(column, value) != value:
            raise UserError(
                f"--forget_where: {header[column]} cannot be both {asked[column]} and {value}: "
                "all conditions must hold; give it once"
            )
    wanted = list(asked.items())
    found = range(len(rows))
    for place, (column, value) in enumerate(wanted):
        matching = [row for row in found if rows[row][column] == value]
        if not matching:
            met = _told(header, wanted[:place])
            raise UserError(
                f"--metadata {path}: no training image{f' with {met}' if met else ''} has "
                f"{header[column]}={value}; there are {_values(rows[row][column] for row in found)}"
            )
        found = matching
    return ForgetRequest((), tuple(found), f"training images with {_told(header, wanted)}")


def _table(path, count):
    rows = read_rows(path, MOST_BYTES, str.strip)
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


def _column(condition, header, path):
    """Where in the header the column of COLUMN=VALUE stands."""
    name, equals, _ = condition.partition("=")
    name = name.strip()
    if not equals or not name:
        raise UserError(f"--forget_where {condition}: give a condition as COLUMN=VALUE")
    if name not in header:
        raise UserError(
            f"--forget_where {condition}: {path} has no such column{nearest(name, header)}; it has "
            f"{', '.join(header)}"
        )
    if header.count(name) > 1:
        raise UserError(f"--forget_where {condition}: {path} has more than one column {name}")
    return header.index(name)


def _told(header, wanted):
    return ", ".join(f"{header[column]}={value}" for column, value in wanted)


def _values(cells):
    """`17, 18, 20`: some of the values that there are."""
    values = sorted(set(cells))
    more = ", ..." if len(values) > SHOWN_VALUES else ""
    return ", ".join(shown(value) for value in values[:SHOWN_VALUES]) + more
