"""Check that torch.compile works on this machine."""

import torch

from utils.runtime.errors import UserError

MAX_REASON = 120  # characters


def check_compiles(device: torch.device | str) -> None:
    """Raise UserError if torch.compile cannot be used on `device`."""
    try:
        torch.compile(_sample_computation)(torch.ones(2, device=device))
    except Exception as error:  # torch reports a missing compiler with many kinds of exceptions
        why = " ".join(str(error).split())[:MAX_REASON]
        raise UserError(
            f"torch.compile does not work here ({why}): install a C++ compiler, or leave out "
            "--compile; Retrain of a base model that was trained with it needs it as well"
        ) from error


def _sample_computation(values):
    return (values * 2).relu().sum()
