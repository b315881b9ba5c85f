"""A flag given twice: its values are collected, or it is refused; no value is lost silently."""

import pytest

from arg_parser import compare_flags, make_parser, measures_flag, unlearning_flags


def parse(*words, flags=unlearning_flags):
    return make_parser("a test", flags).parse_args(words)


def test_values_are_collected():
    args = parse(
        *("--unlearn", "GA", "--class_to_forget", "1", "--class_to_forget", "2", "platelet"),
        *("--unlearn_options", "a=1", "--unlearn_options", "b=2"),
    )
    assert args.class_to_forget == ["1", "2", "platelet"]
    assert args.unlearn_options == [("a", "1"), ("b", "2")]
    where = parse(
        *("--unlearn", "GA", "--metadata", "m.csv", "--forget_where", "patient_id=17"),
        *("--forget_where", "site=A"),
    )
    assert where.forget_where == ["patient_id=17", "site=A"]


def test_given_values_replace_the_default():
    compared = ("--class_to_forget", "1")
    assert parse(*compared, flags=compare_flags).seeds == [1]
    given = parse(*compared, "--seeds", "2", "--seeds", "3", flags=compare_flags)
    assert given.seeds == [2, 3]
    assert given.unlearn == ["all"]
    parser = make_parser("a test", lambda parser: measures_flag(parser, ["privacy"]))
    for _ in range(2):  # nothing is kept from an earlier call
        assert parser.parse_args(["--measures", "cost"]).measures == ["cost"]
    assert parser.parse_args([]).measures == ["privacy"]


@pytest.mark.parametrize(
    "flag, first, second, others",
    [
        ("--forget_fraction", "0.1", "0.2", ()),
        ("--forget_seed", "1", "2", ("--forget_fraction", "0.1")),
        ("--forget_indices", "a.txt", "b.txt", ()),
        ("--metadata", "a.csv", "b.csv", ("--forget_where", "site=A")),
    ],
)
def test_two_values_of_a_single_valued_flag(flag, first, second, others, capsys):
    options = ("--unlearn", "GA", *others, flag, first)
    assert parse(*options, flag, first) == parse(*options)
    with pytest.raises(SystemExit) as end:
        parse(*options, flag, second)
    assert end.value.code == 2
    said = f"{flag} is given twice, with {first} and with {second}: give it once"
    assert said in capsys.readouterr().err
