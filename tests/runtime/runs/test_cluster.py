"""A Dask cluster gives the results of one machine, whatever befalls its workers, its scheduler or this process."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from nuclei_runtime.checks.synthetic import fluorescence_field
from nuclei_runtime.errors import RuntimeEnvironmentError
from nuclei_runtime.results.outcome import Verified
from nuclei_runtime.results.store import ResultStore
from nuclei_runtime.runs.config import RunConfig
from nuclei_runtime.runs.image_file import FileOutcome, process_file
from nuclei_runtime.runs.inputs import ImageFile
from nuclei_runtime.runs.run import FolderRun
from nuclei_runtime.runs.verify import compare_file, verify
from nuclei_runtime.runs.workers import report_nothing
from nuclei_runtime.segmentation.options import SegmenterOptions
from nuclei_runtime.stores.remote import RemoteFolder

distributed = pytest.importorskip("distributed", reason="NOT RUN: the extra dask is not installed")

from nuclei_runtime.runs import cluster as cluster_module  # noqa: E402
from nuclei_runtime.runs import cluster_crew, cluster_worker  # noqa: E402
from nuclei_runtime.runs.cluster import open_cluster  # noqa: E402
from nuclei_runtime.runs.cluster_crew import FILES_AHEAD  # noqa: E402
from tests.contents import everything  # noqa: E402

NAMES = ["a.png", "b.png", "broken.png", "c.png", "plate 1/a.png", "plate 1/d.png"]


@pytest.fixture
def config(tmp_path: Path, tiled_model: Path) -> RunConfig:
    for seed, name in enumerate(NAMES):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(fluorescence_field(seed, height=64, width=80, n_nuclei=5)[0]).save(path)
    (tmp_path / "in/broken.png").write_bytes(b"")
    return RunConfig((str(tmp_path / "in"),), tmp_path / "out", SegmenterOptions(tiled_model, threads=2))


@pytest.fixture
def plain(config: RunConfig, tmp_path: Path) -> dict[str, bytes]:
    """What a run without a cluster writes."""
    plain = replace(config, out=tmp_path / "plain")
    with FolderRun(plain) as run:
        list(run.outcomes())
    return everything(plain.out)


def do(config: RunConfig, local: Any, after_first: Callable[[], object] = lambda: None) -> dict[str, FileOutcome]:
    outcomes: dict[str, FileOutcome] = {}
    with open_cluster(local.scheduler_address, print) as cluster, FolderRun(config, cluster=cluster) as run:
        for outcome in run.outcomes():
            outcomes[outcome.planes[0].image] = outcome
            if len(outcomes) == 1:
                after_first()
    return outcomes


def compare(config: RunConfig, local: Any) -> dict[str, tuple[str, ...]]:
    with open_cluster(local.scheduler_address, print) as cluster:
        return {found.name: found.differences for found in verify(config, cluster)}


class Misbehave(distributed.WorkerPlugin):  # type: ignore[misc]
    """Makes workers die over some images."""

    def __init__(self, poison: str) -> None:
        self.poison = poison

    def setup(self, worker: Any) -> None:  # noqa: ARG002
        from nuclei_runtime.runs import cluster_worker as here

        def process(file: ImageFile, *arguments: Any, obstacle: str | None = None) -> FileOutcome:
            if file.name == self.poison and obstacle is None:
                os.kill(os.getpid(), signal.SIGKILL)
            return process_file(file, *arguments, obstacle=obstacle)

        def compare(file: ImageFile, *arguments: Any) -> Verified:
            if file.name == self.poison:
                os.kill(os.getpid(), signal.SIGKILL)
            return compare_file(file, *arguments)

        here.process_file, here.compare_file = process, compare

    def teardown(self, worker: Any) -> None:  # noqa: ARG002
        from nuclei_runtime.runs import cluster_worker as here

        here.process_file, here.compare_file = process_file, compare_file


@pytest.fixture
def poisoned(local: Any) -> Iterator[str]:
    """The name of an image that kills whoever processes it."""
    with distributed.Client(local, set_as_default=False) as client:
        client.register_plugin(Misbehave("b.png"), "misbehave")
        yield "b.png"
        client.unregister_worker_plugin("misbehave")


def test_a_cluster_gives_the_results_of_one_machine(local: Any, config: RunConfig, plain: dict[str, bytes]) -> None:
    outcomes = do(config, local)
    assert sorted(outcomes) == NAMES
    assert [name for name, outcome in outcomes.items() if not outcome.is_ok] == ["broken.png"]
    assert everything(config.out) == plain
    outcomes = do(replace(config, mode="resume"), local)
    assert sorted(name for name, outcome in outcomes.items() if outcome.is_kept) == [*NAMES[:2], *NAMES[3:]]
    assert everything(config.out) == plain


def set_variables(variables: dict[str, str]) -> None:
    os.environ.update(variables)


def test_workers_fetch_and_upload_by_themselves(
    local: Any, config: RunConfig, plain: dict[str, bytes], s3: Any
) -> None:
    """Over a store, an image that kills its worker fails alone too, and leaves nothing behind."""
    remote = replace(config, sources=("s3://lab/in",), out=RemoteFolder("s3://lab/out"))
    for name in NAMES:
        RemoteFolder("s3://lab/in").put(Path(config.sources[0], name), name)
    with distributed.Client(local, set_as_default=False) as client:
        client.run(set_variables, s3.environment)
        client.register_plugin(Misbehave("b.png"), "misbehave")
        outcomes = do(remote, local)
        client.unregister_worker_plugin("misbehave")
        client.run(set_variables, s3.environment)
    assert sorted(name for name, outcome in outcomes.items() if not outcome.is_ok) == ["b.png", "broken.png"]
    assert not any(name.startswith(".nuclei") for name in remote.out.files())
    outcomes = do(replace(remote, mode="resume"), local)
    assert sorted(name for name, outcome in outcomes.items() if outcome.is_kept) == [NAMES[0], *NAMES[3:]]
    assert not any(compare(remote, local).values())
    made = {name: remote.out.read(name) for name in remote.out.files()}
    versions = re.compile(rb',\n +"version": "\w{64}"')  # of the images, which only a store tells
    made |= {name: versions.sub(b"", record) for name, record in made.items() if name.startswith("records/")}
    assert made.pop("provenance.json").replace(b'"s3://lab/in"', b'"../in"') == plain["provenance.json"]
    assert made == {name: content for name, content in plain.items() if content and name != "provenance.json"}


def test_a_worker_that_is_killed_loses_nothing(local: Any, config: RunConfig, plain: dict[str, bytes]) -> None:
    with distributed.Client(local, set_as_default=False) as client:

        def kill_one() -> None:
            os.kill(next(iter(client.run(os.getpid).values())), signal.SIGKILL)

        outcomes = do(config, local, after_first=kill_one)
    assert sorted(outcomes) == NAMES
    assert everything(config.out) == plain


def test_an_outcome_that_is_lost_with_its_worker_stops_nobody(
    local: Any, config: RunConfig, plain: dict[str, bytes], kill_who_finishes: Callable[[str], list[int]]
) -> None:
    killed = kill_who_finishes("nuclei-infer")
    outcomes = do(config, local)
    assert killed
    assert sorted(outcomes) == NAMES
    assert [name for name, outcome in outcomes.items() if not outcome.is_ok] == ["broken.png"]
    assert everything(config.out) == plain


def test_an_image_that_kills_its_worker_fails_alone(
    local: Any, config: RunConfig, plain: dict[str, bytes], poisoned: str
) -> None:
    outcomes = do(config, local)
    assert sorted(name for name, outcome in outcomes.items() if not outcome.is_ok) == [poisoned, "broken.png"]
    assert (outcomes[poisoned].planes[0].reason or "").startswith(
        "the worker that had this image was killed or crashed"
    )
    assert ".nuclei-partial" not in everything(config.out)
    with FolderRun(replace(config, mode="resume")) as run:
        assert [outcome.redone for outcome in run.outcomes() if outcome.redone] == ["it failed before"] * 2
    assert everything(config.out) == plain


@pytest.mark.usefixtures("plain")
def test_a_comparison_on_a_cluster_is_that_of_one_machine(local: Any, config: RunConfig, tmp_path: Path) -> None:
    earlier = replace(config, out=tmp_path / "plain")
    (earlier.out / "labels/a.tif").write_bytes(b"corrected")
    (earlier.out / "overlays/c.png").unlink()
    before = everything(earlier.out)
    found = compare(earlier, local)
    assert found == {one.name: one.differences for one in verify(earlier)}
    assert sorted(name for name, differences in found.items() if differences) == ["a.png", "c.png"]
    assert everything(earlier.out) == before


@pytest.mark.usefixtures("plain")
def test_an_image_that_kills_its_worker_is_one_difference(
    local: Any, config: RunConfig, poisoned: str, tmp_path: Path
) -> None:
    found = compare(replace(config, out=tmp_path / "plain"), local)
    assert [name for name, differences in found.items() if differences] == [poisoned]
    assert found[poisoned][0].startswith("the worker that had this image was killed or crashed")
    assert len(found) == len(NAMES) + 4


def test_who_stops_listening_stops_the_workers(local: Any, config: RunConfig, plain: dict[str, bytes]) -> None:
    with open_cluster(local.scheduler_address, print) as cluster, FolderRun(config, cluster=cluster) as run:
        outcomes = run.outcomes()
        next(outcomes)
        outcomes.close()  # type: ignore[attr-defined]
        n_done = len(list((config.out / "records").iterdir()))
        assert run.n_processed == n_done < len(NAMES)
        assert not list(config.out.glob(".nuclei-partial/*"))
    with distributed.Client(local, set_as_default=False) as client:
        left = client.run(lambda dask_worker: [name for name in dask_worker.plugins if name.startswith("nuclei")])
    assert set(map(tuple, left.values())) == {()}
    assert not list(config.out.glob(".nuclei-*"))
    do(replace(config, mode="resume"), local)
    assert everything(config.out) == plain


def test_a_scheduler_that_is_lost_ends_the_run(config: RunConfig, plain: dict[str, bytes]) -> None:
    cluster = distributed.LocalCluster(
        n_workers=1,
        threads_per_worker=1,
        processes=False,
        protocol="tcp",
        dashboard_address="127.0.0.1:0",
        silence_logs=50,
    )
    with pytest.raises(RuntimeEnvironmentError, match=r"the Dask scheduler was lost; .*--resume"):
        do(config, cluster, after_first=cluster.close)
    with suppress(Exception):
        cluster.close()
    with FolderRun(replace(config, mode="resume")) as run:
        assert [outcome for outcome in run.outcomes() if outcome.is_kept]
    assert everything(config.out) == plain


def other_versions() -> dict[str, str]:
    return {"nuclei-edge": str(os.getpid())}


@pytest.mark.parametrize("fault", ["version", "images", "results", "model"])
def test_a_worker_that_cannot_take_part_is_named_before_the_run(
    local: Any, config: RunConfig, fault: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def crew(self: Any, name: str, job: Any, store: ResultStore, files: Any, report: Any) -> Any:
        if fault == "model":
            job = replace(job, options=replace(job.options, model=tmp_path / "gone.onnx"))
        return real(self, name, job, store, files, report)

    real = cluster_module.DaskCluster.crew
    with monkeypatch.context() as patch:
        patch.setattr(cluster_module.DaskCluster, "crew", crew)
        if fault == "images":
            patch.setattr(cluster_module, "_one_here", lambda files: replace(files[0], path=tmp_path / "gone.png"))
        if fault == "version":
            patch.setattr(cluster_module, "installed", other_versions)
        if fault == "results":
            patch.setattr(ResultStore, "fingerprint", lambda _: "of another folder")
        expected = {
            "version": r"worker tcp://.* has other versions, .*: nuclei-edge \d+ \(here \d+\); install the same",
            "images": r"worker tcp://.* cannot see the images, because there is no .*gone.png on its machine",
            "results": r"worker tcp://.* cannot see the results folder, because .*out is another one",
            "model": r"worker tcp://.*gone.onnx",
        }
        with pytest.raises(RuntimeEnvironmentError, match=expected[fault]) as raised:
            do(config, local)
    assert str(raised.value).count("worker tcp://") == 2
    assert everything(config.out) == {}
    with FolderRun(config) as run:  # neither locked nor taken for a run
        list(run.outcomes())


@pytest.mark.parametrize("question", ["installed", "failure_of"])
def test_a_worker_that_dies_before_the_run_lacks_nothing(
    local: Any, config: RunConfig, question: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ask(self: Any, asked: Any, *arguments: str) -> dict[str, Any]:
        answers = real(self, asked, *arguments)
        if asked.__name__ == question:
            answers |= {next(iter(answers)): distributed.comm.CommClosedError("connection closed")}
        return answers

    real = cluster_module.DaskCluster._ask
    monkeypatch.setattr(cluster_module.DaskCluster, "_ask", ask)
    with pytest.raises(
        RuntimeEnvironmentError, match=r"worker tcp://.*: does not answer \(.*closed.*\); it may"
    ) as raised:
        do(config, local)
    assert "nuclei-edge" not in str(raised.value)


def test_a_link_that_leads_nowhere_fails_alone(local: Any, config: RunConfig, tmp_path: Path) -> None:
    (tmp_path / "in/0.png").symlink_to(tmp_path / "gone.png")
    outcomes = do(config, local)
    assert [name for name, outcome in sorted(outcomes.items()) if not outcome.is_ok] == ["0.png", "broken.png"]


@pytest.mark.parametrize(
    ("given", "n_threads", "expected"),
    [((None, None), 1, (1, 614)), ((8, None), 4, (2, 614)), ((1, 300), 4, (1, 300))],
)
def test_a_worker_shares_its_threads_and_keeps_below_its_memory_limit(
    config: RunConfig, given: tuple[int | None, int | None], n_threads: int, expected: tuple[int, int]
) -> None:
    threads, mib = given
    limited = replace(config, max_memory=None if mib is None else mib << 20)
    with FolderRun(limited) as run:
        job = replace(run.worker.job, options=replace(run.worker.job.options, threads=threads))
        plugin = cluster_worker.RunPlugin("run", job, run.store, "out", run.store.fingerprint(), run.files[0])
        events: list[Any] = []
        dask_worker = SimpleNamespace(
            state=SimpleNamespace(nthreads=n_threads),
            memory_manager=SimpleNamespace(memory_limit=1 << 30),
            log_event=lambda topic, event: events.append((topic, event)),
        )
        plugin.setup(dask_worker)
    assert plugin.failure is None
    worker = plugin.worker
    assert worker is not None
    assert (worker.job.options.threads, (worker.job.max_memory or 0) >> 20) == expected
    for done in range(4):
        worker.report("a.tif", done, 3)
    assert events == [("run", ["a.tif", 0, 3]), ("run", ["a.tif", 3, 3])]  # those between came too soon


def finish_at_once(file: ImageFile, run: str) -> FileOutcome:  # noqa: ARG001
    return FileOutcome(())


def test_a_long_run_takes_no_more_of_the_scheduler_than_a_short_one(
    local: Any, monkeypatch: pytest.MonkeyPatch, config: RunConfig
) -> None:
    files = [ImageFile(Path(str(index)), str(index), str(index)) for index in range(500)]
    monkeypatch.setattr(cluster_crew, "process_in_worker", finish_at_once)
    known: list[int] = []
    with open_cluster(local.scheduler_address, print) as cluster, FolderRun(config) as run:
        crew = cluster.crew("many", run.worker.job, run.store, run.files, report_nothing)
        for _ in crew.outcomes(files):
            known.append(len(local.scheduler.tasks))
    assert len(known) == len(files)
    # Those that are handed out, and those whose end the scheduler has not been told of yet.
    assert max(known) <= 4 * FILES_AHEAD * 2
    assert crew.n_processed == len(files)


def test_two_tries_are_made_where_an_earlier_process_was_killed(config: RunConfig) -> None:
    killed = []  # attempts that never end
    with FolderRun(config) as run:
        for n_before in range(cluster_worker.TRIES):
            assert run.store.n_killed("a.png") == n_before
            killed.append(run.store.attempt("a.png"))
            killed[-1].__enter__()
        assert (run.store.n_killed("a.png"), run.store.n_killed("b.png")) == (cluster_worker.TRIES, 0)
        with run.store.attempt("a.png"):
            pass
        assert run.store.n_killed("a.png") == 0
