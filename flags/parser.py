"""The parser that all scripts use, and the actions of flags that may be given twice."""

import argparse
import os
import shlex
from collections.abc import Callable

from utils.runtime.errors import EXIT_BAD_INPUT
from utils.text import encodable


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Appends `(default: ...)` where there is a default that the help text does not mention."""

    def _get_help_string(self, action):
        if action.default is None or action.default is False or "default" in action.help:
            return action.help
        return super()._get_help_string(action)


class OneLineParser(argparse.ArgumentParser):
    """An ArgumentParser that reports an error in one line, without the usage before it."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.checks = []  # functions of the parsed flags that return what is wrong, or None
        self.given = set()  # destinations of the flags that were parsed already

    def parse_args(self, *args, **kwargs) -> argparse.Namespace:
        """Return the flags. A wrong flag, or wrong combination, exits with code 2."""
        self.given.clear()
        parsed = super().parse_args(*args, **kwargs)
        for fault in (check(parsed) for check in self.checks):
            if fault:
                self.error(fault)
        return parsed

    def error(self, message: str) -> None:
        """Print the message in one line and exit with code 2."""
        one_line = " ".join(message.split())
        self.exit(EXIT_BAD_INPUT, f"{self.prog}: error: {one_line} (see --help)\n")


class ExtendValues(argparse.Action):
    """Stores a list; when the flag is given again, its values are appended."""

    def __call__(self, parser, namespace, values, _=None):
        before = getattr(namespace, self.dest) if self.dest in parser.given else []
        parser.given.add(self.dest)
        setattr(namespace, self.dest, [*before, *values])


class StoreOnce(argparse.Action):
    """Stores a value; the flag given again with another value is an error."""

    def __call__(self, parser, namespace, value, flag=None):
        before = getattr(namespace, self.dest)
        if self.dest in parser.given and before != value:
            parser.error(f"{flag} is given twice, with {before} and with {value}: give it once")
        parser.given.add(self.dest)
        setattr(namespace, self.dest, value)


def make_parser(
    description: str, *add_groups: Callable[[argparse.ArgumentParser], None]
) -> OneLineParser:
    """Return a parser with the flags that the functions `add_groups` add, and no others."""
    parser = OneLineParser(
        description=description,
        formatter_class=HelpFormatter,
        allow_abbrev=False,
    )
    for add_group in add_groups:
        add_group(parser)
    return parser


def command_line(argv: list[str], program: str) -> str:
    """Return the command as a user can type it again, for records."""
    return encodable(shlex.join(["python", os.path.basename(program), *argv]))
