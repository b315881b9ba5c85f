r"""SISA: exact unlearning by shards (Sharded, Isolated, Sliced and Aggregated training).

Bourtoule et al., "Machine unlearning", IEEE S&P 2021. The training images are split at random into
S shards, and a network is trained on each, which sees no other image. The prediction is the mean of
the S networks:

    p(y | x) = 1/S sum_k p_k(y | x),    p_k trained on shard D_k;  forgetting:  D_k \ D_f

To forget D_f, the networks of the shards that hold an image of it are trained again without it,
from new weights with the same recipe and the same seed; the others never saw it and stay bitwise
identical. With the base model's seed, which is the default, the result is that of Retrain of the
same model, for the cost of the affected shards: a few images cost few shards, a whole class usually
all of them. (With another seed Retrain has no shard in common with the base model.)

Choices that the paper leaves open:

- The prediction is the mean of the networks' probabilities. The paper has a majority vote, and the
  mean of the prediction vectors where a vote of few classes or many shards is too coarse. Votes of
  a handful of networks often tie, give no confidence for attacks or physicians, and no gradient for
  a mask.
- No slices within a shard: they save a part of a shard's training and cost a checkpoint per slice.
- Images keep their shard, whatever is forgotten: it depends on the position of an image among the
  training images, their number and a seed. A shard with too few images left to train on is refused;
  the ensemble keeps its shape.
- Several requests in succession are one request for all of them together, made of the base model:
  the result is the same, because each shard would be trained from scratch anyway.
- The epoch of an affected network is chosen as Retrain chooses it, by the validation images that
  the request does not cover. That of an unaffected one was chosen by all of them: if the request
  covers validation images and leaves a shard unaffected, this choice alone may differ from
  Retrain's.
"""

from models.architectures import Classifier, build_shard
from models.shards import ShardedRun, shards_of_images
from unlearn.engine.config import UnlearnConfig
from unlearn.engine.method import Method
from unlearn.engine.progress import train_with_progress
from utils.data.datasets import ImageSet


def sisa(
    model: Classifier, forget_set: ImageSet, retain_set: ImageSet, config: UnlearnConfig
) -> Classifier:
    """Train the networks of the shards that hold forget images again, without these images.

    model: trained in shards.
    """
    spec, seed = model.spec, config.recipe.seed
    affected = shards_of_images(forget_set, spec).unique().tolist()
    for number in affected:
        fresh = build_shard(spec, number, seed=seed).to(retain_set.device)
        model.network.shards[number] = fresh.network
    run = ShardedRun(model, retain_set, config.retain_val, config.recipe, affected)
    train_with_progress(run, config)
    if config.base_selection == "best":
        model.load_state_dict(run.best_weights)
    return model.eval()


METHOD = Method(
    id="SISA",
    name="Exact Unlearning by Shards",
    run=sisa,
    recipe=None,
    paper="Bourtoule et al., IEEE S&P 2021",
    family="exact",
    summary="retrains only the shards that held forgotten images, for a base model trained in "
    "shards",
    supports_mask=False,
    needs_shards=True,
)
