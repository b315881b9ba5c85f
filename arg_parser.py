"""Every flag of every script, in named groups; a script takes only the groups it uses.

Flags keep the names that users of SalUn's code know. A value that makes no sense is refused here,
in one line and with exit code 2.
"""

import argparse
import os
import shlex

from evaluation.metrics.lira import MIN_SHADOW_MODELS
from evaluation.registry import GROUPS
from models.architectures import STEMS
from unlearn.engine.method import BATCH_SIZE, FISHER_BATCH_SIZE
from unlearn.registry import ALL, describe_methods
from unlearn.request.files import request_from_indices_file, request_from_metadata
from unlearn.request.request import ForgetRequest
from utils.data.loading import SYNTHETIC
from utils.data.npz import MAX_SIDE, MIN_SIDE
from utils.data.placement import (
    AUTO,
    DEFAULT_WORKERS,
    MEMORY_FRACTION,
    PLACES,
    Placement,
    parse_size,
)
from utils.runtime.errors import EXIT_BAD_INPUT, UserError
from utils.text import encodable
from utils.train.prediction import PREDICTION_BATCH
from utils.train.recipe import BF16, FLOAT32, MIN_TRAIN_IMAGES, OPTIMIZERS, PRECISIONS, WEIGHT_DECAY

DEFAULT_SEED = 1
MASK_THRESH = 0.5
MOST_THREADS = 1024
DEFAULT_LR = {"sgd": 0.01, "adam": 0.001, "adamw": 0.001}
FEWEST_SHARDS = 2
NON_MEMBERS = ("val", "test")
HIGHEST = 2**63 - 1  # what torch takes for a whole number


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Adds `(default: ...)` where there is a default that the text does not tell of already."""

    def _get_help_string(self, action):
        if action.default is None or action.default is False or "default" in action.help:
            return action.help
        return super()._get_help_string(action)


class OneLineParser(argparse.ArgumentParser):
    """An ArgumentParser that states an error in one line, without the usage before it."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.checks = []  # functions of the parsed flags that return what is wrong, or None
        self.given = set()  # names of the flags that were there already

    def parse_args(self, *args, **kwargs):
        self.given.clear()
        parsed = super().parse_args(*args, **kwargs)
        for fault in (check(parsed) for check in self.checks):
            if fault:
                self.error(fault)
        return parsed

    def error(self, message):
        one_line = " ".join(message.split())
        self.exit(EXIT_BAD_INPUT, f"{self.prog}: error: {one_line} (see --help)\n")


class Gather(argparse.Action):
    """The values of a flag that takes several; given again, it adds to them."""

    def __call__(self, parser, namespace, values, _=None):
        before = getattr(namespace, self.dest) if self.dest in parser.given else []
        parser.given.add(self.dest)
        setattr(namespace, self.dest, [*before, *values])


class Once(argparse.Action):
    """The value of a flag of which another value must not take its place without a word."""

    def __call__(self, parser, namespace, value, flag=None):
        before = getattr(namespace, self.dest)
        if self.dest in parser.given and before != value:
            parser.error(f"{flag} is there twice, with {before} and with {value}: give it once")
        parser.given.add(self.dest)
        setattr(namespace, self.dest, value)


def make_parser(description, *add_groups):
    """A parser with the flags of `add_groups`, functions of this file, and no others."""
    parser = OneLineParser(
        description=description,
        formatter_class=HelpFormatter,
        allow_abbrev=False,
    )
    for add_group in add_groups:
        add_group(parser)
    return parser


def data_flags(parser):
    group = parser.add_argument_group("data")
    group.add_argument(
        "--dataset",
        default=SYNTHETIC,
        help="a 2D MedMNIST set, SynthBloodMNIST, or the path of a .npz in MedMNIST's format",
    )
    group.add_argument(
        "--data_root", help="folder of MedMNIST's files; by default medmnist's cache, ~/.medmnist"
    )
    group.add_argument(
        "--num_workers",
        type=_whole_number(0, MOST_THREADS),
        default=DEFAULT_WORKERS,
        help="threads that unpack the data file, and read ahead where images are not in memory; 0 "
        "does it in the main thread",
    )
    group.add_argument(
        "--data_on",
        choices=PLACES,
        default=AUTO,
        help="where the images lie: the device that works, host memory, or the disk, unpacked; "
        "auto takes the first of them that has room",
    )
    group.add_argument(
        "--memory_limit",
        type=_size,
        metavar="SIZE",
        help="as 500M or 16G: larger images stay out of a memory; by default "
        f"{100 * MEMORY_FRACTION:.0f}%% of what is free",
    )
    group.add_argument(
        "--cache_dir", help="folder for unpacked data files; by default ~/.cache/medical-unlearning"
    )


def input_size_flag(parser):
    parser.add_argument(
        "--input_size",
        type=_whole_number(MIN_SIDE, MAX_SIDE),
        help="height and width of the images in pixels, for MedMNIST 28, 64, 128 or 224; "
        "by default 28, or a .npz file's own size",
    )


def device_flags(parser):
    group = parser.add_argument_group("device")
    group.add_argument("--device", default="auto", help="auto (a GPU if there is one), cpu, cuda:1")
    group.add_argument(
        "--threads",
        type=_whole_number(1, MOST_THREADS),
        help="of a CPU; by default as many as torch takes",
    )


def window_flags(parser):
    group = parser.add_argument_group("window")
    group.add_argument(
        "--no_window", action="store_true", help="only save the pictures, open no window"
    )
    seed_flag(parser)


def seed_flag(parser):
    parser.add_argument(
        "--seed", type=_whole_number(0), default=DEFAULT_SEED, help="of random draws"
    )


def trained_model_flags(parser):
    group = parser.add_argument_group("model")
    group.add_argument(
        "--model_id",
        required=True,
        help="file name in model_weights/, without .pt; remember _best or _last",
    )
    group.add_argument(
        "--allow_other_data",
        action="store_true",
        help="go on though the model was trained on other images",
    )
    bare = parser.add_argument_group("model file that holds bare weights, without a record")
    bare.add_argument("--arch", help="torchvision classifier that the weights belong to")
    bare.add_argument("--stem", choices=STEMS, help="first layers of a ResNet")
    bare.add_argument(
        "--input_size",
        type=_whole_number(MIN_SIDE, MAX_SIDE),
        help="height and width of its images in pixels",
    )


def prediction_flags(parser):
    group = parser.add_argument_group("evaluation")
    group.add_argument(
        "--batch_size", type=_whole_number(1), default=PREDICTION_BATCH, help="images at a time"
    )


def evaluation_flags(parser):
    prediction_flags(parser)
    _forgotten_flags(parser)
    group = parser.add_argument_group("measures")
    _tested_flags(group)
    group.add_argument(
        "--seed_model_id",
        action=Gather,
        nargs="+",
        default=[],
        metavar="MODEL_ID",
        help="the tested method's models from other seeds; with several Retrains they give KLOM",
    )
    group.add_argument(
        "--cost_matrix",
        metavar="FILE",
        help="CSV with the cost of each mistake: rows the true, columns the predicted class",
    )
    group.add_argument(
        "--group_file", metavar="FILE", help="a group label a line, one for each test image"
    )
    group.add_argument(
        "--verify",
        action="store_true",
        help="test nothing, but check that model, parents, mask and Retrain are those that the "
        "records name; the data too if --dataset is given",
    )
    measures_flag(group, list(GROUPS))


def measures_flag(parser, default):
    parser.add_argument(
        "--measures",
        action=Gather,
        nargs="+",
        choices=GROUPS,
        default=default,
        metavar="GROUP",
        help=f"what to measure beside the three accuracies, some of {', '.join(GROUPS)}; by "
        f"default {'all' if len(default) == len(GROUPS) else ' '.join(default)}",
    )


def attack_flags(parser):
    _forgotten_flags(parser)
    group = parser.add_argument_group("attack")
    _tested_flags(group)
    group.add_argument(
        "--shadow_models",
        type=_even_number(MIN_SHADOW_MODELS),
        default=16,
        help="how many to train, an even number; those that are there already are used",
    )


def _forgotten_flags(parser):
    request_flags(parser, required=False, note="; by default what the model has forgotten")


def _tested_flags(group):
    group.add_argument(
        "--retrain_model_id",
        action=Gather,
        nargs="+",
        metavar="MODEL_ID",
        help="a Retrain of the same request to compare with, or several of different seeds; by "
        "default the one of the same base model, if there is one",
    )
    group.add_argument(
        "--non_members",
        choices=NON_MEMBERS,
        default=NON_MEMBERS[0],
        help="the images that attacks compare the forget set with",
    )
    seed_flag(group)
    group.add_argument("--json", action="store_true", help="print the results as JSON only")


def request_flags(parser, required=True, note=""):
    """What is to be forgotten. note: what is taken if no flag of these is given."""
    group = parser.add_argument_group("deletion request")
    group.add_argument(
        "--class_to_forget",
        action=Gather,
        nargs="+",
        metavar="CLASS",
        help=f"numbers or names of one or more classes{note}",
    )
    group.add_argument(
        "--forget_fraction",
        action=Once,
        type=_fraction,
        metavar="MEMORY_FRACTION",
        help="a random share of the training images, or of those of --class_to_forget",
    )
    group.add_argument(
        "--forget_seed",
        action=Once,
        type=_whole_number(0),
        metavar="SEED",
        help=f"what that share is drawn by (default: {DEFAULT_SEED}); --seed does not change it",
    )
    group.add_argument(
        "--forget_indices",
        action=Once,
        metavar="FILE",
        help="a training image a line: its row in the training split, from 0; # begins a comment",
    )
    group.add_argument(
        "--metadata",
        action=Once,
        metavar="FILE",
        help="CSV with a header and a row for each training image, for --forget_where",
    )
    group.add_argument(
        "--forget_where",
        action=Gather,
        nargs="+",
        metavar="COLUMN=VALUE",
        help="the training images whose row in --metadata has all of these values",
    )
    parser.checks.append(lambda args: _request_fault(args, required))


def _request_fault(args, required):
    """What is wrong with the flags of a request taken together, None if nothing is."""
    if (args.metadata is None) != (args.forget_where is None):
        return "--metadata FILE and --forget_where COLUMN=VALUE need each other: give both"
    if args.forget_seed is not None and args.forget_fraction is None:
        return "--forget_seed is what --forget_fraction is drawn by: give that as well"
    named = {
        "--class_to_forget": args.class_to_forget,
        "--forget_fraction": args.forget_fraction,
        "--forget_indices": args.forget_indices,
        "--metadata": args.metadata,
    }
    kinds = [flag for flag, value in named.items() if value is not None]
    if len(kinds) > 1 and kinds != ["--class_to_forget", "--forget_fraction"]:
        return f"{' and '.join(kinds)} exclude each other: give one of them"
    if required and not kinds:
        return (
            "say what to forget: --class_to_forget, --forget_fraction, --forget_indices, or "
            "--metadata with --forget_where"
        )
    return None


def mask_flag(parser):
    parser.add_argument(
        "--mask_thresh",
        type=_threshold,
        default=MASK_THRESH,
        help="share of all weights that may change, in whole percents; for methods with SalUn, "
        "the others ignore it",
    )


def training_flags(parser, epochs=20):
    group = parser.add_argument_group("training")
    group.add_argument(
        "--epochs", type=_whole_number(1), default=epochs, help="passes over the data"
    )
    group.add_argument(
        "--lr",
        type=_rate,
        help="highest learning rate; after a short warm-up it falls to 0 along a cosine "
        "(by default 0.01 with sgd, else 0.001)",
    )
    group.add_argument(
        "--batch_size", type=_whole_number(MIN_TRAIN_IMAGES), default=50, help="images a step"
    )
    group.add_argument(
        "--optimizer", choices=OPTIMIZERS, default="sgd", help="sgd has momentum 0.9"
    )
    group.add_argument("--weight_decay", type=_decay, default=WEIGHT_DECAY, help="on all weights")
    group.add_argument(
        "--precision",
        choices=PRECISIONS,
        default=AUTO,
        help="of learning; auto is bf16 where the device has instructions for it",
    )
    group.add_argument(
        "--compile",
        action="store_true",
        help="train through torch.compile: the first step takes minutes, the others less time",
    )
    group.add_argument(
        "--seed",
        type=_whole_number(0),
        default=DEFAULT_SEED,
        help="of weights and order",
    )
    model = parser.add_argument_group("model")
    model.add_argument("--arch", default="resnet18", help="any torchvision classifier")
    model.add_argument(
        "--stem", choices=STEMS, help="first layers of a ResNet; by default by the images' size"
    )
    model.add_argument(
        "--pretrained", action="store_true", help="begin with torchvision's ImageNet weights"
    )
    input_size_flag(model)


def resume_flag(parser):
    parser.add_argument(
        "--resume",
        action="store_true",
        help="go on with this very run if it was interrupted; it ends as if it had not been",
    )


def overwrite_flag(parser):
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="replace what is there under the same name and differs; by default it is refused",
    )


def shards_flag(parser):
    group = parser.add_argument_group("exact unlearning")
    group.add_argument(
        "--sisa_shards",
        type=_whole_number(FEWEST_SHARDS),
        metavar="S",
        help="part the training images into this many shards and train a network on each, so that "
        "--unlearn SISA can forget exactly; by default one network is trained on all",
    )


def unlearning_flags(parser):
    request_flags(parser)
    group = parser.add_argument_group("unlearning")
    group.add_argument(
        "--unlearn",
        required=True,
        metavar="METHOD",
        help="one of those that --list_methods lists, in any letter case",
    )
    list_methods_flag(group)
    mask_flag(group)
    group.add_argument(
        "--unlearn_epochs", type=_whole_number(1), help="passes; by default the method's own"
    )
    group.add_argument(
        "--unlearn_lr", type=_rate, help="learning rate; by default the method's own"
    )
    group.add_argument(
        "--unlearn_batch_size",
        type=_whole_number(1),
        help=f"images a step, or at a time; by default {BATCH_SIZE}, for Fisher and SSD "
        f"{FISHER_BATCH_SIZE}, for Retrain and SISA the base model's",
    )
    group.add_argument("--optimizer", choices=OPTIMIZERS, help="by default the method's own")
    group.add_argument("--weight_decay", type=_decay, help="by default the method's own")
    group.add_argument("--seed", type=_whole_number(0), help="by default the base model's")
    group.add_argument("--precision", choices=(FLOAT32, BF16), help="by default the base model's")
    group.add_argument(
        "--unlearn_options",
        type=_assignment,
        action=Gather,
        nargs="+",
        default=[],
        metavar="NAME=VALUE",
        help="settings that only this method has, as --list_methods shows them",
    )


def compare_flags(parser):
    request_flags(parser)
    group = parser.add_argument_group("comparison")
    methods_flag(group, [ALL])
    list_methods_flag(group)
    group.add_argument(
        "--seeds",
        type=_whole_number(0),
        action=Gather,
        nargs="+",
        default=[DEFAULT_SEED],
        metavar="SEED",
        help="each method runs once with each of them, Retrain too",
    )
    mask_flag(group)


def methods_flag(parser, default):
    parser.add_argument(
        "--unlearn",
        action=Gather,
        nargs="+",
        default=default,
        metavar="METHOD",
        help=f"{ALL}, or some of those that main_unlearn.py --list_methods lists",
    )


def list_methods_flag(parser):
    parser.add_argument(
        "--list_methods", action=ListMethods, nargs=0, help="list all methods and exit"
    )


class ListMethods(argparse.Action):
    """Prints the table of methods and ends the script, as --help does."""

    def __call__(self, parser, *_):
        print(describe_methods())
        parser.exit()


def chosen_settings(args):
    """The settings of a Recipe that the flags of `unlearning_flags` ask for, by name."""
    chosen = {
        "epochs": args.unlearn_epochs,
        "lr": args.unlearn_lr,
        "batch_size": args.unlearn_batch_size,
        "optimizer": args.optimizer,
        "weight_decay": args.weight_decay,
        "seed": args.seed,
        "precision": args.precision,
    }
    return {name: value for name, value in chosen.items() if value is not None}


def data_source(args):
    """The arguments of utils.data.loading.load_dataset that the flags stand for."""
    return {
        "name": args.dataset,
        "input_size": args.input_size,
        "data_root": args.data_root,
        "placement": Placement(args.data_on, args.memory_limit, args.cache_dir, args.num_workers),
    }


def model_and_data(args):
    """The arguments of models.loading.load_model_and_data that the flags stand for, no device."""
    source = data_source(args)
    return {
        "model_id": args.model_id,
        "dataset_name": source.pop("name"),
        **source,
        "arch": args.arch,
        "stem": args.stem,
        "allow_other_data": args.allow_other_data,
    }


def asked_request(args, dataset):
    """The ForgetRequest that the flags of `request_flags` ask for, None if there are none."""
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


def requested(args, record, dataset):
    """The ForgetRequest that the flags ask for; else what the model has forgotten.

    Raises UserError if the model has forgotten something else: its figures would mean nothing.
    """
    request = asked_request(args, dataset)
    if request is None:
        return ForgetRequest.from_model(args.model_id, record, dataset)
    if "forget_request" in record:
        forgotten = ForgetRequest.from_model(args.model_id, record, dataset)
        if forgotten != request:
            raise UserError(
                f"{request.description}: {args.model_id} has forgotten another "
                f"({forgotten.description}): "
                "leave out what asks for it"
            )
        return forgotten  # by the words and the id that it was asked for with
    return request


def typed_request(args):
    """The flags of `request_flags` as they would be typed."""
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


def command_line(argv, program):
    """The command as it could be typed again, for records."""
    return encodable(shlex.join(["python", os.path.basename(program), *argv]))


def _whole_number(lowest, highest=HIGHEST):
    def read(text):
        try:
            number = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None
        if not lowest <= number <= highest:
            raise argparse.ArgumentTypeError(
                f"{text} is out of range: the lowest is {lowest}"
                if number < lowest
                else f"{text} is out of range: the highest is {highest}"
            )
        return number

    return read


def _even_number(lowest):
    whole = _whole_number(lowest)

    def read(text):
        number = whole(text)
        if number % 2:
            raise argparse.ArgumentTypeError(f"{text} is odd: it must be even")
        return number

    return read


def _size(text):
    try:
        return parse_size(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a size: give bytes, or as 500M or 16G"
        ) from None


def _assignment(text):
    name, sign, value = text.partition("=")
    if not (name and sign):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name, value


def _real_number(what, inside):
    def read(text):
        try:
            number = float(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None
        if not inside(number):
            raise argparse.ArgumentTypeError(f"{text} makes no sense: {what}")
        return number

    return read


_rate = _real_number("a learning rate is above 0 and at most 100", lambda rate: 0 < rate <= 100)
_decay = _real_number("weight decay is from 0 to 1", lambda decay: 0 <= decay <= 1)
_fraction = _real_number("a share is above 0 and at most 1", lambda share: 0 < share <= 1)
_threshold = _real_number("a threshold is above 0 and at most 1", lambda share: 0 < share <= 1)
