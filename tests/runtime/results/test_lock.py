"""One process per share of a results folder, tested with real processes, running and killed."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Timer

import pytest
from PIL import Image

from nuclei_runtime.checks.synthetic import fluorescence_field
from nuclei_runtime.errors import ResultsInUseError, RuntimeEnvironmentError
from nuclei_runtime.results.folder import ResultsFolder
from nuclei_runtime.results.lock import ResultsLock
from nuclei_runtime.results.shard import WHOLE, Shard

RunScript = Callable[..., subprocess.CompletedProcess[str]]

HOLDER = """
import sys
from pathlib import Path
from nuclei_runtime.results.lock import ResultsLock
from nuclei_runtime.results.shard import Shard
lock = ResultsLock(Path(sys.argv[1]), Shard(int(sys.argv[2]), int(sys.argv[3])))
print("held", flush=True)
sys.stdin.read()
lock.release()
"""


@contextmanager
def held(out: Path, shard: Shard) -> Iterator[subprocess.Popen[str]]:
    """Let another process work on a share; it releases the share when it ends."""
    command = [sys.executable, "-c", HOLDER, str(out), str(shard.index), str(shard.count)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.communicate()


def save(path: Path) -> None:
    Image.fromarray(fluorescence_field(1, height=64, width=80, n_nuclei=5)[0]).save(path)


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("one", "other", "named"),
    [
        (WHOLE, WHOLE, "folder;"),
        (Shard(2, 3), Shard(2, 3), "shard 2/3;"),
        (Shard(1, 3), WHOLE, "shard 1/3;"),
        (WHOLE, Shard(1, 3), "folder;"),
        (Shard(1, 3), Shard(2, 2), "shard 1/3;"),
    ],
)
def test_a_share_is_one_living_process_s(tmp_path: Path, one: Shard, other: Shard, named: str) -> None:
    with held(tmp_path, one), pytest.raises(ResultsInUseError, match=f"another process is using this .*{named}"):
        ResultsLock(tmp_path, other)
    assert not list(tmp_path.iterdir())
    ResultsLock(tmp_path, other).release()
    assert not list(tmp_path.iterdir())


def test_of_two_runs_within_one_process_the_second_is_refused(tmp_path: Path) -> None:
    lock = ResultsLock(tmp_path, WHOLE)
    with pytest.raises(ResultsInUseError):
        ResultsLock(tmp_path, WHOLE)
    lock.release()
    ResultsLock(tmp_path, WHOLE).release()


def test_shares_of_one_count_are_done_side_by_side(tmp_path: Path) -> None:
    with held(tmp_path, Shard(1, 3)):
        locks = [ResultsLock(tmp_path, Shard(index, 3)) for index in (2, 3)]
        assert len(list(tmp_path.iterdir())) == 3
        for lock in locks:
            lock.release()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("other", [WHOLE, Shard(1, 3), Shard(2, 5)])
def test_a_killed_process_holds_nothing(tmp_path: Path, other: Shard) -> None:
    with held(tmp_path, Shard(1, 3)) as process:
        process.kill()
        process.wait()
    assert len(list(tmp_path.iterdir())) == 1
    ResultsLock(tmp_path, other).release()
    assert not list(tmp_path.iterdir())


def test_who_waited_for_it_has_it_alone(tmp_path: Path) -> None:
    lock = ResultsLock(tmp_path, WHOLE)
    Timer(0.4, lock.release).start()
    with held(tmp_path, WHOLE), pytest.raises(ResultsInUseError):
        ResultsLock(tmp_path, WHOLE)
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(os.name == "nt", reason="NOT RUN: Windows moves no folder in which a file is open")
def test_a_folder_that_was_moved_away_takes_its_lock_along(tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = ResultsFolder(out)
    first.write_provenance("{}")
    out.rename(tmp_path / "moved")
    second = ResultsFolder(out)
    second.write_provenance("{}")
    with pytest.raises(RuntimeEnvironmentError, match="vanished"), first.store.workspace("a.png"):
        pass
    with pytest.raises(RuntimeEnvironmentError, match="vanished"):
        first.join((), "key")
    first.close()
    with pytest.raises(ResultsInUseError):
        ResultsLock(out, WHOLE)
    second.close()
    assert not (out / ".nuclei-lock-1-of-1").exists()


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="NOT RUN: only root can be another user")
def test_another_user_s_lock_is_said_to_be_one() -> None:
    with TemporaryDirectory() as out:  # pytest's own folders are closed to others
        Path(out).chmod(0o777)
        (Path(out) / ".nuclei-lock-1-of-1").touch(0o644)
        os.seteuid(65534)
        try:
            with pytest.raises(ResultsInUseError, match="another user's process is or was using this folder"):
                ResultsLock(Path(out), WHOLE)
        finally:
            os.seteuid(0)


@pytest.mark.skipif(os.name == "nt", reason="NOT RUN: making links takes a right on Windows")
def test_nothing_is_made_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/.nuclei-lock-1-of-1").symlink_to(tmp_path / "victim")
    with pytest.raises(RuntimeEnvironmentError, match="nuclei-lock-1-of-1: cannot be written"):
        ResultsFolder(tmp_path / "out")
    assert not (tmp_path / "victim").exists()


def test_a_file_system_with_changing_inodes_does_not_stop_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = iter(range(1000))
    monkeypatch.setattr("nuclei_runtime.results.lock._identity", lambda _: (0, -next(numbers)))
    results = ResultsFolder(tmp_path)
    results.write_provenance("{}")
    with results.store.workspace("a.png"):
        pass
    results.close()
    assert [path.name for path in tmp_path.iterdir()] == ["provenance.json"]


@pytest.mark.skipif(os.name == "nt", reason="NOT RUN: Windows has no flock that could be missing")
def test_where_the_file_system_has_no_locks_a_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def without_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", without_locks)
    one, other = ResultsLock(tmp_path, WHOLE), ResultsLock(tmp_path, Shard(1, 3))
    one.release()
    other.release()
    assert not list(tmp_path.iterdir())


def test_a_second_run_is_refused_and_the_first_is_not_disturbed(
    tmp_path: Path, tiny_model: Path, run_here: RunScript
) -> None:
    pytest.importorskip("watchfiles")
    images, out = tmp_path / "in", tmp_path / "out"
    images.mkdir()
    save(images / "a.png")
    options = ("--out", out, "--model", tiny_model)
    script = str(Path(sysconfig.get_path("scripts")) / "nuclei-infer")
    first = [script, str(images), *map(str, options), "--watch", "--settle", "0.4"]
    with subprocess.Popen(first, stderr=subprocess.PIPE, text=True) as watching:
        try:
            wait_for((out / "provenance.json").exists)
            for flags in (["--resume"], ["--overwrite"], ["--resume", "--shard", "1/2"]):
                refused = run_here("nuclei-infer", images, *options, *flags)
                assert refused.returncode == 2
                assert f"{out}: another process is using this folder; wait until it ends" in refused.stderr
            save(images / "b.png")
            wait_for(lambda: len(list((out / "records").glob("*.json"))) == 2)
        finally:
            watching.terminate()
            watching.communicate()
    rows = (out / "images.csv").read_text(encoding="utf-8").splitlines()
    assert [row.split(",")[:2] for row in rows[1:]] == [["a.png", "ok"], ["b.png", "ok"]]
    assert not (out / ".nuclei-lock-1-of-1").exists()
    assert run_here("nuclei-infer", images, *options, "--resume").returncode == 0
