"""The threshold of a saliency mask, in whole percent. Imports no torch: flags are checked first."""

from utils.runtime.errors import UserError

PERCENTS = 100


def threshold_to_percent(threshold: float) -> int:
    """Return a threshold in percent: 0.25 -> 25.

    Raises UserError outside (0, 1] and between whole percents.
    """
    percent = round(threshold * PERCENTS)
    if not 1 <= percent <= PERCENTS or abs(percent - threshold * PERCENTS) > 1e-6:
        raise UserError(
            f"--mask_thresh {threshold:g}: give a whole percent above 0 and up to 1, such as 0.5 "
            "or 0.25"
        )
    return percent
