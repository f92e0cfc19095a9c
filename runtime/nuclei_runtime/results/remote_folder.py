"""A results folder that a URL names, opened for one run.

What single images leave there is uploaded by the workers; see `nuclei_runtime.results.remote_store`. Everything else,
the joined tables, the provenance and the decisions about what an earlier run has left, is done by a `ResultsFolder` on
a local copy of what it looks at, and the difference is uploaded.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from pathlib import Path

from nuclei_runtime.results.conditions import Conditions
from nuclei_runtime.results.folder import Mode, ResultsFolder
from nuclei_runtime.results.joined_tables import Joined
from nuclei_runtime.results.layout import (
    CONDITIONS_FILE,
    JOINED_FILES,
    PARTIAL_FOLDER,
    PROVENANCE_FILE,
    RECORDS_FOLDER,
    REPORT_FILE,
    RESULT_FOLDERS,
    is_result,
    record_name,
    record_path,
    recorded_tokens,
    token_of,
)
from nuclei_runtime.results.lease import Lease
from nuclei_runtime.results.mirror import fetch_present, naming, reading
from nuclei_runtime.results.records import FileDigest, digest_file, read_record
from nuclei_runtime.results.remote_store import RemoteStore
from nuclei_runtime.results.shard import WHOLE, Shard
from nuclei_runtime.results.table_formats import TableOptions
from nuclei_runtime.results.writing import writing
from nuclei_runtime.stores.remote import RemoteFolder
from nuclei_runtime.stores.scratch import scratch_folder
from nuclei_runtime.writers.outputs import TABLES

_OF_THE_RUN = (PROVENANCE_FILE, CONDITIONS_FILE, *JOINED_FILES, REPORT_FILE)
"""Files that belong to no single image."""


class RemoteResultsFolder:
    """The results of a run, or of one shard of it, in place of `ResultsFolder`.

    Parameters
    ----------
    out : RemoteFolder
    mode, shard, tables, conditions
        See `ResultsFolder`.

    Attributes
    ----------
    path : Path
        The local copy.
    store : RemoteStore
        Writes the results of single images, for the workers.

    Raises
    ------
    ResultsExistError, ResultsInUseError, RuntimeEnvironmentError
        See `ResultsFolder`.
    """

    def __init__(
        self,
        out: RemoteFolder,
        mode: Mode = "new",
        shard: Shard = WHOLE,
        tables: TableOptions = TableOptions(),  # noqa: B008  # it is frozen
        conditions: Conditions | None = None,
    ) -> None:
        self._out, self._shard = out, shard
        with ExitStack() as opened:
            self.path = opened.enter_context(scratch_folder())
            with writing(out):
                lease = Lease(out, shard)
            opened.callback(lease.release)
            self._uploaded: dict[str, FileDigest] = {}
            self._fetch_what_is_there(mode)
            was_empty = not any((self.path / folder).exists() for folder in RESULT_FOLDERS)
            self.store = RemoteStore(out, lease.held, was_empty)
            recorded = set(filter(shard.owns, recorded_tokens(self.path)))
            self._remove_leftovers()
            with naming(out, self.path):
                results = {one: read_record(record_path(self.path, one)) for one in recorded if mode == "overwrite"}
                self._local = ResultsFolder(self.path, mode, shard, tables, conditions)
            with writing(out):
                for token, record in results.items():
                    if record is not None:  # a damaged one stays until its results are replaced
                        out.remove(filter(is_result, record.results))
                        out.remove([record_name(token)])
            self._upload()
            self._opened = opened.pop_all()

    def write_provenance(self, text: str) -> None:
        """Write how the run segments."""
        self._local.write_provenance(text)
        self._upload()

    def remove_provenance(self) -> None:
        """Remove what `write_provenance` wrote, before a run that cannot begin."""
        self._local.remove_provenance()
        self._upload()

    def forget_blocks(self) -> None:
        """Remove the blocks that were kept of images: there are none."""

    def close(self, *, is_last: bool = True) -> None:
        """Release the folder."""
        self._local.close(is_last=is_last)
        self._opened.close()

    def join(self, names: Iterable[str], run_key: str, *, only_whole: bool = False) -> Joined | None:
        """Write the joined tables from all records, and upload them; see `ResultsFolder.join`."""
        needed = list(names)
        with reading(self._out):
            records = self._out.files(RECORDS_FOLDER)
            if only_whole and any(record_name(token_of(name)) not in records for name in needed):
                return None
            tables = self._out.files(TABLES.folder)
            for folder in (RECORDS_FOLDER, TABLES.folder):
                shutil.rmtree(self.path / folder, ignore_errors=True)
            # Sizes may change meanwhile, where other shards are still at work.
            self._out.fetch(dict.fromkeys(records), self.path)
            self._out.fetch(dict.fromkeys(tables), self.path)
        with naming(self._out, self.path):
            joined = self._local.join(needed, run_key, only_whole=only_whole)
        self._upload()
        return joined

    def _fetch_what_is_there(self, mode: Mode) -> None:
        """Copy what a `ResultsFolder` looks at when it is opened."""
        with reading(self._out):
            files, folders = self._out.entries()
            fetch_present(self._out, files.keys() & set(_OF_THE_RUN), self.path)
            for folder in RESULT_FOLDERS:
                if folder in folders and folder != RECORDS_FOLDER and any(self._out.folder(folder).entries()):
                    (self.path / folder).mkdir()
                    (self.path / folder / "present").touch()
            records = self._out.files(RECORDS_FOLDER) if RECORDS_FOLDER in folders else {}
            if mode == "new":  # their names are enough to refuse the folder
                for name in records:
                    (self.path / RECORDS_FOLDER).mkdir(exist_ok=True)
                    (self.path / name).touch()
            else:
                self._out.fetch(records, self.path)
        self._uploaded = {name: digest_file(self.path / name) for name in _OF_THE_RUN if (self.path / name).is_file()}

    def _remove_leftovers(self) -> None:
        """Remove what killed runs have uploaded without coming to the record."""
        with writing(self._out):
            for journal in self._out.files(PARTIAL_FOLDER):
                token = Path(journal).name.partition("-")[0]
                with suppress(ValueError):  # not a name that a run gives
                    if self._shard.owns(token):
                        self.store.undo(journal)

    def _upload(self) -> None:
        """Upload the files of the run that are new or have changed, and remove those that are gone."""
        present = {name: digest_file(self.path / name) for name in _OF_THE_RUN if (self.path / name).is_file()}
        with writing(self._out):
            for name, digest in present.items():
                if self._uploaded.get(name) != digest:
                    self._out.put(self.path / name, name)
            self._out.remove(self._uploaded.keys() - present.keys())
        self._uploaded = present


AnyResultsFolder = ResultsFolder | RemoteResultsFolder


def open_results_folder(
    out: Path | RemoteFolder, mode: Mode, shard: Shard, tables: TableOptions, conditions: Conditions | None
) -> AnyResultsFolder:
    """Open a results folder, wherever it is; see `ResultsFolder`."""
    opened = ResultsFolder if isinstance(out, Path) else RemoteResultsFolder
    return opened(out, mode, shard, tables, conditions)  # type: ignore[arg-type]
