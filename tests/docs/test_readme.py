"""What the README says of flags, methods and data sets is what the code has."""

import importlib
import re

import pytest
from medmnist import INFO

from tests.helpers.environment import REPOSITORY
from unlearn.registry import METHODS, describe_options, describe_recipe
from utils.data.loading import NAMES, SYNTHETIC
from utils.data.synthetic import SPLIT_SIZES

README = (REPOSITORY / "README.md").read_text()
FLAG_ROWS = dict(re.findall(r"^\| (\w+)\.py \| (.+) \|$", README, re.MULTILINE))


@pytest.mark.parametrize("script", sorted(REPOSITORY.glob("*.py")))
def test_flags_by_script(script, capsys):
    if script.stem == "arg_parser":
        return
    with pytest.raises(SystemExit):
        importlib.import_module(script.stem).main(["--help"])
    in_help = set(re.findall(r"^  (--\w+)", capsys.readouterr().out, re.MULTILINE))
    assert set(re.findall(r"--\w+", FLAG_ROWS[script.stem])) == in_help


def test_methods_and_their_defaults():
    rows = re.findall(
        r"^\| (\w+) \| (.+) \| (.+) \| (.+) \| (yes|-) \| (.+) \| .+ \|$", README, re.M
    )
    expected = [
        (
            row.id,
            row.name,
            describe_recipe(row),
            describe_options(row) or "-",
            "yes" if f"{row.id}_with_SalUn" in METHODS else "-",
            row.paper,
        )
        for row in METHODS.values()
        if not row.uses_mask
    ]
    assert rows == expected


def test_data_sets_and_their_sizes():
    rows = re.findall(r"^\| (\w+) \| ([\d, /]+) \| (\d+) \| (\d) \| ([\w, -]+) \|$", README, re.M)
    written = {name: (sizes, int(classes), int(c), task) for name, sizes, classes, c, task in rows}
    assert set(written) == set(NAMES)
    assert written.pop(SYNTHETIC) == (_sizes(SPLIT_SIZES), 8, 3, "multi-class")
    for name, row in written.items():
        info = INFO[name.lower()]
        expected = (_sizes(info["n_samples"]), len(info["label"]), info["n_channels"], info["task"])
        assert row == expected


def _sizes(samples):
    return " / ".join(f"{samples[split]:,}" for split in ("train", "val", "test"))
