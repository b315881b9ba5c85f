"""Requests from index lists and metadata files."""

import pytest

from tests.helpers.requests import LISTED
from tests.helpers.tiny import tiny_dataset
from unlearn.request.files import request_from_indices_file, request_from_metadata
from utils.runtime.errors import UserError


@pytest.fixture
def metadata(tmp_path):
    """24 rows: patients 0 to 11 in turn, two devices in blocks of six."""
    path = tmp_path / "metadata.csv"
    rows = [f"{n % 12}, Cirrus {800 + n // 6 % 2}" for n in range(24)]
    path.write_text("\n".join(["patient_id,device", *rows, "", ""]))
    return path


def write(tmp_path, text):
    path = tmp_path / "list.txt"
    path.write_text(text)
    return path


def test_index_list(tmp_path):
    path = write(tmp_path, "# patient 17\n\n5\n  0 # twice scanned\n007\n11\n")
    request = request_from_indices_file(path, tiny_dataset())
    assert request == LISTED
    assert request.description == "4 listed training images"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1\nx\n", "list.txt, line 2: 'x' is not a whole number"),
        ("1.0\n", "line 1: '1.0' is not a whole number"),
        ("²\n", "line 1: '²' is not a whole number"),
        ("1 2\n", "line 1: '1 2' is not a whole number"),
        (
            "\n\n24\n",
            "line 3: '24' is not the index of a training image: give a number from 0 to 23",
        ),
        ("-1\n", "line 1: '-1' is not the index of a training image"),
        ("9" * 5000, "line 1: '9.*' is not the index of a training image"),
        ("3\n# again\n03\n", "line 3: 3 is a duplicate of line 1: give each index once"),
        ("# nothing\n", "contains no index"),
        ("", "contains no index"),
    ],
)
def test_invalid_index_lists(tmp_path, text, message):
    with pytest.raises(UserError, match=message):
        request_from_indices_file(write(tmp_path, text), tiny_dataset())


def test_images_by_metadata(metadata, tmp_path):
    dataset = tiny_dataset()
    one = request_from_metadata(metadata, ["patient_id=3"], dataset)
    assert one.indices == (3, 15)
    assert one.description == "training images with patient_id=3"
    both = request_from_metadata(metadata, ["patient_id=3", " device = Cirrus 800 "], dataset)
    assert both.description == "training images with patient_id=3, device=Cirrus 800"
    assert both.indices == (3, 15)
    listed = request_from_indices_file(write(tmp_path, "15\n3\n"), dataset)
    assert listed == one == both
    assert listed.id_part() == one.id_part()


def test_lines_end_at_visible_line_breaks_only(tmp_path):
    text = "5 # seen\f7\n3 # and\x856 and\u20288\r\n11\r0\n"
    assert request_from_indices_file(write(tmp_path, text), tiny_dataset()).indices == (0, 3, 5, 11)


def test_column_names_may_contain_equals_signs(tmp_path):
    rows = "".join(f"{n % 3},{n % 2}\n" for n in range(24))
    path = write(tmp_path, f"a,a=b\n{rows}")
    assert request_from_metadata(path, ["a=b=1"], tiny_dataset()).indices == tuple(range(1, 24, 2))
    assert request_from_metadata(path, ["a=1"], tiny_dataset()).indices == tuple(range(1, 24, 3))


def test_descriptions_are_printable_and_conditions_exact(tmp_path):
    name = "\x1b[31m\u674e" + "x" * 3000
    rows = "".join(f"{name if n < 2 else name + 'y'}\n" for n in range(24))
    request = request_from_metadata(write(tmp_path, f"id\n{rows}"), [f"id={name}"], tiny_dataset())
    assert request.indices == (0, 1)
    assert request.description.isprintable()
    assert r"id=\x1b[31m\u674exxx" in request.description
    assert len(request.description) < 120
    with pytest.raises(UserError) as error:
        request_from_metadata(write(tmp_path, f"id\n{rows}"), [f"id={name}z"], tiny_dataset())
    assert str(error.value).isprintable()


@pytest.mark.parametrize(
    ("conditions", "message"),
    [
        (
            ["patient=3"],
            r"has no such column \(did you mean patient_id\?\); it has patient_id, dev",
        ),
        (["patient_id"], "--forget_where patient_id: give a condition as COLUMN=VALUE"),
        (["=3"], "give a condition as COLUMN=VALUE"),
        (
            ["patient_id=99"],
            "no training image has patient_id=99; values: '0', '1', .*, ...",
        ),
        (["device=cirrus 800"], "has device=cirrus 800; values: 'Cirrus 800', 'Cirrus 801'"),
        (
            ["patient_id=3", "device=Cirrus 801"],
            "no training image with patient_id=3 has device=Cirrus 801; values: 'Cirrus 800'$",
        ),
        (["patient_id=3", "patient_id=4"], "patient_id cannot be both 3 and 4: all conditions"),
    ],
)
def test_conditions_without_a_match(metadata, conditions, message):
    with pytest.raises(UserError, match=message):
        request_from_metadata(metadata, conditions, tiny_dataset())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty: give a header"),
        ("id;age\n" + "1;2\n" * 24, "single column, 'id;age': save the file with commas"),
        ('id\n1\n"1\n' + "1\n" * 22, "line 3: a quote that opens there is never closed"),
        ("id\n1\n2\n", "has 2 rows below its header for 24 training images"),
        ("id,sex\n" + "1,f\n" * 23 + "1\n", "line 25: expected 2 columns as in the header, not 1"),
        ("id,id\n" + "1,2\n" * 24, "has more than one column id"),
    ],
)
def test_invalid_metadata_files(tmp_path, text, message):
    with pytest.raises(UserError, match=message):
        request_from_metadata(write(tmp_path, text), ["id=1"], tiny_dataset())
