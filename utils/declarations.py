"""Reads what a Python file declares at module level without importing it.

Methods and measures stand in files of their own, and each file ends in one declaration, such as
`METHOD = Method(...)`. Those files import torch, which takes seconds; a list of methods, or a check
of a flag, needs their declarations only. So the assignment alone is evaluated, from the file's
syntax tree. A function that the declaration names becomes a Deferred, which imports the module when
it is first called.
"""

import ast
import importlib
from collections.abc import Mapping
from pathlib import Path


class Deferred:
    """A function of a module that is imported at the first call; equal to others of its name."""

    def __init__(self, module: str, name: str):
        self.module, self.name = module, name

    def load(self):
        """The function itself."""
        return getattr(importlib.import_module(self.module), self.name)

    def __call__(self, *values, **named):
        return self.load()(*values, **named)

    def __eq__(self, other):
        return isinstance(other, Deferred) and vars(self) == vars(other)

    def __hash__(self):
        return hash((self.module, self.name))

    def __repr__(self):
        return f"<{self.module}.{self.name}, imported when called>"


def read_declaration(path: Path, module: str, name: str, known: Mapping[str, object]):
    """The value of the module-level assignment `name = ...` in a file, None if there is none.

    path: of the file. module: the name that it is imported by. known: what the expression may use
    by name, such as the class of the declaration; other assignments of the file are evaluated as
    needed. Every other name must be a function of the module, or one that it imports, and becomes
    a Deferred. Raises NameError for a name that the file does not have.
    """
    tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
    assigned, defined = _module_names(tree)
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

    return evaluate(assigned[name]) if name in assigned else None


def _module_names(tree):
    """(name -> expression of its assignment, names of functions and imports) at module level."""
    assigned, defined = {}, set()
    for node in tree.body:
        if isinstance(node, ast.Assign):
            for target in node.targets:
                if isinstance(target, ast.Name):
                    assigned[target.id] = node.value
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            defined.add(node.name)
        elif isinstance(node, ast.ImportFrom | ast.Import):
            defined |= {alias.asname or alias.name for alias in node.names}
    return assigned, defined
