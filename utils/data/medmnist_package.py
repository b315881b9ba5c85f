"""Modules of medmnist without the package itself.

`import medmnist` takes more than a second: it imports pandas, scikit-learn and its torch data sets.
It does so inside a bare `except`, in which a Ctrl-C is lost.
"""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType


def medmnist_module(name: str) -> ModuleType:
    """Return the module `medmnist.{name}`, imported from its file if it is not imported yet."""
    full_name = f"medmnist.{name}"
    if full_name not in sys.modules:
        folder = importlib.util.find_spec("medmnist").submodule_search_locations[0]
        spec = importlib.util.spec_from_file_location(full_name, Path(folder, f"{name}.py"))
        module = importlib.util.module_from_spec(spec)
        sys.modules[full_name] = module  # so that medmnist itself uses it too
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[full_name]
            raise
    return sys.modules[full_name]
