"""The groups of figures of a model, under the keys and in the units of the results file."""

import numpy as np

from evaluation.blind import blind_attack
from evaluation.distance import agreement, average_gap, js_divergence, klom, margins
from evaluation.figure import Figure, undefined
from evaluation.membership import LOW_RATES, attack, membership_scores
from evaluation.mia_efficacy import mia_efficacy
from evaluation.probe import probe_accuracy
from evaluation.relearn import relearn_steps

ATTACKS = ("loss", "confidence", "entropy", "modified_entropy")
KLOM_PERCENTILE = 95  # of the images, as the paper reports it


def privacy_figures(outputs, request, non_members, seed=1):
    """Membership attacks on a model, Figures by key.

    outputs: by split. non_members: the split whose images the model never saw; of them those are
    compared with the forget set that the request covers as well, so that an attack has to tell
    what was trained on and not merely what class it is. SalUn's efficacy learns from all other
    images, as the keys say: from test images, as published, and from validation images.
    """
    forget, retain = outputs["train"].split(request)
    figures = {}
    for key, split in (("mia_efficacy_percent", "test"), ("mia_efficacy_val_percent", "val")):
        sets = (retain, outputs[split].split(request)[1], forget)
        pairs = [request.question(part.logits, part.labels) for part in sets]
        figures[key] = mia_efficacy(*pairs, seed=seed).times(100)
    unseen, _ = outputs[non_members].split(request)
    members, others = (
        membership_scores(*request.question(part.logits, part.labels)) for part in (forget, unseen)
    )
    for name in ATTACKS:
        found = attack(members[name], others[name], seed)
        figures[f"attack_{name}_auc"] = found.auc
        figures[f"attack_{name}_balanced_accuracy_percent"] = found.balanced_accuracy.times(100)
        for rate in LOW_RATES:
            figures[tpr_key(f"attack_{name}", rate)] = found.tpr[rate].times(100)
    return figures


def tpr_key(attack_name, rate):
    """attack_loss_tpr_percent_at_fpr_0_1_percent for attack_loss and a rate of 0.001."""
    return f"{attack_name}_tpr_percent_at_fpr_{100 * rate:g}_percent".replace(".", "_")


def blind_figures(dataset, request, non_members, seed=1):
    """What an attack without any model reaches on the same images, Figures by key."""
    forget, retain = request.split(dataset.train)
    unseen, _ = request.split(dataset.splits[non_members])
    return {
        "attack_blind_auc": blind_attack(forget, unseen, seed),
        "blind_retain_val_auc": blind_attack(retain, request.split(dataset.val)[1], seed),
        "blind_retain_test_auc": blind_attack(retain, request.split(dataset.test)[1], seed),
    }


def inside_figures(model, outputs, dataset, request, seed=1):
    """What the weights still hold: linear probe and relearn time, Figures by key."""
    train, test = outputs["train"], outputs["test"]
    probe = probe_accuracy(
        train.features.numpy(),
        request.members(train.labels).numpy(),
        test.features.numpy(),
        request.members(test.labels).numpy(),
        seed,
    )
    forget_set, _ = request.split(dataset.train)
    return {
        "probe_accuracy_percent": probe.times(100),
        "relearn_steps": relearn_steps(model, forget_set, request, seed),
    }


def distance_figures(figures, outputs, retrain_figures, retrain_outputs, request):
    """How far a model is from Retrain, Figures by key; sets as SETS of evaluation.report."""
    found = {"average_gap_points": average_gap(figures, retrain_figures)}
    ours, theirs = sets_of(outputs, request), sets_of(retrain_outputs, request)
    multi_label = outputs["train"].labels.ndim == 2
    for name in ours:
        pair = ours[name].logits, theirs[name].logits, multi_label
        found[f"agreement_{name}_percent"] = agreement(*pair).times(100)
        found[f"js_divergence_{name}"] = js_divergence(*pair)
    return found


def klom_figures(models, retrains, request):
    """KLOM of several models and several Retrains, each by its outputs, Figures by key.

    The image at the KLOM_PERCENTILE of each set: most images are far from any that matters.
    """
    figures = {}
    for name in sets_of(models[0], request):
        groups = [
            np.array([_margins(sets_of(outputs, request)[name], request) for outputs in group])
            for group in (models, retrains)
        ]
        key = f"klom_{name}_nats"
        if groups[0].shape[1] == 0:
            figures[key] = undefined("no image")
        else:
            figures[key] = Figure(float(np.percentile(klom(*groups), KLOM_PERCENTILE)))
    return figures


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


def sets_of(outputs, request):
    """Outputs of forget, retain and test set; the test set without what the request covers."""
    forget, retain = outputs["train"].split(request)
    return {"forget": forget, "retain": retain, "test": outputs["test"].split(request)[1]}


def cost_figures(seconds, retrain_seconds=None):
    """Seconds that the unlearning took and their share of Retrain's, Figures by key."""
    figures = {}
    if seconds is None:
        figures["unlearn_seconds"] = undefined("the model file tells of no unlearning")
    else:
        figures["unlearn_seconds"] = Figure(seconds)
        if retrain_seconds:
            figures["share_of_retrain_time_percent"] = Figure(100 * seconds / retrain_seconds)
    return figures


def _margins(outputs, request):
    return margins(*request.question(outputs.logits, outputs.labels))
