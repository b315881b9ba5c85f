"""The note about cores that other programs use."""

import os

import pytest
import torch

from utils.runtime import devices
from utils.runtime.devices import busy_note, print_busy_note


@pytest.mark.parametrize(
    ("load", "cores", "threads"),
    [
        (None, 2, 2),  # the system does not report its load
        (0.0, 2, 2),
        (0.4, 2, 2),
        (9.0, 2, 1),  # one thread waits for no other
        (2.0, 16, 14),
        (12.3, 16, 4),
    ],
)
def test_no_note_if_the_threads_fit_on_the_free_cores(load, cores, threads):
    assert busy_note(load, cores, threads) is None


@pytest.mark.parametrize(
    ("load", "cores", "threads", "fitting"),
    [(1.0, 2, 2, 1), (0.6, 2, 2, 1), (7.0, 2, 2, 1), (2.0, 16, 16, 14), (12.3, 16, 5, 4)],
)
def test_the_note_names_the_number_of_threads_that_fit(load, cores, threads, fitting):
    note = busy_note(load, cores, threads)
    assert note.startswith("note: other programs use about ")
    assert note.endswith(f": add --threads {fitting}")
    assert "\n" not in note


def test_the_load_is_the_lower_of_the_average_and_the_running_tasks(tmp_path, monkeypatch):
    monkeypatch.setattr(devices, "LOADAVG", tmp_path / "loadavg")
    monkeypatch.setattr(os, "getloadavg", lambda: (3.0, 2.0, 1.0), raising=False)
    assert devices._load() == 3.0  # as on systems without /proc
    (tmp_path / "loadavg").write_text("3.00 2.00 1.00 2/142 31404\n")
    assert devices._load() == 1
    (tmp_path / "loadavg").write_text("3.00 2.00 1.00 9/142 31404\n")
    assert devices._load() == 3.0


def test_systems_without_a_load_average_get_no_note(monkeypatch, capsys):
    monkeypatch.delattr(os, "getloadavg", raising=False)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 10**6)
    print_busy_note(torch.device("cpu"))
    assert capsys.readouterr().out == ""
