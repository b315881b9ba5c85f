"""Where an unlearned model comes from, and which models it is to be compared with."""

from models.checkpoint import load_model, model_digest, model_path, read_record
from models.records import describe_differences
from unlearn.model_ids import FORGOTTEN
from unlearn.request.request import ForgetRequest
from utils.io.files import MODEL_FOLDER, check_id
from utils.runtime.errors import UserError

RETRAIN = "Retrain"  # its id in unlearn.registry
EXACT_METHODS = ("SISA",)  # ids of methods that may give the very weights that Retrain gives


def load_parent(record, spec, device):
    """(base model of an unlearned one, None), or (None, why it is not at hand).

    record, spec: the unlearned model's; a base of bare weights is read as the spec says.
    """
    parent_id = record.get("parent_id")
    if parent_id is None:
        return None, None
    if not model_path(parent_id).exists():
        return None, f"the base model {parent_id} is not in {MODEL_FOLDER}/ any more"
    bare = {}
    if not read_record(parent_id):
        bare = {"arch": spec.arch, "input_size": spec.input_size, "stem": spec.stem}
    base, base_record = load_model(parent_id, device, **bare)
    if model_digest(base, base_record) != record["parent_digest"]:
        return None, f"{parent_id} is not the model any more that this one came from"
    return base, None


def find_retrain(model_id, record, request):
    """The id of the Retrain by the base model's own recipe for the same request, or None.

    One with other epochs, rate or seed is another experiment, and has to be named.
    """
    base_id = record.get("parent_id", model_id)
    digest = record.get("parent_digest", record.get("weights_digest"))
    for path in sorted(MODEL_FOLDER.glob(f"{base_id}{FORGOTTEN}{request.id_part()}_*.pt")):
        if RETRAIN.upper() not in path.stem or path.stem == model_id:
            continue
        found = read_record(path.stem)
        same_base = found.get("method") == RETRAIN and found.get("parent_digest") == digest
        is_another = (
            found.get("weights_digest") != record.get("weights_digest")
            or record.get("method") in EXACT_METHODS
        )
        if (
            same_base
            and is_another
            and not describe_setting_differences(found, record.get("recipe", {}))
        ):
            return path.stem
    return None


def describe_setting_differences(record, settings):
    """`epochs 1 (not 12), lr 0.1 (not 0.01)`: where an unlearned model's settings differ."""
    return describe_differences(record.get("settings", {}), settings)


def load_retrains(ids, model_id, model, record, request, dataset):
    """Retrain's id -> (Classifier, record), of the ids given; of find_retrain's if that is None.

    Raises UserError if one is no Retrain for the same request, or is there twice. That the model
    itself has a Retrain's very weights is what an exact method is for.
    """
    if ids is None:
        found = find_retrain(model_id, record, request)
        ids = [] if found is None else [found]
    seen = set() if record.get("method") in EXACT_METHODS else {model_digest(model, record)}
    loaded = _load_distinct(ids, "--retrain_model_id", seen, record, request, dataset)
    for each, (_, other) in loaded.items():
        if other.get("method") != RETRAIN:
            raise UserError(f"--retrain_model_id {each} is no Retrain, it is {other.get('method')}")
    return loaded


def load_seed_models(ids, model, record, request, dataset):
    """The same of models that differ from `model` in nothing but the seed."""
    if ids and record.get("kind") != "unlearned":
        raise UserError("--seed_model_id: a base model has no method whose other seeds to compare")
    seen = {model_digest(model, record)}
    loaded = _load_distinct(ids, "--seed_model_id", seen, record, request, dataset)
    settings = {key: value for key, value in record.get("settings", {}).items() if key != "seed"}
    for each, (_, other) in loaded.items():
        differing = describe_setting_differences(other, settings)
        if other.get("method") != record.get("method"):
            differing = f"method {other.get('method')} (not {record.get('method')})"
        if differing:
            raise UserError(f"--seed_model_id {each} differs in more than the seed: {differing}")
    return loaded


def _load_distinct(ids, flag, seen, record, request, dataset):
    device, loaded = dataset.train.device, {}
    for each in ids:
        check_id(each, flag)
        other, other_record = load_model(each, device)
        forgotten = other_record.get("forget_request")
        if forgotten is None or ForgetRequest.from_record(forgotten) != request:
            raise UserError(f"{flag} {each} has not forgotten the same: give one that has")
        known = record.get("train_digest", dataset.train_digest())
        if other_record.get("train_digest") != known:
            raise UserError(f"{flag} {each} was trained on other images: give one of the same data")
        if other_record["weights_digest"] in seen:
            raise UserError(f"{flag} {each} has the very weights of another one: give it once")
        seen = seen | {other_record["weights_digest"]}
        loaded[each] = other, other_record
    return loaded
