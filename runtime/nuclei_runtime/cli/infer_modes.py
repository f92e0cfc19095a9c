"""What nuclei-infer and nuclei-measure do: a run, a watch, or a comparison. Heavy imports are inside the functions."""

from __future__ import annotations

import signal
from contextlib import AbstractContextManager, closing, nullcontext, suppress
from threading import Event
from typing import TYPE_CHECKING

import typer

from nuclei_runtime.cli.command import EXIT_SOME_FAILED, StopSignals, printable, require_extra
from nuclei_runtime.cli.progress import OutcomeReporter, print_stderr, progress_bar
from nuclei_runtime.wording import counted, listed

if TYPE_CHECKING:
    from nuclei_runtime.runs.cluster import DaskCluster
    from nuclei_runtime.runs.config import RunConfig
    from nuclei_runtime.runs.label_files import LabelSet
    from nuclei_runtime.runs.run import FolderRun


def segment_all(config: RunConfig, *, as_json: bool, with_report: bool, dask: str | None = None) -> None:
    """Segment or measure all images, on a Dask cluster if one is named, report on each and print the totals."""
    from nuclei_runtime.report.build import refuse_foreign_report, write_report
    from nuclei_runtime.runs.run import FolderRun

    if with_report:
        refuse_foreign_report(config.out)  # before the work, not after it

    done = "segmented" if config.labels is None else "measured"
    reporter, n_files = OutcomeReporter(as_json=as_json, done=done), 0
    run = None
    with StopSignals() as signals:
        try:
            with (
                _cluster(dask) as cluster,
                progress_bar("images") as update,
                FolderRun(config, update.report_blocks, cluster) as run,
            ):
                n_files = len(run.files)
                for note in run.view_notes:
                    print_stderr(note)
                if config.same_view:
                    print_stderr(f"the same view is used for all images: --view {run.view}")
                if run.changes is not None:
                    print_stderr(run.changes)
                for folder in run.inputs.unreadable:
                    print_stderr(f"failed: {folder}")
                _name_unpaired(run.labels)
                update(0, n_files)
                for outcome in run.outcomes():
                    reporter.report(outcome)
                    update(reporter.n_files)
        except KeyboardInterrupt:
            print_stderr(
                "stopped before the first image"
                if run is None
                else f"stopped: {run.n_processed} of {counted(n_files, 'image')} done; results in {config.out}; "
                "--resume continues"
            )
            _print_notes(run)
            raise typer.Exit(signals.exit_code) from None
    _print_notes(run)
    if with_report:
        write_report(config.out, config.conditions)
    if not as_json:
        _print_totals(config, run, reporter, with_report=with_report)
    unpaired = run.labels is not None and run.labels.without_image
    if reporter.n_failed or reporter.n_in_part or reporter.n_changed or run.inputs.unreadable or unpaired:
        raise typer.Exit(EXIT_SOME_FAILED)


def _print_totals(config: RunConfig, run: FolderRun, reporter: OutcomeReporter, *, with_report: bool) -> None:
    from nuclei_runtime.results.layout import REPORT_FILE
    from nuclei_runtime.writers.outputs import BEHIND, OUTPUTS

    print(reporter.summary(len(run.files), run.inputs.n_skipped, len(run.inputs.unreadable)))
    if reporter.n_touching_border:
        print(
            f"nuclei that touch the edge of their image and may be cut: {reporter.n_touching_border} of "
            f"{reporter.n_nuclei}; --exclude-border leaves them out"
        )
    if reporter.changes:
        print(f"compared with the labels before the correction: {reporter.changes}")
    if reporter.n_left_out:
        print(f"left out: {counted(reporter.n_left_out, 'nucleus', 'nuclei')}; see n_left_out in images.csv")
    for line in reporter.flagged():
        print(line)
    if run.joined is not None:
        folders = run.joined.folders
    else:
        folders = frozenset(output.folder for output in config.outputs.outputs if reporter.n_segmented)
    written = [output.folder for output in OUTPUTS if output.folder in folders and output not in BEHIND]
    written += () if run.joined is None else config.tables.files
    written += [REPORT_FILE] * with_report
    print(f"results in {config.out}: {', '.join(written) or 'none of this shard'}")
    if reporter.n_changed:
        print(
            f"kept, because somebody changed them after the run: results of {counted(reporter.n_changed, 'image')}; "
            "the tables show what was there before"
        )
        print(
            "measure corrected labels with nuclei-measure; to make a result again, delete the changed file and use "
            "--resume, or replace all with --overwrite"
        )
    if run.joined is None:
        files = ", ".join(config.tables.files)
        print(f"the last shard writes {files}, or a run with --resume and without --shard")


def _cluster(dask: str | None) -> AbstractContextManager[DaskCluster | None]:
    if dask is None:
        return nullcontext()
    require_extra("dask", "distributed", "cryptography")
    from nuclei_runtime.runs.cluster import open_cluster

    return open_cluster(dask, print_stderr)


def _name_unpaired(labels: LabelSet | None) -> None:
    """Name the label files that have no image, and the images that have no labels."""
    if labels is None:
        return
    for name in labels.without_image:
        print_stderr(f"failed: {name}: no image has this name")
    if labels.without_labels:
        print_stderr(f"not measured, because they have no labels: {listed(labels.without_labels)}")


def _print_notes(run: FolderRun | None) -> None:
    for note in () if run is None or run.joined is None else run.joined.notes:
        print_stderr(note)


def watch_folder(config: RunConfig, settle_s: float | None, *, as_json: bool) -> None:
    """Segment images as they appear, until a signal."""
    from nuclei_runtime.runs.watch import DEFAULT_SETTLE_S, watch

    reporter, stop = OutcomeReporter(as_json=as_json), Event()
    # The second signal interrupts: then not even the current image is finished.
    with StopSignals(stop) as signals, suppress(KeyboardInterrupt):
        for outcome in watch(config, stop, settle_s=settle_s or DEFAULT_SETTLE_S):
            if isinstance(outcome, str):
                print_stderr(outcome)
            else:
                reporter.report(outcome)
    in_part = f", {reporter.n_in_part} in part" if reporter.n_in_part else ""
    print_stderr(
        f"stopped: {counted(reporter.n_files, 'image')} done, {reporter.n_failed} of them failed{in_part}; "
        f"results in {config.out}"
    )
    for line in reporter.flagged():
        print_stderr(line)
    if signals.received == signal.SIGINT:
        raise typer.Exit(signals.exit_code)


def verify_run(config: RunConfig, dask: str | None = None) -> None:
    """Segment again, on a Dask cluster if one is named, and print what differs."""
    from nuclei_runtime.runs.verify import verify

    n_compared, n_different = 0, 0
    with _cluster(dask) as cluster, closing(verify(config, cluster)) as found:
        for verified in found:
            n_compared, n_different = n_compared + 1, n_different + bool(verified.differences)
            for difference in verified.differences:
                print(printable(f"differs: {verified.name}: {difference}"))
    print(f"{n_compared - n_different} of {n_compared} are unchanged (provenance, images and tables)")
    if n_different:
        raise typer.Exit(EXIT_SOME_FAILED)
