"""Training of one base model: what a run of its name has left, the training, and its files."""

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from models.architectures import ModelSpec, build_model, count_parameters
from models.checkpoint import (
    delete_training_state,
    load_training_state,
    model_path,
    read_record,
    restore_run,
    save_model,
    save_training_state,
    training_state_path,
)
from models.shards import training_run
from utils.io.background import BackgroundWorker, copy_to_cpu
from utils.io.files import PICTURE_FOLDER, check_overwrite
from utils.io.locks import exclusive_lock
from utils.runtime.devices import describe
from utils.runtime.errors import NotFiniteError, UserError, interrupt_with_hint
from utils.train.recipe import Recipe

if TYPE_CHECKING:
    from models.shards import ShardedRun
    from utils.data.datasets import MedicalDataset
    from utils.train.training import TrainingRun


@dataclass(frozen=True)
class TrainingJob:
    """Training of one base model, which creates the models `{name}_best` and `{name}_last`.

    data: `models.loading.dataset_record` of the training data, and the digest of the validation
    images, which choose the best epoch, as `val_digest`.
    """

    name: str
    spec: ModelSpec
    recipe: Recipe
    data: dict

    @property
    def best_id(self) -> str:
        """The id of the model of the best epoch."""
        return f"{self.name}_best"

    @property
    def paths(self) -> list[Path]:
        """The files of the two models."""
        return [model_path(self.best_id), model_path(f"{self.name}_last")]

    @property
    def origin(self) -> dict:
        """What a run must have in common with this one for `--resume`, as plain data."""
        digests = {key: self.data[key] for key in ("train_digest", "val_digest")}
        return {**digests, "spec": asdict(self.spec), "recipe": asdict(self.recipe)}

    def lock(self) -> AbstractContextManager[None]:
        """Return a context with an exclusive lock on this job's files."""
        return exclusive_lock(training_state_path(self.name), f"the model {self.name}")

    def is_finished(self) -> bool:
        """Return whether both files are the models of a finished run of this job."""
        return all(map(self._has_trained, self.paths))

    def find_existing(self, resume: bool, overwrite: bool) -> tuple[dict | None, bool]:
        """Return (saved state to resume from or None, whether this job is finished).

        Raises UserError if existing files would be replaced, or if the saved state is of another
        run.
        """
        path = training_state_path(self.name)
        if resume:
            try:
                state = load_training_state(self.name, self.origin)
            except UserError:
                if not overwrite:
                    raise
                state = None
            if state:
                return state, False
            if self.is_finished():
                return None, True
        elif path.exists() and not overwrite:
            raise UserError(
                f"a run of this name was interrupted, {path}: add --resume to continue it, or "
                "--overwrite to start from scratch"
            )
        check_overwrite(self.paths, overwrite)
        return None, False

    def run(self, dataset: "MedicalDataset", state: dict | None, command: str) -> None:
        """Train, and write the two models and the picture of the training curves.

        state: a saved state to resume from. command: of the user, for the record. Each epoch is
        saved while the next one runs. Raises NotFiniteError or UserError if the loss is not finite,
        UserError if a file cannot be written, and KeyboardInterrupt with what is saved.
        """
        recipe, spec, device = self.recipe, self.spec, dataset.train.device
        model = build_model(spec, seed=recipe.seed, initial_weights=state is None).to(device)
        run = training_run(model, dataset.train, dataset.val, recipe)
        if state:
            restore_run(run, state, self.name)
            print(f"resuming after epoch {len(run.history)}")
        what = f"{spec.shards} shards of {spec.arch}" if spec.shards else spec.arch
        print(
            f"training {what} ({count_parameters(model):,} weights) on {dataset.name}, "
            f"{len(dataset.train):,} images, {recipe.precision}, {describe(device)}"
        )
        print(dataset.describe_placement(recipe.batch_size))
        if recipe.compiled:
            print("the first step compiles the network, which takes minutes")
        self._train_and_keep(run)
        try:
            self._save(run, describe(device), command)
        except KeyboardInterrupt as interrupt:
            hint = f"all {recipe.epochs} epochs are saved; add --resume to continue"
            raise interrupt_with_hint(interrupt, hint) from None
        delete_training_state(self.name)
        print(f"trained in {run.seconds:.1f} s")

    def _has_trained(self, path):
        """Return whether the file is a finished model of this job."""
        try:
            record = read_record(path.stem)
        except UserError:  # missing or damaged
            return False
        record = {"val_digest": self.data["val_digest"]} | record  # earlier versions lack it
        return record.get("kind") == "base" and all(
            record.get(key) == value for key, value in self.origin.items()
        )

    def _train_and_keep(self, run: "TrainingRun | ShardedRun"):
        """Train; save after each epoch what --resume needs."""
        saved, background = len(run.history), BackgroundWorker()

        def keep(run):
            state, epoch = copy_to_cpu(run.state()), len(run.history)

            def write():
                nonlocal saved
                path = training_state_path(self.name)
                if saved and not path.exists():
                    print(f"note: {path} was removed during training; it is saved again")
                save_training_state(self.name, self.origin, state)
                saved = epoch

            background.submit(write)

        def kept():
            hint = f"{saved} of {run.recipe.epochs} epochs are saved; add --resume to continue"
            return hint if saved else None

        try:
            run.run(after_epoch=keep)
            background.wait()
        except KeyboardInterrupt as interrupt:
            with suppress(UserError):  # the number of saved epochs shows that the last one is not
                background.wait()
            raise interrupt_with_hint(interrupt, kept()) from None
        except NotFiniteError as error:
            background.wait()
            if not saved:
                raise
            raise UserError(
                f"{error} with --overwrite: --resume would continue after epoch {saved}, which is "
                f"saved in {training_state_path(self.name)}, at the same rate and fail again"
            ) from None
        except UserError as error:  # the state of an epoch could not be saved
            if not saved:
                raise
            raise UserError(f"{error}; {kept()}") from error

    def _save(self, run, device, command):
        from utils.plots.curves import training_curves  # not before the training
        from utils.plots.saving import save_picture

        name, spec = self.name, self.spec
        record = {
            "kind": "base",
            **self.data,
            "recipe": self.origin["recipe"],
            "history": run.history,
            "seconds": run.seconds,
            "device": device,
            "command": command,
        }
        last = record | {"selection": "last", "epoch": self.recipe.epochs}
        path = save_model(f"{name}_last", run.model, last)
        print(f"model: {path}, epoch {self.recipe.epochs}")
        run.model.load_state_dict(run.best_weights)
        best = record | {"selection": "best", "epoch": run.best_epoch}
        epochs = ", ".join(map(str, run.best_epoch)) if spec.shards else run.best_epoch
        print(f"model: {save_model(self.best_id, run.model, best)}, epoch {epochs}")
        title = f"{name} on {self.data['dataset']}"
        if spec.shards:  # each shard has its own best epoch
            curves = training_curves(run.history, f"{title}, mean of {spec.shards} shards")
        else:
            curves = training_curves(run.history, title, run.best_epoch)
        save_picture(curves, PICTURE_FOLDER / name / "training.png")


def check_none_finished(jobs: Iterable[TrainingJob]) -> None:
    """Raise UserError if some of several jobs are finished: it says how to train the others."""
    finished = [job.name for job in jobs if job.is_finished()]
    if finished:
        raise UserError(
            f"{_finished(finished)} already: add --resume to keep what is finished and train the "
            "others, or --overwrite to train all again"
        )


@contextmanager
def one_of_several(job: TrainingJob, finished: list[str]) -> Iterator[None]:
    """Add to an error or an interrupt which of several jobs it is of, and which are finished.

    finished: names of the jobs before this one.
    """
    try:
        yield
    except KeyboardInterrupt as interrupt:
        kept = next(iter(interrupt.args), None)
        kept = f"{job.name}: {kept}" if kept else None
        if finished:
            kept = f"{_finished(finished)}; {kept or f'add --resume to train {job.name}'}"
        raise interrupt_with_hint(interrupt, kept) from None
    except UserError as error:
        others = f"; {_finished(finished)}" if finished else ""
        raise UserError(f"{job.name}: {error}{others}") from error


def _finished(names):
    return f"{' and '.join(names)} {'is' if len(names) == 1 else 'are'} finished"
