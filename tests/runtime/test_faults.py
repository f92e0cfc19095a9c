"""What is at fault for an error: a fault of the machine ends a run and keeps its results, also in real processes."""

from __future__ import annotations

import csv
import errno
import io
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

import nuclei_runtime.readers.opening
from nuclei_runtime.checks.synthetic import fluorescence_field
from nuclei_runtime.errors import (
    ImageReadError,
    ImageShapeError,
    MissingExtraError,
    ModelError,
    NucleiError,
    RuntimeEnvironmentError,
)
from nuclei_runtime.faults import image_failure, is_of_name, machine_error, reading_error
from nuclei_runtime.readers.opening import open_planes, read_image
from nuclei_runtime.readers.plane import Selection
from nuclei_runtime.runs.config import RunConfig
from nuclei_runtime.runs.run import FolderRun
from nuclei_runtime.segmentation.options import SegmenterOptions

OF_THE_MACHINE = {
    errno.EMFILE: "raise the limit on open files",
    errno.ENFILE: "close other programs",
    errno.ENOMEM: "close other programs",
    errno.ENOSPC: "free space on the disk",
    errno.EDQUOT: "have your quota raised",
    errno.EROFS: "make the file system writable",
}


def os_error(number: int, path: str | None = "a.tif") -> OSError:
    return OSError(number, os.strerror(number), path)


@pytest.mark.parametrize(("number", "remedy"), OF_THE_MACHINE.items(), ids=errno.errorcode.get)
def test_trouble_of_the_machine_while_reading_says_what_to_do(number: int, remedy: str) -> None:
    error = reading_error(os_error(number))
    assert type(error) is RuntimeEnvironmentError
    assert str(error).startswith(f"a.tif: cannot be read: {os.strerror(number)}; ")
    assert remedy in str(error)
    with pytest.raises(RuntimeEnvironmentError, match=remedy):
        image_failure(os_error(number))


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (os_error(errno.EIO), "cannot be read: Input/output error"),
        (os_error(errno.EACCES), "cannot be read: Permission denied"),
        (os_error(errno.EINVAL), "cannot be decoded; the file may be truncated or damaged: [Errno 22]"),
        (OSError("image file is truncated"), "cannot be decoded; the file may be truncated or damaged: image file is"),
        (IndexError(), "cannot be decoded; the file may be truncated or damaged: IndexError"),
        (MemoryError(), "there is not enough memory for the size that the file claims"),
        (MissingExtraError("zarr", "zarr"), "zarr is not installed; install it with: pip install"),
    ],
    ids=str,
)
def test_all_else_is_the_fault_of_the_image(error: Exception, expected: str) -> None:
    found = reading_error(error)
    assert isinstance(found, ImageReadError)
    assert str(found).startswith(expected)
    assert image_failure(found) == str(found)


@pytest.mark.parametrize("error", [ImageShapeError("m"), ModelError("m"), RuntimeEnvironmentError("m")])
def test_what_is_sorted_already_stays(error: NucleiError) -> None:
    assert reading_error(error) is error
    if isinstance(error, ImageShapeError):
        assert image_failure(error) == "m"
    else:
        with pytest.raises(type(error)):
            image_failure(error)


def test_an_unforeseen_error_fails_the_image_and_names_its_type() -> None:
    assert image_failure(KeyError("x")) == "KeyError: 'x'"
    assert image_failure(MemoryError()) == "there is not enough memory for this image"


def test_a_name_that_the_file_system_does_not_take_is_not_the_machine_s_fault() -> None:
    assert is_of_name(os_error(errno.ENAMETOOLONG))
    assert not any(is_of_name(os_error(number)) for number in OF_THE_MACHINE)


def test_the_remedy_stands_before_the_advice() -> None:
    assert str(machine_error(os_error(errno.ENOSPC), "DIR", "resume")) == (
        "DIR: No space left on device; free space on the disk; resume"
    )
    assert str(machine_error(os_error(errno.EACCES), "DIR", "resume")) == "DIR: Permission denied; resume"


class FullDisk(io.FileIO):
    """A file on a network share whose cache is full."""

    n_reads = 0
    """How many reads there still is room for."""

    def readinto(self, buffer: Any, /) -> int:
        self.count()
        return super().readinto(buffer)

    def readall(self) -> bytes:
        self.count()
        return super().readall()

    def count(self) -> None:
        FullDisk.n_reads -= 1
        if FullDisk.n_reads < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.fixture
def _full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the files themselves fail, below all code that reads them."""
    watched = type("Watched", (nuclei_runtime.readers.opening._ImageFile, FullDisk), {})
    monkeypatch.setattr(nuclei_runtime.readers.opening, "_ImageFile", watched)
    monkeypatch.setattr(FullDisk, "n_reads", 0)


def encoded(form: str) -> bytes:
    image = np.random.default_rng(1).integers(0, 255, (200, 300)).astype(np.uint8)
    buffer = io.BytesIO()
    if form.startswith("tif"):
        tifffile.imwrite(buffer, image, compression="zlib" if form == "tif zlib" else None)
    else:
        Image.fromarray(image).save(buffer, form)
    return buffer.getvalue()


@pytest.mark.usefixtures("_full_disk")
@pytest.mark.parametrize("form", ["tif", "tif zlib", "PNG", "JPEG", "BMP"])
def test_a_read_that_finds_the_disk_full_is_the_machine_s_fault_wherever_it_happens(form: str, tmp_path: Path) -> None:
    """At the first read and at each later one until the image is complete; tifffile mistakes some for damage."""
    content, path = encoded(form), tmp_path / "a"
    path.write_bytes(content)
    messages, n_failed = set(), 0
    while n_failed < 1000:
        FullDisk.n_reads = n_failed
        try:
            found = read_image(path)
        except RuntimeEnvironmentError as error:
            messages.add(str(error))
            n_failed += 1
        else:
            break
    assert n_failed > 2
    assert messages == {f"{path}: cannot be read: No space left on device; free space on the disk"}
    assert np.array_equal(found, read_image(content))


@pytest.mark.usefixtures("_full_disk")
def test_a_plane_says_so_when_it_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(encoded("tif"))
    FullDisk.n_reads = 1000
    with open_planes(tmp_path / "a.tif", Selection()) as (plane,):
        FullDisk.n_reads = 0
        with pytest.raises(RuntimeEnvironmentError, match="free space"):
            plane.read(slice(100, 104), slice(0, 4))


def save_fields(folder: Path, *names: str) -> None:
    folder.mkdir()
    for seed, name in enumerate(names):
        Image.fromarray(fluorescence_field(seed, height=64, width=64, n_nuclei=4)[0]).save(folder / name)


@pytest.mark.usefixtures("_full_disk")
def test_a_run_ends_where_the_disk_is_full_and_keeps_what_is_done(tmp_path: Path, tiny_model: Path) -> None:
    save_fields(tmp_path / "in", "a.png", "b.png", "c.png")
    config = RunConfig((str(tmp_path / "in"),), tmp_path / "out", SegmenterOptions(tiny_model, threads=1))
    FullDisk.n_reads = 1000

    def fill_the_disk_after_the_first_image() -> None:
        with FolderRun(config) as run:
            for _ in run.outcomes():
                FullDisk.n_reads = 1

    with pytest.raises(RuntimeEnvironmentError, match=r"b\.png: cannot be read: No space .*; results written so far"):
        fill_the_disk_after_the_first_image()
    assert rows(tmp_path / "out/images.csv") == [("a.png", "ok")]
    FullDisk.n_reads = 1000
    config = replace(config, mode="resume")
    with FolderRun(config) as run:
        assert [outcome.is_kept for outcome in run.outcomes()] == [True, False, False]
    assert rows(tmp_path / "out/images.csv") == [("a.png", "ok"), ("b.png", "ok"), ("c.png", "ok")]


INFER_WITH_FEW_FILES = """
import os, resource, sys
from pathlib import Path

name, n_opened = sys.argv.pop(1), int(sys.argv.pop(1))

def limit(event, arguments):
    global n_opened
    if event == "open" and isinstance(arguments[0], (str, os.PathLike)) and Path(arguments[0]).name == name:
        n_opened -= 1
        if n_opened == 0:
            # The limit equals the number of open files: the system refuses the next one, which is this image.
            hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
            taken = [os.open(os.devnull, os.O_RDONLY) for _ in range(3)]
            for one in taken:
                os.close(one)
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(taken), hard))

sys.addaudithook(limit)
from nuclei_runtime.cli.infer import main
main()
"""


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="NOT RUN: this system does not list open files")
@pytest.mark.parametrize(("n_opened", "at"), [(1, "its digest is taken"), (2, "it is decoded")])
def test_a_run_without_files_left_to_open_ends_with_3_and_can_be_resumed(
    n_opened: int, at: str, tmp_path: Path, tiny_model: Path
) -> None:
    """Too many open files are not the image's fault. The limit is real: the process sets it itself."""
    save_fields(tmp_path / "in", "a.png", "b.png", "c.png")
    command = [str(tmp_path / "in"), "--out", str(tmp_path / "out"), "--model", str(tiny_model), "--threads", "1"]
    done = subprocess.run(
        [sys.executable, "-c", INFER_WITH_FEW_FILES, "b.png", str(n_opened), *command],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 3, (at, done.stderr)
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert f"{tmp_path / 'in' / 'b.png'}: cannot be read: Too many open files; raise the limit on open files" in line
    assert line.endswith("results written so far are kept: fix this and run again with --resume")
    assert "Traceback" not in done.stderr
    assert [path.name for path in (tmp_path / "out/labels").iterdir()] == ["a.tif"]
    before = (tmp_path / "out/labels/a.tif").stat().st_mtime_ns
    resumed = subprocess.run(
        [sys.executable, "-c", "from nuclei_runtime.cli.infer import main; main()", *command, "--resume"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert resumed.returncode == 0, resumed.stderr
    assert rows(tmp_path / "out/images.csv") == [("a.png", "ok"), ("b.png", "ok"), ("c.png", "ok")]
    assert (tmp_path / "out/labels/a.tif").stat().st_mtime_ns == before


@pytest.mark.skipif(os.name == "nt", reason="NOT RUN: Windows has no limit on open files that a process can set")
def test_wherever_the_files_run_out_no_image_is_to_blame(tmp_path: Path, tiny_model: Path) -> None:
    """Whether packages are being loaded, results written or images read."""
    save_fields(tmp_path / "in", "a.png", "b.png")
    codes = set()
    for limit in range(4, 9):
        command = [str(tmp_path / "in"), "--out", str(tmp_path / f"out{limit}"), "--model", str(tiny_model)]
        code = (
            f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, ({limit}, {limit}))\n"
            "from nuclei_runtime.cli.infer import main; main()"
        )
        done = subprocess.run([sys.executable, "-c", code, *command], capture_output=True, text=True, check=False)
        codes.add(done.returncode)
        assert "failed: " not in done.stderr
        assert done.returncode != 3 or "Too many open files; raise the limit on open files" in done.stderr
    assert 3 in codes
    assert codes <= {0, 3}


def rows(path: Path) -> list[tuple[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return [(row["image"], row["status"]) for row in csv.DictReader(file)]
