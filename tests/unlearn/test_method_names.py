"""Methods are found by id in any letter case, and all are listed."""

import pytest

from tests.helpers.methods import (
    by_id,
)
from unlearn.registry import METHODS, describe_methods, find_method, find_methods
from utils.runtime.errors import UserError


@by_id
def test_methods_are_found_in_any_letter_case(method):
    for text in (method.id, method.id.lower(), method.id.upper(), method.id.swapcase()):
        assert find_method(text) is method


@pytest.mark.parametrize(
    ("text", "near"),
    [
        ("Retrian", "Retrain"),
        ("RL_with_Salum", "RL_with_SalUn"),
        ("rlwithsalun", "RL_with_SalUn"),
        ("GA_SalUn", "GA_with_SalUn"),
    ],
)
def test_unknown_methods_are_refused_and_the_nearest_named(text, near):
    with pytest.raises(
        UserError, match=f"--unlearn {text}: .*did you mean {near}.*; choose one of"
    ):
        find_method(text)


def test_a_method_like_no_other_is_refused_with_the_list():
    with pytest.raises(UserError, match="--unlearn zzz: no such method; choose one of Retrain, RL"):
        find_method("zzz")


@pytest.mark.parametrize("text", ["all", "ALL", "All"])
def test_all_methods_in_any_letter_case(text):
    assert len(find_methods([text], shards=True)) == len(METHODS)


@by_id
def test_a_row_for_every_method(method):
    lines = describe_methods().splitlines()
    assert max(map(len, lines)) <= 100
    if not method.uses_mask:
        number = next(n for n, line in enumerate(lines) if line.split()[:1] == [method.id])
        variant = f"{method.id}_with_SalUn" in METHODS
        assert lines[number].split()[1] == ("yes" if variant else "-")
        assert lines[number + 1] == f"    {method.name}: {method.paper}"
        assert method.summary.startswith(lines[number + 2].strip())
