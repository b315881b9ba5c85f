"""An epoch of each unlearning method, beside a plain loop where there is one, and in all."""

import copy
import statistics
from dataclasses import replace

import plain
from timing import in_turn, timed

from unlearn.engine.config import UnlearnConfig
from unlearn.registry import METHODS
from unlearn.saliency import mask_from_percentiles
from utils.runtime.errors import UserError
from utils.text import format_table

HALF = 0.5  # of the weights
QUICK_OPTIONS = {
    "steps": 2,
    "noise": 4,
    "images": 16,
}  # options by name, where only a look is wanted
SHOWN = [
    method
    for method in METHODS.values()
    if method.recipe and not method.needs_shards
    if not method.uses_mask or method.id in plain.METHODS
]
HEADERS = ["method", "an epoch", "plain", "ratio", "epochs", "all", "of Retrain"]


def methods_table(work, rounds, base_epochs, quick):
    """Each method by its own defaults, and as a share of Retrain's seconds.

    base_epochs: that the forgetting model has learned; how well it knows its images does not matter
    to most methods, and some refuse one that knows nothing. quick: with QUICK_OPTIONS in place
    of the options.
    """
    forget_set, retain_set = work.request.split(work.dataset, "train")
    epochs = [timed(lambda: work.train_for(1, work.recipe), work.device)[0] for _ in range(rounds)]
    retrain = statistics.median(epochs) * work.recipe.epochs * len(retain_set) / len(work.train)
    base = work.train_for(base_epochs, work.recipe)
    mask = mask_from_percentiles(work.percents(work.request), HALF)
    sets, few = (forget_set, retain_set), QUICK_OPTIONS if quick else {}
    rows = [_row(method, work, base, sets, mask, few, retrain, rounds) for method in SHOWN]
    title = (
        f"methods, {len(forget_set):,} of {len(work.train):,} images forgotten; Retrain is "
        f"{retrain:.1f} s, by epochs of all images and their share; epochs {work.recipe.epochs}"
    )
    return f"{title}\n" + format_table(HEADERS, rows)


def _row(method, work, base, sets, mask, few, retrain, rounds):
    epochs = method.recipe.epochs
    mask = mask if method.uses_mask else None

    def ours(epochs=1):
        config = _config(method, work, mask, few, epochs)
        method.run(copy.deepcopy(base), *sets, config)

    try:
        whole = timed(lambda: ours(epochs), work.device)[0]  # what comes before an epoch is once
        if method.id in plain.METHODS:
            halves = plain.split(work.plain_train, work.request.classes[0])
            masks = plain.as_dict(mask, base.network) if mask else None

            def theirs():
                network = work.plain_copy(base)
                plain.unlearning_epoch(
                    method.id, network, *halves, work.classes, work.device, masks
                )

            pair = in_turn(ours, theirs, rounds, work.device)
            seconds, others = pair.ours, [f"{pair.plain:.2f} s", f"{pair.ratio:.1f}"]
        else:
            seconds = whole if method.one_step else timed(ours, work.device)[0]
            others = ["-", "-"]
    except UserError as error:  # a model that has learned little asks too much of some
        return [method.id, "failed", "-", "-", "-", "-", str(error)]
    share = f"{whole / retrain:.1%}"
    shown = "-" if method.one_step else f"{seconds:.2f} s"
    return [method.id, shown, *others, str(epochs or "-"), f"{whole:.2f} s", share]


def _config(method, work, mask, few, epochs):
    recipe = replace(method.recipe, precision=work.recipe.precision, epochs=epochs)
    forgotten_val, retain_val = work.request.split(work.dataset, "val")
    return UnlearnConfig(
        work.request,
        recipe,
        {name: few.get(name, option.default) for name, option in method.options.items()},
        mask=mask,
        retain_val=retain_val,
        matching_val=forgotten_val,
        show=False,
    )
