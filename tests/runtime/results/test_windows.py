"""What Windows does differently, as far as it can be tested elsewhere: its errors are faked, the code is real."""

from __future__ import annotations

import errno
import os
import sys
import types
from pathlib import Path, PureWindowsPath
from threading import Timer

import pytest

from nuclei_runtime.errors import ResultsInUseError
from nuclei_runtime.results import writing as writing_module
from nuclei_runtime.results.layout import result_path
from nuclei_runtime.results.lock import ResultsLock
from nuclei_runtime.results.shard import WHOLE, Shard
from nuclei_runtime.results.writing import move, write_through
from nuclei_runtime.writers.outputs import OUTPUTS

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows itself does what is faked here")

fcntl = pytest.importorskip("fcntl")


@pytest.fixture
def windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the lock believe that it runs on Windows, which locks differently and does not remove open files."""

    def locking(descriptor: int, mode: int, n_bytes: int) -> None:
        assert (mode, n_bytes) == (2, 1)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise PermissionError(errno.EACCES, "Permission denied") from error

    def unlink(path: Path, missing_ok: bool = False) -> None:
        if any(os.path.realpath(file) == str(path) for file in Path("/proc/self/fd").iterdir()):
            raise PermissionError(errno.EACCES, "The process cannot access the file", str(path))
        remove(path, missing_ok)

    if not Path("/proc/self/fd").is_dir():
        pytest.skip("NOT RUN: this system does not tell which files are open")
    remove = Path.unlink
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(Path, "unlink", unlink)
    monkeypatch.setitem(sys.modules, "msvcrt", types.SimpleNamespace(locking=locking, LK_NBLCK=2))


@pytest.mark.usefixtures("windows")
def test_a_lock_keeps_others_away_and_is_removed_though_open_files_are_not(tmp_path: Path) -> None:
    lock = ResultsLock(tmp_path, WHOLE)
    for other in (WHOLE, Shard(1, 2)):
        with pytest.raises(ResultsInUseError, match="another process is using this folder"):
            ResultsLock(tmp_path, other)
    assert lock.file.is_in_place
    lock.release()
    assert list(tmp_path.iterdir()) == []
    Timer(0.3, ResultsLock(tmp_path, WHOLE).release).start()
    ResultsLock(tmp_path, WHOLE).release()
    assert list(tmp_path.iterdir()) == []


def refuse(monkeypatch: pytest.MonkeyPatch, n_times: int) -> None:
    """Make moving a file fail a number of times, as while a virus scanner reads it."""
    replace, left = Path.replace, [n_times]

    def refusing(source: Path, target: Path) -> Path:
        if left[0]:
            left[0] -= 1
            raise PermissionError(errno.EACCES, "Access is denied", str(source), None, str(target))
        return replace(source, target)

    monkeypatch.setattr(Path, "replace", refusing)


def test_a_file_that_a_scanner_reads_is_moved_when_it_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "source").write_text("whole")
    refuse(monkeypatch, 3)
    move(tmp_path / "source", tmp_path / "labels/target", platform="win32")
    assert (tmp_path / "labels/target").read_text() == "whole"


@pytest.mark.parametrize(("platform", "n_times"), [("win32", 10**6), ("linux", 1)])
def test_a_file_that_stays_open_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, platform: str, n_times: int
) -> None:
    (tmp_path / "source").write_text("whole")
    refuse(monkeypatch, n_times)
    with pytest.raises(PermissionError):
        move(tmp_path / "source", tmp_path / "target", patience_s=0.1, platform=platform)
    assert (tmp_path / "source").read_text() == "whole"


LONG = "C:\\" + "x" * 250 + "\\labels\\a.tif"
GONE, DENIED = FileNotFoundError(errno.ENOENT, "no such path"), PermissionError(errno.EACCES, "denied")


@pytest.mark.parametrize(
    ("error", "path", "platform", "advice"),
    [
        (GONE, LONG, "win32", "has 266 characters, and Windows takes 259"),
        (GONE, "C:\\a.tif", "win32", ""),
        (GONE, LONG, "linux", ""),
        (DENIED, "C:\\images.csv", "win32", "close the file if it is open in another program"),
        (DENIED, "/images.csv", "linux", ""),
    ],
)
def test_an_error_that_windows_does_not_explain_comes_with_advice(
    error: OSError, path: str, platform: str, advice: str
) -> None:
    found = writing_module._advice(error, path, platform)
    assert (advice in found) if advice else (found == "")


@pytest.mark.parametrize(
    "name",
    [
        "console.png",
        "aux1.png",
        "com10.tif",
        "nul_1.png",
        "a .png",
        "a..png",
        " a.png",
        "conin.png",
        "é" * 125 + ".png",
    ],
)
def test_an_image_that_windows_can_store_has_results_that_it_can_store(name: str) -> None:
    for output in OUTPUTS:
        for suffix in ("", "_t000_z01"):
            path = PureWindowsPath(result_path(output, name.removesuffix(".png").removesuffix(".tif"), suffix))
            assert len(path.parts) == 2
            assert not path.is_reserved()
            assert path.name == path.name.rstrip(". ")
            assert not set(path.name) & set('<>:"/\\|?*')
            assert len(path.name) <= 255


def test_text_has_the_same_bytes_as_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "linesep", "\r\n")
    write_through(tmp_path / "record.json", "{\n}\n")
    assert (tmp_path / "record.json").read_bytes() == b"{\n}\n"
