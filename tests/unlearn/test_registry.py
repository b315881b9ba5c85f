"""Methods are found in their files, which are not imported; plug-in files are."""

import importlib
import os
import shutil
from dataclasses import fields

import pytest

from unlearn import registry
from unlearn.engine.method import Method
from utils.declarations import Deferred
from utils.runtime.errors import UserError

BUILT_IN = registry.read_methods()
NEW_METHOD = """
from unlearn.engine.method import BATCH_SIZE, Method
from utils.train.recipe import Recipe


def do_nothing(model, forget_set, retain_set, config):
    return model


METHOD = Method(
    id="{id}",
    name="Nothing",
    run=do_nothing,
    recipe=Recipe(1, 0.1, BATCH_SIZE),
    paper="none",
    family="test",
    summary="changes nothing",
)
"""


def copy_of_methods(tmp_path):
    """The folder of methods, in a copy of their package."""
    return shutil.copytree(registry.METHOD_FOLDER.parent, tmp_path / "unlearn") / "methods"


@pytest.fixture
def methods(monkeypatch):
    """METHODS that a test may add plug-ins to."""
    copy = dict(registry.METHODS)
    monkeypatch.setattr(registry, "METHODS", copy)
    return copy


@pytest.fixture
def plugin(tmp_path):
    def write(text, name="my_method.py"):
        path = tmp_path / name
        path.write_text(text)
        return str(path)

    return write


@pytest.mark.parametrize("method", BUILT_IN, ids=lambda method: method.id)
def test_a_declaration_is_what_its_file_declares(method):
    imported = importlib.import_module(method.run.module).METHOD
    for field in fields(Method):
        read, found = getattr(method, field.name), getattr(imported, field.name)
        assert (read.load() if isinstance(read, Deferred) else read) == found, field.name


def test_the_methods_of_the_given_order_come_first():
    assert [method.id for method in BUILT_IN][: len(registry.ORDER)] == list(registry.ORDER)


def test_a_new_file_is_a_new_method_and_its_variant(tmp_path):
    folder = copy_of_methods(tmp_path)
    (folder / "nothing.py").write_text(NEW_METHOD.format(id="Nothing"))
    found = registry.with_variants(registry.read_methods(folder))
    assert [key for key in found if key not in registry.METHODS] == [
        "Nothing",
        "Nothing_with_SalUn",
    ]
    assert list(found).index("Nothing") == len(BUILT_IN)  # after those of the given order


@pytest.mark.parametrize("taken", ["RL", "rl", "Retrain", "ft_with_salun"])
def test_two_files_with_one_id_are_refused(tmp_path, taken):
    folder = copy_of_methods(tmp_path)
    (folder / "zzz.py").write_text(NEW_METHOD.format(id=taken))
    with pytest.raises(UserError, match="^zzz.py: a method .* exists already"):
        registry.read_methods(folder)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "it declares no METHOD"),
        ("METHOD = 3", "it declares no METHOD"),
        ("METHOD = Method(", "METHOD cannot be read: SyntaxError"),
        ("METHOD = missing('A')", "METHOD cannot be read: NameError: .*missing"),
        ("METHOD = Method('A')", "METHOD cannot be read: TypeError"),
        (NEW_METHOD.format(id="a__b"), "the id 'a__b' is not usable"),
    ],
)
def test_a_file_with_a_fault_is_named(tmp_path, text, message):
    folder = copy_of_methods(tmp_path)
    (folder / "new.py").write_text(text)
    with pytest.raises(UserError, match=f"^new.py: {message}"):
        registry.read_methods(folder)


def test_a_plugin_adds_its_method_and_variant(methods, plugin):
    path = plugin(NEW_METHOD.format(id="Mine"))
    registry.load_plugins([path])
    assert registry.find_method("mine_with_salun").uses_mask
    model = object()
    assert registry.find_method("MINE").run(model, None, None, None) is model
    assert registry.find_method("Mine").plugin["file"] == "my_method.py"
    assert "\nMine " in registry.describe_methods()
    registry.load_plugins([path])  # again in the same process


def test_plugins_replace_those_that_were_loaded_before(methods, plugin):
    before = list(methods)
    registry.load_plugins([plugin(NEW_METHOD.format(id="One"))])
    registry.load_plugins([plugin(NEW_METHOD.format(id="Two"))])
    assert list(methods) == [*before, "Two", "Two_with_SalUn"]
    registry.load_plugins([])
    assert list(methods) == before


def test_a_plugin_may_declare_several_methods(methods, plugin):
    text = NEW_METHOD.format(id="One") + (
        "from dataclasses import replace\nMETHODS = [METHOD, replace(METHOD, id='Two')]\n"
    )
    registry.load_plugins([plugin(text)])
    assert {"One", "Two", "Two_with_SalUn"} <= set(methods)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "it declares no METHOD"),
        ("METHOD = 3", "METHOD is no Method"),
        ("METHODS = []", "it declares no METHOD"),
        (
            NEW_METHOD.format(id="Mine").replace(
                'paper="none"', 'paper="none", options={"alpha": 0.5}'
            ),
            "the option 'alpha' is no Option",
        ),
        ("METHODS = [3]", "METHOD is no Method"),
        (NEW_METHOD.format(id="A") + "METHODS = METHOD", "METHOD is no Method"),
        ("import no_such_library", "cannot be imported: ModuleNotFoundError: No module named"),
        ("def broken(:", "cannot be imported: SyntaxError"),
        (NEW_METHOD.format(id="FT"), "a method FT exists already"),
        (NEW_METHOD.format(id="a-b"), "the id 'a-b' is not usable: use letters and digits"),
        (NEW_METHOD.format(id="../a"), "the id '../a' is not usable"),
        (NEW_METHOD.format(id="ALL"), "the id 'ALL' is not usable"),
        (NEW_METHOD.replace('"{id}"', "3"), "the id 3 is not usable"),
        (
            NEW_METHOD.format(id="A").replace("summary=", 'options={"a_b": 1}, summary='),
            "the option 'a_b' is not usable: use letters only",
        ),
        (NEW_METHOD.format(id="ft_WITH_salun"), "a method ft_WITH_salun exists already"),
    ],
)
def test_a_plugin_with_a_fault_is_refused_and_adds_nothing(methods, plugin, text, message):
    before = list(methods)
    with pytest.raises(UserError, match=message):
        registry.load_plugins([plugin(NEW_METHOD.format(id="Good"), "good.py"), plugin(text)])
    assert list(methods) == before


def test_a_plugin_is_executed_as_it_is_now_and_leaves_no_file(methods, plugin, tmp_path):
    """Two contents of the same size and time: a bytecode cache would take them for one."""
    for number in "12":
        path = plugin(NEW_METHOD.format(id=f"Mine{number}"))
        os.utime(path, (1, 1))
        registry.load_plugins([path])
        assert registry.find_method(f"Mine{number}").id == f"Mine{number}"
    assert [found.name for found in tmp_path.rglob("*") if found.is_file()] == ["my_method.py"]


def test_two_plugins_with_one_id_are_refused(methods, plugin):
    first, second = (plugin(NEW_METHOD.format(id="Mine") + f"# {n}", f"{n}.py") for n in (1, 2))
    with pytest.raises(UserError, match="2.py: a method Mine exists already"):
        registry.load_plugins([first, second])


def test_a_plugin_that_is_missing(methods, tmp_path):
    with pytest.raises(UserError, match="no_file.py: No such file or directory"):
        registry.load_plugins([str(tmp_path / "no_file.py")])


def test_a_plugin_that_is_no_python_file(methods, plugin):
    with pytest.raises(UserError, match="its name must end in .py"):
        registry.load_plugins([plugin("METHOD = 3", "method.txt")])
