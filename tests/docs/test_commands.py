"""Every command in the documents is accepted by the parser of its script."""

import argparse
import importlib
import importlib.util
import runpy
import shlex
import sys

import pytest

from arg_parser import make_parser
from tests.helpers.documents import DOCUMENTS, code_blocks, code_spans, name_of, page, read
from tests.helpers.environment import REPOSITORY
from unlearn.registry import load_plugins

LAUNCHERS = ("python", "torchrun")


class Parsed(BaseException):
    """Raised after a command was parsed, so that nothing is run. No `except` catches it."""


def commands(text):
    """Each command of a page as a list of words, from its bash blocks and its inline code."""
    lines = [line for block in code_blocks(text, "bash") for line in block.splitlines()]
    lines += [span for span in code_spans(text) if " " in span]
    parts = [part for line in lines for part in line.split("&&")]
    split = [shlex.split(part, comments=True) for part in parts if part.split()[0] in LAUNCHERS]
    return [words for words in split if "SCRIPT" not in words]


def script_commands():
    """(page, script, flags) of each command that runs a file of the repository."""
    found = {}
    for document in DOCUMENTS:
        for words in commands(read(document)):
            place = next((n for n, word in enumerate(words) if word.endswith(".py")), None)
            if place is not None and words[1] != "-m":
                found[name_of(document), tuple(words[place:])] = None
    return [(document, words[0], list(words[1:])) for document, words in found]


def _readable(value):
    return value if isinstance(value, str) else " ".join(value)[:60]


COMMANDS = script_commands()


@pytest.fixture
def plugin_folder(tmp_path):
    """A folder with the plug-in of docs/contributing.md, which is loaded with its flag."""
    source = code_blocks(page("contributing.md").split("## Add a method")[1], "python")[0]
    (tmp_path / "my_method.py").write_text(source)
    yield tmp_path
    load_plugins([])


@pytest.mark.parametrize("document, script, flags", COMMANDS, ids=_readable)
def test_a_command_is_accepted(document, script, flags, monkeypatch, plugin_folder):
    benchmark = script.startswith("benchmarks/")
    parser = argparse.ArgumentParser if benchmark else type(make_parser(""))
    parse_args = parser.parse_args

    def stop(self, *args, **kwargs):
        parse_args(self, *args, **kwargs)
        raise Parsed

    monkeypatch.setattr(parser, "parse_args", stop)
    monkeypatch.chdir(plugin_folder)
    with pytest.raises((Parsed, SystemExit)) as ended:
        if benchmark:
            monkeypatch.setattr(sys, "argv", [script, *flags])
            monkeypatch.setattr(sys, "path", list(sys.path))
            runpy.run_path(str(REPOSITORY / script), run_name="__main__")
        else:
            importlib.import_module(script.removesuffix(".py")).main(flags)
    assert ended.type is Parsed or ended.value.code == 0, document  # 0: --list_methods, --help


def test_commands_are_found():
    """The walkthrough's scripts are among them, so that no change of layout hides them all."""
    scripts = {script for _, script, _ in COMMANDS}
    every = {path.name for path in REPOSITORY.glob("*.py")} - {"arg_parser.py"}
    assert scripts >= every | {"benchmarks/bench.py"}


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_modules_and_requirements_exist(document):
    text = read(document)
    for words in commands(text):
        if words[1] == "-m":
            assert importlib.util.find_spec(words[2]), words
    for line in (line for block in code_blocks(text, "bash") for line in block.splitlines()):
        words = shlex.split(line)
        for flag, name in zip(words, words[1:], strict=False):
            assert flag != "-r" or (REPOSITORY / name).is_file(), line
