"""Where images are stored changes the memory they take, and no result."""

import errno
import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from tests.helpers.environment import REPOSITORY, SIDE, SPLIT_SIZES, drawn_arrays
from tests.helpers.tiny import same_weights, tiny_dataset, tiny_model, tiny_set
from utils.data import loading
from utils.data.datasets import ImageSet
from utils.data.loading import load_dataset
from utils.data.placement import DEVICE, DISK, HOST, Placement, format_size, parse_size
from utils.data.prefetch import iter_batches, max_batches_in_memory
from utils.runtime.errors import UserError
from utils.train.prediction import predict
from utils.train.recipe import Recipe
from utils.train.training import TrainingRun


@pytest.fixture
def file(tmp_path):
    np.savez_compressed(tmp_path / "eyes.npz", **drawn_arrays(channels=3))
    return tmp_path / "eyes.npz"


def load_again(file, **settings):
    """Load as a new process would: no data set is in use."""
    loading._loaded.clear()
    return load_dataset(str(file), **settings)


@pytest.fixture
def loaded(file, tmp_path):
    def load(place, **flags):
        placement = Placement(place, cache=tmp_path / "cache", **flags)
        return load_again(file, placement=placement)

    return load


def same_images(first, second):
    return all(
        torch.equal(a.batch(slice(None))[0], b.batch(slice(None))[0])
        and torch.equal(a.labels, b.labels)
        for a, b in zip(first.splits.values(), second.splits.values(), strict=True)
    )


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_images_on_disk_equal_those_in_memory(loaded, workers):
    resident, mapped = loaded(HOST), loaded(DISK, workers=workers)
    assert mapped.memory_mapped and not resident.memory_mapped
    assert same_images(resident, mapped)
    assert all(resident.digest(split) == mapped.digest(split) for split in resident.splits)


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_training_from_disk_gives_the_same_weights(loaded, workers):
    weights = []
    for dataset in (loaded(HOST), loaded(DISK, workers=workers)):
        model = tiny_model(channels=3)
        TrainingRun(model, dataset.train, dataset.val, Recipe(2, 0.05, 10)).run(show=False)
        weights.append(model)
    assert same_weights(*weights)


@pytest.mark.parametrize("limit, memory_mapped", [(None, False), (10**9, False), (1000, True)])
def test_the_size_of_the_images_decides(loaded, limit, memory_mapped):
    assert loaded("auto", limit=limit).memory_mapped == memory_mapped


def test_images_go_to_disk_if_memory_is_short(loaded, monkeypatch):
    monkeypatch.setattr("utils.data.placement.free_memory", lambda device: 1000)
    assert loaded("auto").memory_mapped
    assert not loaded(HOST).memory_mapped and not loaded(DEVICE).memory_mapped


def test_a_file_is_decompressed_once_and_again_after_it_changed(loaded, file, tmp_path):
    first = loaded(DISK)
    arrays = list((tmp_path / "cache").glob("*/train_images.npy"))
    times = [path.stat().st_mtime_ns for path in arrays]
    assert len(times) == 1
    loaded(DISK)
    assert [path.stat().st_mtime_ns for path in arrays] == times
    np.savez_compressed(file, **drawn_arrays(channels=3, seed=1))
    other = loaded(DISK)
    assert not same_images(first, other) and same_images(loaded(HOST), other)
    assert len(list((tmp_path / "cache").iterdir())) == 1  # the old folder was removed


def test_resized_images_on_disk_equal_those_in_memory(file, tmp_path):
    resident, mapped, again = (
        load_again(file, input_size=20, placement=Placement(place, cache=tmp_path / "cache"))
        for place in (HOST, DISK, DISK)
    )
    assert mapped.memory_mapped and mapped.input_size == 20
    assert same_images(resident, mapped) and same_images(resident, again)


def test_images_that_are_too_large_only_when_resized(file, tmp_path):
    size = sum(SPLIT_SIZES.values()) * SIDE * SIDE * 3
    placement = Placement(limit=2 * size, cache=tmp_path / "cache")
    first = load_dataset(str(file), input_size=20, placement=placement)
    np.savez_compressed(file, **drawn_arrays(channels=3, seed=1))
    second = load_dataset(str(file), input_size=20, placement=placement)
    assert first.memory_mapped and second.memory_mapped
    expected = load_dataset(str(file), input_size=20, placement=Placement(HOST))
    assert same_images(second, expected) and not same_images(first, expected)


def test_an_unfinished_file_of_a_killed_run_is_not_used(loaded, tmp_path):
    expected = loaded(DISK)
    (folder,) = (tmp_path / "cache").iterdir()
    (folder / "val_images.npy").rename(folder / ".val_images.npy.unfinished")
    assert same_images(loaded(DISK), expected)
    assert not list(folder.glob(".*"))


def test_a_damaged_file_leaves_nothing_in_the_cache(loaded, file, tmp_path):
    content = bytearray(file.read_bytes())
    content[len(content) // 8] ^= 255  # in the first member, train_images
    file.write_bytes(content)
    with pytest.raises(UserError, match="eyes.npz"):
        loaded(DISK)
    assert not list((tmp_path / "cache").glob("*/*images*"))


@pytest.mark.parametrize("part", ["file", "file/below"])
def test_a_cache_that_is_a_file_or_inside_one(file, tmp_path, part):
    (tmp_path / "file").write_text("user's text")
    says = f"^cannot write to the folder {tmp_path / part}: .*: name another.* with --cache_dir$"
    with pytest.raises(UserError, match=says):
        load_dataset(str(file), placement=Placement(DISK, cache=tmp_path / part))
    assert (tmp_path / "file").read_text() == "user's text"


def test_a_cache_without_write_permission(loaded, monkeypatch):
    def deny(**_):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr("utils.io.files.tempfile.TemporaryFile", deny)
    says = "^cannot write to the folder .*cache: Permission denied: name another.* with --cache_dir"
    with pytest.raises(UserError, match=says):
        loaded(DISK)


def test_a_user_without_a_home_folder(file, monkeypatch):
    def no_home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr("utils.data.disk_cache.Path.home", no_home)
    with pytest.raises(UserError, match="no home folder .*: name another folder with --cache_dir"):
        load_dataset(str(file), placement=Placement(DISK))


@pytest.mark.parametrize("size", [None, 128])
def test_a_full_disk_while_caching(small_disk, tmp_path, size):
    """Decompressing and resizing; writing to a memory map would end the process by SIGBUS."""
    sizes = SPLIT_SIZES if size else {"train": 2000, "val": 1000, "test": 1000}
    np.savez_compressed(tmp_path / "large.npz", **drawn_arrays(channels=3, sizes=sizes))
    says = f"cannot unpack .* into {small_disk}: No space left on device: make room"
    with pytest.raises(UserError, match=says):
        load_dataset(
            str(tmp_path / "large.npz"),
            input_size=size,
            placement=Placement(DISK, cache=small_disk),
        )
    assert not list(small_disk.rglob(".*"))


def test_a_truncated_file_in_the_cache(loaded, tmp_path):
    loaded(DISK)
    for part in (tmp_path / "cache").glob("*/train_images.npy"):
        part.write_bytes(part.read_bytes()[:-100])
    with pytest.raises(UserError, match="train_images.npy is damaged: delete its folder"):
        loaded(DISK)


@pytest.mark.parametrize("workers", [1, 2, 5])
@pytest.mark.parametrize("count", [0, 1, 7])
def test_iter_batches_yields_every_batch_in_order(workers, count):
    image_set = tiny_set(24)
    batches = [torch.tensor([number, 23 - number]) for number in range(count)]
    found = list(iter_batches(image_set.stream_to("cpu", workers), batches))
    assert len(found) == count
    for (images, labels), positions in zip(found, batches, strict=True):
        assert torch.equal(images, image_set.images[positions])
        assert torch.equal(labels, image_set.labels[positions])


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_iter_batches_reads_ahead_no_more_than_announced(workers, monkeypatch):
    started = []
    read = ImageSet.read_images
    monkeypatch.setattr(ImageSet, "read_images", lambda *args: started.append(0) or read(*args))
    batches = list(torch.arange(24).split(1))
    for used, _ in enumerate(iter_batches(tiny_set(24).stream_to("cpu", workers), batches)):
        assert len(started) - used <= max_batches_in_memory(workers)
    assert len(started) == 24


def test_an_error_in_a_reading_thread_is_raised():
    image_set = tiny_set(24).stream_to("cpu", 2)
    with pytest.raises(IndexError):
        list(iter_batches(image_set, [torch.tensor([0]), torch.tensor([99])]))


def test_predictions_do_not_depend_on_workers():
    model, image_set = tiny_model(), tiny_set(24)
    assert torch.equal(
        predict(model, image_set.stream_to("cpu", 2), 7), predict(model, image_set, 7)
    )


def test_a_subset_keeps_the_workers():
    part = tiny_set(24).stream_to("cpu", 2).subset(torch.arange(24) % 2 == 0)
    assert part.workers == 2 and part.concat(part).workers == 2
    (images, _), *_ = iter_batches(part, [torch.tensor([1])])
    assert torch.equal(images, tiny_set(24).images[[2]])


def test_the_placement_is_described(loaded):
    size = 168 * 12 * 12 * 3
    assert loaded(HOST).describe_placement(10) == f"images: {size / 1000:.1f} kB, in memory"
    assert loaded(DISK, workers=2).describe_placement(10) == (
        f"images: {size / 1000:.1f} kB, on disk, read batch by batch, at most 17.3 kB at a time"
    )
    assert tiny_dataset().describe_placement(10).endswith("in memory")


@pytest.mark.parametrize(
    "text, size", [("500", 500), ("1k", 1024), ("1.5G", 3 * 2**29), ("2M", 2**21), ("1T", 2**40)]
)
def test_sizes_are_parsed(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "G", "-1G", "0", "nan", "inf", "5 apples", "1e999"])
def test_invalid_sizes_are_refused(text):
    with pytest.raises(ValueError):
        parse_size(text)


@pytest.mark.parametrize(
    "size, text", [(500, "0.5 kB"), (2 * 10**6, "2.0 MB"), (16_234_000_000, "16.2 GB")]
)
def test_sizes_are_formatted(size, text):
    assert format_size(size) == text


OVERHEAD = 2**20  # bytes, of small objects and threads
# glibc keeps freed memory for reuse; how much of it depends on the timing of the threads. With a
# fixed threshold, large blocks are mapped and go back to the system as soon as they are freed, so
# that the memory of a process is that of its live objects.
NO_RETENTION = {"MALLOC_MMAP_THRESHOLD_": str(2**16), "MALLOC_ARENA_MAX": "1"}
MEMORY = """
import sys
from pathlib import Path
import torch
from utils.data.prefetch import iter_batches
from utils.data.loading import load_dataset
from utils.data import placement

def resident():  # without the pages of mapped files, which the system can drop
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return 1024 * (int(lines["RssAnon"].split()[0]) + int(lines["RssShmem"].split()[0]))

path, cache, limit = sys.argv[1:]
placement.free_memory = lambda device: 2**40  # other programs must not decide
settings = placement.Placement(limit=int(limit), cache=cache)
torch.zeros(2).sum()
before = resident()
dataset = load_dataset(path, placement=settings).to("cpu")
peak = resident()
total = 0
for images, labels in iter_batches(dataset.train, torch.arange(len(dataset.train)).split(64)):
    total += images.sum(dtype=torch.int64).item()
    peak = max(peak, resident())
print(dataset.memory_mapped, peak - before, total)
"""


@pytest.fixture(scope="module")
def large_file(tmp_path_factory):
    """Return (path, bytes of all images, sum of the training images' pixels) of a large file."""
    path = tmp_path_factory.mktemp("large") / "large.npz"
    sizes = {"train": 1500, "val": 20, "test": 20}
    rng = np.random.default_rng(0)
    arrays = {}
    for split, count in sizes.items():
        arrays[f"{split}_images"] = rng.integers(0, 256, (count, 160, 160, 3), dtype=np.uint8)
        arrays[f"{split}_labels"] = np.arange(count) % 4
    np.savez(path, **arrays)
    size = sum(arrays[f"{split}_images"].nbytes for split in sizes)
    return path, size, arrays["train_images"].sum(dtype=np.int64)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc and sets glibc's malloc")
@pytest.mark.parametrize("limit, memory_mapped", [(10**9, False), (2**24, True)])
def test_memory_stays_within_what_was_announced(tmp_path, large_file, limit, memory_mapped):
    """The images, or the batches read ahead, and one batch in use; no second copy of anything."""
    path, size, pixels = large_file
    ran = subprocess.run(
        [sys.executable, "-c", MEMORY, path, tmp_path / "cache", str(limit)],
        cwd=REPOSITORY,
        env=os.environ | NO_RETENTION,
        capture_output=True,
        text=True,
        check=True,
    )
    place, peak, total = ran.stdout.split()
    assert place == str(memory_mapped) and int(total) == pixels
    batch = 64 * 160 * 160 * 3
    announced = max_batches_in_memory(2) * batch if memory_mapped else size + batch
    allowed = announced + OVERHEAD
    assert int(peak) <= allowed < (size if memory_mapped else 2 * size)
