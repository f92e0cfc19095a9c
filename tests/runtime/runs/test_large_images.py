"""A large image whose segmentation is killed continues after its last block, and leaves nothing behind."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile

from nuclei_runtime.checks.synthetic import fluorescence_field
from nuclei_runtime.results.layout import BLOCKS_FOLDER, token_of
from nuclei_runtime.results.shard import Shard
from nuclei_runtime.runs.config import RunConfig
from nuclei_runtime.runs.run import FolderRun
from nuclei_runtime.segmentation.kept_blocks import KeptBlocks
from nuclei_runtime.segmentation.options import SegmenterOptions
from tests.contents import contents

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    field, _ = fluorescence_field(3, height=600, width=820, n_nuclei=40)
    path = tmp_path_factory.mktemp("large") / "large.tif"
    tifffile.imwrite(path, np.tile(field, (2, 10)), tile=(256, 256), compression="zlib")
    return path


def n_kept(out: Path) -> int:
    """Return how many blocks are kept whole. A copy is read, because opening the file cuts off an unfinished entry."""
    copy = out.with_suffix(".blocks")
    copy.write_bytes(b"".join(path.read_bytes() for path in (out / BLOCKS_FOLDER).glob("*")))
    with KeptBlocks(copy) as kept:
        return kept.count


def kill_within(command: list[object], out: Path, n_blocks: int) -> None:
    """Start a run and kill it, without warning, once it has kept some blocks."""
    with subprocess.Popen(list(map(str, command)), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None:
            if n_kept(out) >= n_blocks:
                break
            time.sleep(0.002)
        process.kill()
    assert process.returncode not in (0, 1, 2, 3)


def infer(image: Path, out: Path, model: Path, *options: str) -> list[object]:
    code = "from nuclei_runtime.cli.infer import main; main()"
    return [sys.executable, "-c", code, image, "--out", out, "--model", model, "--threads", "1", *options]


def test_a_killed_run_continues_within_the_image(tmp_path: Path, image: Path, tiled_model: Path, run_here: Run) -> None:
    out, calm = tmp_path / "out", tmp_path / "calm"
    options = ("--model", tiled_model, "--threads", "1")
    assert run_here("nuclei-infer", image, "--out", calm, *options).returncode == 0
    kill_within(infer(image, out, tiled_model), out, 1)
    assert not (out / "labels").exists()
    kill_within(infer(image, out, tiled_model, "--resume"), out, n_kept(out) + 1)
    done = run_here("nuclei-infer", image, "--out", out, *options, "--resume")
    assert done.returncode == 0
    assert "continued: large.tif: " in done.stderr
    n_done = int(done.stderr.split("continued: large.tif: ")[1].split(" of 18")[0])
    assert 1 < n_done < 18
    assert contents(out) == contents(calm)
    assert not any(path.name.startswith(".") for path in out.iterdir())


class StoppedError(BaseException):
    """Ends a run as Ctrl-C does."""


def stop_after(n: int) -> Callable[[str, int, int], None]:
    def report(_image: str, done: int, _total: int) -> None:
        if done == n:
            raise StoppedError

    return report


def run(config: RunConfig) -> list[tuple[str, int, int]]:
    told: list[tuple[str, int, int]] = []
    with FolderRun(config, lambda *what: told.append(what)) as running:
        assert all(outcome.is_ok for outcome in running.outcomes())
    return told


@pytest.fixture
def stopped(tmp_path: Path, image: Path, tiled_model: Path) -> RunConfig:
    """A run that was stopped after three blocks."""
    (tmp_path / "in").mkdir()
    os.link(image, tmp_path / "in/large.tif")
    options = SegmenterOptions(model=tiled_model, threads=1)
    config = RunConfig((str(tmp_path / "in"),), tmp_path / "out", options)
    with pytest.raises(StoppedError), FolderRun(config, stop_after(3)) as running:
        list(running.outcomes())
    assert len(list((config.out / BLOCKS_FOLDER).iterdir())) == 1
    return replace(config, mode="resume")


def test_a_stopped_run_continues(stopped: RunConfig) -> None:
    assert run(stopped)[:2] == [("large.tif", 3, 18), ("large.tif", 4, 18)]
    assert not (stopped.out / BLOCKS_FOLDER).exists()


@pytest.mark.parametrize("change", ["options", "image", "overwrite"])
def test_blocks_of_another_segmentation_are_not_used(stopped: RunConfig, change: str) -> None:
    if change == "options":
        stopped = replace(stopped, options=replace(stopped.options, diameter_px=60))
    elif change == "overwrite":
        stopped = replace(stopped, mode="overwrite")
    else:
        (path,) = Path(stopped.sources[0]).iterdir()
        path.unlink()
        tifffile.imwrite(path, np.zeros((90, 4200), np.uint8))
    assert run(stopped)[0][1] == 0
    assert not (stopped.out / BLOCKS_FOLDER).exists()


def test_blocks_of_an_image_that_is_gone_are_removed(stopped: RunConfig, tmp_path: Path) -> None:
    (tmp_path / "in/large.tif").unlink()
    tifffile.imwrite(tmp_path / "in/other.tif", np.zeros((90, 90), np.uint8))
    run(stopped)
    assert not (stopped.out / BLOCKS_FOLDER).exists()


def test_another_shard_leaves_the_blocks_alone(stopped: RunConfig, tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "in/other.tif", np.zeros((90, 90), np.uint8))
    own = next(i for i in (1, 2) if Shard(i, 2).owns(token_of("large.tif")))
    run(replace(stopped, shard=Shard(3 - own, 2)))
    assert len(list((stopped.out / BLOCKS_FOLDER).iterdir())) == 1
    assert run(replace(stopped, shard=Shard(own, 2)))[0][1] == 3
    assert not (stopped.out / BLOCKS_FOLDER).exists()
