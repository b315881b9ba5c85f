"""Read the small CSV files that a user passes to a script: misclassification costs, patient groups.

UTF-8, with or without a byte order mark, any line ends, blank lines at the end. Every error is a
UserError that names the file and, where possible, the line. The csv module and not pandas, which
medmnist installs: pandas guesses headers and types, reads some labels as NaN, and fills short rows.
"""

import csv
import io
import os
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from reprlib import repr as quoted  # shortens long strings
from textwrap import shorten

import numpy as np

from utils.runtime.errors import UserError, wrap_os_errors

MAX_BYTES = 16 * 2**20  # group labels of a million images
MAX_COST = 1e12  # larger costs would absorb small ones in a sum
MAX_LABEL_LENGTH = 100  # characters that fit in a table


def read_cost_matrix(path: str | Path, class_names: Sequence[str]) -> np.ndarray:
    """Return (K, K) float misclassification costs: rows are true classes, columns predicted ones.

    Rows and columns are in the order of `class_names`.
    The file holds K lines of K numbers, optionally with a header and a first column of class names,
    in any order and letter case; the top left cell is ignored. Raises UserError.
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
    # a single column: numbers that are not separated by commas
    named = len(header) > 1 and any(_parse_number(cell) is None for cell in header)
    if named:
        where = f"{path}, line {line} (a header, as not all of it is numbers)"
        columns = _find_classes(header[1:], class_names, where)
        rows = rows[1:]
    elif len(rows) != size:
        raise UserError(f"{path} has {len(rows)} lines for {size} classes: {form}")
    for line, cells in rows:
        if len(cells) != size + named:
            expected = f"expected {size + named} columns, not {len(cells)}"
            raise UserError(f"{path}, line {line}: {expected}: {form}")
    costs = np.array(
        [[_parse_cost(c, f"{path}, line {line}") for c in r[named:]] for line, r in rows]
    )
    if named:
        lines = _find_classes([cells[0] for _, cells in rows], class_names, f"{path}, first column")
        costs = costs[np.ix_(lines, columns)]
    return costs


def read_groups(path: str | Path, count: int) -> np.ndarray:
    """Return (count,) str, the group of each test image in the data set's order.

    The file has one label per line and no header. Raises UserError.
    """
    rows = read_rows(path)
    labels = []
    for line, cells in rows:
        label = cells[0] if cells else ""
        if len(cells) > 1:
            raise UserError(
                f"{path}, line {line}: expected 1 column, not {len(cells)}: give one group label "
                "per line (in quotes if it holds a comma)"
            )
        if not label:
            raise UserError(f"{path}, line {line} has no group label: give one for every image")
        if len(label) > MAX_LABEL_LENGTH:
            raise UserError(
                f"{path}, line {line}: {quoted(label)} is longer than {MAX_LABEL_LENGTH} "
                "characters: give the group a shorter label"
            )
        labels.append(label)
    if len(labels) != count:
        raise UserError(
            f"{path} has {len(labels)} lines for {count} test images: give one group "
            "label per line, one line for each test image, without a header"
        )
    if len(set(labels)) == 1:
        raise UserError(
            f"{path} puts every image in the group {quoted(labels[0])}: give at least two groups"
        )
    return np.array(labels)


def read_rows(
    path: str | Path,
    max_bytes: int | None = None,
    clean: Callable[[str], str] | None = None,
    name: str | None = None,
) -> list[tuple[int, list[str]]]:
    """Return (line number, cells) of each line, without blank lines at the end.

    clean: applied to the text of each cell; by default runs of whitespace become one space. Other
    arguments: see `read_text`. Raises UserError.
    """
    name = name or path
    clean = clean or _normalize_spaces
    text = read_text(path, max_bytes, name)
    stream = io.StringIO(text, newline="")
    reader = csv.reader(stream, skipinitialspace=True)  # else a quote after ", " is text
    rows, start, line = [], 1, 1  # first lines of the last row and of the next one
    try:
        for cells in reader:
            rows.append((reader.line_num, [clean(cell) for cell in cells]))
            start, line = line, reader.line_num + 1
    except csv.Error as error:
        raise UserError(f"{name}, line {line} cannot be read as CSV: {error}") from None
    if _has_open_quote(islice(io.StringIO(text, newline=""), start - 1, None)):
        raise UserError(f"{name}, line {start}: a quote that opens there is never closed")
    while rows and not any(rows[-1][1]):  # spreadsheets may leave lines of commas
        rows.pop()
    return rows


def read_text(
    path: str | Path, max_bytes: int | None = None, name: str | None = None, kind: str = "CSV"
) -> str:
    """Return the text of a UTF-8 file of at most `max_bytes`, by default MAX_BYTES.

    name: the file in error messages, by default its path. kind: the format to save it as, in error
    messages. Raises UserError.
    """
    name = name or path
    max_bytes = max_bytes or MAX_BYTES
    try:
        with wrap_os_errors(f"cannot read {name}"), open(path, "rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            # the size of a pipe is not known in advance
            if size > max_bytes or len(content := stream.read(max_bytes + 1)) > max_bytes:
                raise UserError(
                    f"{name} is larger than {max_bytes // 2**20} MB: give a smaller file"
                )
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise UserError(f"{name} is not UTF-8 text: save it as {kind} in UTF-8")
    return text


def _has_open_quote(lines):
    """Return whether the last cell of a CSV row has an opening quote only."""
    try:
        list(csv.reader(lines, skipinitialspace=True, strict=True))
    except csv.Error as error:
        return "unexpected end" in str(error)
    return False


def _find_classes(names, class_names, where):
    """Return the position in `names` of each class name."""
    expected = {_folded(name): name for name in class_names}
    if len(expected) < len(class_names):
        raise UserError(f"{where}: the data set's class names are not unique: give bare numbers")
    positions = {}
    for position, name in enumerate(names):
        if _folded(name) not in expected:
            known = shorten(", ".join(class_names), 300, placeholder=" ...")
            raise UserError(f"{where}: the data set has no class {quoted(name)}; it has {known}")
        if _folded(name) in positions:
            raise UserError(f"{where}: the class {quoted(name)} occurs twice: remove one")
        positions[_folded(name)] = position
    for folded, name in expected.items():
        if folded not in positions:
            raise UserError(f"{where}: the class {quoted(name)} is missing: add it")
    return [positions[folded] for folded in expected]


def _folded(name):
    return _normalize_spaces(name).casefold()


def _normalize_spaces(text):
    return " ".join(text.split())


def _parse_cost(cell, where):
    cost = _parse_number(cell)
    if cost is None:
        raise UserError(
            f"{where}: {quoted(cell)} is not a number: give a cost for each pair of classes"
        )
    if not 0 <= cost <= MAX_COST:  # NaN as well
        raise UserError(
            f"{where}: {quoted(cell)} is not a valid cost: give one from 0 to {MAX_COST:g}"
        )
    return cost


def _parse_number(cell):
    try:
        return float(cell)
    except ValueError:
        return None
