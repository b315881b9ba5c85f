"""Reads what a Python file declares at module level, without importing it.

Each method and each measure has a file, which ends in one declaration, such as
`METHOD = Method(...)`. Those files import torch, which takes seconds; a list of methods, or a check
of a flag, needs their declarations only. So the assignment alone is evaluated, from the file's
syntax tree. A function that the declaration names becomes a Deferred, which imports the module when
it is first called.
"""

import ast
import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any


class Deferred:
    """A function of a module that is imported at the first call; equal to others of its name."""

    def __init__(self, module: str, name: str):
        self.module, self.name = module, name

    def load(self) -> Callable:
        """Import the module and return the function."""
        return getattr(importlib.import_module(self.module), self.name)

    def __call__(self, *values, **named):
        return self.load()(*values, **named)

    def __eq__(self, other):
        return isinstance(other, Deferred) and vars(self) == vars(other)

    def __hash__(self):
        return hash((self.module, self.name))

    def __repr__(self):
        return f"<{self.module}.{self.name}, imported when called>"


def read_declaration(path: Path, module: str, name: str, known: Mapping[str, object]) -> Any:
    """Return the value of the module-level assignment `name = ...` in a file, None without one.

    path: of the file. module: the name that it is imported by. known: what the expression may use
    by name, such as the class of the declaration. Other assignments that it needs are evaluated,
    in this file and in files of the same top-level package that it imports them from. Every other
    name must be a function or class of the file, or an import, and becomes a Deferred. Raises
    NameError for a name that the file does not have.
    """
    tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
    assigned, defined, imported = _module_names(tree)
    root = path.resolve().parents[module.count(".")]
    values = dict(known)

    def evaluate(expression):
        for node in ast.walk(expression):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
                resolve(node.id)
        return eval(compile(ast.Expression(expression), str(path), "eval"), values)

    def resolve(used):
        if used in values:
            return
        if used in assigned:
            values[used] = evaluate(assigned[used])
        elif used in defined:
            values[used] = Deferred(module, used)
        elif used in imported:
            values[used] = _imported_value(root, module, *imported[used], known)

    return evaluate(assigned[name]) if name in assigned else None


def _imported_value(root, importer, source, name, known):
    """The value of a name that a file imports from the module `source`."""
    file = root.joinpath(*source.split(".")).with_suffix(".py")
    if source.split(".")[0] == importer.split(".")[0] and file.is_file():
        value = read_declaration(file, source, name, known)
        if value is not None:
            return value
    return Deferred(source, name)


def _module_names(tree):
    """What a module has: assignments {name: expression}, names of functions and classes, and
    imports {name: (module, name there)}."""
    assigned, defined, imported = {}, set(), {}
    for node in tree.body:
        if isinstance(node, ast.Assign):
            for target in node.targets:
                if isinstance(target, ast.Name):
                    assigned[target.id] = node.value
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            defined.add(node.name)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                imported[alias.asname or alias.name] = (node.module, alias.name)
    return assigned, defined, imported
