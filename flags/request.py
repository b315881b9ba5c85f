"""Flags of a deletion request, and the ForgetRequest that they stand for.

What reads images or files is imported in the functions: it imports torch, which flags do without.
"""

from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from flags.parser import ExtendValues, StoreOnce
from flags.running import DEFAULT_SEED
from flags.types import fraction, integer
from utils.runtime.errors import UserError

if TYPE_CHECKING:
    from unlearn.request.request import ForgetRequest
    from utils.data.datasets import MedicalDataset


def request_flags(parser: ArgumentParser, required: bool = True, note: str = "") -> None:
    """Add what is to be forgotten. note: which request is used if none of the flags is given."""
    group = parser.add_argument_group("deletion request")
    group.add_argument(
        "--class_to_forget",
        action=ExtendValues,
        nargs="+",
        metavar="CLASS",
        help=f"numbers or names of one or more classes{note}",
    )
    group.add_argument(
        "--forget_fraction",
        action=StoreOnce,
        type=fraction,
        metavar="FRACTION",
        help="forget a random fraction of the training images, or of those of --class_to_forget; "
        "above 0 and at most 1",
    )
    group.add_argument(
        "--forget_seed",
        action=StoreOnce,
        type=integer(0),
        metavar="SEED",
        help=f"seed of the random fraction (default: {DEFAULT_SEED}); --seed does not change it",
    )
    group.add_argument(
        "--forget_indices",
        action=StoreOnce,
        metavar="FILE",
        help="text file with the index of one training image per line, counted from 0; # starts "
        "a comment",
    )
    group.add_argument(
        "--metadata",
        action=StoreOnce,
        metavar="FILE",
        help="CSV file with a header and one row per training image, for --forget_where",
    )
    group.add_argument(
        "--forget_where",
        action=ExtendValues,
        nargs="+",
        metavar="COLUMN=VALUE",
        help="forget the training images whose rows in --metadata have all of these values",
    )
    parser.checks.append(lambda args: _find_request_error(args, required))


def _find_request_error(args, required):
    """Return what is wrong with the combination of the flags, or None."""
    if (args.metadata is None) != (args.forget_where is None):
        return "--metadata FILE and --forget_where COLUMN=VALUE need each other: give both"
    if args.forget_seed is not None and args.forget_fraction is None:
        return "--forget_seed is the seed of --forget_fraction: give that as well"
    sources = {
        "--class_to_forget": args.class_to_forget,
        "--forget_fraction": args.forget_fraction,
        "--forget_indices": args.forget_indices,
        "--metadata": args.metadata,
    }
    given = [flag for flag, value in sources.items() if value is not None]
    if len(given) > 1 and given != ["--class_to_forget", "--forget_fraction"]:
        return f"{' and '.join(given)} exclude each other: give one of them"
    if required and not given:
        return (
            "nothing to forget: give --class_to_forget, --forget_fraction, --forget_indices, or "
            "--metadata with --forget_where"
        )
    return None


def read_request(args: Namespace, dataset: "MedicalDataset") -> "ForgetRequest | None":
    """Return the request of the flags that `request_flags` adds, or None if none is given."""
    from unlearn.request.files import request_from_indices_file, request_from_metadata
    from unlearn.request.request import ForgetRequest

    if args.forget_fraction is not None:
        seed = DEFAULT_SEED if args.forget_seed is None else args.forget_seed
        return ForgetRequest.from_fraction(
            args.forget_fraction, seed, args.class_to_forget, dataset
        )
    if args.class_to_forget is not None:
        return ForgetRequest.from_classes(args.class_to_forget, dataset)
    if args.forget_indices is not None:
        return request_from_indices_file(args.forget_indices, dataset)
    if args.metadata is not None:
        return request_from_metadata(args.metadata, args.forget_where, dataset)
    return None


def request_for_model(
    args: Namespace, record: Mapping[str, Any], dataset: "MedicalDataset"
) -> "ForgetRequest":
    """Return the request of the flags; without one, the request that the model has forgotten.

    Raises UserError if the model has forgotten something else: its results would mean nothing.
    """
    from unlearn.request.request import ForgetRequest

    request = read_request(args, dataset)
    if request is None:
        return ForgetRequest.from_model(args.model_id, record, dataset)
    if "forget_request" in record:
        forgotten = ForgetRequest.from_model(args.model_id, record, dataset)
        if forgotten != request:
            raise UserError(
                f"{request.description}: {args.model_id} has forgotten another request "
                f"({forgotten.description}): leave out the flags of the request"
            )
        return forgotten  # with the description and the id of its own command
    return request


def request_arguments(args: Namespace) -> list[str]:
    """Return the flags of the request as a list of command-line arguments."""
    flags = {
        "--class_to_forget": args.class_to_forget,
        "--forget_fraction": args.forget_fraction,
        "--forget_seed": args.forget_seed,
        "--forget_indices": args.forget_indices,
        "--metadata": args.metadata,
        "--forget_where": args.forget_where,
    }
    words = []
    for flag, value in flags.items():
        if value is not None:
            words += [flag, *map(str, value if isinstance(value, list) else [value])]
    return words
