"""torch.compile, which makes kernels for one network: whether it works here."""

import torch

from utils.runtime.errors import UserError

LONGEST_REASON = 120  # characters


def check_compiles(device):
    """Raises UserError if torch.compile cannot be used for work on `device`."""
    try:
        torch.compile(_some_work)(torch.ones(2, device=device))
    except Exception as error:  # torch tells of a missing compiler with many kinds
        why = " ".join(str(error).split())[:LONGEST_REASON]
        raise UserError(
            f"torch.compile does not work here ({why}): install a C++ compiler, or leave out "
            "--compile; Retrain of a base model that was trained with it needs it as well"
        ) from error


def _some_work(values):
    return (values * 2).relu().sum()
