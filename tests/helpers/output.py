"""Reads and checks what the scripts print and write."""

import json
import re
from pathlib import Path

from evaluation.registry import GROUPS

HALF_A_UNIT = {2: 0.005 + 1e-4, 3: 0.0005 + 1e-4}  # of a printed percentage; from float32
MAY_BE_NULL = ("weights_digest", "method", "parent_id")  # keys that are no figures


def results_of(model_id, ending=""):
    """The content of results/{model_id}{ending}.json, read as strict JSON."""
    return strict_json((Path("results") / f"{model_id}{ending}.json").read_text(encoding="utf-8"))


def strict_json(text):
    """The value of a JSON text without duplicate keys, NaN and infinity."""

    def once(pairs):
        keys = [key for key, _ in pairs]
        assert len(set(keys)) == len(keys), "duplicate key"
        return dict(pairs)

    def no_number(text):
        raise AssertionError(f"{text} is not JSON")

    return json.loads(text, object_pairs_hook=once, parse_constant=no_number)


def tables(text):
    """Every table that was printed: (header, rows), lists of cells, by the columns' dashes."""
    lines = text.splitlines()
    found = []
    for at, line in enumerate(lines):
        if not re.fullmatch(r"-+(  -+)+", line):
            continue
        spans = [(dashes.start(), dashes.end()) for dashes in re.finditer(r"-+", line)]
        rows = []
        for row in [lines[at - 1], *lines[at + 1 :]]:
            outside = "".join(row[a:b] for (_, a), (b, _) in zip(spans, spans[1:], strict=False))
            if not row.strip() or outside.strip() or len(row) > spans[-1][1]:
                break
            rows.append([row[low:high].strip() for low, high in spans])
        found.append((rows[0], rows[1:]))
    return found


def table(text, *header):
    """The rows of the one table whose header begins with these cells, and the rest of its header.

    ([cell, ...], [row, ...])
    """
    found = [part for part in tables(text) if part[0][: len(header)] == list(header)]
    assert len(found) == 1, (header, [part[0] for part in tables(text)])
    return found[0][0][len(header) :], found[0][1]


def cells(text, label):
    """Title of the model -> cell, of the row of a table of figures with this label."""
    found = [
        dict(zip(header[1:], row[1:], strict=True))
        for header, rows in tables(text)
        for row in rows
        if header[0] == "" and row[0] == label
    ]
    assert len(found) == 1, (label, found)
    return found[0]


def line_figure(name, text):
    """The percentage of a line `name: 12.345%`, as printed."""
    return re.search(rf"^{re.escape(name)}: ([\d.]+)%$", text, re.MULTILINE)[1]


def assert_near(text, wanted):
    """text: a percentage as printed, with two or three decimals."""
    digits = len(text.rstrip("%").split(".")[1])
    assert abs(float(text.rstrip("%")) - wanted) <= HALF_A_UNIT[digits], (text, wanted)


def check_plain(results):
    """Results are a flat file of plain data; each undefined figure has a reason."""
    for key, value in results.items():
        if isinstance(value, list):
            assert all(isinstance(part, str) for part in value), key
        else:
            assert value is None or isinstance(value, (str, bool, int, float)), key
        if value is None and key not in MAY_BE_NULL:
            assert results[with_ending(key, "undefined")], key
        stem, _, group = key.partition(":")
        plain = with_ending(re.sub("_(low|high|undefined)$", "", stem) + (group and f":{group}"))
        if stem.endswith("_undefined"):
            assert results[plain] is None, key
        if stem.endswith("_low"):
            assert value <= results[plain] <= results[with_ending(plain, "high")], key


def with_ending(key, ending=""):
    """accuracy:men -> accuracy_low:men, for the ending low."""
    stem, colon, group = key.partition(":")
    return f"{stem}_{ending}{colon}{group}" if ending else key


def check_cell(cell, results, key):
    """The text of a table cell is the figure of the results, rounded, with its interval."""
    if key not in results:
        assert cell == "-", (key, cell)
        return
    if results[key] is None:
        assert cell == "undefined", (key, cell)
        return
    number = re.match(r"-?[\d,]+(?:\.(\d+))?", cell)
    unit = 10 ** -len(number[1] or "")
    assert abs(float(number[0].replace(",", "")) - results[key]) <= unit / 2 + 1e-9, (key, cell)
    ends = re.search(r"\[(-?[\d.]+), (-?[\d.]+)\]", cell)
    assert bool(ends) == (with_ending(key, "low") in results), (key, cell)
    if ends:
        for end, name in zip(ends.groups(), ("low", "high"), strict=True):
            assert abs(float(end) - results[with_ending(key, name)]) <= unit / 2 + 1e-9


def printed_groups(printed):
    """Names of the groups whose question is printed."""
    text = " ".join(printed.split())
    return [
        group.name
        for group in GROUPS.values()
        if f"{group.name.capitalize()}: {group.question}" in text
    ]
