"""What a test says, in groups, each with how to read it."""

from dataclasses import dataclass

from evaluation.measures import ATTACKS, tpr_key
from evaluation.membership import LOW_RATES
from evaluation.relearn import KNOWN

SEPARATES = 0.05  # an AUC this far from guessing, by its whole interval, tells two sets apart
SETS = ("forget", "retain", "test")


@dataclass(frozen=True)
class Group:
    """name: as --measures takes it. reading: how to read it. rows: (key, label)."""

    name: str
    reading: str
    rows: tuple[tuple[str, str], ...]


GROUPS = {
    group.name: group
    for group in (
        Group(
            "forgetting",
            "what share of the images that were to be forgotten is not recognised any more; good "
            "is what Retrain has, which need not be 100%",
            (
                ("unlearn_accuracy_percent", "unlearn accuracy, training images"),
                ("unlearn_accuracy_test_percent", "unlearn accuracy, test images"),
                ("finding_auc", "AUC of the finding, test images"),
            ),
        ),
        Group(
            "utility",
            "what the model still does; the Evaluator's figures count the forgotten class as well, "
            "so forgetting lowers them",
            (
                ("remaining_accuracy_percent", "remaining accuracy, training images"),
                ("test_accuracy_percent", "test accuracy, kept classes"),
                ("kept_auc", "AUC, kept classes"),
                ("evaluator_accuracy_percent", "accuracy by MedMNIST's Evaluator"),
                ("evaluator_auc", "AUC by MedMNIST's Evaluator"),
            ),
        ),
        Group(
            "privacy",
            "can the forgotten training images be told from images that the model never saw? An "
            "AUC whose interval holds 0.5: no; above: they are still known better; below: they "
            "are conspicuously unknown. MIA efficacy: near Retrain's is good",
            (
                ("mia_efficacy_percent", "MIA efficacy, attack trained on test images"),
                ("mia_efficacy_val_percent", "MIA efficacy, attack trained on val images"),
                *(
                    row
                    for name in ATTACKS
                    for row in (
                        (f"attack_{name}_auc", f"attack by {name.replace('_', ' ')}: AUC"),
                        (f"attack_{name}_balanced_accuracy_percent", "  balanced accuracy"),
                        *(
                            (
                                tpr_key(f"attack_{name}", rate),
                                f"  found at {100 * rate:g}% false alarms",
                            )
                            for rate in LOW_RATES
                        ),
                    )
                ),
                ("attack_blind_auc", "control: attack on the images alone: AUC"),
                ("blind_retain_val_auc", "control: retained from val images alone: AUC"),
                ("blind_retain_test_auc", "control: retained from test images alone: AUC"),
            ),
        ),
        Group(
            "inside",
            "does the network still hold what its outputs hide? A probe above Retrain's, or a "
            "relearn time below Retrain's: yes",
            (
                ("probe_accuracy_percent", "linear probe of the features (50%: nothing there)"),
                ("relearn_steps", f"steps to know {100 * KNOWN:g}% of the forget set again"),
            ),
        ),
        Group(
            "distance",
            "how far from Retrain, the model that never saw the images; all gaps and divergences 0 "
            "and all agreement 100% would be the same model. Two Retrains of different seeds "
            "differ too",
            (
                ("average_gap_points", "average gap, as SalUn tabulates it, points"),
                *((f"agreement_{name}_percent", f"same predictions, {name} set") for name in SETS),
                *((f"js_divergence_{name}", f"JS divergence, {name} set, bits") for name in SETS),
                *((f"klom_{name}_nats", f"KLOM, {name} set, nats") for name in SETS),
            ),
        ),
        Group(
            "safety",
            "what patients get, on test images, with 95% intervals; spread and cost are of the "
            "kept classes",
            (
                ("worst_sensitivity_percent", "worst sensitivity of a kept class"),
                ("sensitivity_spread_points", "spread between kept classes, points"),
                ("expected_cost", "expected cost an image"),
                ("group_accuracy_gap_points", "accuracy gap between groups, points"),
                ("equalized_odds_gap_points", "equalized-odds gap between groups, points"),
            ),
        ),
        Group(
            "cost",
            "what it took, as measured when the models were made; only seconds of one and the same "
            "machine compare",
            (
                ("unlearn_seconds", "seconds"),
                ("share_of_retrain_time_percent", "share of Retrain's"),
            ),
        ),
    )
}


ULIRA = Group(
    "ulira",
    "can a forgotten image be told from one that was never seen, by an attacker who knows how this "
    "method answers for either? AUC 0.5 and accuracy 50%: no; Retrain is the control",
    (
        ("ulira_auc", "U-LiRA: AUC"),
        ("ulira_accuracy_percent", "  balanced accuracy"),
        *(
            (tpr_key("ulira", rate), f"  found at {100 * rate:g}% false alarms")
            for rate in LOW_RATES
        ),
    ),
)


def safety_rows(classes, groups=None):
    """The rows of each class and of each group of patients, before those of Group safety.

    classes: what each is called. groups: (N,) str, each test image's, or None.
    """
    rows = []
    for number, name in enumerate(classes):
        key = f"class_{number}"
        rows += [
            (f"{key}_sensitivity_percent", f"{name}: sensitivity"),
            (f"{key}_specificity_percent", "  specificity"),
            (f"{key}_lost_images", "  recognised by the base model alone, images"),
            (f"{key}_gained_images", "  recognised by this model alone, images"),
            (f"{key}_worse_p_value", "  worse than before: p (McNemar, Holm)"),
        ]
    names = [] if groups is None else sorted(set(map(str, groups)))
    return rows + [(f"group_accuracy_percent:{name}", f"accuracy, group {name}") for name in names]


def control_warnings(figures, retrain_figures, non_members):
    """Lines that say which attack is worth nothing, because a control succeeds as well."""
    lines = []
    for name in ATTACKS:
        control = retrain_figures.get(f"attack_{name}_auc")
        if separates(control):
            lines.append(
                f"the attack by {name.replace('_', ' ')} tells forget and {non_members} images "
                "apart on Retrain too, which saw neither: what it finds is no memory of them"
            )
    if separates(figures.get("attack_blind_auc")):
        lines.append(
            f"forget and {non_members} images differ without any model: attacks on them prove "
            "nothing by themselves; compare with Retrain's"
        )
    for split, key in (("test", "mia_efficacy_percent"), ("val", "mia_efficacy_val_percent")):
        if separates(figures.get(f"blind_retain_{split}_auc")):
            lines.append(
                f"retained training images and {split} images differ without any model: {key}, "
                "whose attack learns from them, proves nothing by itself"
            )
    return lines


def ulira_warnings(retrain_figures):
    """The line that says that U-LiRA proves nothing, because it works on Retrain as well."""
    if not separates(retrain_figures.get("ulira_auc")):
        return []
    return [
        "the attack tells forgotten images apart on Retrain too, which never saw them: what it "
        "finds is no memory of them"
    ]


def separates(figure):
    """Whether an AUC is clearly away from guessing, by its whole interval."""
    if figure is None or not figure.is_defined:
        return False
    return figure.low > 0.5 + SEPARATES or figure.high < 0.5 - SEPARATES


def worsening_warnings(worsenings, classes):
    """Lines that name the kept classes that the model recognises significantly worse.

    classes: what each is called.
    """
    return [
        f"class {classes[each.class_index]} is recognised significantly "
        f"worse than before: {each.lost} test images lost, {each.gained} gained (McNemar's exact "
        f"test, one-sided, p = {each.p_value:.2g} after Holm's correction)"
        for each in worsenings
        if each.is_significant
    ]
