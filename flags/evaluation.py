"""Flags of tests and attacks on a model."""

from argparse import ArgumentParser
from collections.abc import Sequence

from evaluation.registry import GROUPS
from evaluation.settings import MIN_SHADOW_MODELS, NON_MEMBERS
from flags.parser import ExtendValues
from flags.request import request_flags
from flags.running import seed_flag
from flags.types import even_integer, integer
from flags.unlearning import plugin_flag
from utils.train.recipe import PREDICTION_BATCH


def prediction_flags(parser: ArgumentParser) -> None:
    """Add the batch size of predictions."""
    group = parser.add_argument_group("evaluation")
    group.add_argument(
        "--batch_size", type=integer(1), default=PREDICTION_BATCH, help="images per batch"
    )


def evaluation_flags(parser: ArgumentParser) -> None:
    """Add what is measured on a model, and what it is compared with."""
    prediction_flags(parser)
    _forgotten_request_flags(parser)
    group = parser.add_argument_group("measures")
    _tested_model_flags(group)
    group.add_argument(
        "--seed_model_id",
        action=ExtendValues,
        nargs="+",
        default=[],
        metavar="MODEL_ID",
        help="models that the same method made with other seeds; together with several Retrains "
        "they give KLOM",
    )
    group.add_argument(
        "--cost_matrix",
        metavar="FILE",
        help="CSV file with the cost of each error: rows are true classes, columns predicted ones",
    )
    group.add_argument(
        "--group_file",
        metavar="FILE",
        help="text file with one group label per line, one for each test image",
    )
    group.add_argument(
        "--verify",
        action="store_true",
        help="measure nothing; check that model, parents, mask and Retrain are those that the "
        "records name, and the data too if --dataset is given",
    )
    measures_flag(group, list(GROUPS))


def measures_flag(parser: ArgumentParser, default: Sequence[str]) -> None:
    """Add the groups of measures. default: those that are measured without the flag."""
    parser.add_argument(
        "--measures",
        action=ExtendValues,
        nargs="+",
        choices=GROUPS,
        default=list(default),
        metavar="GROUP",
        help="what to measure in addition to the three accuracies, some of "
        f"{', '.join(GROUPS)}; by default "
        f"{'all' if len(default) == len(GROUPS) else ' '.join(default)}",
    )


def attack_flags(parser: ArgumentParser) -> None:
    """Add the flags of the attack with shadow models."""
    _forgotten_request_flags(parser)
    group = parser.add_argument_group("attack")
    _tested_model_flags(group)
    plugin_flag(group)
    group.add_argument(
        "--shadow_models",
        type=even_integer(MIN_SHADOW_MODELS),
        default=16,
        help="number of shadow models, even; existing ones are used, the others are trained",
    )


def _forgotten_request_flags(parser):
    request_flags(parser, required=False, note="; by default the request that the model forgot")


def _tested_model_flags(group):
    group.add_argument(
        "--retrain_model_id",
        action=ExtendValues,
        nargs="+",
        metavar="MODEL_ID",
        help="Retrains of the same request that differ in the seed only, to compare with; by "
        "default those of the same base model and its recipe",
    )
    group.add_argument(
        "--non_members",
        choices=NON_MEMBERS,
        default=NON_MEMBERS[0],
        help="split of the images that attacks compare with the forget set",
    )
    seed_flag(group)
    group.add_argument("--json", action="store_true", help="print the results as JSON only")
