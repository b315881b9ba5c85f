"""What a test says, in groups, each with how to read it."""

from dataclasses import dataclass
from textwrap import fill

from evaluation.measures import ATTACKS, NO_RETRAIN, SETS, tpr_key
from evaluation.metrics.membership import LOW_RATES
from evaluation.metrics.relearn import KNOWN

LINE_WIDTH = 100  # characters


@dataclass(frozen=True)
class Group:
    """name: as --measures takes it. reading: how to read it. rows: (key, label)."""

    name: str
    reading: str
    rows: tuple[tuple[str, str], ...]

    @property
    def explanation(self):
        """The lines that stand above its table."""
        return fill(f"{self.name[0].upper()}{self.name[1:]}: {self.reading}.", LINE_WIDTH)


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
            "what the model still does; the Evaluator's figures count every class, so that "
            "forgetting one lowers them",
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
            "can the forgotten training images be told from images that the model never saw? Above "
            "0.5 an attack finds them because they are known better, below because they are "
            "conspicuously unknown. An interval that holds 0.5, and a difference from Retrain "
            "whose interval holds 0, show no memory (few images show little). MIA efficacy: as "
            "near to Retrain's as can be",
            (
                ("mia_efficacy_percent", "MIA efficacy, attack trained on test images"),
                ("mia_efficacy_val_percent", "MIA efficacy, attack trained on val images"),
                *(
                    row
                    for name in ATTACKS
                    for row in (
                        (f"attack_{name}_auc", f"attack by {name.replace('_', ' ')}: AUC"),
                        (f"attack_{name}_auc_minus_retrain", "  more than on Retrain"),
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
            "does the network still hold what its outputs hide? It does if it comes back in much "
            "fewer steps than Retrain, and a probe well above Retrain's says that the features "
            "keep a forgotten class together",
            (
                ("probe_accuracy_percent", "linear probe of the features (50%: nothing there)"),
                ("relearn_steps", f"steps to know {100 * KNOWN:g}% of the forget set again"),
            ),
        ),
        Group(
            "distance",
            "how far from Retrain, the model that never saw the images; all gaps and divergences 0 "
            "and all agreement 100% would be the same model. Under Retrain: how far a second "
            "Retrain is from the first, and the KLOM of as many models that differ in nothing",
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
                ("worst_sensitivity_class", "  which class"),
                ("sensitivity_spread_points", "spread between kept classes, points"),
                ("expected_cost", "expected cost an image, kept classes"),
                ("expected_cost_all_classes", "expected cost an image, all classes"),
                ("group_accuracy_gap_points", "accuracy gap between groups, points"),
                ("group_accuracy_gap_by_chance_points", "  of groups drawn by lot"),
                ("equalized_odds_gap_points", "equalized-odds gap between groups, points"),
                ("equalized_odds_gap_by_chance_points", "  of groups drawn by lot"),
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
    "U-LiRA",
    "can a forgotten image be told from one that was never seen, by an attacker who knows how this "
    "method answers for either? AUC 0.5 and accuracy 50% show no memory; Retrain is the control",
    (
        ("ulira_auc", "U-LiRA: AUC"),
        ("ulira_accuracy_percent", "  balanced accuracy"),
        *(
            (tpr_key("ulira", rate), f"  found at {100 * rate:g}% false alarms")
            for rate in LOW_RATES
        ),
    ),
)


POOR_YARDSTICK = 5.0  # points of remaining accuracy that Retrain lacks
SIDES = {"": "", "_negatives": "without the finding: "}  # the second in multi-label data alone


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
        ]
        for side, what in SIDES.items():
            rows += [
                (f"{key}_lost{side}_images", f"  {what}right in the base model alone, images"),
                (f"{key}_gained{side}_images", f"  {what}right in this model alone, images"),
                (f"{key}_worse{side}_p_value", f"  {what}worse than before: p (McNemar, Holm)"),
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
                "apart on Retrain too, which saw neither: read how much more it finds than there"
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
    """What is to be said of U-LiRA's control."""
    if not retrain_figures:
        return [f"the attack has no control: {NO_RETRAIN}"]
    if not separates(retrain_figures["ulira_auc"]):
        return []
    return [
        "the attack tells forgotten images apart on Retrain too, which never saw them: what it "
        "finds is no memory of them"
    ]


def separates(figure):
    """Whether an AUC is away from guessing by its whole interval."""
    if figure is None or not figure.is_defined:
        return False
    return figure.low > 0.5 or figure.high < 0.5


def yardstick_warnings(base_figures, retrain_figures):
    """The line that says that Retrain was trained too little to be compared with."""
    key = "remaining_accuracy_percent"
    pair = [figures and figures[key].value for figures in (base_figures, retrain_figures)]
    if None in pair or pair[0] - pair[1] < POOR_YARDSTICK:
        return []
    return [
        f"Retrain recognises {pair[1]:.1f}% of the kept training images, the base model "
        f"{pair[0]:.1f}%: it is a poor yardstick, train both longer"
    ]


def worsening_warnings(worsenings, classes):
    """Lines that name the kept classes that the model recognises significantly worse.

    classes: what each is called.
    """
    lines = []
    for each in worsenings:
        if each.is_significant:
            images = "test images without it" if each.negatives else "test images"
            lines.append(
                f"class {classes[each.class_index]} is recognised significantly worse than before: "
                f"{each.lost} {images} lost, {each.gained} gained (McNemar's exact test, "
                f"one-sided, p = {each.p_value:.2g} after Holm's correction)"
            )
    return lines
