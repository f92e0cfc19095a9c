"""Images and results by URL: the same as on a disk, whatever the store does."""

from __future__ import annotations

import json
import os
import re
import sysconfig
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from subprocess import PIPE, Popen
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image

from nuclei_runtime.checks.synthetic import fluorescence_field
from nuclei_runtime.errors import ResultsExistError, ResultsInUseError, RuntimeEnvironmentError
from nuclei_runtime.readers.plane import Selection
from nuclei_runtime.results import lease
from nuclei_runtime.results.layout import PROVENANCE_FILE
from nuclei_runtime.results.shard import Shard
from nuclei_runtime.runs.config import RunConfig
from nuclei_runtime.runs.image_file import FileOutcome
from nuclei_runtime.runs.run import FolderRun
from nuclei_runtime.runs.verify import verify
from nuclei_runtime.segmentation.options import SegmenterOptions
from nuclei_runtime.stores.remote import RemoteFolder

pytest.importorskip("fsspec")

INFER = Path(sysconfig.get_path("scripts")) / "nuclei-infer"
FOUND = {"zarr": [True], "imagexpress": [True, True, True, False], "harmony": [True] * 3, "cellvoyager": [True] * 3}
FIRST = Selection(channel=0, z="max")


@pytest.fixture
def store() -> Iterator[RemoteFolder]:
    """An empty folder in a store in memory."""
    folder = RemoteFolder(f"memory://{uuid4().hex}")
    yield folder
    folder.remove(folder.files())


def save(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(fluorescence_field(seed, height=64, width=80, n_nuclei=5)[0]).save(path)


@pytest.fixture
def config(tmp_path: Path, tiny_model: Path) -> RunConfig:
    """A local run over images of several kinds."""
    images = tmp_path / "in"
    for seed, name in enumerate(["a.png", "plate 1/a.png", "plate 1/b (2).png"]):
        save(images / name, seed)
    frames = [fluorescence_field(seed, height=64, width=80)[0] for seed in (7, 8)]
    tifffile.imwrite(images / "series.ome.tif", np.stack(frames), metadata={"axes": "TYX"})
    (images / "a.png").rename(images / "no_suffix")
    (images / "broken.png").write_bytes(b"")
    (images / "notes.txt").write_text("not an image", encoding="utf-8")
    (images / "plate 1/.hidden.png").write_bytes(b"hidden")
    return RunConfig((str(images),), tmp_path / "out", SegmenterOptions(tiny_model))


def upload(folder: Path, to: RemoteFolder) -> RemoteFolder:
    for path in folder.rglob("*"):
        if path.is_file():
            to.put(path, path.relative_to(folder).as_posix())
    return to


def contents(out: Path | RemoteFolder) -> dict[str, bytes]:
    """Return everything in a results folder; of its provenance and records, what does not depend on the place."""
    if isinstance(out, RemoteFolder):
        found = {name: out.read(name) for name in out.files()}
    else:
        found = {path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("*") if path.is_file()}
    provenance = json.loads(found[PROVENANCE_FILE])
    provenance["machine"]["images_folder"] = ""
    found |= {name: without_version(record) for name, record in found.items() if name.startswith("records/")}
    return found | {PROVENANCE_FILE: json.dumps(provenance).encode()}


def without_version(record: bytes) -> bytes:
    return re.sub(rb',\n +"version": "\w{64}"', b"", record)


def do(config: RunConfig) -> dict[str, FileOutcome]:
    with FolderRun(config) as run:
        return {outcome.planes[0].image: outcome for outcome in run.outcomes()}


def by_url(config: RunConfig, store: RemoteFolder, **changes: Any) -> RunConfig:
    """Return the same run with its images and results in a store."""
    source = upload(Path(config.sources[0]), store.folder("images/day 1"))
    return replace(config, sources=(source.url,), out=store.folder("results"), **changes)


@pytest.mark.parametrize("kind", ["memory", "file", "s3"])
def test_results_by_url_are_those_of_the_same_images_on_a_disk(
    kind: str, config: RunConfig, store: RemoteFolder, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if kind == "s3":
        request.getfixturevalue("s3")
        store = RemoteFolder("s3://lab")
    elif kind == "file":
        store = RemoteFolder(f"{tmp_path.as_uri()}/store")
    local = do(config)
    remote_config = by_url(config, store)
    remote = do(remote_config)
    assert remote == local
    assert [name for name in local if not local[name].is_ok] == ["broken.png"]
    assert "is empty" in (remote["broken.png"].planes[0].reason or "")
    assert contents(remote_config.out) == contents(config.out)
    again = do(replace(remote_config, mode="resume"))
    assert {name for name, outcome in again.items() if outcome.is_kept} == {name for name in local if local[name].is_ok}
    assert contents(remote_config.out) == contents(config.out)
    assert [verified for verified in verify(remote_config) if verified.differences] == []


def test_a_run_that_was_killed_in_mid_upload_is_resumed(
    config: RunConfig, s3: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The machine is gone when the third image is half uploaded; the lease and the half are still there."""
    do(config)
    remote = by_url(config, RemoteFolder("s3://lab"))
    command = [INFER, *remote.sources, "--out", str(remote.out), "--model", config.options.model, "--threads", "1"]
    seen: set[str] = set()

    def kill(environ: dict[str, Any], _: Callable[..., Any]) -> None:
        if environ["REQUEST_METHOD"] == "PUT" and "/overlays/" in environ["PATH_INFO"]:
            seen.add(environ["PATH_INFO"])
            if len(seen) == 3:
                process.kill()
                process.wait()

    s3.answers.append(kill)
    variables = os.environ | s3.environment | {"TMPDIR": str(tmp_path)}
    process = Popen([*map(str, command)], env=variables, cwd=tmp_path, stderr=PIPE, stdout=PIPE)
    process.communicate(timeout=120)
    assert process.returncode not in (0, 1, 2, 3)
    s3.answers.clear()
    left = remote.out.files()
    n_records = sum(name.startswith("records/") for name in left)
    assert 2 <= n_records < 5
    assert any(name.startswith(".nuclei-partial/") for name in left)
    assert ".nuclei-lock-1-of-1" in left
    monkeypatch.setattr(lease, "STALE_S", 0.2)
    monkeypatch.setattr(lease, "_LOOK_S", 0.1)
    with pytest.raises(ResultsExistError, match="s3://lab/results: already contains results"):
        do(remote)
    outcomes = do(replace(remote, mode="resume"))
    assert sum(outcome.is_kept for outcome in outcomes.values()) >= n_records - 1  # one of them failed
    assert contents(remote.out) == contents(config.out)


def test_requests_that_fail_or_are_slow_are_made_again_and_an_image_that_cannot_be_fetched_fails_alone(
    config: RunConfig, s3: Any
) -> None:
    remote = by_url(config, RemoteFolder("s3://lab"))
    s3.fail("503 Slow Down", code="SlowDown", times=2, method="GET", path="/no_suffix")
    s3.fail("503 Slow Down", code="SlowDown", times=2, method="PUT", path="/labels/")
    s3.fail("500 Internal Server Error", code="InternalError", times=1, method="PUT", path="/records/")
    s3.fail("", delay_s=0.5, times=2, method="GET", path="/b (2).png")
    s3.fail("403 Forbidden", code="AccessDenied", method="GET", path="/plate 1/a.png")
    outcomes = do(remote)
    assert {name for name, outcome in outcomes.items() if not outcome.is_ok} == {"plate 1/a.png", "broken.png"}
    assert (outcomes["plate 1/a.png"].planes[0].reason or "").startswith("cannot be read: access is denied (")
    s3.answers.clear()
    outcomes = do(replace(remote, mode="resume"))
    assert outcomes["plate 1/a.png"].is_ok
    do(config)
    assert contents(remote.out) == contents(config.out)


def test_an_image_whose_version_the_store_tells_is_not_fetched_again(
    config: RunConfig, s3: Any, tmp_path: Path
) -> None:
    remote = by_url(config, RemoteFolder("s3://lab"))
    group = zarr.open_group(tmp_path / "in/cells.ome.zarr", mode="w", zarr_format=2)
    group.create_array("0", data=fluorescence_field(1, height=64, width=80)[0], chunks=(32, 32))
    axes = [{"name": name, "type": "space"} for name in "yx"]
    group.attrs["multiscales"] = [{"version": "0.4", "axes": axes, "datasets": [{"path": "0"}]}]
    images = upload(tmp_path / "in", RemoteFolder(remote.sources[0]))
    do(remote)

    def read() -> set[str]:
        return {path.partition("/day 1/")[2] for method, path in s3.requests if method == "GET" and "/day 1/" in path}

    pixels = {"series.ome.tif", "plate 1/a.png", "plate 1/b (2).png", "cells.ome.zarr/0/0.0", "cells.ome.zarr/0/1.1"}
    assert pixels <= read()
    s3.requests.clear()
    outcomes = do(replace(remote, mode="resume"))
    assert sum(outcome.is_kept for outcome in outcomes.values()) == len(outcomes) - 1
    assert not pixels & read()
    images.write("plate 1/a.png", images.read("plate 1/b (2).png"))
    images.write("cells.ome.zarr/0/1.1", images.read("cells.ome.zarr/0/0.0"))
    outcomes = do(replace(remote, mode="resume"))
    assert [name for name, outcome in outcomes.items() if outcome.redone == "the image has changed"] == [
        "cells.ome.zarr",
        "plate 1/a.png",
    ]
    # An image of the same content is another version, which is known from then on.
    images.write("series.ome.tif", images.read("series.ome.tif"))
    record = next(name for name in remote.out.files() if b'"series.ome.tif"' in remote.out.read(name))
    remote.out.write(
        record, re.sub(rb'"version": "\w{64}"', b'"version": "' + b"0" * 64 + b'"', remote.out.read(record))
    )
    for _ in range(2):
        s3.requests.clear()
        assert do(replace(remote, mode="resume"))["series.ome.tif"].is_kept
    assert "series.ome.tif" not in read()


def test_a_store_that_is_gone_ends_the_run_and_keeps_what_is_done(config: RunConfig, s3: Any) -> None:
    remote = by_url(config, RemoteFolder("s3://lab"))
    s3.fail("403 Forbidden", code="ExpiredToken", method="PUT", path="/overlays/plate 1")
    with pytest.raises(RuntimeEnvironmentError, match=r"s3://lab/results/overlays/.*: cannot be written: access is d"):
        do(replace(remote, options=replace(config.options, threads=1)))
    s3.answers.clear()
    assert not any(name.startswith(".nuclei-") for name in remote.out.files())
    assert not any(name.startswith(("labels/plate 1", "tables/plate 1")) for name in remote.out.files())
    do(replace(remote, mode="resume"))
    do(config)
    assert contents(remote.out) == contents(config.out)


def test_results_that_were_changed_or_removed_in_the_store(config: RunConfig, store: RemoteFolder) -> None:
    remote = by_url(config, store)
    do(remote)
    before = contents(remote.out)
    remote.out.remove(["labels/plate 1/a.tif"])
    corrected = remote.out.read("labels/no_suffix.tif")
    remote.out.write("labels/no_suffix.tif", corrected + b"edited")
    verified = {found.name: found.differences for found in verify(remote) if found.differences}
    assert verified["plate 1/a.png"] == ("labels/plate 1/a.tif is missing or damaged",)
    assert verified["no_suffix"] == ("labels/no_suffix.tif has changed since it was written",)
    outcomes = do(replace(remote, mode="resume"))
    assert outcomes["plate 1/a.png"].redone == "labels/plate 1/a.tif is missing or damaged"
    assert outcomes["no_suffix"].changed == ("labels/no_suffix.tif",)
    assert remote.out.read("labels/no_suffix.tif") != corrected
    do(replace(remote, mode="overwrite"))
    assert contents(remote.out) == before


def test_a_file_of_the_users_own_is_never_replaced(config: RunConfig, store: RemoteFolder) -> None:
    remote = by_url(config, store)
    remote.out.write("nuclei.csv", b"my,own\n1,2\n")
    with pytest.raises(ResultsExistError, match=f"{remote.out}/nuclei.csv: is in the way of the results"):
        do(remote)
    assert remote.out.files() == {"nuclei.csv": 11}
    remote.out.remove(["nuclei.csv"])
    remote.out.write("labels/plate 1/a.tif", b"mine")
    with pytest.raises(ResultsExistError, match="already contains results"):
        do(remote)
    outcomes = do(replace(remote, mode="resume"))
    assert (outcomes["plate 1/a.png"].planes[0].reason or "").startswith(
        f"{remote.out}/labels/plate 1/a.tif: is in the way"
    )
    assert remote.out.read("labels/plate 1/a.tif") == b"mine"


def test_two_runs_do_not_use_a_folder_at_once(
    config: RunConfig, store: RemoteFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "BEAT_S", 0.1)
    monkeypatch.setattr(lease, "_LOOK_S", 0.05)
    remote = by_url(config, store)
    with FolderRun(remote) as run:
        with pytest.raises(ResultsInUseError, match=f"{remote.out}: another run is using this folder .process"):
            do(replace(remote, mode="resume"))
        remote.out.write(".nuclei-lock-1-of-1", b'{"holder": "another"}')  # it took this one for dead
        with pytest.raises(RuntimeEnvironmentError, match="another run has taken it over"):
            list(run.outcomes())
    assert remote.out.read(".nuclei-lock-1-of-1") == b'{"holder": "another"}'
    assert not any(name.startswith("records/") for name in remote.out.files())


def test_shares_of_a_run_join_their_tables_at_the_end(config: RunConfig, store: RemoteFolder) -> None:
    remote = by_url(config, store)
    for index in (1, 2, 3):
        assert "nuclei.csv" not in remote.out.files()
        do(replace(remote, shard=Shard(index, 3), mode="resume"))
    do(config)
    assert contents(remote.out) == contents(config.out)


@pytest.mark.parametrize("form", FOUND)
def test_plates_and_folders_that_are_images(
    form: str, tmp_path: Path, tiny_model: Path, store: RemoteFolder, plates: Any
) -> None:
    folder = tmp_path / "in/plate"
    planes = [(1, 1, 1, 0, 1, 1), (2, 3, 1, 0, 1, 1), (2, 3, 2, 0, 1, 1)]
    if form == "zarr":
        group = zarr.open_group(folder.with_suffix(".zarr"), mode="w", zarr_format=2)
        group.create_array("0", data=fluorescence_field(1, height=64, width=80)[0], chunks=(32, 32))
        axes = [{"name": name, "type": "space"} for name in "yx"]
        group.attrs["multiscales"] = [{"version": "0.4", "axes": axes, "datasets": [{"path": "0"}]}]
    elif form == "imagexpress":
        plates.imagexpress(folder, wells=("A01", "B03"), sites=2, waves=("DAPI",))
        for row, column, site in ((1, 1, 1), (1, 1, 2), (2, 3, 1)):  # one file was not copied
            plates.plane(folder / f"P_{'AB'[row - 1]}{column:02d}_s{site}.TIF", row, column, site)
    elif form == "harmony":
        plates.harmony(folder, planes)
    else:
        plates.cellvoyager(folder, [(row, column, field, 1, 1, 1) for row, column, field, *_ in planes])
    local = RunConfig((str(tmp_path / "in"),), tmp_path / "out", SegmenterOptions(tiny_model), selection=FIRST)
    remote = by_url(local, store)
    outcomes = do(remote)
    assert outcomes == do(local)
    assert [outcome.is_ok for outcome in outcomes.values()] == FOUND[form]
    assert contents(remote.out) == contents(local.out)
