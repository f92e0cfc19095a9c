"""A results folder, written so that whatever ends the run leaves whole files, and nothing of the user's is touched.

What an image gives is first written to a workspace, a folder of its own in DIR/.nuclei-partial. The last thing in
there is the record, which names the results with their digests. Then the results are renamed into place, and after
them the record: a record in place stands for whole results, and one in a workspace tells what a killed run had put
in place. Processes that share a folder need no word between them, since each touches only what its share of the images
gives; that no two have the same share is held by a lock.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Lock
from typing import Literal

from nuclei_runtime.errors import ResultsExistError
from nuclei_runtime.results.joined_tables import refuse_foreign_tables, write_tables
from nuclei_runtime.results.layout import (
    IMAGES_TABLE,
    NUCLEI_TABLE,
    PARTIAL_FOLDER,
    PROVENANCE_FILE,
    RECORDS_FOLDER,
    holds_results,
    leads_out,
    record_path,
    recorded_tokens,
    refuse_links,
    remove_results,
    token_of,
)
from nuclei_runtime.results.lock import Claim
from nuclei_runtime.results.records import Record, digest_file, read_record, with_recorded
from nuclei_runtime.results.shard import WHOLE, Shard
from nuclei_runtime.results.writing import write_through, writing

Mode = Literal["new", "resume", "overwrite"]
"""What is done about results that are there: refuse them, go on with them, or remove them first."""

_RECORD_IN_WORKSPACE = "record.json"


class ResultsFolder:
    """The results of a run, or of one share of it.

    Parameters
    ----------
    out : path
        It is made where it does not exist.
    mode : Mode
    shard : Shard
        Results and leftovers of other shares are left alone.

    Raises
    ------
    ResultsExistError
        `out` holds results and `mode` is ``new``, or it holds tables that no run wrote, or a link leads out of it.
    ResultsInUseError
        Another process is at work in it.
    RuntimeEnvironmentError
        The folder cannot be written to.
    """

    def __init__(self, out: str | os.PathLike[str], mode: Mode = "new", shard: Shard = WHOLE) -> None:
        self.path = Path(out)
        self._shard = shard
        self._placing = Lock()
        with writing(self.path):
            if self.path.exists() and not self.path.is_dir():
                raise ResultsExistError(f"{out}: is a file; name a folder for the results")
            refuse_links(self.path)
            refuse_foreign_tables(self.path)
            if mode == "new":
                self._refuse_results()
            self.path.mkdir(parents=True, exist_ok=True)
            self._claim = Claim(self.path, shard)
            try:
                if mode == "new":  # another run may have come and gone meanwhile
                    self._refuse_results()
                self._remove_leftovers()
                if mode == "overwrite":
                    self._remove_recorded()
            except BaseException:
                self._claim.release()
                raise

    def write_provenance(self, text: str) -> None:
        """Write what the run is made with; from then on its absence tells that the folder has vanished."""
        with writing(self.path), self._workspace("provenance") as work:
            (work / PROVENANCE_FILE).write_text(text, encoding="utf-8")
            (work / PROVENANCE_FILE).replace(self.path / PROVENANCE_FILE)

    @contextmanager
    def workspace(self, name: str) -> Iterator[Path]:
        """Make a folder for what is not whole yet, and remove it in the end.

        Parameters
        ----------
        name : str
            The image's.

        Raises
        ------
        RuntimeEnvironmentError
            The results folder has vanished since the run began, or cannot be written to.
        """
        with writing(self.path):
            self._check_folder()
        with self._workspace(token_of(name)) as work:
            yield work

    def place(self, record: Record, made: Mapping[str, Path], work: Path) -> None:
        """Put the results of an image in place, and what an earlier run made of it out of the way.

        Parameters
        ----------
        record : Record
        made : mapping
            For each path in `record.results` the file in the workspace.
        work : Path
            The workspace.

        Raises
        ------
        ResultsExistError
            A file that no run wrote stands in the way, or the name is none for this file system.
        RuntimeEnvironmentError
            The results cannot be written: the disk is full, say. What was written before stays.
        """
        with self._placing:  # folders that one image leaves empty are removed while another's are made
            self._place(record, made, work)

    def _place(self, record: Record, made: Mapping[str, Path], work: Path) -> None:
        token = token_of(record.image)
        earlier = self._earlier_results(token)
        for target in record.results:
            path = self.path / target
            if leads_out(self.path, path.parent):
                raise ResultsExistError(f"{path}: leads through a link out of the results folder; remove the link")
            if earlier is not None and target not in earlier and os.path.lexists(path):
                raise ResultsExistError(
                    f"{path}: is in the way of the results, and is no result of this image: a file of the user's or "
                    "the result of an image with the same name; move it away, or rename the image"
                )
        journal = work / _RECORD_IN_WORKSPACE
        placed: list[str] = []
        try:
            with writing(self.path, of_one_image=True):
                write_through(journal, record.to_json())
                for target, source in made.items():
                    (self.path / target).parent.mkdir(parents=True, exist_ok=True)
                    source.replace(self.path / target)
                    placed.append(target)
                remove_results(self.path, set(earlier or ()) - set(record.results), prune=self._prune)
            with writing(self.path):
                record_path(self.path, token).parent.mkdir(exist_ok=True)
                journal.replace(record_path(self.path, token))
        except BaseException:  # Ctrl-C too: without their record they would pass for the user's own
            with suppress(OSError):
                remove_results(self.path, placed, prune=self._prune)
            raise

    def close(self, *, is_last: bool = True) -> None:
        """Let other processes at it; where none of another share can be, remove the folder of what is not whole."""
        if is_last:
            with suppress(OSError):  # something is left there, or everything has vanished
                (self.path / PARTIAL_FOLDER).rmdir()
        self._claim.release()

    @property
    def _prune(self) -> bool:
        return self._shard == WHOLE

    def join(self, names: Iterable[str], run_key: str, *, only_whole: bool = False) -> bool:
        """Write ``images.csv`` and ``nuclei.csv`` from all records and rename them into place.

        Parameters
        ----------
        names : iterable of str
            Images that are to be among them.
        run_key : str
        only_whole : bool
            Leave the tables alone unless there is a record of this run key for each of these images.

        Returns
        -------
        bool
            Whether they were written.
        """
        with writing(self.path), self._workspace("tables") as work:
            self._check_folder()
            needed = list(names)
            rows = with_recorded(self.path, needed)
            if not write_tables(self.path, rows, run_key, work=work, needed=needed if only_whole else ()):
                return False
            for name in (NUCLEI_TABLE, IMAGES_TABLE):
                (work / name).replace(self.path / name)
            return True

    def _check_folder(self) -> None:
        """Raise if what is written here nobody finds again, or another process has the folder's place."""
        # An unmounted share leaves an empty folder behind.
        if not (self.path / PROVENANCE_FILE).is_file() or not self._claim.stands:
            raise FileNotFoundError(errno.ENOENT, "the results folder has vanished or was emptied during the run")

    @contextmanager
    def _workspace(self, token: str) -> Iterator[Path]:
        work = self.path / PARTIAL_FOLDER / f"{token}-{secrets.token_hex(8)}"
        with writing(work):
            # Without the parent's parents: the results folder is not made again.
            work.parent.mkdir(exist_ok=True)
            try:
                work.mkdir()
            except FileNotFoundError:  # another share has just ended and removed the empty folder
                work.parent.mkdir(exist_ok=True)
                work.mkdir()
        try:
            yield work
        finally:
            shutil.rmtree(work, ignore_errors=True)

    def _refuse_results(self) -> None:
        found = holds_results(self.path)
        if found and self._shard != WHOLE:
            found = [RECORDS_FOLDER] if any(map(self._shard.owns, recorded_tokens(self.path))) else []
        if found:
            raise ResultsExistError(
                f"{self.path}: already holds results ({', '.join(found)}); "
                "name another folder, go on with --resume, or replace them with --overwrite"
            )

    def _remove_leftovers(self) -> None:
        """Remove workspaces of processes that were killed, with what these had put in place without its record."""
        partial = self.path / PARTIAL_FOLDER
        for work in partial.iterdir() if partial.is_dir() else ():
            token = work.name.partition("-")[0]
            if not self._owns(token):
                continue
            journal = None
            with suppress(OSError):
                journal = read_record(work / _RECORD_IN_WORKSPACE)
            if journal is not None:
                kept = self._earlier_results(token) or set()
                placed = {path for path in set(journal.results) - kept if self._is(path, journal.results[path])}
                remove_results(self.path, placed, prune=self._prune)
            shutil.rmtree(work) if work.is_dir() and not work.is_symlink() else work.unlink()

    def _remove_recorded(self) -> None:
        for token in filter(self._shard.owns, recorded_tokens(self.path)):
            remove_results(self.path, self._earlier_results(token) or (), prune=self._prune)
            record_path(self.path, token).unlink(missing_ok=True)
        for name in (IMAGES_TABLE, NUCLEI_TABLE):
            (self.path / name).unlink(missing_ok=True)

    def _earlier_results(self, token: str) -> set[str] | None:
        """Return what an earlier run made of an image; None where its record is damaged: anything may be its own."""
        try:
            record = read_record(record_path(self.path, token))
        except FileNotFoundError:
            return set()
        return None if record is None else set(record.results)

    def _owns(self, token: str) -> bool:
        try:
            return self._shard.owns(token)
        except ValueError:  # of the provenance, or of the tables: a living process of another share may be at it
            return self._shard == WHOLE

    def _is(self, target: str, sha256: str) -> bool:
        try:
            return digest_file(self.path / target).sha256 == sha256
        except OSError:
            return False
