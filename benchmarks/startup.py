"""Seconds until scripts answer without work: --help, a wrong flag and --list_methods.

Each command runs several times in a process of its own; the table shows medians of the wall time
and of the CPU time. On an idle core both are nearly equal; on a busy machine compare the CPU times.
Importing torch and torchvision is the shortest time that any work can wait for; the modules of
main_train.py are what training waits for.

Measured on two CPU cores, Python 3.11, torch 2.14 (medians of 3 runs, CPU seconds): 0.12 to 0.15
for --help of every script, 0.12 for a wrong flag, 0.13 for --list_methods; 3.73 for torch and
torchvision, 4.36 for the imports of training.
"""

import argparse
import os
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
SCRIPTS = sorted(path.name for path in REPOSITORY.glob("*.py") if path.name != "arg_parser.py")
TRAINING = "models.architectures, models.checkpoint, models.loading, models.shards"
TRAINING += ", utils.data.loading, utils.plots.curves, utils.plots.saving"
COMMANDS = {
    "python -c pass": ("-c", "pass"),
    **{f"{name} --help": (name, "--help") for name in SCRIPTS},
    "main_train.py --wrong": ("main_train.py", "--wrong"),
    "main_unlearn.py --list_methods": ("main_unlearn.py", "--list_methods"),
    "import torch, torchvision": ("-c", "import torch, torchvision"),
    "the imports of training": (
        "-c",
        "from utils.runtime.startup import import_libraries\n"
        f"import_libraries()\nimport {TRAINING}",
    ),
}
IMPORT_TIME = re.compile(r"import time:\s+(\d+) \|\s+(\d+) \| ( *)(\S+)")
SHOWN_IMPORTS = 10


def measure(arguments: tuple[str, ...]) -> tuple[float, float]:
    """Return (wall, CPU) seconds of one run of Python."""
    before, began = os.times(), time.perf_counter()
    subprocess.run([sys.executable, *arguments], cwd=REPOSITORY, capture_output=True)
    wall, after = time.perf_counter() - began, os.times()
    cpu = after.children_user - before.children_user
    return wall, cpu + after.children_system - before.children_system


def heaviest_imports(arguments: tuple[str, ...]) -> list[tuple[float, str]]:
    """Return (milliseconds, module) of the imports that take longest themselves."""
    command = [sys.executable, "-X", "importtime", *arguments]
    text = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True).stderr
    own = [(int(match[1]) / 1000, match[4]) for match in IMPORT_TIME.finditer(text)]
    return sorted(own, reverse=True)[:SHOWN_IMPORTS]


def main() -> None:
    """Print the table, and the heaviest imports of `main_unlearn.py --help`."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--runs", type=int, default=5, help="runs per command (default: 5)")
    runs = parser.parse_args().runs
    print(f"{'command':34}  {'wall s':>6}  {'CPU s':>6}")
    for name, arguments in COMMANDS.items():
        measured = [measure(arguments) for _ in range(runs)]
        wall, cpu = (statistics.median(column) for column in zip(*measured, strict=True))
        print(f"{name:34}  {wall:6.2f}  {cpu:6.2f}", flush=True)
    print("\nheaviest imports of main_unlearn.py --help, milliseconds:")
    for milliseconds, module in heaviest_imports(("main_unlearn.py", "--help")):
        print(f"{milliseconds:8.1f}  {module}")


if __name__ == "__main__":
    main()
