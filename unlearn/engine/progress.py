"""Saves an unlearning run after each epoch, so that it can be resumed after an interruption.

Methods with a loop over epochs (unlearn.engine.loop) are resumed by replay: the method starts from
the base model again, and for each saved epoch the loop loads the saved state instead of training.
So the method's code between epochs sees the same model and random numbers as the first time. This
needs the states of all epochs, which are kept until the run has ended. Methods that train from
scratch are a single training run, of which the last epoch is enough. One-step methods save nothing.
"""

import shutil
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from models.checkpoint import RESTART_HINT, load_with_digest, model_path, save_with_digest
from utils.io.background import BackgroundWorker, copy_to_cpu
from utils.io.files import MODEL_FOLDER, check_inside
from utils.runtime.errors import UserError
from utils.runtime.processes import is_rank_zero, rank_zero_only

if TYPE_CHECKING:
    from models.shards import ShardedRun
    from unlearn.engine.config import UnlearnConfig
    from utils.train.training import TrainingRun

FORMAT = "medical-unlearning-progress-1"
UNFINISHED_FOLDER = MODEL_FOLDER / "unfinished"
MASK_KEY = "mask_digest"  # of the origin


class Progress:
    """The saved epochs of the run that creates the model `model_id`.

    origin: plain data that identifies the run. saved_epochs: number of epochs in files. optimizer:
    the optimizer's state after the last of them. run_state: the state of a training run, None for
    other methods.
    """

    def __init__(self, model_id: str, origin: dict):
        self.folder, self.origin = check_inside(UNFINISHED_FOLDER / model_id), origin
        self.saved_epochs, self.optimizer, self.run_state = 0, None, None
        self._current_epoch, self._enabled = 0, True
        self._earlier_seconds, self._waiting_seconds = 0.0, 0.0
        self._start = time.perf_counter()
        self._background = BackgroundWorker()

    @classmethod
    def open(cls, model_id: str, origin: dict, *, resume: bool, overwrite: bool) -> "Progress":
        """Return the saved progress of this run if `resume`, else an empty one.

        overwrite: delete saved progress that is damaged, of another run or, without `resume`, not
        needed. Raises UserError for such progress otherwise.
        """
        progress = cls(model_id, origin)
        for folder in (UNFINISHED_FOLDER, progress.folder):
            if folder.exists() and not folder.is_dir():
                raise UserError(f"{folder} is not a folder: move this file elsewhere")
        if not progress._latest.exists():
            progress.delete()
        elif resume and progress._read(or_none=overwrite):
            return progress
        elif overwrite:
            progress.delete()
        else:
            raise UserError(
                f"a run that creates {model_path(model_id)} was interrupted: add --resume to "
                "continue it, or --overwrite to start from scratch"
            )
        return progress

    @classmethod
    def exists(cls, model_id: str, origin: dict) -> bool:
        """Return whether readable progress of this run, with any mask, is saved.

        What an interrupted `delete` has left is removed.
        """
        progress = cls(model_id, origin)
        if not progress._latest.exists():
            progress.delete()
            return False
        try:
            found = progress._read_latest()["origin"]
        except UserError:
            return False
        return {**found, MASK_KEY: None} == {**origin, MASK_KEY: None}

    def load_epoch(self) -> dict | None:
        """Return the saved state of the next epoch, None if it is not saved.

        Raises UserError if its file is missing, damaged, or of another run or epoch.
        """
        if self._current_epoch >= self.saved_epochs:
            return None
        self._current_epoch += 1
        path = self._epoch_path(self._current_epoch)
        content = load_with_digest(path, "saved epoch", RESTART_HINT)
        expected = {"origin": self.origin, "pass": self._current_epoch}
        if any(content.get(key, value) != value for key, value in expected.items()):
            raise UserError(f"{path} belongs to another run or epoch: {RESTART_HINT}")
        return content["state"]

    @property
    def replay_done(self) -> bool:
        """Whether `load_epoch` has returned all saved epochs."""
        return self._current_epoch == self.saved_epochs

    def save_epoch(self, state: dict, optimizer: dict) -> None:
        """Save the state after an epoch, and the optimizer's, in the background."""
        self._current_epoch += 1
        self._save(self._current_epoch, {"optimizer": optimizer}, state)

    def save_run(self, run: "TrainingRun | ShardedRun") -> None:
        """Save a training run after an epoch, in the background."""
        self._save(len(run.history), {"run": run.state()})

    def wait(self) -> None:
        """Wait until everything is written."""
        start = time.perf_counter()
        self._background.wait()
        self._waiting_seconds += time.perf_counter() - start

    def elapsed_seconds(self) -> float:
        """Return the duration of the run including interrupted parts, without saving progress."""
        return self._earlier_seconds + time.perf_counter() - self._start - self._waiting_seconds

    def interrupt_hint(self) -> str | None:
        """Return how to continue an interrupted run, None if nothing is saved."""
        if not self.saved_epochs:
            return None
        verb = "epochs are" if self.saved_epochs > 1 else "epoch is"
        return f"{self.saved_epochs} {verb} saved; add --resume to continue"

    def delete(self) -> None:
        """Delete all files, because the run has ended or will not be resumed."""
        self.wait()
        self._remove()

    def _remove(self):
        if not is_rank_zero():
            return
        self._latest.unlink(missing_ok=True)  # first: without it the other files are ignored
        shutil.rmtree(self.folder, ignore_errors=True)
        with suppress(OSError):  # not empty: other runs are saved there as well
            UNFINISHED_FOLDER.rmdir()

    @property
    def _latest(self):
        return self.folder / "latest.pt"

    def _epoch_path(self, number):
        return self.folder / f"pass_{number:04d}.pt"

    def _save(self, number, latest, state=None):
        """Copy the state now, and write it while the run continues."""
        start, seconds = time.perf_counter(), self.elapsed_seconds()
        content = {"format": FORMAT, "origin": self.origin, "saved": number, "seconds": seconds}
        content, state = content | copy_to_cpu(latest), copy_to_cpu(state)
        self._background.submit(lambda: self._write(number, content, state))
        self._waiting_seconds += time.perf_counter() - start

    def _write(self, number, content, state):
        """Write the files of an epoch. A failure disables saving, but does not stop the run."""
        if not self._enabled:
            return
        try:
            if self.saved_epochs:
                _check_not_removed(self._latest)
            if state is not None:
                identity = {"origin": self.origin, "pass": number}
                save_with_digest(self._epoch_path(number), identity | {"state": state})
            save_with_digest(self._latest, content)
            self.saved_epochs = number
        except UserError as error:
            cause = error.__cause__
            reason = cause.strerror if isinstance(cause, OSError) else None
            self._disable(reason or error)

    def _disable(self, reason):
        print(
            f"note: progress cannot be saved ({reason}); the run continues, but cannot be resumed "
            "if it is interrupted"
        )
        self._remove()
        self._enabled, self.saved_epochs = False, 0

    def _read(self, or_none):
        """Read the progress of this run. or_none: return False for damaged or other progress."""
        try:
            content = self._read_latest()
            if content["origin"] != self.origin:
                raise UserError(
                    f"--resume: {self._latest} belongs to another base model, other data or "
                    f"another mask: {RESTART_HINT}"
                )
        except UserError:
            if or_none:
                return False
            raise
        self.saved_epochs, self._earlier_seconds = content["saved"], content["seconds"]
        self.optimizer, self.run_state = content.get("optimizer"), content.get("run")
        return True

    def _read_latest(self):
        content = load_with_digest(self._latest, "saved run", RESTART_HINT)
        if content.get("format") != FORMAT:
            raise UserError(f"{self._latest} is not a saved run: {RESTART_HINT}")
        return content


@rank_zero_only
def _check_not_removed(path):
    if not path.exists():
        raise UserError(f"{path.parent} was removed during the run")


def train_with_progress(run: "TrainingRun | ShardedRun", config: "UnlearnConfig") -> None:
    """Run a training run to its end; resume from `config.progress` and save each epoch there."""
    progress = config.progress
    if progress and progress.run_state:
        run.restore(progress.run_state)
    run.run(after_epoch=progress.save_run if progress else None, show=config.show)
