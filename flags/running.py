"""Flags of how a script runs: its device, its seed, and what it does with existing files."""

from argparse import ArgumentParser

from flags.types import integer

DEFAULT_SEED = 1
MAX_THREADS = 1024


def device_flags(parser: ArgumentParser) -> None:
    """Add the device and the number of CPU threads."""
    group = parser.add_argument_group("device")
    group.add_argument(
        "--device",
        default="auto",
        help="auto (a GPU if there is one, else the CPU), cpu, cuda or cuda:1",
    )
    group.add_argument(
        "--threads",
        type=integer(1, MAX_THREADS),
        help="CPU threads of torch; by default as many as torch chooses, one per core in most "
        "cases; give 1 if other programs use the cores",
    )


def seed_flag(parser: ArgumentParser) -> None:
    """Add the seed of random numbers."""
    parser.add_argument(
        "--seed", type=integer(0), default=DEFAULT_SEED, help="seed of the random numbers"
    )


def resume_flag(parser: ArgumentParser) -> None:
    """Add --resume."""
    parser.add_argument(
        "--resume",
        action="store_true",
        help="continue the same command after an interruption; the result is the same as without "
        "the interruption; what the command has finished is kept, also with --overwrite",
    )


def overwrite_flag(parser: ArgumentParser) -> None:
    """Add --overwrite."""
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="replace existing files of the same name; by default this is an error; with --resume, "
        "only files of other commands and runs that cannot be continued are replaced",
    )
