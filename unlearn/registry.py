"""Finds the unlearning methods and their variants inside a saliency mask.

Each file of unlearn/methods/ ends in `METHOD = Method(...)`. The registry reads these declarations
without importing the files, so listing methods imports no torch; a method's file is imported when
the method first runs. A new file is enough to add a method. Plug-in files that a user names are
imported, because they may declare their methods in any way.
"""

import hashlib
import re
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from textwrap import fill
from types import ModuleType

from unlearn.engine import method as declarations_module
from unlearn.engine.method import Method, Option, describe_options, describe_recipe
from utils import declarations
from utils.io.files import suggest_name
from utils.runtime.errors import UserError
from utils.runtime.startup import import_libraries
from utils.text import format_table
from utils.train import recipe as recipe_module

ALL = "all"  # stands for every method where several may be named
LINE_WIDTH = 100  # characters
SALUN_SUFFIX = "_with_SalUn"
SALUN_PAPER = "Fan et al., ICLR 2024"
METHOD_FOLDER = Path(__file__).parent / "methods"
ID = re.compile(r"[A-Za-z0-9]+(_[A-Za-z0-9]+)*")  # the pattern of a method in unlearn.model_ids
ORDER = (  # of lists and comparisons; other methods follow, sorted by id
    "Retrain",
    "RL",
    "FT",
    "GA",
    "NegGradPlus",
    "L1_sparse",
    "EU_k",
    "CF_k",
    "Amnesiac",
    "BadTeacher",
    "SCRUB",
    "SCRUB_R",
    "UNSIR",
    "DELETE",
    "NegMerge",
    "IU",
    "Fisher",
    "SSD",
    "LFSSD",
    "SFRon",
    "BoundaryShrink",
    "BoundaryExpanding",
    "AMUN",
    "MUMis",
    "SISA",
    "CRA",
    "UAM",
)
METHODS: dict[str, Method] = {}  # by id: built-in methods, then plug-ins
_KNOWN = {**vars(declarations_module), **vars(recipe_module), "replace": replace}


def read_methods(folder: Path = METHOD_FOLDER, package: str = "unlearn.methods") -> list[Method]:
    """Read the METHOD of every file in a folder, in the given order; no file is imported.

    package: the name that the folder is imported by. Raises UserError that names the file if it
    declares no METHOD, or if its id is taken or not usable.
    """
    found = {}
    for path in sorted(folder.glob("[!_]*.py")):
        _add(found, _read_method(path, f"{package}.{path.stem}"), path.name)
    return sorted(found.values(), key=_place)


def with_salun(method: Method) -> Method:
    """Return the variant of a method that changes only weights inside a saliency mask."""
    return replace(
        method,
        id=f"{method.id}{SALUN_SUFFIX}",
        name=f"{method.name} with SalUn",
        paper=f"{method.paper}; {SALUN_PAPER}",
        uses_mask=True,
    )


def with_variants(methods: Iterable[Method]) -> dict[str, Method]:
    """Return methods and their SalUn variants by id, all variants after all methods."""
    methods = list(methods)
    variants = [with_salun(method) for method in methods if method.supports_mask]
    return {method.id: method for method in [*methods, *variants]}


def load_plugins(paths: Iterable[str]) -> None:
    """Import plug-in files and add their methods, with SalUn variants, to METHODS.

    They replace the methods of plug-ins that were loaded before. A plug-in declares METHOD, or
    METHODS, a list. Raises UserError that names the file if it is missing, cannot be imported,
    declares no method, or uses an id that is taken or not usable.
    """
    paths = list(dict.fromkeys(paths))
    if paths:
        import_libraries()  # the files import them
    built_in = {key: method for key, method in METHODS.items() if method.plugin is None}
    added = {}
    for path in paths:
        for method in _import_plugin(path):
            _add(added, method, f"--plugin {path}", built_in)
    METHODS.clear()
    METHODS.update(built_in | with_variants(added.values()))


def find_method(method_id: str) -> Method:
    """Return the method of an id in any letter case. Raises UserError that suggests a near id."""
    by_lower = {known.lower(): method for known, method in METHODS.items()}
    if method_id.lower() not in by_lower:
        listed = ", ".join(method.id for method in METHODS.values() if not method.uses_mask)
        raise UserError(
            f"--unlearn {method_id}: no such method{suggest_name(method_id, METHODS)}; choose one "
            f"of {listed}; most have a variant with {SALUN_SUFFIX}"
        )
    return by_lower[method_id.lower()]


def find_methods(method_ids: Iterable[str], *, shards: bool = False) -> list[Method]:
    """Return the methods of several ids, each once; ALL stands for every method.

    shards: whether the base model was trained in shards, which some methods need.
    """
    if ALL in (method_id.lower() for method_id in method_ids):
        return [method for method in METHODS.values() if shards or not method.needs_shards]
    return list(dict.fromkeys(map(find_method, method_ids)))


def describe_methods() -> str:
    """Return the table of all methods, each with its technique, paper and summary below it."""
    methods = [method for method in METHODS.values() if not method.uses_mask]
    headers = ["--unlearn", "SalUn", "default", "--unlearn_options"]
    rows = [
        [
            method.id,
            "yes" if method.supports_mask else "-",
            describe_recipe(method),
            describe_options(method),
        ]
        for method in methods
    ]
    heading, rule, *lines = format_table(headers, rows).splitlines()
    notes = (
        f"    {method.name}: {method.paper}\n{_indented(method.summary)}" for method in methods
    )
    listed = [part for pair in zip(lines, notes, strict=True) for part in pair]
    note = (
        f"SalUn yes: there is a variant inside the saliency mask, as RL{SALUN_SUFFIX} "
        f"({SALUN_PAPER})."
    )
    return "\n".join([heading, rule, *listed, "", note])


def _indented(text):
    return fill(text, LINE_WIDTH, initial_indent="    ", subsequent_indent="    ")


def _place(method):
    known = method.id in ORDER
    return not known, ORDER.index(method.id) if known else 0, method.id


def _read_method(path, module):
    """The METHOD that a file declares."""
    try:
        method = declarations.read_declaration(path, module, "METHOD", _KNOWN)
    except Exception as error:  # whatever is wrong in a new file
        why = " ".join(str(error).split())
        raise UserError(
            f"{path.name}: METHOD cannot be read: {type(error).__name__}: {why}"
        ) from error
    if not isinstance(method, Method):
        raise UserError(f"{path.name}: it declares no METHOD: see docs/contributing.md")
    return method


def _add(found, method, file, existing=()):
    """Add a method to `found`, unless `existing` or `found` has its id in any letter case."""
    if not (isinstance(method.id, str) and ID.fullmatch(method.id)) or method.id.lower() == ALL:
        raise UserError(
            f"{file}: the id {method.id!r} is not usable: use letters and digits, joined by single "
            f"underscores, and another word than {ALL}"
        )
    for name, option in method.options.items():
        if not (name.isascii() and name.isalpha()):  # it becomes part of model ids
            raise UserError(f"{file}: the option {name!r} is not usable: use letters only")
        if not isinstance(option, Option):
            raise UserError(f"{file}: the option {name!r} is no Option: see docs/contributing.md")
    taken = {known.lower() for known in [*with_variants(found.values()), *existing]}
    clash = [each for each in with_variants([method]) if each.lower() in taken]
    if clash:
        raise UserError(f"{file}: a method {clash[0]} exists already: choose another id")
    found[method.id] = method


def _import_plugin(path):
    """The methods that a plug-in file declares, each with the file's name and SHA-256."""
    file = Path(path)
    if file.suffix != ".py":
        raise UserError(f"--plugin {path}: no Python file: its name must end in .py")
    try:
        source = file.read_bytes()
    except OSError as error:
        raise UserError(f"--plugin {path}: {error.strerror or error}: check the path") from None
    digest = hashlib.sha256(source).hexdigest()
    module = ModuleType(f"plugin_{digest}")
    module.__file__ = str(file)
    sys.modules[module.__name__] = module  # dataclasses in the file look their module up
    try:
        # not by an import, which might execute a cached file instead of what has this digest
        exec(compile(source, str(file), "exec"), vars(module))
    except (Exception, SystemExit) as error:
        del sys.modules[module.__name__]
        why = " ".join(str(error).split())
        raise UserError(
            f"--plugin {path}: it cannot be imported: {type(error).__name__}: {why}"
        ) from error
    declared = getattr(module, "METHODS", None)
    declared = [module.METHOD] if declared is None and hasattr(module, "METHOD") else declared
    if not declared:
        raise UserError(f"--plugin {path}: it declares no METHOD: see docs/contributing.md")
    is_list = isinstance(declared, list | tuple)
    if not is_list or not all(isinstance(method, Method) for method in declared):
        raise UserError(f"--plugin {path}: METHOD is no Method: see docs/contributing.md")
    plugin = {"file": file.name, "sha256": digest}
    return [replace(method, plugin=plugin) for method in declared]


METHODS.update(with_variants(read_methods()))
