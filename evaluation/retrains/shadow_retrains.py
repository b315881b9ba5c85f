"""Shadow models of main_mia.py as further Retrains, for the images that they were not trained on.

A shadow model that attacks train is trained on the retain set and on half of the forgotten images,
so for the other half it is a Retrain of another seed. The shadow models of an attack on a Retrain
are Retrains altogether, which may have the seed of a Retrain that is there.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

import numpy as np
import torch

from evaluation.metrics.klom import margins
from evaluation.shadows import (
    SHADOW_FOLDER,
    ShadowSetting,
    load_base_shadows,
    load_retrain_shadows,
)
from unlearn.lineage.parents import RETRAIN, seed_of
from utils.runtime.errors import UserError
from utils.train.prediction import predict

if TYPE_CHECKING:
    from evaluation.audit import Context


def serve_as_retrains(setting: ShadowSetting) -> bool:
    """Return whether the saved shadow models of an attack are Retrains of some of its images."""
    if setting.request.indices is None:
        return False
    return any(True for _ in chain(load_base_shadows(setting), load_retrain_shadows(setting)))


def shadow_retrain_margins(context: Context) -> list[np.ndarray]:
    """Return the margins of each existing shadow model of an attack on this model.

    Each (F + U,): of the F forgotten images and the U comparable unseen ones, NaN for images that
    the model was trained on or has no outputs for. Each seed counts once: two Retrains of one seed
    are the same model. Empty for a request of classes, because every shadow model was trained on
    images of them. Raises UserError if a file is damaged.
    """
    dataset, request = context.dataset, context.request
    if request.indices is None or not SHADOW_FOLDER.exists():
        return []  # without joining the images of two splits in memory, as the setting does
    try:
        setting = ShadowSetting.of(
            dataset, request, context.model, context.record, context.non_members, context.seed
        )
    except UserError:  # no attack with shadow models is possible, so there are none
        return []
    unseen = context.outputs[context.non_members].comparable.nonzero()[:, 0]
    places = {int(row): setting.members + place for place, row in enumerate(unseen)}
    places = [
        place if place < setting.members else places[setting.origin_of(place)[1]]
        for place in range(len(setting.queries))
    ]
    count = setting.members + len(unseen)
    found = []
    records = [each.record for each in (context, *context.retrains())]
    seeds = {seed_of(record) for record in records if record.get("method") == RETRAIN}
    for seed, own in load_retrain_shadows(setting):
        if seed in seeds:
            continue
        seeds.add(seed)
        each = np.full(count, np.nan)
        each[places] = own
        found.append(each)
    rows = torch.cat([setting.queries[: setting.members].cpu(), unseen + len(dataset.train)])
    images = setting.pool.subset(rows.to(setting.pool.device))
    for model, seen in load_base_shadows(setting):
        logits = predict(model, images).cpu()
        each = margins(*request.scored_logits(logits, images.labels.cpu()))
        each[np.array(places)[seen]] = np.nan
        found.append(each)
    return found
