"""Where an unlearned model comes from, and what it is to be compared with."""

from models.checkpoint import load_model, model_path, read_record
from utils.errors import UserError
from utils.files import MODEL_FOLDER

RETRAIN = "Retrain"


def load_parent(record, device):
    """The base model of an unlearned one, or None if it is not at hand any more.

    Returns (Classifier or None, why not or None).
    """
    parent_id = record.get("parent_id")
    if parent_id is None:
        return None, None
    if not model_path(parent_id).exists():
        return None, f"the base model {parent_id} is not in {MODEL_FOLDER}/ any more"
    base, base_record = load_model(parent_id, device)
    if base_record.get("weights_digest") != record["parent_digest"]:
        return None, f"{parent_id} is not the model any more that this one came from"
    return base, None


def find_retrain(model_id, record, request):
    """The id of a Retrain of the same base model for the same request, None if there is none.

    Of several the one with the shortest id: it has the base model's own seed and settings.
    """
    base_id = record.get("parent_id", model_id)
    pattern = f"{base_id}_FORGOTTEN_{request.id_part()}_{RETRAIN.upper()}_*.pt"
    digest = record.get("parent_digest", record.get("weights_digest"))
    for path in sorted(MODEL_FOLDER.glob(pattern), key=lambda path: (len(path.name), path.name)):
        found = read_record(path.stem)
        if found.get("parent_digest") == digest and path.stem != model_id:
            return path.stem
    return None


def open_retrains(ids, model_id, record, request, device):
    """Retrain's id -> (Classifier, record), of the ids given; of find_retrain's if that is None.

    Raises UserError if one is no Retrain for the same request.
    """
    if ids is None:
        found = find_retrain(model_id, record, request)
        ids = [] if found is None else [found]
    return {
        each: load_relative(each, "--retrain_model_id", record, request, device, RETRAIN)
        for each in ids
    }


def load_relative(model_id, flag, record, request, device, method=None):
    """(Classifier, record) of another model that forgot the same request of the same data.

    method: its method's id, if it must be a certain one. Raises UserError naming `flag`.
    """
    model, other = load_model(model_id, device)
    if other.get("forget_request") != request.record():
        raise UserError(f"{flag} {model_id} has not forgotten the same: give one that has")
    if other.get("train_digest") != record.get("train_digest"):
        raise UserError(f"{flag} {model_id} was trained on other images: give one of the same data")
    if method is not None and other.get("method") != method:
        raise UserError(f"{flag} {model_id} is no {method}, it is {other.get('method')}")
    return model, other
