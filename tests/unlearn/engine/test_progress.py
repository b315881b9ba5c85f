"""In every method, a resumed run gives the same weights as an uninterrupted one."""

import errno
import os
import shutil
from dataclasses import replace

import pytest
import torch

from models.checkpoint import save_with_digest
from tests.helpers.methods import REQUEST, TRAIN_FROM_SCRATCH, config_for, real_model
from tests.helpers.tiny import same_weights, split_set, tiny_set, trained_model
from unlearn.engine import loop
from unlearn.engine.pairing import PairedSets
from unlearn.engine.progress import Progress
from unlearn.registry import METHODS
from utils.runtime.errors import UserError, wrap_os_errors

EPOCHS = 3
MASKED = ("RL_with_SalUn", "BoundaryExpanding_with_SalUn")  # all others use the mask alike
EPOCH_METHODS = [
    method.id
    for method in METHODS.values()
    if not method.one_step and (not method.uses_mask or method.id in MASKED)
]
ORIGIN = {"parent_digest": "of a base model", "options": {"risky": (0, 3)}}  # as CRA has it


class Stopped(Exception):
    """The simulated interruption."""


class Stopping(Progress):
    """Stop the run once `stop_after` epochs are saved."""

    stop_after = EPOCHS + 100

    def _save(self, *arguments):
        super()._save(*arguments)
        self.wait()
        if self.saved_epochs >= self.stop_after:
            raise Stopped


def run(method, progress):
    if method.id in TRAIN_FROM_SCRATCH:
        model = real_model(shards=2 if method.needs_shards else 0)
    else:
        model = trained_model(dropout=0.3)
    image_set = tiny_set()
    config = config_for(method, image_set, epochs=EPOCHS)
    return method.run(model, *split_set(REQUEST, image_set), replace(config, progress=progress))


def new_progress(resume=False, overwrite=False):
    return Stopping.open("model", ORIGIN, resume=resume, overwrite=overwrite)


@pytest.mark.parametrize("method_id", EPOCH_METHODS)
def test_a_resumed_run_gives_the_weights_of_one_run(method_id, workplace):
    """Interrupted after the first epoch and again after the second."""
    method = METHODS[method_id]
    whole = run(method, None)
    for stop in (1, 2):
        progress = new_progress(resume=True)
        assert progress.saved_epochs == stop - 1
        progress.stop_after = stop
        torch.manual_seed(100 + stop)  # as in another process
        with pytest.raises(Stopped):
            run(method, progress)
    progress = new_progress(resume=True)
    assert same_weights(run(method, progress), whole)
    assert progress.saved_epochs >= 2
    progress.delete()
    assert not list(workplace.rglob("*.pt"))


def test_saved_epochs_are_not_computed_again(workplace, monkeypatch):
    method, done = METHODS["RL"], []
    train_epoch = loop.train_epoch

    def counted(*arguments, **settings):
        done.append(1)
        return train_epoch(*arguments, **settings)

    monkeypatch.setattr(loop, "train_epoch", counted)
    progress = new_progress()
    progress.stop_after = 2
    with pytest.raises(Stopped):
        run(method, progress)
    assert len(done) == 2
    run(method, new_progress(resume=True))
    assert len(done) == EPOCHS


def test_an_interrupted_run_is_neither_lost_nor_confused_with_another(workplace):
    progress = new_progress()
    progress.stop_after = 1
    with pytest.raises(Stopped):
        run(METHODS["FT"], progress)
    assert progress.interrupt_hint() == "1 epoch is saved; add --resume to continue"
    with pytest.raises(UserError, match="was interrupted: add --resume .*or --overwrite to start"):
        new_progress()
    with pytest.raises(UserError, match="another base model, .* start from scratch"):
        Progress.open("model", {"parent_digest": "another"}, resume=True, overwrite=False)
    (workplace / "model_weights" / "unfinished" / "model" / "latest.pt").write_bytes(b"half")
    with pytest.raises(UserError, match="is cut short, damaged, or not a saved run"):
        new_progress(resume=True)
    assert new_progress(resume=True, overwrite=True).saved_epochs == 0
    assert new_progress().saved_epochs == 0


@pytest.mark.parametrize("damage", ["swapped", "altered", "of another run", "missing", "cut"])
def test_damaged_or_swapped_epochs_are_refused(workplace, damage):
    progress = new_progress()
    progress.stop_after = 2
    with pytest.raises(Stopped):
        run(METHODS["FT"], progress)
    first, second = sorted(progress.folder.glob("pass_*.pt"))
    content = torch.load(first, weights_only=True)
    if damage == "swapped":
        first.write_bytes(second.read_bytes())
    elif damage == "altered":
        next(part for part in tensors_in(content) if part.numel()).view(-1)[0] += 1
        torch.save(content, first)
    elif damage == "missing":
        first.unlink()
    elif damage == "cut":
        first.write_bytes(first.read_bytes()[:500])
    else:
        del content["digest"]
        save_with_digest(first, content | {"origin": {"parent_digest": "of another"}})
    with pytest.raises(UserError, match="pass_0001.pt.*: start from scratch with --overwrite$"):
        run(METHODS["FT"], new_progress(resume=True))


def tensors_in(content):
    if torch.is_tensor(content):
        return [content]
    parts = content.values() if isinstance(content, dict) else content
    nested = [part for part in parts if isinstance(part, (dict, list, tuple, torch.Tensor))]
    return [tensor for part in nested for tensor in tensors_in(part)]


def test_a_full_disk_does_not_end_the_run(workplace, monkeypatch, capsys):
    def full(*_):
        with wrap_os_errors("cannot write"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    whole = run(METHODS["RL"], None)
    monkeypatch.setattr("unlearn.engine.progress.save_with_digest", full)
    progress = new_progress()
    assert same_weights(run(METHODS["RL"], progress), whole)
    progress.wait()
    assert progress.interrupt_hint() is None
    printed = capsys.readouterr().out
    assert printed == (
        "note: progress cannot be saved (No space left on device); the run continues, but cannot "
        "be resumed if it is interrupted\n"
    )
    assert not list(workplace.rglob("*.pt"))


@pytest.mark.parametrize("method_id", ["RL", "Retrain"])
def test_removed_progress_is_reported_and_does_not_end_the_run(
    workplace, monkeypatch, capsys, method_id
):
    class Removed(Progress):
        def _write(self, number, *content):
            if number == 2:
                shutil.rmtree(workplace / "model_weights")
            super()._write(number, *content)

    whole = run(METHODS[method_id], None)
    progress = Removed("model", ORIGIN)
    assert same_weights(run(METHODS[method_id], progress), whole)
    progress.wait()
    assert progress.interrupt_hint() is None
    message = (
        "unfinished/model was removed during the run); the run continues, but cannot be resumed"
    )
    assert capsys.readouterr().out.count(message) == 1


def test_paired_sets_are_resumed_at_their_position():
    primary, secondary = tiny_set(12), tiny_set(20)

    def secondary_batches(paired, count):
        return [paired.batch(torch.tensor([0]))[0][1:] for _ in range(count)]

    generator = torch.Generator().manual_seed(3)
    whole = PairedSets(primary, secondary, 6, generator)
    expected = secondary_batches(whole, 9)
    generator = torch.Generator().manual_seed(3)
    first = PairedSets(primary, secondary, 6, generator)
    found = secondary_batches(first, 5)
    state, numbers = first.state(), generator.get_state()
    generator = torch.Generator()
    second = PairedSets(primary, secondary, 6, generator)
    second.restore(state)
    generator.set_state(numbers)
    found += secondary_batches(second, 4)
    assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))
