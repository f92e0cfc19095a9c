"""A results folder, opened for one run. However the run ends, all files are complete and the user's are untouched."""

from __future__ import annotations

import filecmp
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path, PurePath
from typing import Literal

from nuclei_runtime.errors import ResultsExistError
from nuclei_runtime.results.conditions import Conditions, kept_conditions
from nuclei_runtime.results.joined_tables import Joined, refuse_foreign_tables, write_tables
from nuclei_runtime.results.layout import (
    CONDITIONS_FILE,
    PARTIAL_FOLDER,
    PROVENANCE_FILE,
    RECORDS_FOLDER,
    REPORT_FILE,
    holds_results,
    is_own_report,
    record_path,
    recorded_tokens,
    refuse_links,
)
from nuclei_runtime.results.lock import ResultsLock
from nuclei_runtime.results.provenance import without_unused_methods
from nuclei_runtime.results.records import read_record, with_recorded
from nuclei_runtime.results.shard import WHOLE, Shard
from nuclei_runtime.results.store import ResultStore
from nuclei_runtime.results.table_formats import (
    TableOptions,
    finish_tables,
    refuse_foreign_files,
    remove_other_formats,
)
from nuclei_runtime.results.writing import move, write_through, writing

Mode = Literal["new", "resume", "overwrite"]
"""What to do if there already are results: refuse to run, continue with them, or remove them first."""


class ResultsFolder:
    """The results of a run, or of one shard of it.

    Parameters
    ----------
    out : path
        Created if it does not exist.
    mode : Mode
    shard : Shard
        Results and leftovers of other shards are left alone.
    tables : TableOptions
        Which joined tables to write.
    conditions : Conditions, optional
        Of the images, for these tables. With ``resume``, by default those of the earlier run.

    Attributes
    ----------
    path : Path
    store : ResultStore
        Writes the results of single images, for the workers.

    Raises
    ------
    ResultsExistError
        `out` holds results and `mode` is ``new``, or it holds tables that no run wrote or records of a format that
        this version does not know, or a link leads out of it.
    ResultsInUseError
        Another process is using it.
    RuntimeEnvironmentError
        The folder cannot be written to.
    """

    def __init__(
        self,
        out: str | os.PathLike[str],
        mode: Mode = "new",
        shard: Shard = WHOLE,
        tables: TableOptions = TableOptions(),  # noqa: B008  # it is frozen
        conditions: Conditions | None = None,
    ) -> None:
        self.path = Path(out)
        self._shard, self._tables, self._conditions = shard, tables, conditions
        with writing(self.path):
            if self.path.exists() and not self.path.is_dir():
                raise ResultsExistError(f"{out}: a file; choose a folder for the results")
            refuse_links(self.path)
            refuse_foreign_tables(self.path)
            refuse_foreign_files(self.path, tables)
            if mode == "new":
                self._refuse_results()
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = ResultsLock(self.path, shard)
            self.store = ResultStore(self.path, self._lock.file)
            try:
                if mode == "new":  # another run may have come and gone meanwhile
                    self._refuse_results()
                else:
                    self._refuse_unknown_records()
                if mode == "resume" and conditions is None:
                    self._conditions = kept_conditions(self.path)
                self._remove_leftovers()
                if mode != "resume":
                    self.store.remove_kept_blocks(self._owns)
                if mode == "overwrite":
                    self._remove_recorded()
            except BaseException:
                self._lock.release()
                raise

    def write_provenance(self, text: str) -> None:
        """Write how the run segments, and the conditions of its images for a run that continues it.

        From then on, a missing file means that the folder has vanished.
        """
        with writing(self.path), self.store.new_workspace("provenance") as work:
            if self._conditions is not None:
                conditions = work / PurePath(CONDITIONS_FILE).name
                write_through(conditions, self._conditions.to_csv())
                move(conditions, self.path / CONDITIONS_FILE)
            (work / PROVENANCE_FILE).write_text(text, encoding="utf-8", newline="\n")
            move(work / PROVENANCE_FILE, self.path / PROVENANCE_FILE)

    def remove_provenance(self) -> None:
        """Remove what `write_provenance` wrote, before a run that cannot begin."""
        (self.path / PROVENANCE_FILE).unlink(missing_ok=True)
        (self.path / CONDITIONS_FILE).unlink(missing_ok=True)

    def forget_blocks(self) -> None:
        """Remove the blocks that were kept of images, after a run that was not interrupted."""
        self.store.remove_kept_blocks(self._owns)

    def close(self, *, is_last: bool = True) -> None:
        """Release the folder; unless other shards may still run, remove the folder of unfinished results."""
        if is_last:
            with suppress(OSError):  # something is left there, or everything has vanished
                (self.path / PARTIAL_FOLDER).rmdir()
        self._lock.release()

    def join(self, names: Iterable[str], run_key: str, *, only_whole: bool = False) -> Joined | None:
        """Write ``images.csv``, ``summary.csv`` and the tables of nuclei from all records and move them into place.

        Parameters
        ----------
        names : iterable of str
            The run's images.
        run_key : str
            Of the run.
        only_whole : bool
            Leave the tables alone unless a run of this key is done with each of these images.

        Returns
        -------
        Joined or None
            None if the tables were left alone.

        Raises
        ------
        RuntimeEnvironmentError
            The tables cannot be written.
        """
        with writing(self.path), self.store.new_workspace("tables") as work:
            self.store.check()
            needed = list(names)
            rows = with_recorded(self.path, needed)
            joined = write_tables(
                self.path,
                rows,
                run_key,
                work=work,
                needed=needed if only_whole else (),
                conditions=self._conditions,
            )
            if joined is not None:
                kept = finish_tables(work, self._tables)
                if any(_differ(work / name, self.path / name) for name in kept):
                    self._remove_report()
                for name in kept:
                    move(work / name, self.path / name)
                remove_other_formats(self.path, kept)
                self._forget_unused_methods(joined)
        return joined

    def _forget_unused_methods(self, joined: Joined) -> None:
        text = (self.path / PROVENANCE_FILE).read_text(encoding="utf-8")
        kept = without_unused_methods(text, joined.run_keys)
        if kept != text:
            self.write_provenance(kept)

    def _refuse_results(self) -> None:
        found = holds_results(self.path)
        if found and self._shard != WHOLE:
            found = [RECORDS_FOLDER] if any(map(self._shard.owns, recorded_tokens(self.path))) else []
        if found:
            raise ResultsExistError(
                f"{self.path}: already contains results ({', '.join(found)}); "
                "choose another folder, continue with --resume, or replace them with --overwrite"
            )

    def _refuse_unknown_records(self) -> None:
        for token in filter(self._shard.owns, recorded_tokens(self.path)):
            read_record(record_path(self.path, token))

    def _remove_leftovers(self) -> None:
        """Remove the workspaces of processes that were killed."""
        partial = self.path / PARTIAL_FOLDER
        for work in partial.iterdir() if partial.is_dir() else ():
            token = work.name.partition("-")[0]
            if self._owns(token):
                self.store.remove_leftover(work, token)

    def _remove_recorded(self) -> None:
        for token in filter(self._shard.owns, recorded_tokens(self.path)):
            self.store.remove_recorded(token)
        (self.path / CONDITIONS_FILE).unlink(missing_ok=True)
        remove_other_formats(self.path, ())
        self._remove_report()

    def _remove_report(self) -> None:
        """Remove a report of what the folder held before."""
        if is_own_report(self.path / REPORT_FILE):
            (self.path / REPORT_FILE).unlink()

    def _owns(self, token: str) -> bool:
        try:
            return self._shard.owns(token)
        except ValueError:  # of the provenance or of the tables: another shard's process may be using it
            return self._shard == WHOLE


def _differ(made: Path, present: Path) -> bool:
    return not present.is_file() or not filecmp.cmp(made, present, shallow=False)
