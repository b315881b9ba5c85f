"""Flags that choose unlearning methods and their settings."""

from argparse import Action, ArgumentParser, Namespace, _ArgumentGroup
from collections.abc import Sequence
from typing import Any

from evaluation.measure import RANK_KEYS
from evaluation.settings import MIN_RETRAINS
from flags.parser import ExtendValues
from flags.request import request_flags
from flags.running import DEFAULT_SEED
from flags.types import assignment, integer, learning_rate, threshold, weight_decay
from unlearn.engine.method import BATCH_SIZE, FISHER_BATCH_SIZE
from unlearn.registry import ALL, describe_methods, load_plugins
from utils.train.recipe import BF16, FLOAT32, OPTIMIZERS

MASK_THRESH = 0.5


class ListMethods(Action):
    """Makes all other flags optional, and lets them be parsed, because --plugin may follow."""

    def __call__(self, parser, namespace, *_):
        for action in parser._actions:
            action.required = False
        namespace.list_methods = True


def unlearning_flags(parser: ArgumentParser) -> None:
    """Add the request, one method and its settings."""
    request_flags(parser)
    group = parser.add_argument_group("unlearning")
    group.add_argument(
        "--unlearn",
        required=True,
        metavar="METHOD",
        help="a method that --list_methods lists, in any letter case",
    )
    list_methods_flag(parser, group)
    plugin_flag(group)
    mask_flag(group)
    group.add_argument(
        "--unlearn_epochs",
        type=integer(1),
        help="passes over the images; by default the method's own",
    )
    group.add_argument(
        "--unlearn_lr", type=learning_rate, help="learning rate; by default the method's own"
    )
    group.add_argument(
        "--unlearn_batch_size",
        type=integer(1),
        help=f"images per step; by default {BATCH_SIZE}, for Fisher and SSD {FISHER_BATCH_SIZE}, "
        "for Retrain and SISA the base model's",
    )
    group.add_argument("--optimizer", choices=OPTIMIZERS, help="by default the method's own")
    group.add_argument("--weight_decay", type=weight_decay, help="by default the method's own")
    group.add_argument("--seed", type=integer(0), help="by default the base model's")
    group.add_argument(
        "--precision",
        choices=(FLOAT32, BF16),
        help="number format of the forward passes; by default the base model's",
    )
    group.add_argument(
        "--unlearn_options",
        type=assignment,
        action=ExtendValues,
        nargs="+",
        default=[],
        metavar="NAME=VALUE",
        help="settings that only this method has, as --list_methods shows them",
    )


def compare_flags(parser: ArgumentParser) -> None:
    """Add the request, several methods and the seeds that each runs with."""
    request_flags(parser)
    group = parser.add_argument_group("comparison")
    methods_flag(group, [ALL])
    list_methods_flag(parser, group)
    plugin_flag(group)
    group.add_argument(
        "--seeds",
        type=integer(0),
        action=ExtendValues,
        nargs="+",
        default=[DEFAULT_SEED],
        metavar="SEED",
        help="each method, Retrain included, runs once with each of these seeds",
    )
    group.add_argument(
        "--retrains",
        type=integer(MIN_RETRAINS),
        metavar="N",
        help="smallest number of Retrains; further ones have the seeds after those of --seeds, and "
        "make the intervals narrower; by default as many as --seeds, and at least "
        f"{MIN_RETRAINS}",
    )
    group.add_argument(
        "--rank_by",
        choices=RANK_KEYS,
        default=RANK_KEYS[0],
        metavar="FIGURE",
        help=f"figure that methods are ranked by: {', '.join(RANK_KEYS)}",
    )
    mask_flag(group)


def methods_flag(parser: ArgumentParser, default: Sequence[str]) -> None:
    """Add the choice of several methods."""
    parser.add_argument(
        "--unlearn",
        action=ExtendValues,
        nargs="+",
        default=default,
        metavar="METHOD",
        help=f"{ALL}, or some of the methods that main_unlearn.py --list_methods lists",
    )


def list_methods_flag(parser: ArgumentParser, group: _ArgumentGroup) -> None:
    """Add --list_methods to a group of the parser. It prints the table of methods and exits."""
    group.add_argument(
        "--list_methods",
        action=ListMethods,
        nargs=0,
        default=False,
        help="list all methods and exit, those of --plugin included",
    )
    parser.checks.insert(0, lambda args: _list_methods(parser, args))


def _list_methods(parser, args):
    if args.list_methods:
        load_plugins(args.plugin)
        print(describe_methods())
        parser.exit()


def plugin_flag(parser: ArgumentParser) -> None:
    """Add the files that declare further methods."""
    parser.add_argument(
        "--plugin",
        action=ExtendValues,
        nargs="+",
        default=[],
        metavar="FILE",
        help="Python files with your own methods, see docs/contributing.md; they are executed, so "
        "use only files that you trust",
    )


def mask_flag(parser: ArgumentParser) -> None:
    """Add the threshold of the saliency mask."""
    parser.add_argument(
        "--mask_thresh",
        type=threshold,
        default=MASK_THRESH,
        help="fraction of all weights that may change, in whole percents; for methods with SalUn, "
        "the others ignore it",
    )


def unlearning_settings(args: Namespace) -> dict[str, Any]:
    """Return the settings of a Recipe that the flags of `unlearning_flags` change, by name."""
    settings = {
        "epochs": args.unlearn_epochs,
        "lr": args.unlearn_lr,
        "batch_size": args.unlearn_batch_size,
        "optimizer": args.optimizer,
        "weight_decay": args.weight_decay,
        "seed": args.seed,
        "precision": args.precision,
    }
    return {name: value for name, value in settings.items() if value is not None}
