"""The groups of figures of a model, under the keys and in the units of the results file."""

from weakref import WeakKeyDictionary

import numpy as np

from evaluation.figure import SINGLE_IMAGES, Figure, undefined
from evaluation.metrics.blind import blind_attack
from evaluation.metrics.distance import agreement, average_gap, js_divergence, klom, margins
from evaluation.metrics.membership import LOW_RATES, attack, auc_difference, membership_scores
from evaluation.metrics.mia_efficacy import mia_efficacy
from evaluation.metrics.probe import probe_accuracy
from evaluation.metrics.relearn import relearn_steps
from unlearn.lineage.parents import RETRAIN

ATTACKS = ("loss", "confidence", "entropy", "modified_entropy")
SETS = ("forget", "retain", "test")
DISTANCES = (
    "average_gap_points",
    *(f"agreement_{name}_percent" for name in SETS),
    *(f"js_divergence_{name}" for name in SETS),
)
KLOM_PERCENTILE = 95  # of the images
IS_RETRAIN = "this model is Retrain"
NO_RETRAIN = "no Retrain is at hand: main_unlearn.py --unlearn Retrain makes it"
CHANCE_MARGINS = 1_000_000  # of each kind of model that a simulation of KLOM draws at most

_blind = WeakKeyDictionary()  # what `blind_figures` gave, by data set


def efficacy_figures(outputs, request, seed=1):
    """SalUn's MIA efficacy, Figures by key.

    outputs: by split. Its attack learns from the images that are not to be forgotten: from test
    images, as published, and from validation images, as the keys say.
    """
    forget, retain = outputs["train"].split()
    figures = {}
    for key, split in (("mia_efficacy_percent", "test"), ("mia_efficacy_val_percent", "val")):
        sets = (retain, outputs[split].split()[1], forget)
        pairs = [request.scored_logits(part.logits, part.labels) for part in sets]
        figures[key] = mia_efficacy(*pairs, seed=seed).times(100)
    return figures


def attack_scores(outputs, request, non_members):
    """(scores of the forget set, scores of non-members of its kind) by attack.

    outputs: by split. non_members: the split whose images the model never saw; of them only those
    of the forget set's kind are compared with it, so that an attack has to tell what was trained
    on and not merely what class it is.
    """
    members, others = (
        membership_scores(*request.scored_logits(part.logits, part.labels))
        for part in (outputs["train"].split()[0], outputs[non_members].comparable_answers())
    )
    return {name: (members[name], others[name]) for name in ATTACKS}


def attack_figures(scores, seed=1):
    """Membership attacks on a model, Figures by key. scores: of attack_scores."""
    figures = {}
    for name, pair in scores.items():
        found = attack(*pair, seed)
        figures[f"attack_{name}_auc"] = found.auc
        figures[f"attack_{name}_balanced_accuracy_percent"] = found.balanced_accuracy.times(100)
        for rate in LOW_RATES:
            figures[tpr_key(f"attack_{name}", rate)] = found.tpr[rate].times(100)
    return figures


def difference_figures(scores, retrain_scores, seed=1):
    """How much better each attack works on a model than on Retrain, Figures by key."""
    return {
        f"attack_{name}_auc_minus_retrain": auc_difference(scores[name], retrain_scores[name], seed)
        for name in ATTACKS
    }


def tpr_key(attack_name, rate):
    """attack_loss_tpr_percent_at_fpr_0_1_percent for attack_loss and a rate of 0.001."""
    return f"{attack_name}_tpr_percent_at_fpr_{100 * rate:g}_percent".replace(".", "_")


def blind_figures(dataset, request, non_members, seed=1):
    """What an attack without any model reaches on the same images, Figures by key.

    It is the same beside every model, and worked out once.
    """
    drawn = request.drawn_as, request.drawn_from  # which do not tell two requests apart
    known, key = _blind.setdefault(dataset, {}), (request, *drawn, non_members, seed)
    if key not in known:
        known[key] = _without_a_model(dataset, request, non_members, seed)
    return known[key]


def _without_a_model(dataset, request, non_members, seed):
    forget, retain = request.split(dataset, "train")
    unseen = dataset.splits[non_members].subset(request.comparable(dataset, non_members))
    return {
        "attack_blind_auc": blind_attack(forget, unseen, seed),
        "blind_retain_val_auc": blind_attack(retain, request.split(dataset, "val")[1], seed),
        "blind_retain_test_auc": blind_attack(retain, request.split(dataset, "test")[1], seed),
    }


def inside_figures(model, outputs, dataset, request, seed=1):
    """What the weights still hold: linear probe and relearn time, Figures by key."""
    if request.indices is None:
        sides = (outputs["train"], outputs["test"])
        pairs = [(part.features.numpy(), part.covered.numpy()) for part in sides]
        probe = probe_accuracy(*pairs[0], *pairs[1], seed)
    else:
        probe = undefined(SINGLE_IMAGES)
    forget_set, _ = request.split(dataset, "train")
    return {
        "probe_accuracy_percent": probe.times(100),
        "relearn_steps": relearn_steps(model, forget_set, request, seed),
    }


def distance_figures(figures, outputs, retrain_figures, retrain_outputs, request):
    """How far a model is from Retrain, Figures by key; sets as in SETS.

    Of multi-label data all findings are compared, on the forget set those that are asked for.
    """
    found = {"average_gap_points": average_gap(figures, retrain_figures)}
    ours, theirs = sets_of(outputs), sets_of(retrain_outputs)
    multi_label = outputs["train"].labels.ndim == 2
    for name in ours:
        logits = [part[name].logits for part in (ours, theirs)]
        if name == "forget" and multi_label:
            logits = [part[:, request.findings(part.shape[1])] for part in logits]
        pair = *logits, multi_label
        found[f"agreement_{name}_percent"] = agreement(*pair).times(100)
        found[f"js_divergence_{name}"] = js_divergence(*pair)
    return found


def klom_figures(model_margins, retrain_margins):
    """KLOM of several models and several Retrains, Figures by key.

    Both: a list, a dict a model, of set_margins. The image at the KLOM_PERCENTILE of each set: most
    images are far from any that matters.
    """
    figures = {}
    for name in model_margins[0]:
        groups = [
            np.array([each[name] for each in group]) for group in (model_margins, retrain_margins)
        ]
        key = f"klom_{name}_nats"
        if groups[0].shape[1] == 0:
            figures[key] = undefined("no image")
        else:
            figures[key] = Figure(float(np.percentile(klom(*groups), KLOM_PERCENTILE)))
    return figures


def klom_by_chance(models, retrains, names, seed=1):
    """What klom_figures gives for as many models of one and the same kind, by simulation.

    The margins of each image are drawn from a normal distribution, as good for any, because the
    divergence does not depend on its mean and spread. With few models it is far from 0.
    """
    rng = np.random.default_rng(seed)
    images = CHANCE_MARGINS // max(models, retrains)  # with few models the tail is long
    groups = [rng.normal(size=(count, images)) for count in (models, retrains)]
    value = Figure(float(np.percentile(klom(*groups), KLOM_PERCENTILE)))
    return {f"klom_{name}_nats": value for name in names}


def set_margins(outputs, request):
    """(N,) margins of the images of each set, by its name."""
    return {
        name: margins(*request.scored_logits(part.logits, part.labels))
        for name, part in sets_of(outputs).items()
    }


def ulira_figures(members, non_members, seed=1):
    """U-LiRA's figures from the log likelihood ratios of either kind of queries, by key.

    ulira_accuracy_percent: balanced, of the paper's own rule: a member if its ratio is positive.
    """
    found = attack(members, non_members, seed)
    figures = {
        "ulira_auc": found.auc,
        "ulira_accuracy_percent": Figure(50 * ((members > 0).mean() + (non_members <= 0).mean())),
    }
    return figures | {
        tpr_key("ulira", rate): figure.times(100) for rate, figure in found.tpr.items()
    }


def sets_of(outputs):
    """Answers of forget, retain and test set; the test set without what is to be forgotten."""
    forget, retain = outputs["train"].split()
    return dict(zip(SETS, (forget, retain, outputs["test"].split()[1]), strict=True))


def cost_figures(record, retrain_record=None):
    """Seconds that the unlearning took and their share of Retrain's, Figures by key.

    record, retrain_record: of the model files.
    """
    if record.get("kind") != "unlearned" or "seconds" not in record:
        return {"unlearn_seconds": undefined("the model file tells of no unlearning")}
    share = "share_of_retrain_time_percent"
    figures = {"unlearn_seconds": Figure(record["seconds"])}
    if retrain_record is None and record.get("method") == RETRAIN:
        figures[share] = undefined(IS_RETRAIN)
    elif retrain_record is None:
        figures[share] = undefined(NO_RETRAIN)
    else:
        found = share_of_time(record, retrain_record)
        elsewhere = undefined("it was measured on another device, or other threads")
        figures[share] = elsewhere if found is None else Figure(found)
    return figures


def share_of_time(made, retrain):
    """What part of Retrain's seconds a model took, in percent; None if on different devices.

    made, retrain: plain data with `seconds` and `device`.
    """
    if made.get("device") != retrain.get("device"):
        return None
    return 100 * made["seconds"] / retrain["seconds"]
