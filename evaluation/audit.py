"""One model measured beside its base model and beside Retrain."""

from evaluation.figure import Figure, undefined
from evaluation.measures import (
    DISTANCES,
    IS_RETRAIN,
    NO_RETRAIN,
    attack_figures,
    attack_scores,
    blind_figures,
    cost_figures,
    difference_figures,
    distance_figures,
    efficacy_figures,
    inside_figures,
    klom_by_chance,
    klom_figures,
    set_margins,
    sets_of,
)
from evaluation.metrics.distance import LEAST_MODELS
from evaluation.metrics.forgetting import destinations, forgetting_figures
from evaluation.metrics.safety import safety_figures, worsening_figures, worsenings
from evaluation.outputs import compute_outputs
from evaluation.report import control_warnings, worsening_warnings, yardstick_warnings
from unlearn.lineage.parents import RETRAIN as METHOD_RETRAIN
from utils.train.prediction import PREDICTION_BATCH

BASE, MODEL, RETRAIN = "base model", "this model", "Retrain"


class Audit:
    """Measures a model group by group, as evaluation.report.GROUPS names them.

    figures: title (BASE, MODEL, RETRAIN, in this order, those that are there) -> Figures by key,
    growing with each `measure`. outputs: title -> Outputs by split. warnings: lines.
    """

    def __init__(
        self,
        model,
        dataset,
        request,
        *,
        base=None,
        retrains=(),
        peers=(),
        non_members="val",
        costs=None,
        groups=None,
        record=None,
        retrain_records=(),
        seed=1,
        batch_size=PREDICTION_BATCH,
    ):
        """
        base: what `model` was unlearned from. retrains: the first is the yardstick; a second one,
        of another seed, shows how far two Retrains are from each other. peers: models of the same
        method from other seeds, for KLOM. costs: (K, K). groups: (test images,) str. record,
        retrain_records: what the model files tell of how they were made.
        """
        self.dataset, self.request, self.seed = dataset, request, seed
        self.batch_size, self.non_members = batch_size, non_members
        self.costs, self.groups = costs, groups
        self.record, self.retrain_records = record or {}, list(retrain_records)
        self.retrains, self.peers = list(retrains), list(peers)
        models = {BASE: base, MODEL: model, RETRAIN: self.retrains[0] if retrains else None}
        self.models = {title: part for title, part in models.items() if part}
        self.outputs, self.figures, self.warnings = {}, {}, []
        self._measured = set()

    def look(self, title):
        """Take the outputs of a model and the figures that follow from them alone."""
        self.outputs[title] = compute_outputs(
            self.models[title], self.dataset, self.request, self.batch_size
        )
        self.figures[title] = forgetting_figures(
            self.outputs[title], self.request, self.dataset.task
        )
        return self.figures[title]

    def compute_reference_outputs(self):
        """The same of the models beside; from here on the dicts have the order of the tables."""
        for title in self.models:
            if title not in self.outputs:
                self.look(title)
        self.outputs = {title: self.outputs[title] for title in self.models}
        self.figures = {title: self.figures[title] for title in self.models}

    def measure(self, group):
        """Add the figures of a group to `figures`, and what they warn of to `warnings`."""
        if group not in self._measured:
            self._measured.add(group)
            getattr(self, f"_{group}")()

    @property
    def classes(self):
        """What each class is called: its number and its name."""
        return [self.dataset.describe_class(n) for n in range(self.dataset.num_classes)]

    def destinations(self):
        """Title -> (K,) share of the request's training images taken for each class, or None."""
        return {title: destinations(parts["train"]) for title, parts in self.outputs.items()}

    def _forgetting(self):
        for title, shares in self.destinations().items():
            for number, share in enumerate(shares or ()):
                self.figures[title][f"taken_for_class_{number}_percent"] = Figure(100 * share)

    def _utility(self):
        """What follows from the outputs alone is there already."""

    def _privacy(self):
        scores = {
            title: attack_scores(parts, self.request, self.non_members)
            for title, parts in self.outputs.items()
        }
        for title, parts in self.outputs.items():
            self.figures[title] |= efficacy_figures(parts, self.request, self.seed)
            self.figures[title] |= attack_figures(scores[title], self.seed)
            if RETRAIN in scores and title != RETRAIN:
                beside = scores[title], scores[RETRAIN]
                self.figures[title] |= difference_figures(*beside, self.seed)
        blind = blind_figures(self.dataset, self.request, self.non_members, self.seed)
        self.figures[MODEL] |= blind
        retrain = self.figures.get(RETRAIN, {})
        self.warnings += control_warnings(blind, retrain, self.non_members)

    def _inside(self):
        for title, model in self.models.items():
            self.figures[title] |= inside_figures(
                model, self.outputs[title], self.dataset, self.request, self.seed
            )

    def _distance(self):
        if RETRAIN not in self.models:
            itself = self.record.get("method") == METHOD_RETRAIN
            why = undefined(IS_RETRAIN if itself else NO_RETRAIN)
            self.figures[MODEL] |= dict.fromkeys(DISTANCES, why)
            return
        self.warnings += yardstick_warnings(self.figures.get(BASE), self.figures[RETRAIN])
        self.measure("privacy")  # the average gap needs the MIA efficacy
        retrain = self.figures[RETRAIN], self.outputs[RETRAIN]
        for title in (BASE, MODEL):
            if title in self.outputs:
                pair = self.figures[title], self.outputs[title]
                self.figures[title] |= distance_figures(*pair, *retrain, self.request)
        if len(self.retrains) > 1:  # how far two Retrains are apart: nobody can be asked for less
            second = self._look_aside(self.retrains[1])
            found = forgetting_figures(second, self.request, self.dataset.task)
            found |= efficacy_figures(second, self.request, self.seed)
            self.figures[RETRAIN] |= distance_figures(found, second, *retrain, self.request)
        if self.peers:
            self._klom()

    def _klom(self):
        """KLOM, and beside it what as many models of one and the same kind would have."""
        counts = 1 + len(self.peers), len(self.retrains)
        names = sets_of(self.outputs[MODEL])
        if min(counts) < LEAST_MODELS:
            found = f"{counts[0]} models and {counts[1]} Retrains"
            why = f"{found}, and {LEAST_MODELS} of each are the least"
            self.figures[MODEL] |= {f"klom_{name}_nats": undefined(why) for name in names}
            return
        ours, theirs = (
            [
                set_margins(self.outputs[title], self.request),
                *(set_margins(self._look_aside(other), self.request) for other in others),
            ]
            for title, others in ((MODEL, self.peers), (RETRAIN, self.retrains[1:]))
        )
        self.figures[MODEL] |= klom_figures(ours, theirs)
        self.figures[RETRAIN] |= klom_by_chance(*counts, names)

    def _look_aside(self, model):
        return compute_outputs(model, self.dataset, self.request, self.batch_size)

    def _safety(self):
        kept = self.request.kept_classes(self.dataset.num_classes)
        for title, parts in self.outputs.items():
            self.figures[title] |= safety_figures(
                parts["test"], kept, costs=self.costs, groups=self.groups
            )
        if BASE in self.outputs:
            changes = worsenings(self.outputs[BASE]["test"], self.outputs[MODEL]["test"], kept)
            self.figures[MODEL] |= worsening_figures(changes)
            self.warnings += worsening_warnings(changes, self.classes)

    def _cost(self):
        retrain = self.retrain_records[0] if self.retrain_records else None
        self.figures[MODEL] |= cost_figures(self.record, retrain)
        if retrain:
            self.figures[RETRAIN] |= cost_figures(retrain, retrain)
