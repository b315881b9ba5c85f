"""Python imports this at its start if this folder is in PYTHONPATH: it registers SMALL_ARCH.

It imports nothing before the script does: tests check what a script imports, and when.
"""

import sys


class BeforeArchitectures:
    """Registers SMALL_ARCH before models.architectures lists the architectures; finds no module."""

    @staticmethod
    def find_spec(name, *_):
        if name == "models.architectures":
            from tests.helpers.small_net import register

            register()


sys.meta_path.insert(0, BeforeArchitectures)
