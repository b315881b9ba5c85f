"""A few hundred cases of tests/helpers/fuzz_files.py, with smaller models."""

import time
import zipfile

import pytest

from tests.helpers import fuzz_files
from tests.helpers.small_net import SMALL_ARCH

CASES = 300


@pytest.fixture
def files(workplace):
    return fuzz_files.SampleFiles(SMALL_ARCH)


def test_damaged_files_are_refused_or_read_unchanged(files):
    outcomes = {fuzz_files.run_case(number, files)[0] for number in range(CASES)}
    assert outcomes == {"refused", "accepted", "other data"}


def test_the_fuzzer_detects_other_content(files, monkeypatch):
    """A changed pixel with a valid CRC, which no reader can detect."""

    def change_pixel(content, other, rng):
        with zipfile.ZipFile("new.npz", "w") as new, zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                part = archive.read(name)
                new.writestr(name, part[:-1] + bytes([part[-1] ^ 1]) if "images" in name else part)
        with open("new.npz", "rb") as stream:
            return stream.read()

    path = files.paths["data"][0]
    files.paths = {"data": [path, path]}
    monkeypatch.setattr(fuzz_files, "DAMAGES", (change_pixel,))
    with pytest.raises(AssertionError, match="other content was accepted"):
        fuzz_files.run_case(0, files)


def test_the_fuzzer_detects_a_hang():
    with pytest.raises(fuzz_files.Hang), fuzz_files.time_limit(0.05):
        time.sleep(5)
