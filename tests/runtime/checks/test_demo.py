"""nuclei-demo: images to try, made without a network."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile

from nuclei_runtime.checks.demo import write_demo
from nuclei_runtime.errors import ResultsExistError
from nuclei_runtime.readers.formats import image_suffixes
from nuclei_runtime.readers.opening import read_image

BIN = str(Path(sys.executable).parent)


def test_the_demo_is_varied_and_has_its_truth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the demo asked for the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setitem(sys.modules, "pooch", None)  # scikit-image's downloader
    images = write_demo(tmp_path / "demo")
    assert images == sorted((tmp_path / "demo/images").iterdir())
    read = {path.name: read_image(path) for path in images}
    assert {path.suffix for path in images} <= set(image_suffixes())
    assert {image.dtype.name for image in read.values()} == {"uint8", "uint16"}
    assert {image.ndim for image in read.values()} == {2, 3}
    assert len({image.shape[:2] for image in read.values()}) >= 4
    assert int(read["field_12bit.tif"].max()) < 4096
    truths = sorted((tmp_path / "demo/truth").iterdir())
    assert {path.stem for path in truths} == {path.stem for path in images} - {"immunohistochemistry"}
    for path in truths:
        labels = tifffile.imread(path)
        (image,) = (image for name, image in read.items() if Path(name).stem == path.stem)
        assert labels.shape == image.shape[:2]
        assert np.unique(labels).tolist() == list(range(labels.max() + 1))
        assert labels.max() > 5
        grey = image if image.ndim == 2 else image.mean(axis=-1)
        assert grey[labels > 0].mean() > 3 * grey[labels == 0].mean()


def test_the_same_demo_comes_every_time(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_demo(tmp_path / name)
    files = [path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*.*")]
    assert len(files) == 11
    for file in files:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_a_folder_that_holds_something_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("kept")
    for path in (tmp_path, tmp_path / "mine.txt"):
        with pytest.raises(ResultsExistError, match="new or empty"):
            write_demo(path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_the_command_that_it_prints_works(tmp_path: Path, tiny_model: Path) -> None:
    demo = shutil.which("nuclei-demo", path=BIN) or "nuclei-demo"
    folder = "a demo for $HOME"
    made = subprocess.run([demo, folder], capture_output=True, text=True, cwd=tmp_path)
    assert (made.returncode, made.stderr) == (0, "")
    printed, following = made.stdout.splitlines()
    assert printed.startswith("6 images")
    command = f'{following.removeprefix("next: ")} --model "{tiny_model}"'
    path = os.pathsep.join([BIN, os.environ["PATH"]])
    done = subprocess.run(
        command, shell=True, capture_output=True, text=True, cwd=tmp_path, env={**os.environ, "PATH": path}
    )
    assert done.returncode == 0, done.stderr
    assert "6 of 6 images" in done.stdout
    again = subprocess.run([demo, folder], capture_output=True, text=True, cwd=tmp_path)
    assert again.returncode == 2
