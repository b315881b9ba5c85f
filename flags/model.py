"""Flags that name a trained model, and the arguments that open it with its data."""

from argparse import ArgumentParser, Namespace
from typing import Any

from flags.data import load_dataset_arguments
from flags.parser import ExtendValues
from flags.types import integer
from models.stems import STEMS
from utils.data.settings import MAX_SIDE, MIN_SIDE

MODEL_ID_HELP = (
    "name of the file in model_weights/, without .pt; main_train.py adds _best or _last to the name"
)


def trained_model_flags(parser: ArgumentParser) -> None:
    """Add the model's id, and the flags that describe a file of bare weights."""
    group = parser.add_argument_group("model")
    group.add_argument("--model_id", required=True, help=MODEL_ID_HELP)
    _description_flags(parser, group)


def base_models_flags(parser: ArgumentParser) -> None:
    """Add the ids of one or more base models, and the flags that describe bare weights."""
    group = parser.add_argument_group("model")
    group.add_argument(
        "--model_id",
        action=ExtendValues,
        nargs="+",
        required=True,
        metavar="MODEL_ID",
        help=f"{MODEL_ID_HELP}; several base models must differ in the seed only, as main_train.py "
        "--seeds makes them",
    )
    _description_flags(parser, group)


def _description_flags(parser, group):
    group.add_argument(
        "--allow_other_data",
        action="store_true",
        help="continue although the model was trained on other images",
    )
    bare = parser.add_argument_group("model file with bare weights, without a record")
    bare.add_argument("--arch", help="torchvision classifier that the weights belong to")
    bare.add_argument("--stem", choices=STEMS, help="first layers of a ResNet")
    bare.add_argument(
        "--input_size",
        type=integer(MIN_SIDE, MAX_SIDE),
        help="height and width of the model's images in pixels",
    )


def open_model_arguments(args: Namespace, model_id: str | None = None) -> dict[str, Any]:
    """Return the arguments of models.loading.load_model_and_data, except for the device.

    model_id: one of those of `base_models_flags`.
    """
    source = load_dataset_arguments(args)
    return {
        "model_id": args.model_id if model_id is None else model_id,
        "dataset_name": source.pop("name"),
        **source,
        "arch": args.arch,
        "stem": args.stem,
        "allow_other_data": args.allow_other_data,
    }
