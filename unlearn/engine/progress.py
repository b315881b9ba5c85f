"""What an unlearning run has behind it, in files, so that it can go on after it was killed.

A method that goes through passes (unlearn.engine.loop) is resumed by replay: it begins again from
the base model, and where a pass is behind it already, what the pass has left is loaded in the place
of computing it. So the method's own code between two passes sees the very model and random numbers
that it saw the first time. What every pass has left is kept for that, until the run has ended.
Methods that train anew are one training run, of which the last epoch is enough. Methods that work
in one step have nothing to go on from.
"""

import shutil
import time
from contextlib import suppress

from models.checkpoint import RESTART_HINT, load_with_digest, model_path, save_with_digest
from utils.io.background import BackgroundWorker, copy_to_cpu
from utils.io.files import MODEL_FOLDER, check_inside
from utils.runtime.errors import UserError
from utils.runtime.processes import is_rank_zero

FORMAT = "medical-unlearning-progress-1"
UNFINISHED_FOLDER = MODEL_FOLDER / "unfinished"


class Progress:
    """Passes or epochs that the run which makes `model_id` has behind it.

    origin: plain data that tells this run from every other. saved: how many passes or epochs are
    kept. optimizer: state of the optimizer after the last of them. run_state: of a training run.
    """

    def __init__(self, model_id, origin):
        self.folder, self.origin = check_inside(UNFINISHED_FOLDER / model_id), origin
        self.saved_epochs, self.optimizer, self.run_state = 0, None, None
        self._reached, self._works = 0, True
        self._earlier, self._began, self._waited = 0.0, time.perf_counter(), 0.0
        self._background = BackgroundWorker()

    @classmethod
    def open(cls, model_id, origin, *, resume, overwrite):
        """What is kept of the run if it is to `resume`, else an empty one.

        Raises UserError if a run was interrupted that would be lost, unless `overwrite`, or if it
        is another one that is to be resumed.
        """
        progress = cls(model_id, origin)
        for place in (UNFINISHED_FOLDER, progress.folder):
            if place.exists() and not place.is_dir():
                raise UserError(f"{place} has to be a folder: move what is there away")
        if not progress._latest.exists():
            progress.delete()
        elif resume and progress._read(or_none=overwrite):
            return progress
        elif overwrite:
            progress.delete()
        else:
            raise UserError(
                f"a run that makes {model_path(model_id)} was interrupted: add --resume to go on "
                "with it, or --overwrite to start again"
            )
        return progress

    def load_epoch(self):
        """What the next pass has left as `save_epoch` was given it; None if it is still to do."""
        if self._reached >= self.saved_epochs:
            return None
        self._reached += 1
        path = self._pass_path(self._reached)
        content = load_with_digest(path, "saved pass", RESTART_HINT)
        whose = {"origin": self.origin, "pass": self._reached}
        if any(content.get(key, value) != value for key, value in whose.items()):
            raise UserError(f"{path} is of another run or pass: {RESTART_HINT}")
        return content["state"]

    @property
    def replay_done(self):
        """Whether the last pass that `load_epoch` gave is the last one saved."""
        return self._reached == self.saved_epochs

    def save_epoch(self, state, optimizer):
        """Keep what a pass has left, and the state that the optimizer is in."""
        self._reached += 1
        self._keep(self._reached, {"optimizer": optimizer}, state)

    def save_run(self, run):
        """Keep the state of a training run after an epoch."""
        self._keep(len(run.history), {"run": run.state()})

    def finish(self):
        """Wait until all is written."""
        began = time.perf_counter()
        self._background.wait()
        self._waited += time.perf_counter() - began

    def seconds(self):
        """How long the run has taken, all parts together, without the waiting for these files."""
        return self._earlier + time.perf_counter() - self._began - self._waited

    def interrupt_hint(self):
        """What is kept, for who has interrupted the run; None if nothing is."""
        if not self.saved_epochs:
            return None
        what = "passes are" if self.saved_epochs > 1 else "pass is"
        return f"{self.saved_epochs} {what} saved; add --resume to go on"

    def delete(self):
        """The run has come to its end, or is not to be gone on with."""
        self.finish()
        self._remove()

    def _remove(self):
        if not is_rank_zero():
            return
        self._latest.unlink(missing_ok=True)  # first: without it the other files mean nothing
        shutil.rmtree(self.folder, ignore_errors=True)
        with suppress(OSError):  # another run is kept there as well
            UNFINISHED_FOLDER.rmdir()

    @property
    def _latest(self):
        return self.folder / "latest.pt"

    def _pass_path(self, number):
        return self.folder / f"pass_{number:04d}.pt"

    def _keep(self, number, latest, state=None):
        """Copied now, and written beside what comes next."""
        began, seconds = time.perf_counter(), self.seconds()
        content = {"format": FORMAT, "origin": self.origin, "saved": number, "seconds": seconds}
        content, state = content | copy_to_cpu(latest), copy_to_cpu(state)
        self._background.submit(lambda: self._write(number, content, state))
        self._waited += time.perf_counter() - began

    def _write(self, number, content, state):
        """A run that cannot be resumed is better than none: no room ends the keeping only."""
        if not self._works:
            return
        try:
            if state is not None:
                whose = {"origin": self.origin, "pass": number}
                save_with_digest(self._pass_path(number), whose | {"state": state})
            save_with_digest(self._latest, content)
            self.saved_epochs = number
        except UserError as error:
            print(f"note: {error}; the run goes on, but cannot be resumed if it is interrupted")
            self._remove()
            self._works, self.saved_epochs = False, 0

    def _read(self, or_none):
        """Whether this very run is kept. or_none: another one, or a damaged file, is none."""
        try:
            content = load_with_digest(self._latest, "saved run", RESTART_HINT)
            if content.get("format") != FORMAT:
                raise UserError(f"{self._latest} is not a saved run: {RESTART_HINT}")
            if content["origin"] != self.origin:
                raise UserError(
                    f"--resume: {self._latest} is of another base model, other data or another "
                    f"mask: {RESTART_HINT}"
                )
        except UserError:
            if or_none:
                return False
            raise
        self.saved_epochs, self._earlier = content["saved"], content["seconds"]
        self.optimizer, self.run_state = content.get("optimizer"), content.get("run")
        return True


def train_with_progress(run, config):
    """All epochs of a training run but those that `config.progress` has, which keeps the new ones.

    run: a TrainingRun or a ShardedRun.
    """
    progress = config.progress
    if progress and progress.run_state:
        run.restore(progress.run_state)
    run.run(after_epoch=progress.save_run if progress else None, show=config.show)
