"""Puts the results of one image into a results folder that a URL names: all of them, or none.

An object store cannot move anything, and an upload takes its time. So the results are first written to a local folder.
Then an object in URL/.nuclei-partial, with the content of the record, says what is about to be uploaded. The results
are uploaded, each is checked, and the record comes last. A run that was killed leaves that object behind, and the next
run removes what it names and no record does.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from nuclei_runtime.errors import ResultsExistError
from nuclei_runtime.results.layout import PARTIAL_FOLDER, PROVENANCE_FILE, TRIED_MARK, is_result, record_name, token_of
from nuclei_runtime.results.lease import HeldLease
from nuclei_runtime.results.records import Record, parse_record, record_of_token
from nuclei_runtime.results.store import ResultStore
from nuclei_runtime.results.writing import writing
from nuclei_runtime.stores.remote import RemoteFolder
from nuclei_runtime.stores.scratch import scratch_folder


def _partial(name: str, kind: str = "") -> str:
    """Return how the names of unfinished things of an image begin."""
    return f"{PARTIAL_FOLDER}/{token_of(name)}-{kind}"


@dataclass(frozen=True)
class RemoteStore:
    """A results folder that a URL names, as workers see it, in place of `ResultStore`. It can be pickled.

    Attributes
    ----------
    path : RemoteFolder
        The results folder.
    lease : HeldLease
        Keeps other runs away; held by the process that opened the folder.
    was_empty : bool
        Whether there were no results when the run began: then no file of the user's can be in the way.
    """

    path: RemoteFolder
    lease: HeldLease
    was_empty: bool = False

    def check(self) -> None:
        """Raise FileNotFoundError if the folder was emptied, or another run has taken it over."""
        self.lease.check()

    @contextmanager
    def workspace(self, _: str) -> Iterator[Path]:
        """Make a local folder for the unfinished results of an image, and remove it at the end."""
        with scratch_folder() as work:
            yield work

    def kept_blocks(self, *_: str) -> None:
        """Return where to keep the blocks of a large plane: nowhere, they are larger than its results."""

    def remove_kept_blocks(self, *_: object) -> None:
        """Remove the blocks of images: there are none."""

    def place(self, record: Record, made: Mapping[str, Path], _: Path) -> None:
        """Upload the results of an image and then their record, and remove the results of an earlier run.

        Parameters
        ----------
        record : Record
        made : mapping of str to Path
            For each path in `record.results` the file in the workspace.

        Raises
        ------
        ResultsExistError
            A file that no run wrote is in the way, or the store refuses the name.
        RuntimeEnvironmentError
            The results cannot be written. What was written before stays.
        """
        token = token_of(record.image)
        journal = f"{_partial(record.image)}{secrets.token_hex(8)}.json"
        with writing(self.path, of_one_image=True):
            self.check()
            earlier = set() if self.was_empty else self._earlier_results(token)
            for target in () if self.was_empty or earlier is None else record.results.keys() - earlier:
                if self.path.kind(target) == "file":
                    raise ResultsExistError(
                        f"{self.path.at(target)}: is in the way, and is not a result of this image: it is your own "
                        "file, or the result of an image with the same name; move it away, or rename the image"
                    )
            self.path.write(journal, record.to_json().encode())
        try:
            with writing(self.path, of_one_image=True):
                for target, source in made.items():
                    self.path.put(source, target)
                self.path.remove(filter(is_result, set(earlier or ()) - record.results.keys()))
            with writing(self.path):
                self.path.write(record_name(token), record.to_json().encode())
        except BaseException:  # Ctrl-C too: without their record they would pass for the user's own files
            with suppress(OSError):
                self.undo(journal)
            raise
        with writing(self.path):
            self.path.remove([journal])

    def replace_record(self, record: Record, _: Path) -> None:
        """Replace the record of an image whose results stay as they are.

        Raises
        ------
        RuntimeEnvironmentError
            The record cannot be written.
        """
        with writing(self.path):
            self.path.write(record_name(token_of(record.image)), record.to_json().encode())

    def undo(self, journal: str) -> None:
        """Remove what a run has uploaded without coming to its record, and then the object that names it.

        Where results of an earlier run were being replaced, they count as missing then, and are made again.

        Raises
        ------
        OSError
            An object cannot be removed.
        """
        with suppress(FileNotFoundError):
            begun = parse_record(self.path.read(journal), journal)
            if begun is not None:
                earlier: Record | None = None
                with suppress(FileNotFoundError):
                    earlier = record_of_token(self.path, token_of(begun.image))
                placed = {} if earlier is None else earlier.results
                self.path.remove(
                    target
                    for target, sha256 in begun.results.items()
                    if is_result(target) and placed.get(target) != sha256
                )
        self.path.remove([journal])

    def for_other_machines(self) -> Self:
        """Return the store for workers that run elsewhere."""
        return self

    def fingerprint(self) -> str:
        """Return the SHA-256 of the provenance: who reads another one sees another folder.

        Raises
        ------
        RuntimeEnvironmentError
            There is none, or it cannot be read.
        """
        with writing(self.path):
            return hashlib.sha256(self.path.read(PROVENANCE_FILE)).hexdigest()

    @contextmanager
    def new_workspace(self, token: str) -> Iterator[Path]:
        """Make a local folder, and check that the store can be written to.

        Raises
        ------
        RuntimeEnvironmentError
            It cannot.
        """
        probe = f"{PARTIAL_FOLDER}/{token}-{secrets.token_hex(8)}"
        with writing(self.path):
            self.path.write(probe, token.encode())
            self.path.remove([probe])
        with self.workspace("") as work:
            yield work

    def n_killed(self, name: str) -> int:
        """Return how many processes were killed over an image in this run, and remove what else they left of it.

        Nobody may be processing the image.

        Raises
        ------
        RuntimeEnvironmentError
            The store cannot be asked or written to.
        """
        with writing(self.path):
            left = [path for path in self.path.files(PARTIAL_FOLDER) if path.startswith(_partial(name))]
            marks = [path for path in left if path.startswith(_partial(name, TRIED_MARK))]
            for journal in set(left) - set(marks):
                self.undo(journal)
        return len(marks)

    @contextmanager
    def attempt(self, name: str) -> Iterator[None]:
        """Leave a mark while an image is processed, which `n_killed` counts if this process is killed."""
        mark = _partial(name, TRIED_MARK) + secrets.token_hex(8)
        with writing(self.path):
            self.path.write(mark, name.encode("utf-8", "surrogatepass"))
        try:
            yield
            with writing(self.path):  # the image is done
                marks = _partial(name, TRIED_MARK)
                self.path.remove([path for path in self.path.files(PARTIAL_FOLDER) if path.startswith(marks)])
        finally:
            with suppress(OSError):
                self.path.remove([mark])

    def _earlier_results(self, token: str) -> set[str] | None:
        """Return the results that a record names; None if it is damaged: then any file may be a result."""
        try:
            record = record_of_token(self.path, token)
        except FileNotFoundError:
            return set()
        return None if record is None else set(record.results)


AnyStore = ResultStore | RemoteStore
