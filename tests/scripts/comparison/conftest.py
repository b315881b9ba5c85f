"""Fixtures of the tests of main_compare.py."""

import pytest

from tests.scripts.comparison.shared import METHODS
from unlearn.job import UnlearnJob


@pytest.fixture
def grey(data_files):
    return data_files["grey"]


@pytest.fixture
def flags(trained, grey, undrawn):
    data = ("--model_id", "tiny_best", "--dataset", grey, "--device", "cpu")
    return (*data, "--class_to_forget", "3", "--unlearn", *METHODS)


@pytest.fixture
def made(monkeypatch):
    """The (method, seed) of every unlearning that is run from now on."""
    seen, run = [], UnlearnJob.run

    def watch(job, *arguments):
        seen.append((job.method.id, job.config.recipe.seed))
        return run(job, *arguments)

    monkeypatch.setattr(UnlearnJob, "run", watch)
    return seen
