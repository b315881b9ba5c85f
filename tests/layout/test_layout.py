"""The layout of the code: small files and folders, one-way imports, typed public functions."""

import ast
import re

import pytest

from tests.helpers.environment import REPOSITORY

MAX_LINES = 400
MAX_MODULES = 13  # in a folder
FILE_PER_ENTRY = ("methods", "metrics")  # folders with a file per method or measure: unlimited
PACKAGES = ("flags", "evaluation", "unlearn", "models", "utils")  # from the top floor down
UTILS = (("train",), ("data",), ("plots", "io"), ("runtime",))  # the same inside utils
HEAVY = {"torch", "torchvision", "numpy", "scipy", "sklearn", "matplotlib", "medmnist", "PIL"}
SKIPPED = {"venv", ".venv", "build", "__pycache__"}
SCRIPTS = sorted(path.stem for path in REPOSITORY.glob("*.py"))
# code, messages and documents name what happens instead
PERSONIFIED = re.compile(
    r"\b(told|gone on with|goes on with it|to the bit|bit for bit|that is there already)\b"
)


def python_files(*folders):
    """Paths relative to the repository."""
    roots = [REPOSITORY / folder for folder in folders] or [REPOSITORY]
    found = (path for root in roots for path in sorted(root.rglob("*.py")))
    relative = (path.relative_to(REPOSITORY) for path in found)
    return [path for path in relative if not SKIPPED & set(path.parts)]


def documents():
    found = [*REPOSITORY.glob("*.md"), *(REPOSITORY / "docs").glob("*.md")]
    return [path.relative_to(REPOSITORY) for path in sorted(found)]


def read(path):
    return (REPOSITORY / path).read_text(encoding="utf-8")


@pytest.mark.parametrize("path", python_files(), ids=str)
def test_a_file_is_at_most_400_lines(path):
    assert len(read(path).splitlines()) <= MAX_LINES


@pytest.mark.parametrize("path", [*python_files(), *documents()], ids=str)
def test_no_sentence_is_personified(path):
    if path.name == "test_layout.py":
        pytest.skip("this file lists the words")
    found = [line for line in read(path).splitlines() if PERSONIFIED.search(line)]
    assert found == []


def test_no_folder_has_too_many_modules():
    counts = {}
    for path in python_files(*PACKAGES, "tests", "benchmarks"):
        if path.name != "__init__.py" and path.parent.name not in FILE_PER_ENTRY:
            counts[path.parent] = counts.get(path.parent, 0) + 1
    assert {str(folder): n for folder, n in counts.items() if n > MAX_MODULES} == {}


def statements(node):
    """Yield a node and all nodes in it, without what is imported for type hints only."""
    yield node
    for child in ast.iter_child_nodes(node):
        if not (isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)):
            yield from statements(child)


def imported(path):
    """Dotted names of the modules that a file imports, anywhere in it."""
    for node in statements(ast.parse(read(path))):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide where they lead"
            yield from [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]


@pytest.mark.parametrize("path", python_files(*PACKAGES), ids=str)
def test_imports_point_one_way(path):
    below = PACKAGES[PACKAGES.index(path.parts[0]) :]
    house = {*PACKAGES, *SCRIPTS, "tests", "benchmarks"}
    used = set(imported(path))
    assert {name.split(".")[0] for name in used} & house <= set(below)
    if path.parts[0] == "utils" and len(path.parts) > 2:
        floor = next(n for n, names in enumerate(UTILS) if path.parts[1] in names)
        above = {name for names in UTILS[:floor] for name in names}
        assert {name.split(".")[1] for name in used if name.startswith("utils.")} & above == set()


def public_functions(tree):
    """(name, node) of functions and methods without a leading underscore; no nested ones."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            yield node.name, node
        elif isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            for part in node.body:
                if isinstance(part, ast.FunctionDef) and not part.name.startswith("_"):
                    yield f"{node.name}.{part.name}", part


@pytest.mark.parametrize("path", python_files(*PACKAGES), ids=str)
def test_public_functions_have_type_hints_and_docstrings(path):
    faults = []
    for name, node in public_functions(ast.parse(read(path))):
        arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        bare = [a.arg for a in arguments if a.annotation is None and a.arg not in ("self", "cls")]
        faults += [f"{name}: {argument} has no type" for argument in bare]
        faults += [] if node.returns is not None else [f"{name}: no return type"]
        faults += [] if ast.get_docstring(node) else [f"{name}: no docstring"]
    assert faults == []


@pytest.mark.parametrize("package", PACKAGES)
def test_only_scripts_and_flags_read_args(package):
    if package == "flags":
        pytest.skip("flags turn args into plain parameters")
    for path in python_files(package):
        for node in ast.walk(ast.parse(read(path))):
            is_read = isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
            assert not (is_read and node.value.id == "args"), f"{path}: args.{node.attr}"


@pytest.mark.parametrize("path", python_files("flags", "utils/runtime"), ids=str)
def test_flags_and_runtime_import_nothing_heavy_at_module_level(path):
    module_level = [
        name.split(".")[0]
        for node in ast.parse(read(path)).body
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in (
            [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module]
        )
    ]
    assert set(module_level) & HEAVY == set()
