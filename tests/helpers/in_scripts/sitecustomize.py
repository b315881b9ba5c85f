"""Imported by every Python that starts with this folder in PYTHONPATH: scripts know SMALL_ARCH.

Nothing is imported before the script does it, as when and in which order is tested too.
"""

import sys


class BeforeArchitectures:
    """Is asked for each module that is about to be imported, and leaves it to others."""

    @staticmethod
    def find_spec(name, *_):
        if name == "models.architectures":
            from tests.helpers.small_net import register

            register()


sys.meta_path.insert(0, BeforeArchitectures)
