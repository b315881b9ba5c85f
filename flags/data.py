"""Flags of the data set, of its place in memory, and of the window of samples."""

from argparse import ArgumentParser, Namespace
from typing import Any

from flags.running import MAX_THREADS, seed_flag
from flags.types import integer, size
from utils.data.placement import AUTO, DEFAULT_WORKERS, MEMORY_FRACTION, PLACES, Placement
from utils.data.settings import MAX_SIDE, MIN_SIDE, SYNTHETIC


def data_flags(parser: ArgumentParser) -> None:
    """Add the flags of the data set and of where its images are stored."""
    group = parser.add_argument_group("data")
    group.add_argument(
        "--dataset",
        default=SYNTHETIC,
        help=f"a 2D MedMNIST data set, {SYNTHETIC}, or the path of a .npz file in MedMNIST's "
        "format",
    )
    group.add_argument(
        "--data_root", help="folder of MedMNIST's files; by default medmnist's cache, ~/.medmnist"
    )
    group.add_argument(
        "--num_workers",
        type=integer(0, MAX_THREADS),
        default=DEFAULT_WORKERS,
        help="threads that decompress the data file, and that read batches ahead where the images "
        "are on disk; 0 does both in the main thread",
    )
    group.add_argument(
        "--data_on",
        choices=PLACES,
        default=AUTO,
        help="where the images are stored: on the device, in host memory, or uncompressed on disk; "
        "auto takes the first of these with enough free memory",
    )
    group.add_argument(
        "--memory_limit",
        type=size,
        metavar="SIZE",
        help="largest size of the images in any memory, for example 500M or 16G; larger ones are "
        f"read from disk; by default {100 * MEMORY_FRACTION:.0f}%% of the free memory",
    )
    group.add_argument(
        "--cache_dir",
        help="folder for uncompressed data files; by default ~/.cache/medical-unlearning",
    )


def input_size_flag(parser: ArgumentParser) -> None:
    """Add the size of the images."""
    parser.add_argument(
        "--input_size",
        type=integer(MIN_SIDE, MAX_SIDE),
        help="height and width of the images in pixels; MedMNIST has 28, 64, 128 and 224; by "
        "default 28, or the size in the .npz file",
    )


def window_flags(parser: ArgumentParser) -> None:
    """Add the flags of a window that shows random samples."""
    group = parser.add_argument_group("window")
    group.add_argument(
        "--no_window", action="store_true", help="save the pictures and open no window"
    )
    seed_flag(parser)


def load_dataset_arguments(args: Namespace) -> dict[str, Any]:
    """Return the arguments of utils.data.loading.load_dataset that the flags stand for."""
    return {
        "name": args.dataset,
        "input_size": args.input_size,
        "data_root": args.data_root,
        "placement": Placement(args.data_on, args.memory_limit, args.cache_dir, args.num_workers),
    }
