"""Methods of a user's own file: in records, in tests and attacks, and never without the flag."""

import hashlib

import pytest

from models.checkpoint import load_model
from tests.helpers.environment import BASE, assert_one_line, model_flags
from unlearn.registry import find_methods, load_plugins

TEXT = """
from pathlib import Path

from unlearn.engine.method import BATCH_SIZE, Method
from unlearn.methods.fine_tune import fine_tune
from utils.train.recipe import Recipe

Path("executed").touch()
METHOD = Method("Mine", "Mine", fine_tune, Recipe(1, 0.001, BATCH_SIZE), "none", "test", "tunes")
"""
MODEL = f"{BASE}_FORGOTTEN_3_MINE_unlearnEpochs1_unlearnlr001"
OPTIONS = ("--unlearn", "mine", "--class_to_forget", "3")


@pytest.fixture
def plugin(trained):
    """A plug-in in the current folder."""
    path = trained / "my_method.py"
    path.write_text(TEXT)
    yield path
    load_plugins([])


@pytest.fixture
def grey(data_files):
    return data_files["grey"]


@pytest.fixture
def made(plugin, done, grey):
    """A model that the plug-in made; the plug-in is not loaded any more."""
    done("main_unlearn", *model_flags(grey), *OPTIONS, "--plugin", plugin)
    (plugin.parent / "executed").unlink()
    load_plugins([])
    return plugin


def test_the_record_has_name_and_digest_of_the_file(made):
    digest = hashlib.sha256(TEXT.encode()).hexdigest()
    record = load_model(MODEL)[1]
    assert (record["method"], record["plugin"]) == (
        "Mine",
        {"file": "my_method.py", "sha256": digest},
    )


def test_built_in_methods_have_no_plugin_in_their_record(plugin, done, grey):
    flags = ("--unlearn", "FT", "--class_to_forget", "3", "--unlearn_epochs", "1")
    printed = done("main_unlearn", *model_flags(grey), *flags, "--plugin", plugin)
    assert "plugin" not in load_model(printed.splitlines()[-1].removeprefix("model_id: "))[1]


def test_another_content_is_another_model(made, refused, done, grey):
    flags = (*model_flags(grey), *OPTIONS, "--plugin", made)
    assert "finished already" in done("main_unlearn", *flags, "--resume")
    made.write_text(TEXT + "# other\n")
    assert refused("would be replaced: add --overwrite", "main_unlearn", *flags) == []


@pytest.mark.parametrize("order", [("--list_methods", "--plugin"), ("--plugin", "--list_methods")])
@pytest.mark.parametrize("script", ["main_unlearn", "main_compare"])
def test_listed_in_any_order_of_the_flags(script, order, plugin, done):
    flags = [part for flag in order for part in (flag, *([plugin] if "plugin" in flag else []))]
    assert "\nMine " in done(script, *flags)
    load_plugins([])
    assert "\nMine " not in done(script, "--list_methods")


def test_all_methods_include_those_of_plugins(plugin):
    load_plugins([str(plugin)])
    assert [method.id for method in find_methods(["all"])][-2:] == ["Mine", "Mine_with_SalUn"]


@pytest.mark.parametrize("script", ["main_unlearn", "main_compare", "main_mia"])
@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "--plugin my_method.py: No such file or directory"),
        ("", "--plugin my_method.py: it declares no METHOD"),
        ("METHOD = 3", "--plugin my_method.py: METHOD is no Method"),
        ("1 / 0", "--plugin my_method.py: it cannot be imported: ZeroDivisionError"),
        (TEXT.replace('"Mine",', '"gA",', 1), "--plugin my_method.py: a method gA exists already"),
    ],
)
def test_a_faulty_file_is_refused_in_one_line(script, text, message, run_here, plugin, grey):
    plugin.unlink() if text is None else plugin.write_text(text)
    options = () if script == "main_mia" else OPTIONS
    result = run_here(script, *model_flags(grey), *options, "--plugin", "my_method.py")
    assert result.returncode == 2
    assert_one_line(result.stderr, message)


def test_a_model_is_tested_and_verified_without_its_plugin(made, done, grey, undrawn):
    flags = model_flags(grey, MODEL)
    assert "Unlearn Accuracy" in done("main_test_unlearn", *flags, "--measures", "utility")
    assert "BREAKS" not in done("main_test_unlearn", *flags, "--verify")
    assert not (made.parent / "executed").exists()


def test_an_attack_needs_the_file_that_made_the_model(made, refused, run_here, grey):
    flags = (*model_flags(grey, MODEL), "--shadow_models", "4")
    message = "made by Mine, a plug-in method: add --plugin with the path of my_method.py"
    refused(message, "main_mia", *flags)
    assert not (made.parent / "executed").exists()
    made.write_text(TEXT + "# other\n")
    result = run_here("main_mia", *flags, "--plugin", made)
    assert result.returncode == 2
    assert_one_line(result.stderr, "and my_method.py has another: give --plugin the file that")


def test_an_attack_uses_the_method_of_the_plugin(made, done, grey):
    printed = done("main_mia", *model_flags(grey, MODEL), "--shadow_models", "4", "--plugin", made)
    assert "U-LiRA: AUC" in printed


@pytest.mark.parametrize(
    "plugin_record", [3, {}, {"file": "a.py"}, {"file": 3, "sha256": 64 * "a"}, {"sha256": "x"}]
)
def test_a_record_with_a_faulty_plugin_is_refused(plugin_record):
    from models.records import find_record_error

    assert "plugin" in find_record_error({"plugin": plugin_record})
    good = {"plugin": {"file": "a.py", "sha256": 64 * "a"}}
    assert find_record_error(good) is None
