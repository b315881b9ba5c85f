"""Types of flags: functions that turn a flag's text into a value, or raise an error."""

from argparse import ArgumentTypeError
from collections.abc import Callable

from utils.data.placement import parse_size

MAX_INTEGER = 2**63 - 1  # of torch's integers


def integer(low: int, high: int = MAX_INTEGER) -> Callable[[str], int]:
    """Return a type for whole numbers from `low` to `high`."""

    def read(text):
        try:
            number = int(text)
        except ValueError:
            raise ArgumentTypeError(f"{text!r} is not a whole number") from None
        if number < low:
            raise ArgumentTypeError(f"{text} is out of range: the lowest is {low}")
        if number > high:
            raise ArgumentTypeError(f"{text} is out of range: the highest is {high}")
        return number

    return read


def even_integer(low: int) -> Callable[[str], int]:
    """Return a type for even whole numbers from `low`."""
    read_integer = integer(low)

    def read(text):
        number = read_integer(text)
        if number % 2:
            raise ArgumentTypeError(f"{text} is odd: it must be even")
        return number

    return read


def size(text: str) -> int:
    """Return the bytes of a size such as `500M`."""
    try:
        return parse_size(text)
    except ValueError:
        raise ArgumentTypeError(
            f"{text!r} is not a size: give bytes, or for example 500M or 16G"
        ) from None


def assignment(text: str) -> tuple[str, str]:
    """Return name and value of `NAME=VALUE`."""
    name, sign, value = text.partition("=")
    if not (name and sign):
        raise ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name, value


def _real_number(valid_range, is_valid):
    def read(text):
        try:
            number = float(text)
        except ValueError:
            raise ArgumentTypeError(f"{text!r} is not a number") from None
        if not is_valid(number):  # NaN is in no range
            raise ArgumentTypeError(f"{text} is out of range: {valid_range}")
        return number

    return read


learning_rate = _real_number(
    "a learning rate is above 0 and at most 100", lambda rate: 0 < rate <= 100
)
weight_decay = _real_number("weight decay is from 0 to 1", lambda decay: 0 <= decay <= 1)
fraction = _real_number("a fraction is above 0 and at most 1", lambda part: 0 < part <= 1)
threshold = _real_number("a threshold is above 0 and at most 1", lambda part: 0 < part <= 1)
