"""What the tests of main_compare.py share: its methods, and its files."""

import csv
import json
from pathlib import Path

NAME = "tiny_best_FORGOTTEN_3_comparison"
METHODS = ("GA", "FT_with_SalUn", "DELETE")
RETRAINS = [("Retrain", 1), ("Retrain", 2)]


def table(name=NAME):
    """Return the rows of the CSV file by method, in their order."""
    with open(f"results/{name}.csv", newline="") as file:
        return {row["method"]: row for row in csv.DictReader(file)}


def trials(name=NAME):
    """Return the recorded figures by model id."""
    return json.loads(Path(f"results/{name}.json").read_bytes())["trials"]
