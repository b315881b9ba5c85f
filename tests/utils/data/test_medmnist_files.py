"""MedMNIST's files are downloaded once and verified; a damaged one is never used."""

import hashlib
import http.server
import io
import os
import re
import threading

import numpy as np
import pytest
import torchvision.datasets.utils as downloads
from medmnist.info import INFO

from tests.helpers.environment import drawn_arrays
from utils.data import medmnist_files
from utils.data.medmnist_files import DATASETS, DATASETS_3D, fetch_medmnist_file
from utils.runtime.errors import UserError

FLAG = "breastmnist"


def npz_bytes(**arrays):
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


WHOLE = npz_bytes(**drawn_arrays(2))


class Server(http.server.ThreadingHTTPServer):
    """Return `content` for every path, or the HTTP error `status`; count downloads."""

    content, status, downloads = WHOLE, 200, 0


class Handler(http.server.BaseHTTPRequestHandler):
    def do_HEAD(self):
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(WHOLE)))
        self.end_headers()

    def do_GET(self):
        self.do_HEAD()
        # torchvision first checks for redirects with a GET that has the header `Method: HEAD`
        self.server.downloads += "Method" not in self.headers
        self.wfile.write(self.server.content)

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def publish(monkeypatch, url, suffix=""):
    monkeypatch.setitem(INFO[FLAG], f"url{suffix}", url)
    monkeypatch.setitem(INFO[FLAG], f"MD5{suffix}", hashlib.md5(WHOLE).hexdigest())


@pytest.fixture
def online(server, monkeypatch):
    """BreastMNIST is downloaded from a local server."""
    publish(monkeypatch, f"http://127.0.0.1:{server.server_port}/breastmnist.npz")
    return server


@pytest.fixture
def offline(monkeypatch):
    """BreastMNIST's server does not answer."""
    with Server(("127.0.0.1", 0), Handler) as closed:
        url = f"http://127.0.0.1:{closed.server_port}/breastmnist.npz"
    publish(monkeypatch, url)
    return url


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


def names_in(folder):
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def test_the_twelve_2d_sets():
    assert sorted(DATASETS) == [
        "BloodMNIST",
        "BreastMNIST",
        "ChestMNIST",
        "DermaMNIST",
        "OCTMNIST",
        "OrganAMNIST",
        "OrganCMNIST",
        "OrganSMNIST",
        "PathMNIST",
        "PneumoniaMNIST",
        "RetinaMNIST",
        "TissueMNIST",
    ]
    assert all(name.endswith("3D") for name in DATASETS_3D)
    for flag in DATASETS.values():
        for suffix in ("", "_64", "_128", "_224"):
            assert INFO[flag][f"url{suffix}"].endswith(f"{flag}{suffix}.npz?download=1")
            assert re.fullmatch("[0-9a-f]{32}", INFO[flag][f"MD5{suffix}"])


def test_a_new_download_is_stored_in_the_cache(online, cache):
    path = fetch_medmnist_file(FLAG, 28, cache)
    assert path == cache / "breastmnist.npz"
    assert path.read_bytes() == WHOLE
    assert names_in(cache) == [".breastmnist.npz.checked", "breastmnist.npz"]
    assert online.downloads == 1


@pytest.mark.parametrize("size", [64, 128, 224])
def test_other_sizes_have_their_own_file_and_md5(server, cache, monkeypatch, size):
    url = f"http://127.0.0.1:{server.server_port}/{size}.npz"
    publish(monkeypatch, url, suffix=f"_{size}")
    path = fetch_medmnist_file(FLAG, size, cache)
    assert path == cache / f"breastmnist_{size}.npz"
    assert path.read_bytes() == WHOLE


def test_the_default_is_medmnists_own_cache(online, cache, monkeypatch):
    monkeypatch.setattr(medmnist_files, "DEFAULT_ROOT", str(cache))
    assert fetch_medmnist_file(FLAG, 28) == cache / "breastmnist.npz"
    monkeypatch.setattr(medmnist_files, "DEFAULT_ROOT", None)
    with pytest.raises(UserError, match="medmnist's cache .* cannot be created: .*--data_root"):
        fetch_medmnist_file(FLAG, 28)


def test_a_verified_file_is_not_downloaded_or_hashed_again(online, cache, monkeypatch):
    fetch_medmnist_file(FLAG, 28, cache)
    monkeypatch.setattr(downloads, "calculate_md5", None)  # calling it would fail
    for _ in range(2):
        assert fetch_medmnist_file(FLAG, 28, cache).read_bytes() == WHOLE
    assert online.downloads == 1


def test_a_file_copied_by_hand_is_hashed_once(offline, cache, monkeypatch):
    cache.mkdir()
    (cache / "breastmnist.npz").write_bytes(WHOLE)
    hashed = []
    calculate = downloads.calculate_md5
    monkeypatch.setattr(downloads, "calculate_md5", lambda p: hashed.append(p) or calculate(p))
    for _ in range(3):
        assert fetch_medmnist_file(FLAG, 28, cache) == cache / "breastmnist.npz"
    assert hashed == [cache / "breastmnist.npz"]


def test_a_read_only_cache_is_used_and_not_changed(offline, cache, monkeypatch):
    cache.mkdir()
    (cache / "breastmnist.npz").write_bytes(WHOLE)
    monkeypatch.setattr(medmnist_files.os, "access", lambda *_: False)
    assert fetch_medmnist_file(FLAG, 28, cache).read_bytes() == WHOLE
    assert names_in(cache) == ["breastmnist.npz"]


@pytest.mark.parametrize(
    "content", [WHOLE[: len(WHOLE) // 2], WHOLE[:-1] + b"x", b"<html>sorry</html>", b""]
)
def test_a_download_with_a_wrong_md5_leaves_no_file(online, cache, content):
    online.content = content
    with pytest.raises(UserError, match="breastmnist.npz is missing, and downloading it failed"):
        fetch_medmnist_file(FLAG, 28, cache)
    assert names_in(cache) == []
    online.content = WHOLE
    assert fetch_medmnist_file(FLAG, 28, cache).read_bytes() == WHOLE


@pytest.mark.parametrize("status", [404, 503])
def test_an_http_error_leaves_no_file(online, cache, status):
    online.status = status
    with pytest.raises(UserError, match=f"breastmnist.npz is missing, .*HTTP Error {status}"):
        fetch_medmnist_file(FLAG, 28, cache)
    assert names_in(cache) == []


def test_a_response_that_is_not_http_leaves_no_file(online, cache, monkeypatch):
    monkeypatch.setattr(Handler, "do_HEAD", lambda self: self.wfile.write(b"rubbish\r\n\r\n"))
    with pytest.raises(UserError, match="breastmnist.npz is missing, and downloading it failed"):
        fetch_medmnist_file(FLAG, 28, cache)
    assert names_in(cache) == []


@pytest.fixture
def half_file(cache):
    """What medmnist leaves when a download is interrupted."""
    cache.mkdir()
    path = cache / "breastmnist.npz"
    path.write_bytes(WHOLE[: len(WHOLE) // 2])
    return path


def test_a_half_file_is_renamed_and_replaced(online, half_file, cache, capsys):
    half = half_file.read_bytes()
    assert fetch_medmnist_file(FLAG, 28, cache) == half_file
    assert half_file.read_bytes() == WHOLE
    assert (cache / "breastmnist.npz.damaged").read_bytes() == half
    assert f"{half_file} is damaged or half-downloaded: downloading it" in capsys.readouterr().out
    assert names_in(cache) == [
        ".breastmnist.npz.checked",
        "breastmnist.npz",
        "breastmnist.npz.damaged",
    ]


def test_a_half_file_is_reported_without_a_network(offline, half_file, cache):
    half = half_file.read_bytes()
    for _ in range(2):  # the second time as well
        with pytest.raises(UserError) as refused:
            fetch_medmnist_file(FLAG, 28, cache)
        assert str(refused.value).startswith(f"{half_file} is damaged or half-downloaded, and down")
    assert names_in(cache) == ["breastmnist.npz"]
    assert half_file.read_bytes() == half


def test_a_half_file_stays_if_the_download_is_damaged(online, half_file, cache):
    half = half_file.read_bytes()
    online.content = WHOLE[:100]
    with pytest.raises(UserError, match="is damaged or half-downloaded, and downloading it failed"):
        fetch_medmnist_file(FLAG, 28, cache)
    assert names_in(cache) == ["breastmnist.npz"]
    assert half_file.read_bytes() == half


@pytest.mark.parametrize("damaged", [WHOLE[:-1], WHOLE[:-1] + b"x"], ids=["shorter", "same length"])
def test_a_file_damaged_after_its_verification_is_downloaded_again(online, cache, damaged):
    path = fetch_medmnist_file(FLAG, 28, cache)
    path.write_bytes(damaged)
    os.utime(path, ns=(0, 10**18))  # a coarse file system clock may not show the change
    fetch_medmnist_file(FLAG, 28, cache)
    assert path.read_bytes() == WHOLE
    assert online.downloads == 2


def test_without_a_network_one_line_says_what_to_do(offline, cache, run_here, workplace):
    flags = ("--dataset", "BreastMNIST", "--data_root", cache)
    done = run_here("examine_dataset", *flags)
    assert done.returncode == 2
    line = done.stderr
    assert line.endswith("\n")
    assert line.count("\n") == 1
    assert line.startswith(f"examine_dataset.py: error: {cache / 'breastmnist.npz'} is missing")
    assert f"fetch {offline} on another computer and put it there" in line
    assert "or use --dataset SynthBloodMNIST or a .npz file of your own" in line
    assert names_in(cache) == []


def test_a_file_copied_to_the_cache_is_used(offline, cache, run_here, workplace):
    cache.mkdir()
    (cache / "breastmnist.npz").write_bytes(WHOLE)
    flags = ("--dataset", "breastmnist", "--data_root", cache, "--no_window")
    done = run_here("examine_dataset", *flags)
    assert (done.returncode, done.stderr) == (0, "")
    assert "BreastMNIST: binary-class, 2 classes" in done.stdout


def test_ctrl_c_in_a_download_leaves_no_file_and_is_raised(online, half_file, cache, monkeypatch):
    half, seen = half_file.read_bytes(), []

    class Bar:
        """A progress bar that raises KeyboardInterrupt after the first chunk."""

        def __init__(self, *args, **kwargs):
            pass

        def __enter__(self):
            return self

        def __exit__(self, *error):
            return False

        def update(self, count):
            seen.extend(name for name in names_in(cache) if name.endswith(".part"))
            raise KeyboardInterrupt

    monkeypatch.setattr(downloads, "tqdm", Bar)
    with pytest.raises(KeyboardInterrupt):
        fetch_medmnist_file(FLAG, 28, cache)
    assert len(seen) == 1  # interrupted within the download
    assert names_in(cache) == ["breastmnist.npz"]
    assert half_file.read_bytes() == half


def test_a_cache_that_cannot_be_created(offline, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match="cannot write to the folder .*file"):
        fetch_medmnist_file(FLAG, 28, tmp_path / "file")
