"""The flags that scripts offer, and the list of methods."""

import ast
import importlib
import re

import pytest

from tests.helpers.environment import REPOSITORY
from unlearn.registry import METHODS

SCRIPTS = sorted(
    path.stem for path in REPOSITORY.glob("*.py") if "run_script(main)" in path.read_text()
)


@pytest.mark.parametrize("script", SCRIPTS)
def test_help(run_here, script):
    result = run_here(script, "--help")
    assert (result.returncode, result.stderr) == (0, "")
    assert f"usage: {script}.py" in result.stdout
    first_line = importlib.import_module(script).__doc__.split("\n")[0]
    assert " ".join(first_line.split()) in " ".join(result.stdout.split())


def offered_flags(help_text):
    return set(re.findall(r"^\s+--(\w+)", help_text, re.MULTILINE))


def parsed(path):
    return ast.parse((REPOSITORY / path).read_text())


def flag_readers():
    """Return the functions of flags/ by name: scripts pass `args` to some of them."""
    paths = (REPOSITORY / "flags").glob("*.py")
    nodes = [node for path in paths for node in parsed(path).body]
    return {node.name: node for node in nodes if isinstance(node, ast.FunctionDef)}


def flags_read(tree, readers):
    """Names of the flags that the code reads: `args.name`, `_flags(args, "name")`, reader(args)."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and getattr(node.value, "id", None) == "args":
            names.add(node.attr)
        elif isinstance(node, ast.Call) and "args" in (getattr(a, "id", None) for a in node.args):
            if getattr(node.func, "id", None) == "_flags":
                names |= {word.value for word in node.args if isinstance(word, ast.Constant)}
            elif getattr(node.func, "id", None) in readers:
                names |= flags_read(readers[node.func.id], readers)
    return names


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_offers_only_flags_that_it_uses(run_here, script):
    offered = offered_flags(run_here(script, "--help").stdout)
    assert "dataset" in offered
    used = flags_read(parsed(f"{script}.py"), flag_readers())
    assert offered - {"list_methods"} == used  # --list_methods ends the script


def test_every_flag_of_the_walkthrough_exists(run_here):
    expected = {
        "examine_dataset": "dataset",
        "main_train": "save_model_id dataset seed epochs lr batch_size num_workers",
        "main_test": "model_id dataset batch_size num_workers",
        "generate_mask": "model_id dataset",
        "main_unlearn": "model_id dataset unlearn class_to_forget mask_thresh unlearn_epochs "
        "unlearn_lr unlearn_batch_size",
        "main_test_unlearn": "model_id dataset class_to_forget batch_size",
        "main_mia": "model_id dataset class_to_forget shadow_models",
    }
    for script, flags in expected.items():
        assert set(flags.split()) <= offered_flags(run_here(script, "--help").stdout)


def test_the_list_of_methods_shows_their_defaults(run_here):
    listed = run_here("main_unlearn", "--list_methods")
    assert (listed.returncode, listed.stderr) == (0, "")
    lines = [line for line in listed.stdout.splitlines() if line and line[0] != " "]
    rows = {line.split()[0]: line for line in lines}
    for method in METHODS.values():
        if method.uses_mask:
            continue
        assert f"    {method.name}: {method.paper}" in listed.stdout.splitlines()
        if method.recipe and not method.one_step:
            schedule = f"{method.recipe.epochs} epochs at {method.recipe.lr:g}"
            assert schedule in rows[method.id]


@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts_hold_no_loop_over_batches(script):
    source = (REPOSITORY / f"{script}.py").read_text()
    assert not re.search(r"\.backward\(|optimizer\.step|\.batch\(", source)
