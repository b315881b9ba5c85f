"""Reads the small text files that users give beside the data: costs of mistakes, patient groups.

UTF-8, with or without a byte order mark, any line ends, blank lines at the end. Every fault is a
UserError that names the file, and the line where there is one.
"""

import csv
import io
import os
from itertools import islice
from reprlib import repr as quoted  # cuts long strings short
from textwrap import shorten

import numpy as np

from utils.runtime.errors import UserError, wrap_os_errors

MAX_BYTES = 16 * 2**20  # a group label for each of a million images
MAX_COST = 1e12  # beyond it the sums of costs lose the small ones
MAX_LABEL_LENGTH = 100  # characters: it must fit in a table


def read_cost_matrix(path, class_names):
    """(K, K) float, the cost of each mistake: rows truth, columns predicted, as in `class_names`.

    The file holds K lines of K numbers, or the same under a header of class names and beside a
    first column of them, in any order and case; what stands in the corner does not matter.
    """
    rows = read_rows(path)
    size = len(class_names)
    form = (
        f"give {size} lines of {size} numbers with commas between them, or a header and a first "
        "column of class names as well (in quotes if they hold a comma)"
    )
    if not rows:
        raise UserError(f"{path} is empty: {form}")
    line, header = rows[0]
    # a single column is numbers with something else than commas between them
    named = len(header) > 1 and any(_number(cell) is None for cell in header)
    if named:
        where = f"{path}, line {line} (a header, as not all of it is numbers)"
        columns = _places(header[1:], class_names, where)
        rows = rows[1:]
    elif len(rows) != size:
        raise UserError(f"{path} has {len(rows)} lines for {size} classes: {form}")
    for line, cells in rows:
        if len(cells) != size + named:
            wanted = f"expected {size + named} columns, not {len(cells)}"
            raise UserError(f"{path}, line {line}: {wanted}: {form}")
    costs = np.array([[_cost(c, f"{path}, line {line}") for c in r[named:]] for line, r in rows])
    if named:
        lines = _places([cells[0] for _, cells in rows], class_names, f"{path}, first column")
        costs = costs[np.ix_(lines, columns)]
    return costs


def read_groups(path, count):
    """(count,) str, the group of each test image: one label a line, in the data set's order.

    There is no header: the first line is the first image's.
    """
    rows = read_rows(path)
    labels = []
    for line, cells in rows:
        label = cells[0] if cells else ""
        if len(cells) > 1:
            raise UserError(
                f"{path}, line {line}: expected 1 column, not {len(cells)}: give one group label a "
                "line (in quotes if it holds a comma)"
            )
        if not label:
            raise UserError(f"{path}, line {line} holds no group label: give every image one")
        if len(label) > MAX_LABEL_LENGTH:
            raise UserError(
                f"{path}, line {line}: {quoted(label)} is longer than {MAX_LABEL_LENGTH} "
                "characters: give the group a shorter label"
            )
        labels.append(label)
    if len(labels) != count:
        raise UserError(
            f"{path} has {len(labels)} lines for {count} test images: give one group label a line, "
            "one line for each test image, without a header"
        )
    if len(set(labels)) == 1:
        raise UserError(
            f"{path} puts every image in the group {quoted(labels[0])}: there must be two or more "
            "to compare"
        )
    return np.array(labels)


def read_rows(path, max_bytes=None, tidied=None, name=None):
    """(line number, cells) of every line but the blank ones at the end.

    tidied: what to do with the text of each cell; by default any blanks in it become one space.
    name: what a fault calls the file, by default its path.
    """
    name = name or path
    tidied = tidied or _spaced
    text = read_text(path, max_bytes, name)
    stream = io.StringIO(text, newline="")
    reader = csv.reader(stream, skipinitialspace=True)  # or a quote after ", " would not count
    rows, begins, line = [], 1, 1  # where the last row begins, and the next one
    try:
        for cells in reader:
            rows.append((reader.line_num, [tidied(cell) for cell in cells]))
            begins, line = line, reader.line_num + 1
    except csv.Error as error:
        raise UserError(f"{name}, line {line} cannot be read as CSV: {error}") from None
    if _never_closes(islice(io.StringIO(text, newline=""), begins - 1, None)):
        raise UserError(f"{name}, line {begins}: a quote that begins there is never closed")
    while rows and not any(rows[-1][1]):  # spreadsheets leave lines of bare commas as well
        rows.pop()
    return rows


def read_text(path, max_bytes=None, name=None, kind="CSV"):
    """The text of a UTF-8 file of at most that size, by default MAX_BYTES.

    name: what a fault calls the file, by default its path. kind: what it must be saved as.
    """
    name = name or path
    max_bytes = max_bytes or MAX_BYTES
    try:
        with wrap_os_errors(f"cannot read {name}"), open(path, "rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            # a pipe does not tell its size beforehand
            if size > max_bytes or len(content := stream.read(max_bytes + 1)) > max_bytes:
                raise UserError(
                    f"{name} is larger than {max_bytes // 2**20} MB: it must be a small file"
                )
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise UserError(f"{name} is not UTF-8 text: save it as {kind} in UTF-8")
    return text


def _never_closes(lines):
    """Whether the last cell of a CSV row is in a quote that has no end."""
    try:
        list(csv.reader(lines, skipinitialspace=True, strict=True))
    except csv.Error as error:
        return "unexpected end" in str(error)
    return False


def _places(names, class_names, where):
    """Where in `names` each of the class names stands."""
    wanted = {_folded(name): name for name in class_names}
    if len(wanted) < len(class_names):
        raise UserError(f"{where}: the data set's class names are not unique: give bare numbers")
    places = {}
    for place, name in enumerate(names):
        if _folded(name) not in wanted:
            known = shorten(", ".join(class_names), 300, placeholder=" ...")
            raise UserError(f"{where}: {quoted(name)} is no class of the data set; it has {known}")
        if _folded(name) in places:
            raise UserError(f"{where}: the class {quoted(name)} is there twice: keep one")
        places[_folded(name)] = place
    for folded, name in wanted.items():
        if folded not in places:
            raise UserError(f"{where}: the class {quoted(name)} is missing: add it")
    return [places[folded] for folded in wanted]


def _folded(name):
    return _spaced(name).casefold()


def _spaced(text):
    return " ".join(text.split())


def _cost(cell, where):
    cost = _number(cell)
    if cost is None:
        raise UserError(f"{where}: {quoted(cell)} is not a number: give each mistake a cost")
    if not 0 <= cost <= MAX_COST:  # NaN as well
        raise UserError(f"{where}: {quoted(cell)} is no cost: give one from 0 to {MAX_COST:g}")
    return cost


def _number(cell):
    try:
        return float(cell)
    except ValueError:
        return None
