"""The registry finds each measure by its file, without importing it."""

import dataclasses
import importlib
import shutil
import subprocess
import sys

import pytest

from evaluation.measure import Column, Measure, Row
from evaluation.registry import (
    FOLDER,
    GROUPS,
    MEASURES,
    ORDER,
    QUESTIONS,
    find_columns,
    find_groups,
    find_measures,
)
from tests.helpers.environment import REPOSITORY
from utils.declarations import Deferred

ONE_FILE = """
from torch import nowhere
from evaluation.measure import Column, Measure, Row

NAMES = ("brier", "spherical")


def compute(context):
    return {}


MEASURE = Measure(
    name="scores",
    group="calibration",
    explanation="Lower is better.",
    compute=compute,
    rows=tuple(Row(f"{name}_score", f"{name} score") for name in NAMES),
    columns=(Column("brier_score", "Brier score", 3),),
)
"""


def loaded(value):
    """The declared value with the functions themselves."""
    if isinstance(value, Deferred):
        return value.load()
    if isinstance(value, Column):
        return value._replace(derive=loaded(value.derive))
    return tuple(map(loaded, value)) if type(value) is tuple else value


@pytest.mark.parametrize("name", MEASURES)
def test_a_declaration_is_that_of_the_imported_module(name):
    declared = MEASURES[name]
    values = {part.name: getattr(declared, part.name) for part in dataclasses.fields(declared)}
    module = importlib.import_module(f"evaluation.metrics.{name}")
    assert Measure(**{key: loaded(value) for key, value in values.items()}) == module.MEASURE


def test_order_and_questions_come_first():
    """Measures and groups that somebody adds follow."""
    assert tuple(MEASURES)[: len(ORDER)] == ORDER
    questions = [group.name for group in QUESTIONS]
    assert list(GROUPS)[: len(questions)] == questions
    assert {name for measure in MEASURES.values() for name in measure.groups} == set(GROUPS)


def test_listing_measures_imports_no_torch():
    code = "import sys, evaluation.registry; print('torch' in sys.modules, 'numpy' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, timeout=60
    )
    assert (done.stdout, done.stderr) == ("False False\n", "")


@pytest.fixture
def folder(tmp_path):
    """A copy of the measures that ORDER names with two more."""
    for name in ORDER:
        shutil.copy(FOLDER / f"{name}.py", tmp_path)
    (tmp_path / "zebra.py").write_text(ONE_FILE.replace("brier", "logarithmic"))
    (tmp_path / "brier.py").write_text(ONE_FILE.replace("spherical", "rank"))
    (tmp_path / "helper.py").write_text("OTHER = 3\n")
    return tmp_path


def test_a_file_adds_a_measure_its_group_and_its_column(folder):
    measures = find_measures(folder, "folder")
    assert list(measures) == [*ORDER, "brier", "zebra"]
    assert {name: measures[name].rows for name in ORDER} == {
        name: MEASURES[name].rows for name in ORDER
    }
    brier = measures["brier"]
    assert brier.rows == (Row("brier_score", "brier score"), Row("rank_score", "rank score"))
    assert brier.compute == Deferred("folder.brier", "compute")
    questions = [group.name for group in QUESTIONS]
    assert list(find_groups(measures.values())) == [*questions, "calibration"]
    columns = find_columns(measures, first="average_gap_points")
    own = {name: measures[name] for name in ORDER}
    before = find_columns(own, first="average_gap_points")
    assert [column.key for column in before] == [
        *("average_gap_points", "unlearn_accuracy_percent", "remaining_accuracy_percent"),
        *("test_accuracy_percent", "mia_efficacy_percent", "attack_loss_auc", "seconds"),
        "share_of_retrain_time_percent",
    ]
    assert [column.key for column in columns[len(before) :]] == [
        "brier_score",
        "logarithmic_score",
    ]


def test_a_key_belongs_to_one_measure(folder):
    (folder / "zebra.py").write_text(ONE_FILE.replace("spherical", "rank"))
    says = "zebra.py: the key brier_score is declared by .*brier.py already"
    with pytest.raises(ValueError, match=says):
        find_measures(folder, "folder")
