"""Time an epoch and the whole run of each unlearning method, and a plain loop if there is one."""

import copy
import statistics
from dataclasses import replace

import plain
from stages import Workload
from timing import compare, measure

from unlearn.engine.config import UnlearnConfig
from unlearn.registry import METHODS
from utils.runtime.errors import UserError
from utils.text import format_table

HALF = 0.5  # of the weights
QUICK_OPTIONS = {"steps": 2, "noise": 4, "images": 16}  # with --quick
TIMED = [
    method
    for method in METHODS.values()
    if method.recipe and not method.needs_shards
    if not method.uses_mask or method.id in plain.METHODS
]
HEADERS = ["method", "per epoch", "plain", "ratio", "epochs", "total", "% of Retrain's time"]


def methods_table(work: Workload, rounds: int, base_epochs: int, quick: bool) -> str:
    """Return the table of methods with their defaults, and their percentage of Retrain's time.

    base_epochs: epochs of the base model; its accuracy does not matter to most methods, but some
    need a trained model. quick: use QUICK_OPTIONS.
    """
    forget_set, retain_set = work.request.split(work.dataset, "train")
    epochs = [
        measure(lambda: work.train_for(1, work.recipe), work.device)[0] for _ in range(rounds)
    ]
    retrain = statistics.median(epochs) * work.recipe.epochs * len(retain_set) / len(work.train)
    base = work.train_for(base_epochs, work.recipe)
    mask = work.saliency_map(work.request).mask(HALF)
    sets, few = (forget_set, retain_set), QUICK_OPTIONS if quick else {}
    rows = [_row(method, work, base, sets, mask, few, retrain, rounds) for method in TIMED]
    title = (
        f"methods, {len(forget_set):,} of {len(work.train):,} images forgotten; Retrain is "
        f"{retrain:.1f} s for {work.recipe.epochs} epochs, estimated from epochs of all images"
    )
    return f"{title}\n" + format_table(HEADERS, rows)


def _row(method, work, base, sets, mask, few, retrain, rounds):
    epochs = method.recipe.epochs
    mask = mask if method.uses_mask else None

    def ours(epochs=1):
        config = _config(method, work, mask, few, epochs)
        method.run(copy.deepcopy(base), *sets, config)

    try:
        whole = measure(lambda: ours(epochs), work.device)[0]  # the preparation runs once
        if method.id in plain.METHODS:
            halves = plain.split(work.plain_train, work.request.classes[0])
            masks = plain.mask_to_dict(mask, base.network) if mask else None

            def plain_epoch():
                network = work.plain_copy(base)
                plain.unlearning_epoch(
                    method.id, network, *halves, work.classes, work.device, masks
                )

            pair = compare(ours, plain_epoch, rounds, work.device)
            seconds, others = pair.ours, [f"{pair.plain:.2f} s", f"{pair.ratio:.1f}"]
        else:
            seconds = whole if method.one_step else measure(ours, work.device)[0]
            others = ["-", "-"]
    except UserError as error:  # some methods need a better trained model
        return [method.id, "failed", "-", "-", "-", "-", str(error)]
    percentage = f"{whole / retrain:.1%}"
    shown = "-" if method.one_step else f"{seconds:.2f} s"
    return [method.id, shown, *others, str(epochs or "-"), f"{whole:.2f} s", percentage]


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
