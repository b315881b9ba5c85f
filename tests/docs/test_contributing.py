"""The examples of docs/contributing.md run as they are written."""

import shutil

import pytest

from models.checkpoint import load_model
from tests.helpers.documents import code_blocks, page
from tests.helpers.environment import BASE, model_flags
from unlearn import registry
from unlearn.registry import METHODS, load_plugins, read_methods, with_variants

METHOD_PART = page("contributing.md").split("\n## Add a method\n")[1].split("\n## ")[0]
METHOD_FILE, METHOD_TEST = code_blocks(METHOD_PART, "python")


@pytest.fixture
def method_file(tmp_path):
    """The example of a method, as a plug-in."""
    path = tmp_path / "my_method.py"
    path.write_text(METHOD_FILE)
    yield path
    load_plugins([])


def run_tests(text):
    """Run the test functions of a file."""
    names = {}
    exec(compile(text, "test_in_document", "exec"), names)
    tests = [name for name in names if name.startswith("test_")]
    assert tests
    for name in tests:
        names[name]()


@pytest.mark.parametrize("method", ["Uniform", "Uniform_with_SalUn"])
def test_the_method_runs_as_a_plugin(method, method_file, trained, done, data_files):
    flags = (*model_flags(data_files["grey"]), "--class_to_forget", "3", "--unlearn_epochs", "1")
    printed = done("main_unlearn", "--plugin", method_file, *flags, "--unlearn", method)
    model_id = printed.splitlines()[-1].removeprefix("model_id: ")
    assert model_id.startswith(f"{BASE}_FORGOTTEN_3_{method.upper()}_")
    record = load_model(model_id)[1]
    assert record["method"] == method
    assert record["plugin"]["file"] == "my_method.py"
    assert record["settings"]["options"] == {"weight": 1.0}


def test_the_method_is_found_in_the_folder_of_methods(tmp_path, monkeypatch):
    """In a copy of the folder, which the package's path names instead of the folder itself."""
    import unlearn.methods

    folder = shutil.copytree(registry.METHOD_FOLDER, tmp_path / "unlearn" / "methods")
    (folder / "uniform.py").write_text(METHOD_FILE)
    found = with_variants(read_methods(folder))
    assert set(found) - set(METHODS) == {"Uniform", "Uniform_with_SalUn"}
    monkeypatch.setattr(unlearn.methods, "__path__", [str(folder)])
    for method in ("Uniform", "Uniform_with_SalUn"):
        monkeypatch.setitem(METHODS, method, found[method])
    run_tests(METHOD_TEST)


def test_the_test_of_the_method_passes_for_the_plugin(method_file):
    load_plugins([str(method_file)])
    run_tests(METHOD_TEST)
