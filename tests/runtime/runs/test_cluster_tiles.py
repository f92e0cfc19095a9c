"""The tiles of one large image are shared out on a Dask cluster, and its results are those of one machine."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import time
from collections.abc import Callable, Coroutine, Generator, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from threading import Event, Thread
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from nuclei_runtime.arrays import Maps
from nuclei_runtime.checks.synthetic import fluorescence_field
from nuclei_runtime.results.layout import BLOCKS_FOLDER
from nuclei_runtime.runs.config import RunConfig
from nuclei_runtime.runs.image_file import FileOutcome
from nuclei_runtime.runs.run import FolderRun
from nuclei_runtime.segmentation.network import Network
from nuclei_runtime.segmentation.options import SegmenterOptions
from nuclei_runtime.segmentation.plane_tiles import Tile, TileTask
from nuclei_runtime.steps.tiling import Span

distributed = pytest.importorskip("distributed", reason="NOT RUN: the extra dask is not installed")
zarr = pytest.importorskip("zarr", reason="NOT RUN: the extra zarr is not installed")

from nuclei_runtime.runs import cluster_tiles  # noqa: E402
from nuclei_runtime.runs.cluster import open_cluster  # noqa: E402
from tests.contents import contents  # noqa: E402

SHAPE = (600, 4300)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An OME-Zarr of five blocks and many chunks."""
    folder = tmp_path_factory.mktemp("in")
    field, _ = fluorescence_field(3, height=600, width=860, n_nuclei=60)
    path = folder / "slide.ome.zarr"
    group = zarr.open_group(path, mode="w", zarr_format=2)
    axes = [{"name": "y", "type": "space"}, {"name": "x", "type": "space"}]
    group.attrs["multiscales"] = [{"version": "0.4", "axes": axes, "datasets": [{"path": "0"}]}]
    stored = group.create_array("0", shape=SHAPE, dtype=np.uint8, chunks=(256, 256))
    stored[:] = np.tile(field, (1, 5))
    return folder


@pytest.fixture(scope="module")
def config(images: Path, tmp_path_factory: pytest.TempPathFactory, tiled_model: Path) -> RunConfig:
    out = tmp_path_factory.mktemp("results") / "out"
    return RunConfig((str(images),), out, SegmenterOptions(tiled_model, threads=2))


@pytest.fixture(scope="module")
def plain(config: RunConfig) -> dict[str, bytes]:
    """What a run without a cluster writes."""
    with FolderRun(replace(config, out=config.out.parent / "plain")) as run:
        (outcome,) = run.outcomes()
    assert (outcome.planes[0].n_nuclei or 0) > 100
    return contents(config.out.parent / "plain")


@pytest.fixture
def own(config: RunConfig, tmp_path: Path) -> RunConfig:
    """The same, with a results folder for one test."""
    return replace(config, out=tmp_path / "out")


def do(config: RunConfig, local: Any) -> FileOutcome:
    with open_cluster(local.scheduler_address, print) as cluster, FolderRun(config, cluster=cluster) as run:
        (outcome,) = run.outcomes()
    return outcome


class Finished(distributed.SchedulerPlugin):  # type: ignore[misc]
    """Counts the tiles that helpers have computed."""

    count = 0

    def transition(self, key: Any, _start: str, finish: str, *_: Any, **__: Any) -> None:
        self.count += str(key).startswith(cluster_tiles.TILE_KEY) and finish == "memory"


@pytest.fixture
def finished(local: Any) -> Iterator[Finished]:
    plugin = Finished()
    local.scheduler.add_plugin(plugin, name="finished")
    yield plugin
    local.scheduler.remove_plugin("finished")


def kill_who_has(local: Any, key: str, is_time: Callable[[], bool]) -> Callable[[], int]:
    """Kill the process that has such a task in hand once it is time; the result says, after the run, who it was."""
    killed: list[int] = []
    is_over = Event()

    def watch() -> None:
        while not killed and not is_over.is_set():
            for worker in list(local.scheduler.workers.values()) if is_time() else ():
                if any(str(task.key).startswith(key) for task in list(worker.processing)):
                    os.kill(worker.pid, signal.SIGKILL)
                    killed.append(worker.pid)
                    break
            time.sleep(0.001)

    thread = Thread(target=watch)
    thread.start()

    def who() -> int:
        is_over.set()
        thread.join()
        return killed[0]

    return who


def test_tiles_are_shared_out(local: Any, own: RunConfig, plain: dict[str, bytes], finished: Finished) -> None:
    assert do(own, local).is_ok
    assert finished.count > 5
    assert contents(own.out) == plain


def test_a_helper_that_is_killed_loses_nothing(
    local: Any, own: RunConfig, plain: dict[str, bytes], finished: Finished
) -> None:
    who = kill_who_has(local, cluster_tiles.TILE_KEY, lambda: finished.count > 1)
    assert do(own, local).is_ok
    assert who()
    assert contents(own.out) == plain


class PatientHelpers(distributed.WorkerPlugin):  # type: ignore[misc]
    """Lets no tile count as late: who waits for one that will not come waits for days."""

    def setup(self, worker: Any) -> None:  # noqa: ARG002
        self.late_s, cluster_tiles.LATE_S = cluster_tiles.LATE_S, 1e6

    def teardown(self, worker: Any) -> None:  # noqa: ARG002
        cluster_tiles.LATE_S = self.late_s


def test_nobody_waits_for_maps_that_are_lost_with_their_helper(
    local: Any, own: RunConfig, plain: dict[str, bytes], kill_who_finishes: Callable[[str], list[int]]
) -> None:
    with distributed.Client(local, set_as_default=False) as client:
        client.register_plugin(PatientHelpers(), "patient")
        killed = kill_who_finishes(cluster_tiles.TILE_KEY)
        assert do(own, local).is_ok
        client.unregister_worker_plugin("patient")
    assert killed
    assert contents(own.out) == plain


def test_who_has_the_image_in_hand_may_be_killed(local: Any, own: RunConfig, plain: dict[str, bytes]) -> None:
    def has_begun() -> bool:
        with suppress(OSError):
            return sum(path.stat().st_size for path in (own.out / BLOCKS_FOLDER).glob("*")) > 10_000
        return False

    who = kill_who_has(local, "nuclei-infer", has_begun)
    assert do(own, local).is_ok
    assert who()
    assert contents(own.out) == plain


class Poison(distributed.WorkerPlugin):  # type: ignore[misc]
    """Lets a tile kill whoever computes it."""

    def setup(self, worker: Any) -> None:  # noqa: ARG002
        def maps(self: TileTask, network: Network) -> Maps:
            if self.tile.index[1] == 5:
                os.kill(os.getpid(), signal.SIGKILL)
            return compute(self, network)

        self.compute = compute = TileTask.maps
        TileTask.maps = maps  # type: ignore[method-assign]

    def teardown(self, worker: Any) -> None:  # noqa: ARG002
        TileTask.maps = self.compute  # type: ignore[method-assign]


def test_a_tile_that_kills_its_worker_fails_its_image_alone(
    local: Any, own: RunConfig, images: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    shutil.copytree(images / "slide.ome.zarr", folder / "slide.ome.zarr")
    Image.fromarray(fluorescence_field(1, height=64, width=80, n_nuclei=5)[0]).save(folder / "small.png")
    with distributed.Client(local, set_as_default=False) as client:
        client.register_plugin(Poison(), "poison")
        with open_cluster(local.scheduler_address, print) as cluster:
            config = replace(own, sources=(str(folder),))
            with FolderRun(config, cluster=cluster) as run:
                outcomes = {outcome.planes[0].image: outcome for outcome in run.outcomes()}
        client.unregister_worker_plugin("poison")
    assert outcomes["small.png"].is_ok
    assert (outcomes["slide.ome.zarr"].planes[0].reason or "").startswith(
        "the worker that had this image was killed or crashed"
    )
    assert not list(own.out.glob(".nuclei-partial/*"))


class FakeFuture:
    def __init__(self, key: str, result: Callable[[], Any], *, never: bool = False) -> None:
        self.key, self.result, self._never = key, result, never
        self.client = SimpleNamespace(loop=SimpleNamespace(add_callback=self._run))
        self.is_dropped = False

    def _run(self, waits_for_this: Callable[[], Coroutine[Any, Any, None]]) -> None:
        if not self._never:
            asyncio.run(waits_for_this())

    def __await__(self) -> Generator[None, None, Any]:
        return self.result()
        yield

    def done(self) -> bool:
        return not self._never

    def cancel(self, *, force: bool) -> None:
        self.is_dropped = force

    def release(self) -> None:
        self.is_dropped = True


class FakeClient:
    """A cluster whose helpers do what `helper` says."""

    def __init__(self, free: dict[str, int], helper: Callable[[Any], Any], *, never: bool = False) -> None:
        self.free, self.helper, self.never = free, helper, never
        self.gone: list[str] = []
        self.asked: list[int] = []
        self.given: list[FakeFuture] = []

    def run_on_scheduler(self, _: Any, *, asked: list[str]) -> Any:
        return self.free, 1, [one for one in self.gone if one in asked]

    def scatter(self, task: Any, *, hash: bool) -> FakeFuture:  # noqa: A002
        assert not hash
        return FakeFuture("pixels", lambda: task)

    def submit(self, _: Any, pixels: FakeFuture, *__: Any, key: str, **___: Any) -> FakeFuture:
        self.given.append(FakeFuture(key, lambda: self.helper(pixels.result()), never=self.never))
        return self.given[-1]


class FakeTask:
    """A tile whose maps are its place; `made` says who computed it."""

    def __init__(self, tile: Tile, made: list[Tile]) -> None:
        self.tile, self.made = tile, made

    def maps(self, _: Any) -> Any:
        self.made.append(self.tile)
        return self.tile.index[1]


def shared(client: FakeClient, n_tiles: int) -> tuple[cluster_tiles.SharedTiles, list[Tile], list[Tile]]:
    """The tiles of a plane, all of them, and those that are computed here."""
    span = Span(slice(0, 1), slice(0, 1))
    plan, here = [Tile((0, index), span, span) for index in range(n_tiles)], list[Tile]()
    make: Any = lambda tile: FakeTask(tile, here)  # noqa: E731
    tiles: Any = cluster_tiles.SharedTiles(client, "run", plan, make, None)  # type: ignore[arg-type]
    return tiles, plan, here


def all_of(tiles: cluster_tiles.SharedTiles, plan: list[Tile]) -> list[Any]:
    """Ask for those that did not come ahead, in order; return what came, in order."""
    came: dict[Tile, Any] = {}
    for tile in plan:
        if tile not in came:
            came.update(tiles.until(tile))
            assert tile in came
    return [came[tile] for tile in plan]


@pytest.mark.parametrize("behaviour", ["declines", "fails", "is gone", "is late", "is not there"])
def test_what_helpers_do_not_do_is_done_here(behaviour: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def helper(_: FakeTask) -> None:
        if behaviour == "fails":
            raise OSError

    monkeypatch.setattr(cluster_tiles, "LOOK_S", 0)
    if behaviour == "is late":
        monkeypatch.setattr(cluster_tiles, "LATE_S", 0)
    client = FakeClient({} if behaviour == "is not there" else {"a": 2}, helper, never=behaviour.startswith("is"))
    client.gone = ["a"] if behaviour == "is gone" else []
    tiles, plan, here = shared(client, 12)
    assert all_of(tiles, plan) == list(range(12))
    assert sorted(tile.index for tile in here) == [tile.index for tile in plan]
    assert bool(client.given) == (behaviour != "is not there")
    assert all(future.is_dropped for future in client.given)


def test_only_a_few_tiles_are_handed_out_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    client = FakeClient({"a": 1, "b": 2}, lambda task: task.tile.index[1], never=True)
    tiles, plan, here = shared(client, 100)
    came = dict(tiles.until(plan[0]))
    assert (came, here) == ({plan[0]: 0}, plan[:1])
    assert len(client.given) == cluster_tiles.TILES_AHEAD * 3
    monkeypatch.setattr(cluster_tiles, "LATE_S", 0)
    came = dict(tiles.until(plan[1]))
    assert list(came) == [plan[7], plan[8], plan[1]]  # two that nobody has, and then the one that is late
    assert len(client.given) <= cluster_tiles.TILES_AHEAD * 3 + 1
    tiles.close()
    assert all(future.is_dropped for future in client.given)
    client = FakeClient({"a": 500}, lambda task: task.tile.index[1])
    tiles, plan, here = shared(client, 100)
    assert all_of(tiles, plan) == list(range(100))
    assert len(here) < 5
    assert all(future.is_dropped for future in client.given)


def test_only_threads_that_have_nothing_to_do_are_asked() -> None:
    def worker(n_threads: int, *keys: str, status: str = "running") -> Any:
        processing = [SimpleNamespace(key=key) for key in keys]
        return SimpleNamespace(nthreads=n_threads, processing=processing, status=SimpleNamespace(name=status))

    workers = {
        "busy": worker(1, "nuclei-infer-1"),
        "queue": worker(2, "nuclei-infer-2", "nuclei-infer-3", "somebody-else"),
        "half": worker(2, "nuclei-infer-4", "nuclei-tile-1"),
        "helps": worker(1, "nuclei-tile-2", "nuclei-tile-3"),
        "idle": worker(4),
        "paused": worker(4, status="paused"),
    }
    scheduler: Any = SimpleNamespace(workers=workers)
    free, n_others, gone = cluster_tiles.look_around(scheduler, ["half", "paused", "left"])
    assert free == {"half": 1, "helps": 1, "idle": 4}
    assert (n_others, gone) == (5, ["left"])
