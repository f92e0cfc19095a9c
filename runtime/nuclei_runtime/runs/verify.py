"""Segments everything again and compares with an earlier run; nothing is written into the results folder."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from nuclei_runtime.errors import InputsError
from nuclei_runtime.results.conditions import kept_conditions
from nuclei_runtime.results.differing import differing_results
from nuclei_runtime.results.earlier import EarlierResults
from nuclei_runtime.results.joined_tables import write_tables
from nuclei_runtime.results.layout import IMAGES_TABLE, PROVENANCE_FILE, RECORDS_FOLDER, token_of
from nuclei_runtime.results.mirror import mirrored
from nuclei_runtime.results.outcome import Verified
from nuclei_runtime.results.provenance import differing_settings, read_provenance
from nuclei_runtime.results.records import Record, digest_file, record_of, with_recorded
from nuclei_runtime.results.shard import WHOLE
from nuclei_runtime.results.table_formats import finish_tables
from nuclei_runtime.runs.config import RunConfig, find_inputs
from nuclei_runtime.runs.given import AnyWorker
from nuclei_runtime.runs.image_file import make_results
from nuclei_runtime.runs.inputs import ImageFile
from nuclei_runtime.runs.run import Cluster, load_worker, with_same_view
from nuclei_runtime.runs.sources import at_hand
from nuclei_runtime.stores.remote import RemoteFolder
from nuclei_runtime.wording import counted
from nuclei_runtime.writers.outputs import TABLES


def verify(config: RunConfig, cluster: Cluster | None = None) -> Generator[Verified, None, None]:
    """Segment all images again in a temporary folder and compare.

    Parameters
    ----------
    config : RunConfig
        `RunConfig.mode` does not matter.
    cluster : Cluster, optional
        Other processes, which compare the images.

    Yields
    ------
    Verified
        First for the provenance, then for each image, on a cluster as they are finished, then for the tables.

    Raises
    ------
    InputsError
        `config.out` holds no results, or no image was found.
    RuntimeEnvironmentError
        The temporary folder cannot be written to; or see `nuclei_runtime.runs.cluster`.
    """
    with mirrored(config.out, [PROVENANCE_FILE]) as folder:
        if not (folder / PROVENANCE_FILE).is_file():
            raise InputsError(f"{config.out}: has no results to verify: it contains no {PROVENANCE_FILE}")
        inputs, labels = find_inputs(config)
        notes: list[str] = []
        config = with_same_view(config, inputs.files, notes.append)
        worker = load_worker(config, labels=labels)
        differences = _compare_provenance(folder / PROVENANCE_FILE, worker.describe())
        yield Verified(PROVENANCE_FILE, (*differences, *notes))
    files = [file for file in inputs.files if config.shard.owns(token_of(file.name))]
    if cluster is None or not files:
        yield from (compare_file(file, worker, config.out) for file in files)
    else:
        job = replace(worker.job, options=config.options)  # each process has threads of its own
        yield from cluster.comparers(str(config.out), job, EarlierResults(config.out), files).outcomes(files)
    if config.shard == WHOLE:
        parts = (RECORDS_FOLDER, TABLES.folder)
        with mirrored(config.out, config.tables.files, parts) as folder, TemporaryDirectory() as work:
            names = with_recorded(folder, (file.name for file in inputs.files))
            conditions = config.conditions or kept_conditions(folder)
            write_tables(folder, names, worker.job.run_key, work=Path(work), conditions=conditions)
            for name in finish_tables(Path(work), config.tables):
                same = (folder / name).is_file() and digest_file(folder / name) == digest_file(work + "/" + name)
                yield Verified(name, () if same else ("is missing, or differs from what the records give",))


def compare_file(file: ImageFile, worker: AnyWorker, out: Path | RemoteFolder) -> Verified:
    """Segment an image again and compare.

    Raises
    ------
    RuntimeEnvironmentError
        The temporary folder cannot be written to, or the results cannot be read.
    """
    return Verified(file.name, tuple(_compare_image(file, worker, out)))


def _compare_image(file: ImageFile, worker: AnyWorker, out: Path | RemoteFolder) -> Iterator[str]:
    try:
        earlier = record_of(out, file.name)
    except FileNotFoundError:
        yield "it has no record"
        return
    if earlier is None:
        yield "its record is damaged"
        return
    differing = differing_results(out, earlier)
    yield from (f"{target} is missing or damaged" for target in differing.damaged)
    yield from (f"{target} has changed since it was written" for target in differing.changed)
    with at_hand(file) as (local, source), TemporaryDirectory() as work:
        if isinstance(source, str) and earlier.source is not None:
            yield source
            return
        again, _ = make_results(local, source, worker, Path(work))
    yield from _compare_records(earlier, again)


def _compare_records(earlier: Record, again: Record) -> Iterator[str]:
    if earlier.source != again.source:
        yield "the image is not the one that was segmented"
    if earlier.labels_from != again.labels_from:
        yield "the labels are not those that were measured"
    if earlier.run_key != again.run_key:
        yield f"its run key was {earlier.run_key} and is {again.run_key}"
    for target in sorted(earlier.results.keys() | again.results.keys()):
        was, is_now = earlier.results.get(target), again.results.get(target)
        if was != is_now:
            yield f"{target} was {was or 'missing'} and is {is_now or 'missing'}"
    if tuple(replace(plane, changed_results=None) for plane in earlier.planes) != again.planes:
        yield f"its rows in {IMAGES_TABLE} were {_summary(earlier)} and are {_summary(again)}"


def _summary(record: Record) -> str:
    return "; ".join(
        f"{plane.status}, {plane.reason or counted(plane.n_nuclei or 0, 'nucleus', 'nuclei')}"
        for plane in record.planes
    )


def _compare_provenance(path: Path, description: dict[str, Any]) -> Iterator[str]:
    stored = read_provenance(path)
    if not stored:
        yield "is damaged"
        return
    yield from differing_settings(stored["method"], description)
