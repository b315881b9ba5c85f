"""Valid and invalid files of misclassification costs and group labels."""

import numpy as np
import pytest

from utils.io import csv_files
from utils.io.csv_files import read_cost_matrix, read_groups
from utils.runtime.errors import UserError

NAMES = ["artery", "Bone", "cortex, outer"]
COSTS = [[0, 1, 2], [3.5, 0, 4], [5, 60, 0]]
BARE = "0,1,2\n3.5,0,4\n5,60,0\n"
NAMED = 'truth,BONE,artery,"Cortex, outer"\n"cortex,  outer",60,5,0\nartery,1,0,2\nbone,0,3.5,4\n'


@pytest.fixture
def written(tmp_path):
    def write(content):
        path = tmp_path / "side.csv"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


@pytest.mark.parametrize(
    "text", [BARE, NAMED, NAMED.replace("truth", ""), BARE + ",,\n\n  \n", NAMED.replace(",", ", ")]
)
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_costs_are_read_in_the_order_of_the_classes(text, line_end, mark, written):
    costs = read_cost_matrix(written(mark + text.replace("\n", line_end)), NAMES)
    assert costs.dtype == float
    np.testing.assert_array_equal(costs, COSTS)


def test_class_names_can_be_numbers(written):
    text = ",2,1,0\n0,2,1,0\n1,4,0,3.5\n2,0,60,5\n"
    np.testing.assert_array_equal(read_cost_matrix(written(text), ["0", "1", "2"]), COSTS)
    np.testing.assert_array_equal(read_cost_matrix(written(BARE), ["0", "1", "2"]), COSTS)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is empty: give 3 lines of 3 numbers"),
        ("0,1\n1,0\n", "has 2 lines for 3 classes"),
        (BARE + "1,2,3\n", "has 4 lines for 3 classes"),
        ("0,1,2\n0,1\n0,1,2\n", "line 2: expected 3 columns, not 2: give 3 lines"),
        ("0,1,2\n\n0,1,2\n", "line 2: expected 3 columns, not 0"),
        ("0;1;2\n3;0;4\n5;6;0\n", "line 1: expected 3 columns, not 1: .* with commas"),
        (BARE.replace("60", "dear"), "line 3: 'dear' is not a number"),
        (BARE.replace("60", ""), "line 3: '' is not a number"),
        (BARE.replace("60", "nan"), "line 3: 'nan' is not a valid cost"),
        (BARE.replace("60", "1e999"), "line 3: '1e999' is not a valid cost"),
        (BARE.replace("60", "-1"), "line 3: '-1' is not a valid cost"),
        (
            BARE.replace("0,1,2", "0,dear,2"),
            "line 1 .a header, .*no class 'dear'; it has artery, Bo",
        ),
        (NAMED.replace("BONE", "bome"), "line 1 .*no class 'bome'"),
        (NAMED.replace("BONE", "artery"), "line 1 .*'artery' occurs twice"),
        (NAMED.replace("BONE,", ""), "line 1 .*'Bone' is missing"),
        (NAMED.replace("\nbone", "\nskin"), "first column: the data set has no class 'skin'"),
        (NAMED.replace("\nbone", "\nArtery"), "first column: the class 'Artery' occurs twice"),
        (NAMED[: NAMED.index("bone")], "first column: the class 'Bone' is missing"),
        (NAMED[: NAMED.index('"cortex')], "first column: the class 'artery' is missing"),
        (NAMED.replace("bone,0,", "bone,"), "line 4: expected 4 columns, not 3"),
        (NAMED.replace("60", "-60"), "line 2: '-60' is not a valid cost"),
    ],
)
def test_invalid_costs(text, says, written):
    path = written(text)
    with pytest.raises(UserError, match=says) as caught:
        read_cost_matrix(path, NAMES)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_ambiguous_class_names_need_bare_numbers(written):
    with pytest.raises(UserError, match="not unique: give bare numbers"):
        read_cost_matrix(written(NAMED), ["bone", "BONE", "artery"])
    np.testing.assert_array_equal(read_cost_matrix(written(BARE), ["a", "A", "b"]), COSTS)


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("end", ["", "\n", "\n\n \n"])
def test_groups_are_read_in_order(line_end, mark, end, written):
    text = mark + 'Charité\n "site B, annex" \nCharité\n40' + end
    groups = read_groups(written(text.replace("\n", line_end)), 4)
    assert groups.tolist() == ["Charité", "site B, annex", "Charité", "40"]
    assert groups.dtype.kind == "U"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "has 0 lines for 3 test images"),
        ("f\nm\n", "has 2 lines for 3 test images"),
        ("sex\nf\nm\nf\n", "has 4 lines for 3 test images.* without a header"),
        ("f\n\nm\n", "line 2 has no group label"),
        ('f\nm\n""\nf\n', "line 3 has no group label"),
        ("f\nm,40\nf\n", "line 2: expected 1 column, not 2"),
        ("f\nf\nf\n", "every image in the group 'f'"),
        ("f\n" + 101 * "m" + "\nf\n", "line 2: 'mmm.* longer than 100 characters"),
        ("f\n" + 200_000 * "m" + "\nf\n", "line 2 cannot be read as CSV"),
    ],
)
def test_invalid_groups(text, says, written):
    path = written(text)
    with pytest.raises(UserError, match=says) as caught:
        read_groups(path, 3)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.fixture(params=["costs", "groups"])
def read(request):
    if request.param == "costs":
        return lambda path: read_cost_matrix(path, NAMES)
    return lambda path: read_groups(path, 3)


def test_files_that_cannot_be_read(read, tmp_path):
    with pytest.raises(UserError, match="cannot read .*none.csv: No such file"):
        read(tmp_path / "none.csv")
    with pytest.raises(UserError, match="cannot read .*: Is a directory"):
        read(tmp_path)


@pytest.mark.parametrize("content", [b"\x93NUMPY\x01\x00", "0,1\n".encode("utf-16"), b"f\nm\x00\n"])
def test_files_that_are_not_text(content, read, written):
    with pytest.raises(UserError, match="is not UTF-8 text"):
        read(written(content))


def test_large_files_are_not_read(read, tmp_path):
    with open(tmp_path / "huge.csv", "wb") as stream:
        stream.truncate(2**32)  # sparse: takes no disk space
    with pytest.raises(UserError, match="is larger than 16 MB"):
        read(tmp_path / "huge.csv")


def test_endless_streams_are_refused(read, monkeypatch):
    monkeypatch.setattr(csv_files, "MAX_BYTES", 2**20)
    with pytest.raises(UserError, match="is larger than 1 MB"):
        read("/dev/zero")
