"""Puts the results of one image into a results folder: all of them, or none.

The outputs of an image are first written to a workspace, a folder of their own in DIR/.nuclei-partial. The last file
written there is the record, which names the results with their digests. Then the results are moved into place, and
after them the record. A record in its place means that the results are complete; one in a workspace shows what a killed
run had already moved. Workers and processes that use the same folder need not communicate, because each touches only
the files of its own images.

The blocks of a large image are kept in DIR/.nuclei-blocks until its results are in place, so that a run that takes over
from a killed one need not begin the image anew.
"""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from nuclei_runtime.errors import ResultsExistError
from nuclei_runtime.results.layout import (
    BLOCKS_FOLDER,
    PARTIAL_FOLDER,
    PROVENANCE_FILE,
    TRIED_MARK,
    leads_out,
    record_path,
    remove_results,
    token_of,
)
from nuclei_runtime.results.lock import LockFile
from nuclei_runtime.results.records import Record, digest_file, read_record
from nuclei_runtime.results.writing import make_folder, move, write_through, writing

_RECORD_IN_WORKSPACE = "record.json"


@dataclass(frozen=True)
class ResultStore:
    """A results folder as workers see it. It can be pickled, so that they may be processes.

    Attributes
    ----------
    path : Path
        The results folder.
    lock : LockFile
        Keeps other runs away; held by the process that opened the folder.
    """

    path: Path
    lock: LockFile

    def check(self) -> None:
        """Raise FileNotFoundError if the folder has vanished or another one is in its place."""
        # An unmounted network share leaves an empty folder behind.
        if not (self.path / PROVENANCE_FILE).is_file() or not self.lock.is_in_place:
            raise FileNotFoundError(errno.ENOENT, "the results folder has vanished or was emptied during the run")

    @contextmanager
    def workspace(self, name: str) -> Iterator[Path]:
        """Make a folder for the unfinished results of an image, and remove it at the end.

        Parameters
        ----------
        name : str
            Of the image.

        Raises
        ------
        RuntimeEnvironmentError
            The results folder has vanished since the run began, or cannot be written to.
        """
        with writing(self.path):
            self.check()
        with self.new_workspace(token_of(name)) as work:
            yield work

    @contextmanager
    def new_workspace(self, token: str) -> Iterator[Path]:
        """Make a workspace, whether or not the folder is complete, and remove it at the end."""
        work = self.path / PARTIAL_FOLDER / f"{token}-{secrets.token_hex(8)}"
        with writing(work):
            # Without the parent's parents: a results folder that has vanished must not be made again.
            make_folder(work.parent)
            while not work.exists():
                try:
                    work.mkdir()
                except FileNotFoundError:  # another shard has just ended and removed the empty folder
                    make_folder(work.parent)
        try:
            yield work
        finally:
            shutil.rmtree(work, ignore_errors=True)

    def kept_blocks(self, name: str, key: str) -> Path:
        """Return where to keep the blocks of a plane, in a folder that exists.

        Parameters
        ----------
        name : str
            Of the image.
        key : str
            All that the blocks depend on.

        Raises
        ------
        RuntimeEnvironmentError
            The folder cannot be made.
        """
        folder = self.path / BLOCKS_FOLDER
        with writing(folder):
            self.check()
            make_folder(folder)
        return folder / f"{token_of(name)}-{hashlib.sha256(key.encode()).hexdigest()}"

    def remove_kept_blocks(self, owns: Callable[[str], bool]) -> None:
        """Remove the blocks of the images whose token `owns` names, and the folder if this empties it."""
        folder = self.path / BLOCKS_FOLDER
        with suppress(FileNotFoundError):
            for path in folder.iterdir():
                if owns(path.name.partition("-")[0]):
                    path.unlink(missing_ok=True)
        with suppress(OSError):  # other blocks are in it, or another shard has just removed it
            folder.rmdir()

    def place(self, record: Record, made: Mapping[str, Path], work: Path) -> None:
        """Move the results of an image into place, and remove those of an earlier run.

        Parameters
        ----------
        record : Record
        made : mapping of str to Path
            For each path in `record.results` the file in the workspace.
        work : Path
            The workspace.

        Raises
        ------
        ResultsExistError
            A file that no run wrote is in the way, or the file system refuses the name.
        RuntimeEnvironmentError
            The results cannot be written, for example because the disk is full. What was written before stays.
        """
        token = token_of(record.image)
        earlier = self.earlier_results(token)
        for target in record.results:
            path = self.path / target
            if leads_out(self.path, path.parent):
                raise ResultsExistError(f"{path}: leads through a link out of the results folder; remove the link")
            if earlier is not None and target not in earlier and os.path.lexists(path):
                raise ResultsExistError(
                    f"{path}: is in the way, and is not a result of this image: it is your own file, or the result of "
                    "an image with the same name; move it away, or rename the image"
                )
        journal = work / _RECORD_IN_WORKSPACE
        placed: list[str] = []
        try:
            with writing(self.path, of_one_image=True):
                write_through(journal, record.to_json())
                for target, source in made.items():
                    move(source, self.path / target)
                    placed.append(target)
                remove_results(self.path, set(earlier or ()) - set(record.results))
            with writing(self.path):
                move(journal, record_path(self.path, token))
        except BaseException:  # Ctrl-C too: without their record they would pass for the user's own files
            with suppress(OSError):
                remove_results(self.path, placed)
            raise

    def replace_record(self, record: Record, work: Path) -> None:
        """Replace the record of an image whose results stay as they are.

        Raises
        ------
        RuntimeEnvironmentError
            The record cannot be written.
        """
        with writing(self.path):
            write_through(work / _RECORD_IN_WORKSPACE, record.to_json())
            move(work / _RECORD_IN_WORKSPACE, record_path(self.path, token_of(record.image)))

    def earlier_results(self, token: str) -> set[str] | None:
        """Return an earlier run's record of an image; None if it is damaged: then any file may be a result."""
        try:
            record = read_record(record_path(self.path, token))
        except FileNotFoundError:
            return set()
        return None if record is None else set(record.results)

    def remove_leftover(self, work: Path, token: str) -> None:
        """Remove the workspace of a killed process, and what that process had moved into place without its record."""
        journal = None
        with suppress(OSError):
            journal = read_record(work / _RECORD_IN_WORKSPACE)
        if journal is not None:
            earlier = None
            with suppress(FileNotFoundError):
                earlier = read_record(record_path(self.path, token))
            # What took the place of an earlier result, whose record is still there, would pass for the user's change.
            placed = journal.results.items() - (set() if earlier is None else earlier.results.items())
            remove_results(self.path, [path for path, sha256 in placed if self._is(path, sha256)])
        shutil.rmtree(work) if work.is_dir() and not work.is_symlink() else work.unlink()

    def remove_recorded(self, token: str) -> None:
        """Remove the results of an image and its record.

        A damaged record does not say which these are. It stays until `place` replaces them.
        """
        results = self.earlier_results(token)
        if results is not None:
            remove_results(self.path, results)
            record_path(self.path, token).unlink(missing_ok=True)

    def for_other_machines(self) -> ResultStore:
        """Return the store for workers that run elsewhere: in other working folders, on other machines."""
        return replace(self, path=self.path.absolute(), lock=self.lock.for_other_machines())

    def fingerprint(self) -> str:
        """Return the SHA-256 of the provenance: who reads another one sees another folder.

        Raises
        ------
        RuntimeEnvironmentError
            There is none.
        """
        with writing(self.path):
            self.check()
            return digest_file(self.path / PROVENANCE_FILE).sha256

    def n_killed(self, name: str) -> int:
        """Return how many processes were killed over an image in this run, and remove what else they left of it.

        Nobody may be processing the image.

        Raises
        ------
        RuntimeEnvironmentError
            The results folder has vanished since the run began, or cannot be written to.
        """
        token = token_of(name)
        with writing(self.path):
            self.check()
            partial = self.path / PARTIAL_FOLDER
            left = [path for path in _listed(partial) if path.name.startswith(f"{token}-")]
            marks = [path for path in left if path.name.startswith(f"{token}-{TRIED_MARK}")]
            for work in set(left) - set(marks):
                self.remove_leftover(work, token)
        return len(marks)

    @contextmanager
    def attempt(self, name: str) -> Iterator[None]:
        """Leave a mark while an image is processed, which `n_killed` counts if this process is killed."""
        token = token_of(name)
        partial = self.path / PARTIAL_FOLDER
        mark = partial / f"{token}-{TRIED_MARK}{secrets.token_hex(8)}"
        with writing(mark):
            make_folder(partial)
            mark.touch()
        try:
            yield
            for other in _listed(partial):  # the image is done
                if other.name.startswith(f"{token}-{TRIED_MARK}"):
                    other.unlink(missing_ok=True)
        finally:
            mark.unlink(missing_ok=True)

    def _is(self, target: str, sha256: str) -> bool:
        try:
            return digest_file(self.path / target).sha256 == sha256
        except OSError:
            return False


def _listed(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.is_dir() else []
