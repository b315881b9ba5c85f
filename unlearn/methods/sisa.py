r"""SISA: exact unlearning by shards (Sharded, Isolated, Sliced and Aggregated training).

Bourtoule et al., "Machine unlearning", IEEE S&P 2021. The training images are parted at random
into S shards, and a network is trained on each, which sees no other image; the S networks answer
together:

    p(y | x) = 1/S sum_k p_k(y | x),    p_k trained on shard D_k;  forgetting:  D_k \ D_f

To forget D_f, the networks of the shards that hold an image of it are trained anew without it, from
fresh weights by the same recipe and the same seed; the others never saw it and stay as they are,
bit for bit. With the base model's seed, which is the default, what comes out is what Retrain of the
same model gives, at the price of the touched shards: a few images cost few shards, a whole class
usually all of them. (With another seed Retrain has no shard in common with the base model.)

Choices that the paper leaves open:

- The answer is the mean of the networks' probabilities. The paper has majority vote, and the mean
  of the prediction vectors where a vote of few classes or many shards is too coarse; votes of a
  handful of networks tie often, give no confidence that an attack or a doctor could look at, and no
  gradient for a mask.
- No slices within a shard: they save a part of a shard's training at the price of a checkpoint for
  each slice.
- Images keep their shard, whoever is forgotten: which shard that is depends on the place of an
  image among the training images, their number and a seed. A shard left with too few images to
  train on is refused; the ensemble keeps its shape.
- Several requests one after the other are one request for all of them together, made of the base
  model: what comes out is the same, because each shard would be trained anew from the start anyway.
- The epoch of a touched network is chosen as Retrain chooses it, by the validation images that the
  request does not cover. That of an untouched one was chosen by all of them: where the request
  covers validation images and some shard is untouched, that choice alone may differ from Retrain's.
"""

from models.architectures import build_shard
from models.shards import ShardedRun, shards_of_images
from unlearn.engine.method import Method
from unlearn.engine.progress import train_with_progress


def sisa(model, forget_set, retain_set, config):
    """Train anew the networks of the shards that hold images to be forgotten.

    model: one that was trained in shards.
    """
    spec, seed = model.spec, config.recipe.seed
    touched = shards_of_images(forget_set, spec).unique().tolist()
    for number in touched:
        fresh = build_shard(spec, number, seed=seed).to(retain_set.device)
        model.network.shards[number] = fresh.network
    run = ShardedRun(model, retain_set, config.retain_val, config.recipe, touched)
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
