"""Reads deletion requests from files: a list of image indices, or conditions on a metadata table.

Every fault is a UserError that names the file and, where there is one, the line.
"""

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from unlearn.request.request import ForgetRequest
from utils.io.csv_files import quoted, read_rows, read_text
from utils.io.files import suggest_name
from utils.runtime.errors import UserError
from utils.text import printable

if TYPE_CHECKING:
    from utils.data.datasets import MedicalDataset

MAX_BYTES = 256 * 2**20  # a kilobyte for each of a quarter of a million images
MAX_LISTED_VALUES = 5
MAX_DIGITS = 18  # of an index; int() takes quadratic time for longer ones


def request_from_indices_file(path: str, dataset: "MedicalDataset") -> ForgetRequest:
    """Return the request for the training images that a text file lists.

    The file has one image per line: its index in the training split, starting at 0. Blank lines
    and text after a # are ignored. Raises UserError for anything else, for an index that is out of
    range or given twice, and for a file without an index.
    """
    count = len(dataset.train)
    lines = {}
    # splitlines() would also end a line, and so a comment, at invisible characters
    for line, text in enumerate(re.split("\r\n|\n|\r", _read_list(path)), 1):
        text = text.partition("#")[0].strip()
        if not text:
            continue
        where = f"--forget_indices {path}, line {line}"
        if not re.fullmatch("-?[0-9]+", text) or re.fullmatch("-0+", text):
            raise UserError(f"{where}: {quoted(text)} is not a whole number: give one index a line")
        if len(text) > MAX_DIGITS or not 0 <= int(text) < count:
            raise UserError(
                f"{where}: {quoted(text)} is not the index of a training image: give a number "
                f"from 0 to {count - 1}"
            )
        index = int(text)
        if index in lines:
            raise UserError(
                f"{where}: {index} is a duplicate of line {lines[index]}: give each index once"
            )
        lines[index] = line
    if not lines:
        raise UserError(f"--forget_indices {path} contains no index: there is nothing to forget")
    return ForgetRequest((), tuple(sorted(lines)))


def _read_list(path):
    if not path:
        raise UserError("--forget_indices has no file name: give the file that lists the images")
    return read_text(
        path, MAX_BYTES, f"--forget_indices {path}", "a text file with one index per line,"
    )


def request_from_metadata(
    path: str, conditions: Iterable[str], dataset: "MedicalDataset"
) -> ForgetRequest:
    """Return the request for the training images whose metadata meet all conditions.

    path: a CSV file with a header and one row per training image, in the order of the images.
    conditions: COLUMN=VALUE; a cell must equal VALUE exactly, surrounding blanks aside. Raises
    UserError for a malformed table or condition, and if no image meets all conditions.
    """
    header, rows = _read_table(path, len(dataset.train))
    values = {}
    for column, value in (_parse_condition(text, header, path) for text in conditions):
        if values.setdefault(column, value) != value:
            raise UserError(
                f"--forget_where: {printable(header[column])} cannot be both "
                f"{printable(values[column])} and {printable(value)}: all conditions must be met; "
                "give each column once"
            )
    wanted = list(values.items())
    found = range(len(rows))
    for number, (column, value) in enumerate(wanted):
        matching = [row for row in found if rows[row][column] == value]
        if not matching:
            met, unmet = (
                _format_conditions(header, part) for part in (wanted[:number], [(column, value)])
            )
            raise UserError(
                f"--metadata {path}: no training image{f' with {met}' if met else ''} has "
                f"{unmet}; values: {_format_values(rows[row][column] for row in found)}"
            )
        found = matching
    description = f"training images with {_format_conditions(header, wanted)}"
    return ForgetRequest((), tuple(found), description)


def _read_table(path, count):
    """(header, rows) of a CSV file that must have `count` rows below its header."""
    if not path:
        raise UserError("--metadata has no file name: give the CSV file that describes the images")
    rows = read_rows(path, MAX_BYTES, str.strip, f"--metadata {path}")
    if not rows:
        raise UserError(f"--metadata {path} is empty: give a header and one row per image")
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
            "give exactly one row per image"
        )
    return header, [cells for _, cells in rows]


def _parse_condition(text, header, path):
    """(column index, value) of COLUMN=VALUE; column names may contain =, the longest match wins."""
    where = f"--forget_where {printable(text)}"
    cuts = [position for position, letter in enumerate(text) if letter == "="]
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


def _format_conditions(header, conditions):
    return ", ".join(printable(f"{header[column]}={value}") for column, value in conditions)


def _format_values(cells):
    """The first distinct values in words, such as `'17', '18', ...`."""
    values = sorted(set(cells))
    more = ", ..." if len(values) > MAX_LISTED_VALUES else ""
    return ", ".join(quoted(value) for value in values[:MAX_LISTED_VALUES]) + more
