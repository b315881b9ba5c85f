"""What a method is, as a row of the table."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from unlearn.engine.config import Option
from utils.train.training import Recipe


@dataclass(frozen=True)
class Method:
    """A row.

    run: (model, forget_set, retain_set, UnlearnConfig) -> model. recipe: the default one; None: the
    base model's own. options: the method's own settings. paper: where it is from. follows_gradient:
    whether there is a variant inside a mask, and uses_mask: whether this is it. one_step: the
    method has neither epochs nor a rate. one_image: it may go by batches of a single image, which
    batch normalisation cannot learn from. ignores: settings of a recipe that have no effect.
    one_label: it needs exactly one class an image. other_class: it needs a class, or finding, other
    than an image's own. last_layer: it needs the one last layer, of which a model in shards has
    many. needs_shards: it needs a base model that was trained in shards.
    """

    id: str
    name: str
    run: Callable
    recipe: Recipe | None
    paper: str
    options: Mapping[str, Option] = field(default_factory=dict, hash=False)
    follows_gradient: bool = True
    one_step: bool = False
    one_image: bool = False
    ignores: tuple[str, ...] = ()
    one_label: bool = False
    other_class: bool = False
    last_layer: bool = False
    needs_shards: bool = False
    uses_mask: bool = False
