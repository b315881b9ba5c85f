"""Flags of training a base model."""

from argparse import ArgumentParser

from flags.data import input_size_flag
from flags.parser import ExtendValues, OneLineParser, StoreOnce
from flags.running import DEFAULT_SEED
from flags.types import integer, learning_rate, weight_decay
from models.stems import STEMS
from utils.train.recipe import AUTO, MIN_TRAIN_IMAGES, OPTIMIZERS, PRECISIONS, WEIGHT_DECAY

DEFAULT_LR = {"sgd": 0.01, "adam": 0.001, "adamw": 0.001}
MIN_SHARDS = 2


def training_flags(parser: ArgumentParser, epochs: int = 20) -> None:
    """Add the recipe and the architecture. epochs: the default number."""
    group = parser.add_argument_group("training")
    group.add_argument(
        "--epochs", type=integer(1), default=epochs, help="passes over the training images"
    )
    group.add_argument(
        "--lr",
        type=learning_rate,
        help="highest learning rate; after a short warm-up it falls to 0 along a cosine; by "
        f"default {DEFAULT_LR['sgd']} with sgd, else {DEFAULT_LR['adam']}",
    )
    group.add_argument(
        "--batch_size", type=integer(MIN_TRAIN_IMAGES), default=50, help="images per step"
    )
    group.add_argument(
        "--optimizer", choices=OPTIMIZERS, default="sgd", help="sgd has momentum 0.9"
    )
    group.add_argument(
        "--weight_decay", type=weight_decay, default=WEIGHT_DECAY, help="of all weights"
    )
    group.add_argument(
        "--precision",
        choices=PRECISIONS,
        default=AUTO,
        help="number format of the forward passes in training; auto is bf16 where the device has "
        "instructions for it, else float32",
    )
    group.add_argument(
        "--compile",
        action="store_true",
        help="train with torch.compile: the first step takes minutes, later ones less time",
    )
    group.add_argument(
        "--seed",
        type=integer(0),
        action=StoreOnce,
        default=DEFAULT_SEED,
        help="seed of the initial weights, the order of the images and the augmentation",
    )
    model = parser.add_argument_group("model")
    model.add_argument("--arch", default="resnet18", help="any torchvision classifier")
    model.add_argument(
        "--stem", choices=STEMS, help="first layers of a ResNet; by default chosen by image size"
    )
    model.add_argument(
        "--pretrained", action="store_true", help="start from torchvision's ImageNet weights"
    )
    input_size_flag(model)


def seeds_flag(parser: OneLineParser) -> None:
    """Add the seeds of several base models, in place of --seed."""
    group = parser.add_argument_group("several base models")
    group.add_argument(
        "--seeds",
        type=integer(0),
        action=ExtendValues,
        nargs="+",
        metavar="SEED",
        help="in place of --seed: train a model with each of these seeds, one after the other, "
        "with the ids {save_model_id}_seed{n}_best and _last; by default one model is trained",
    )
    parser.checks.append(
        lambda args: (
            "--seed and --seeds exclude each other: give one of them"
            if args.seeds and "seed" in parser.given
            else None
        )
    )


def shards_flag(parser: ArgumentParser) -> None:
    """Add the number of shards for exact unlearning."""
    group = parser.add_argument_group("exact unlearning")
    group.add_argument(
        "--sisa_shards",
        type=integer(MIN_SHARDS),
        metavar="S",
        help="split the training images into this many shards and train one network on each, so "
        "that --unlearn SISA can forget exactly; by default one network is trained on all images",
    )
