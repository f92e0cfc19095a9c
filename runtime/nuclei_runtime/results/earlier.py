"""A results folder of an earlier run, in place of a store, for workers that compare with it and write nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from nuclei_runtime.errors import RuntimeEnvironmentError
from nuclei_runtime.results.layout import PROVENANCE_FILE
from nuclei_runtime.results.mirror import mirrored
from nuclei_runtime.results.records import digest_file
from nuclei_runtime.stores.remote import RemoteFolder
from nuclei_runtime.stores.scratch import scratch_folder


@dataclass(frozen=True)
class EarlierResults:
    """A results folder. It can be pickled.

    Attributes
    ----------
    path : Path or RemoteFolder
    """

    path: Path | RemoteFolder

    def for_other_machines(self) -> EarlierResults:
        """Return the same for workers that run elsewhere."""
        return replace(self, path=self.path.absolute()) if isinstance(self.path, Path) else self

    def fingerprint(self) -> str:
        """Return the SHA-256 of the provenance: who reads another one sees another folder.

        Raises
        ------
        RuntimeEnvironmentError
            There is none, or it cannot be read.
        """
        try:
            with mirrored(self.path, [PROVENANCE_FILE]) as folder:
                return digest_file(folder / PROVENANCE_FILE).sha256
        except OSError as error:
            raise RuntimeEnvironmentError(f"{self.path}: holds no {PROVENANCE_FILE} that can be read") from error

    @contextmanager
    def new_workspace(self, _: str) -> Iterator[Path]:
        """Make a local folder, and remove it at the end."""
        with scratch_folder() as work:
            yield work

    def n_killed(self, _: str) -> int:
        """Return how many processes were killed over an image: none that left a mark."""
        return 0

    @contextmanager
    def attempt(self, _: str) -> Iterator[None]:
        """Leave no mark while an image is compared."""
        yield
