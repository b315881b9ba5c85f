"""Fixtures for tests of models."""

import pytest


@pytest.fixture
def empty_folder(tmp_path, monkeypatch):
    """The current folder, which is empty."""
    monkeypatch.chdir(tmp_path)
