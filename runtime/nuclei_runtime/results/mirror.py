"""Local copies of parts of a results folder that a URL names, for code that reads files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath

from nuclei_runtime.errors import InputsError, NucleiError, ResultsExistError, RuntimeEnvironmentError
from nuclei_runtime.faults import machine_error
from nuclei_runtime.stores.remote import RemoteFolder
from nuclei_runtime.stores.scratch import scratch_folder


@contextmanager
def reading(out: RemoteFolder) -> Iterator[None]:
    """Turn an error of a store into a sentence.

    Raises
    ------
    FileNotFoundError
        As it is: what is not there may be expected not to be.
    RuntimeEnvironmentError
        For any other error.
    """
    try:
        yield
    except (NucleiError, FileNotFoundError):
        raise
    except OSError as error:
        raise machine_error(error, f"{error.filename or out}: cannot be read") from error


def fetch_present(out: RemoteFolder, names: Iterable[str], folder: Path) -> None:
    """Copy those of the files that are there into a local folder.

    Raises
    ------
    RuntimeEnvironmentError
        The store cannot be read.
    """
    for name in names:
        with reading(out), suppress(FileNotFoundError):
            out.fetch({name: None}, folder)


@contextmanager
def mirrored(out: Path | RemoteFolder, files: Iterable[str] = (), folders: Iterable[str] = ()) -> Iterator[Path]:
    """Yield a local folder with these files and folders of a results folder; of a local one, the folder itself.

    Raises
    ------
    RuntimeEnvironmentError
        The store cannot be read.
    """
    if isinstance(out, Path):
        yield out
        return
    with scratch_folder() as scratch:
        folder = Path(scratch, PurePosixPath(out.url).name)  # a report shows this name
        folder.mkdir(exist_ok=True)
        fetch_present(out, files, folder)
        for name in folders:
            with reading(out), suppress(FileNotFoundError):
                out.fetch(out.files(name), folder)
        with naming(out, folder):
            yield folder


@contextmanager
def naming(out: RemoteFolder, folder: Path) -> Iterator[None]:
    """Let the messages of errors name the folder of the URL instead of its local copy."""
    try:
        yield
    except (InputsError, ResultsExistError, RuntimeEnvironmentError) as error:
        if str(folder) not in str(error):
            raise
        raise type(error)(str(error).replace(str(folder), out.url)) from error
