"""One model measured beside its base model and beside Retrain."""

from evaluation.forgetting import destinations, forgetting_figures
from evaluation.measures import (
    blind_figures,
    cost_figures,
    distance_figures,
    inside_figures,
    klom_figures,
    privacy_figures,
)
from evaluation.outputs import look_at
from evaluation.report import control_warnings, worsening_warnings
from evaluation.safety import safety_figures, worsening_figures, worsenings
from utils.prediction import PREDICTION_BATCH

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
        seconds=None,
        retrain_seconds=None,
        seed=1,
        batch_size=PREDICTION_BATCH,
    ):
        """
        base: what `model` was unlearned from. retrains: the first is the yardstick; a second one,
        of another seed, shows how far two Retrains are from each other. peers: models of the same
        method from other seeds, for KLOM. costs: (K, K). groups: (test images,) str. seconds: what
        the unlearning took, and retrain_seconds Retrain.
        """
        self.dataset, self.request, self.seed = dataset, request, seed
        self.batch_size, self.non_members = batch_size, non_members
        self.costs, self.groups = costs, groups
        self.seconds, self.retrain_seconds = seconds, retrain_seconds
        self.retrains, self.peers = list(retrains), list(peers)
        models = {BASE: base, MODEL: model, RETRAIN: self.retrains[0] if retrains else None}
        self.models = {title: part for title, part in models.items() if part}
        self.outputs, self.figures, self.warnings = {}, {}, []
        self._measured = set()

    def look(self, title):
        """Take the outputs of a model and the figures that follow from them alone."""
        self.outputs[title] = look_at(self.models[title], self.dataset, self.batch_size)
        self.figures[title] = forgetting_figures(
            self.outputs[title], self.request, self.dataset.task
        )
        return self.figures[title]

    def look_at_others(self):
        """The same of the models beside; from here on the dicts have the order of the tables."""
        for title in self.models:
            if title not in self.outputs:
                self.look(title)
        self.outputs = {title: self.outputs[title] for title in self.models}
        self.figures = {title: self.figures[title] for title in self.models}

    def measure(self, group):
        """Add the figures of a group to `figures`, and what they warn of to `warnings`."""
        if group in self._measured:
            return
        self._measured.add(group)
        {
            "privacy": self._privacy,
            "inside": self._inside,
            "distance": self._distance,
            "safety": self._safety,
            "cost": self._cost,
        }.get(group, lambda: None)()

    @property
    def classes(self):
        """What each class is called: its number and its name."""
        return [self.dataset.describe_class(n) for n in range(self.dataset.num_classes)]

    def destinations(self):
        """Title -> (K,) share of the request's training images taken for each class, or None."""
        return {
            title: destinations(parts["train"], self.request)
            for title, parts in self.outputs.items()
        }

    def _privacy(self):
        for title, parts in self.outputs.items():
            self.figures[title] |= privacy_figures(parts, self.request, self.non_members, self.seed)
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
            return
        self.measure("privacy")  # the average gap needs the MIA efficacy
        retrains = [self.outputs[RETRAIN], *map(self._look_aside, self.retrains[1:])]
        pairs = {title: self.outputs[title] for title in (BASE, MODEL) if title in self.outputs}
        for title, parts in pairs.items():
            self.figures[title] |= distance_figures(
                self.figures[title], parts, self.figures[RETRAIN], retrains[0], self.request
            )
        if len(retrains) > 1:  # how far apart two Retrains are: nothing can be asked to be nearer
            second = forgetting_figures(retrains[1], self.request, self.dataset.task)
            second |= privacy_figures(retrains[1], self.request, self.non_members, self.seed)
            self.figures[RETRAIN] |= distance_figures(
                second, retrains[1], self.figures[RETRAIN], retrains[0], self.request
            )
        if len(retrains) > 1 and self.peers:
            ours = [self.outputs[MODEL], *map(self._look_aside, self.peers)]
            self.figures[MODEL] |= klom_figures(ours, retrains, self.request)

    def _look_aside(self, model):
        return look_at(model, self.dataset, self.batch_size)

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
        self.figures[MODEL] |= cost_figures(self.seconds, self.retrain_seconds)
        if self.retrain_seconds and RETRAIN in self.figures:
            self.figures[RETRAIN] |= cost_figures(self.retrain_seconds)
