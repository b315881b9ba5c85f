"""Checkpoints: weights, and a record of plain data that describes their origin.

A file `model_weights/{id}.pt` contains {"format", "weights", "record"}. Loading never runs code
from the file. Bare state_dicts, as torch.save writes them, are read too.
"""

import hashlib
import io
import platform
from dataclasses import asdict, fields
from datetime import datetime, timezone
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Any

import numpy
import torch
import torchvision

from models.architectures import (
    STEMS,
    Classifier,
    ModelSpec,
    build_meta_model,
    build_model,
    check_spec,
    make_spec,
    single_network_spec,
)
from models.records import describe_differences, drop_unknown_values, find_record_error
from utils.io.archives import open_regular_file
from utils.io.files import MODEL_FOLDER, check_id, check_inside, suggest_name, write_atomically
from utils.io.tensor_files import content_digest, read_tensors, tensor_bytes
from utils.runtime.errors import UserError, wrap_os_errors
from utils.runtime.processes import rank_zero_only
from utils.train.recipe import FLOAT32

if TYPE_CHECKING:
    from models.shards import ShardedRun
    from utils.train.training import TrainingRun

FORMAT = "medical-unlearning-model-1"
STATE_FORMAT = "medical-unlearning-training-state-1"
IMAGENET_KERNEL = STEMS["imagenet"][0]
EXTRA_HEADS = ("aux1.", "aux2.", "AuxLogits.")  # GoogLeNet's and Inception's, for training only
LOAD_ERRORS = (  # of torchvision and torch, if a record and weights do not fit
    AssertionError,
    AttributeError,
    KeyError,
    RuntimeError,
    TypeError,
    ValueError,
    UserError,
)
DEFAULT_SETTINGS = {"precision": FLOAT32, "compiled": False}  # of records without these keys
RESTART_HINT = "start from scratch with --overwrite"  # for a run that cannot be resumed
MAX_REASON = 120  # characters, of why a file cannot be read
WRAPPERS = ("state_dict", "model_state_dict", "model")  # keys under which others wrap weights


def model_path(model_id: str) -> Path:
    """Return the path of a model. Raises UserError if the id is not a valid file name."""
    return check_inside(MODEL_FOLDER / f"{check_id(model_id, '--model_id')}.pt")


def save_model(model_id: str, model: Classifier, record: dict) -> Path:
    """Write the model with its record (plain data), and return the path.

    The spec, the digest of the weights, versions and the date are added to the record.
    """
    weights = model.network.state_dict()
    record = {
        **record,
        "model_id": model_id,
        "spec": asdict(model.spec),
        "weights_digest": weights_digest(weights),
        "versions": {
            "python": platform.python_version(),
            "torch": str(torch.__version__),
            "torchvision": str(torchvision.__version__),
            "numpy": str(numpy.__version__),
        },
        "saved_at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }
    path = model_path(model_id)
    content = {"format": FORMAT, "weights": weights, "record": record}
    save_tensors(path, content | {"record_digest": content_digest(record)})
    return path


def load_model(
    model_id: str,
    device: torch.device | str = "cpu",
    *,
    arch: str | None = None,
    input_size: int | None = None,
    stem: str | None = None,
) -> tuple[Classifier, dict]:
    """Return (model on `device`, record). The record of a bare state_dict is empty.

    arch, input_size, stem: for bare state_dicts only. Raises UserError if the file is missing,
    truncated, altered, or not a model.
    """
    path = _existing_path(model_id)
    content = load_tensors(path, "model")
    if content.get("format") == FORMAT:
        model, record = _from_checkpoint(content, path), _checked_record(content, path)
        _check_flags(model.spec, path, arch=arch, input_size=input_size, stem=stem)
    else:
        model, record = _from_bare_weights(content, path, arch, input_size, stem), {}
    return model.to(device), record


def read_record(model_id: str) -> dict:
    """Return the record of a model, empty for bare weights, without building the network.

    Raises UserError if the file is missing, truncated, or its record is invalid or was altered.
    """
    path = _existing_path(model_id)
    content = load_tensors(path, "model")
    return _checked_record(content, path) if content.get("format") == FORMAT else {}


def save_training_state(name: str, origin: dict, state: dict) -> None:
    """Write the state for `--resume`. origin: plain data that the resuming run must have too."""
    content = {"format": STATE_FORMAT, "origin": origin, "state": state}
    save_with_digest(training_state_path(name), content)


def load_training_state(name: str, origin: dict) -> dict | None:
    """Return the saved state, None if there is none. Raises UserError for another origin."""
    path = training_state_path(name)
    if not path.exists():
        return None
    content = load_with_digest(path, "training state", RESTART_HINT)
    whole = isinstance(content.get("origin"), dict) and isinstance(content.get("state"), dict)
    if content.get("format") != STATE_FORMAT or not whole:
        raise UserError(f"{path} is not a training state: {RESTART_HINT}")
    found = _with_default_settings(content["origin"])
    found.setdefault("val_digest", origin.get("val_digest"))  # earlier versions did not save it
    differences = describe_differences(found, origin)
    if differences:
        raise UserError(
            f"--resume: the interrupted run of this name differs in {differences}: repeat its "
            "command on its data, or start from scratch with --overwrite instead of --resume"
        )
    return content["state"]


def restore_run(run: "TrainingRun | ShardedRun", state: dict, name: str) -> None:
    """Restore a run from the state of `load_training_state`. Raises UserError if it is damaged."""
    try:
        run.restore(state)
    except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise UserError(f"{training_state_path(name)} is damaged: {RESTART_HINT}") from error


@rank_zero_only
def delete_training_state(name: str) -> None:
    """Delete the state of a run that is finished."""
    training_state_path(name).unlink(missing_ok=True)


def weights_digest(weights: dict[str, torch.Tensor]) -> str:
    """Return the SHA-256 digest of the names, types, shapes and bytes of a state_dict."""
    digest = hashlib.sha256()
    for name, tensor in sorted(weights.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor_bytes(tensor))
    return digest.hexdigest()


def model_digest(model: Classifier, record: dict) -> str:
    """Return the weights_digest of a loaded model, from its verified record if it has one."""
    return record.get("weights_digest") or weights_digest(model.network.state_dict())


def save_tensors(path: Path, content: dict[str, Any]) -> None:
    """Write a dict of tensors and plain data to `path` atomically."""
    memory = io.BytesIO()  # torch.save reports a full disk less plainly than a file does
    torch.save(content, memory)
    write_atomically(path, memory.getbuffer())


def load_tensors(path: Path, what: str) -> dict[str, Any]:
    """Read what `save_tensors` wrote, to the CPU, without running code from the file.

    what: the expected kind of file, for the message of the UserError if it is not one.
    """
    try:
        with wrap_os_errors(f"cannot read {path}"), open_regular_file(path) as stream:
            content = read_tensors(stream)
    except (MemoryError, UserError):
        raise
    except Exception as error:  # torch raises nearly any exception for damaged files
        why = shorten(" ".join(str(error).split()), MAX_REASON, placeholder=" ...")
        raise UserError(f"{path} is cut short, damaged, or not a {what}: {why}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} is not a {what}: it holds a {type(content).__name__}")
    return content


def save_with_digest(path: Path, content: dict[str, Any]) -> None:
    """Write a dict of tensors and plain data, and its digest, to `path` atomically."""
    save_tensors(path, content | {"digest": content_digest(content)})


def load_with_digest(path: Path, what: str, advice: str) -> dict[str, Any]:
    """Read what `save_with_digest` wrote. Raises UserError with `advice` if it was altered.

    Files of earlier versions have no digest, which is accepted.
    """
    try:
        content = load_tensors(path, what)
    except UserError as error:
        raise UserError(f"{error}: {advice}") from error
    digest = content.pop("digest", None)
    if digest is not None and digest != content_digest(content):
        raise UserError(
            f"{path} is damaged or altered: its content is not what was saved: {advice}"
        )
    return content


def training_state_path(name: str) -> Path:
    """Return the path of the state of an interrupted run."""
    return check_inside(MODEL_FOLDER / f"{name}_resume.pt")


def _existing_path(model_id):
    path = model_path(model_id)
    if not path.exists():
        known = sorted(found.stem for found in MODEL_FOLDER.glob("*.pt"))
        raise UserError(
            f"there is no model {path}{suggest_name(model_id, known)}: train one with "
            "main_train.py, or choose the id of a file in model_weights/"
        )
    return path


def _from_checkpoint(content, path):
    try:
        weights, record = content["weights"], content["record"]
        known = {field.name for field in fields(ModelSpec)}
        spec = ModelSpec(**{k: v for k, v in record["spec"].items() if k in known})
        _check_weights(spec, weights)
        model = build_model(spec, initial_weights=False)
        model.network.load_state_dict(weights)
        digest = record["weights_digest"]
    except LOAD_ERRORS as error:
        raise UserError(f"{path} is damaged: its record and its weights disagree") from error
    if digest != weights_digest(weights):
        raise UserError(
            f"{path} is damaged or altered: the weights are not those it was saved with"
        )
    return model


def _checked_record(content, path):
    """Return the record of a checkpoint. Raises UserError if it is invalid or was altered."""
    record = content.get("record")
    fault = find_record_error(record)
    if fault:
        raise UserError(f"{path} is damaged: its record and its weights disagree: {fault}")
    digest = content_digest(record)
    if content.get("record_digest", digest) != digest:
        raise UserError(f"{path} is damaged or altered: the record is not what was saved with it")
    return _with_default_settings(drop_unknown_values(record))


def _with_default_settings(record):
    """Return the record of an earlier version with the settings that were not saved then."""
    parts = [part for part in ("recipe", "settings") if isinstance(record.get(part), dict)]
    return {**record, **{part: {**DEFAULT_SETTINGS, **record[part]} for part in parts}}


def _check_weights(spec, weights):
    """Raise ValueError unless a network of this spec has these weights; builds no network."""
    check_spec(spec)
    if not isinstance(weights, dict):
        raise ValueError("no weights")
    shards = {name.split(".")[1] for name in weights if name.startswith("shards.")}
    if len(shards) != spec.shards:
        raise ValueError("another number of shards")
    single = build_meta_model(single_network_spec(spec)).network.state_dict()
    prefixes = [f"shards.{number}." for number in range(spec.shards)] or [""]
    expected = {f"{p}{name}": (t.shape, t.dtype) for p in prefixes for name, t in single.items()}
    found = {name: (part.shape, part.dtype) for name, part in weights.items()}
    if expected != found:
        raise ValueError("weights of another shape")


def _check_flags(spec, path, **flags):
    for name, value in flags.items():
        if value not in (None, getattr(spec, name)):
            raise UserError(f"{path} has {name} {getattr(spec, name)}: leave out --{name}")


def _from_bare_weights(content, path, arch, input_size, stem):
    weights = next(
        (content[key] for key in WRAPPERS if isinstance(content.get(key), dict)), content
    )
    named_tensors = all(isinstance(n, str) and torch.is_tensor(t) for n, t in weights.items())
    kernels = [t for t in weights.values() if torch.is_tensor(t) and t.ndim == 4]
    if not kernels or not named_tensors:
        raise UserError(f"{path} is not a model: it holds no weights of a torchvision classifier")
    if arch is None or input_size is None:
        raise UserError(
            f"{path} holds bare weights: describe their network with --arch and --input_size"
        )
    weights = {
        name.removeprefix("module.").removeprefix("network."): tensor
        for name, tensor in weights.items()
        if not name.startswith(EXTRA_HEADS)
    }
    first, last = kernels[0], [t for t in weights.values() if t.ndim in (2, 4)][-1]
    if stem is None and "conv1.weight" in weights and first.shape[-1] == IMAGENET_KERNEL:
        stem = "imagenet"
    spec = make_spec(arch, last.shape[0], first.shape[1], input_size, stem=stem)
    model = build_model(spec, initial_weights=False)
    try:
        model.network.load_state_dict(weights)
    except RuntimeError as error:
        raise UserError(f"{path} holds no weights of --arch {arch} with this stem") from error
    return model
