"""Memory of a few images, such as those of one patient, by the paired test.

An attack on a dozen images has to distinguish them from other images, whose margins differ by more
than what a model remembers. The paired test compares each image with itself under the Retrains.

What the test cannot see: memory that does not show in the margins (relearning, probes), and memory
that is smaller than the differences of Retrains on as few images. So the base model, which was
trained on them, is the positive control: if the test does not find its memory, a model in which
nothing is found may remember as much.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from evaluation.figure import Figure, undefined
from evaluation.measure import Measure, Row
from evaluation.metrics.klom import margins
from evaluation.metrics.ratio import MORE_RETRAINS, too_few_retrains
from evaluation.retrains.paired import MAX_RETRAINS, PairedTest, paired_test, power, retrains_needed
from evaluation.retrains.shadow_retrains import shadow_retrain_margins
from evaluation.settings import MIN_RETRAINS
from unlearn.lineage.parents import RETRAIN

if TYPE_CHECKING:
    from evaluation.audit import Context

STILL_KNOWN = "still known: the forgotten images are known better than Retrain knows them"
UNKNOWN = "conspicuously unknown: the forgotten images are known worse than Retrain knows them"
NOTHING_FOUND = "no memory found, and the test does find the memory of the base model"
CANNOT_TELL = "this test cannot tell"
NO_CONTROL = f"{CANNOT_TELL}: without the base model there is no positive control"
FALSE_ALARM = "this Retrain differs from the others, as 5% of all Retrains do by chance"
OF_CLASSES = "it is about single images; unlearn accuracy shows whether their class is still known"


def compute(context: Context) -> dict[str, Figure]:
    """Return the test of any model; of Retrain, that of the first against the others.

    Of the tested model also the power: the probability that the test finds what the base model
    remembers.
    """
    shadows = context.audit.shared(shadow_retrain_margins)
    references = [*(image_margins(each) for each in context.retrains()), *shadows]
    target, *others = references if context.is_retrain else [image_margins(context), *references]
    if len(others) < MIN_RETRAINS:
        if not context.is_tested:
            return {}
        return dict.fromkeys(KEYS, undefined(too_few_retrains(MIN_RETRAINS, len(others))))
    test = _test(context, target, others)
    if isinstance(test, Figure):
        return dict.fromkeys(KEYS, test) if context.is_tested else {}
    figures = {
        "paired_memory": Figure(test.difference, test.low, test.high),
        "paired_memory_p": Figure(test.p_value),
    }
    if context.is_tested:
        control = _control(context, test, others)
        note = "; ".join([_answer(context, test, control), *_remarks(context)])
        figures["paired_memory"] = Figure(test.difference, test.low, test.high, note=note)
        figures["paired_memory_power"] = (
            Figure(power(max(0.0, control.difference), control.error, control.retrains))
            if control
            else undefined("no base model is available")
        )
    return figures


def left_out_tests(context: Context) -> list[PairedTest | None]:
    """Return the test of each Retrain against the others, None where there is none."""
    shadows = context.audit.shared(shadow_retrain_margins)
    retrains = [image_margins(each) for each in context.retrains()]
    found = []
    for left_out, target in enumerate(retrains):
        others = [*retrains[:left_out], *retrains[left_out + 1 :], *shadows]
        test = _test(context, target, others) if len(others) >= MIN_RETRAINS else None
        found.append(test if isinstance(test, PairedTest) else None)
    return found


def image_margins(context: Context) -> np.ndarray:
    """Return the (F + U,) margins of the forgotten and the comparable unseen images."""
    forget, unseen = _parts(context)
    return np.concatenate(
        [
            margins(*context.request.scored_logits(part.logits, part.labels))
            for part in (forget, unseen)
        ]
    )


def warnings(context: Context) -> list[str]:
    """Return the answer as a line if the model is distinguished from Retrain."""
    note = context.figures["paired_memory"].note if "paired_memory" in context.figures else None
    found = note is not None and note.startswith((STILL_KNOWN, UNKNOWN))
    p_value = context.figures["paired_memory_p"].value if found else None
    return [f"paired test: {note} (p = {p_value:.2g})"] if found else []


def image_kinds(context: Context) -> np.ndarray:
    """Return the (F + U,) int kinds of the same images: classes, or sets of findings."""
    labels = np.concatenate([part.labels.numpy() for part in _parts(context)])
    return np.unique(labels, axis=0, return_inverse=True)[1].reshape(-1)


def _test(context, target, references):
    """The PairedTest of a model, or an undefined Figure with the reason."""
    forget, unseen = _parts(context)
    if len(forget) == 0 or len(unseen) == 0:
        return undefined(
            f"no {context.non_members if len(forget) else 'forgotten'} image to compare"
        )
    kinds = image_kinds(context)
    try:
        test = paired_test(target, np.array(references), np.arange(len(kinds)) < len(forget), kinds)
    except ValueError:  # shadow models alone, and few images
        return undefined(too_few_retrains(MIN_RETRAINS, 1))
    return test or undefined("the Retrains do not differ")


def _parts(context):
    return context.outputs["train"].split()[0], context.outputs[
        context.non_members
    ].comparable_part()


def _control(context, test, references):
    """The PairedTest of the base model, None if it is not available."""
    if "method" not in context.record:  # the tested model is a base model
        return test
    return context.base and _test(context, image_margins(context.base), references)


def _answer(context, test, control):
    if test.is_found:
        if context.record.get("method") == RETRAIN:
            return FALSE_ALARM
        return STILL_KNOWN if test.difference > 0 else UNKNOWN
    if control is None:
        return NO_CONTROL
    if control.is_found and control.difference > 0:
        return NOTHING_FOUND
    why = f"{CANNOT_TELL}, because it does not find the memory of the base model"
    if control.difference <= 0:
        return f"{why}, which knows the images no better than Retrain does"
    needed = retrains_needed(control.difference, control.error, control.retrains)
    if needed is None:
        return f"{why}: even {MAX_RETRAINS} Retrains are too few, these images left too little"
    return (
        f"{why}: about {needed} Retrains may be enough, and there are {control.retrains:.0f}: "
        f"{MORE_RETRAINS}"
    )


def _remarks(context):
    """What a reader must know of the images and the models."""
    if context.request.indices is None:
        return [OF_CLASSES]
    shadows = context.audit.shared(shadow_retrain_margins)
    remarks = [f"{len(shadows)} shadow models of main_mia.py count as Retrains"] if shadows else []
    count, kinds = len(_parts(context)[0]), image_kinds(context)
    lone = int((~np.isin(kinds[:count], kinds[count:])).sum())
    if lone:
        remarks.append(
            f"for {lone} of {count} images there is no {context.non_members} image of the same "
            "kind, and all comparable ones take its place"
        )
    return remarks


KEYS = ("paired_memory", "paired_memory_p", "paired_memory_power")
MEASURE = Measure(
    name="paired test for memory of a few images",
    group="privacy",
    explanation="How far the margins log(p / (1 - p)) of the forgotten images lie from those of "
    "several Retrains, less the same of unseen images of the same classes. An interval above 0: "
    "still known; below 0: conspicuously unknown. The base model is the positive control.",
    compute=compute,
    rows=(
        Row("paired_memory", "paired test: difference of margins, nats"),
        Row("paired_memory_p", "  p-value, two-sided"),
        Row("paired_memory_power", "  power to find the base model's memory"),
    ),
    warnings=warnings,
    inputs=("retrain_weights_digests",),
)
